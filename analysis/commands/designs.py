"""Designs by name, and what they are made of where the command line does not say."""

from __future__ import annotations

from analysis.design import cells

SIZES, RATIOS, DOSES = (1e8, 2e8, 4e8), (10.0, 20.0, 40.0), (0, 100, 250, 500)


def named_design(
    design: str,
    sizes: tuple[float, ...],
    tokens: tuple[float, ...],
    doses: tuple[int, ...],
    seeds: int,
) -> cells.Design:
    """Return the published design ("paper"), or every size on every ratio of tokens ("ladder")."""
    if design == "paper":
        return cells.paper_design(seeds, doses=doses)
    return cells.ladder(sizes, tokens, doses, seeds)
