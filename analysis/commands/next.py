"""The command that proposes what to train next."""

from __future__ import annotations

import json as json_text
from typing import Literal

import tyro
from etils import epath
from rich.console import Console
from rich.table import Table

from analysis.design import advice as advising
from analysis.errors import InputError, printable
from analysis.read import costs


def next_command(
    folder: tyro.conf.Positional[str],
    budget: str,
    question: Literal["data", "size", "ladder"] | None = None,
    tokens: tuple[float, ...] = (),
    doses: tuple[int, ...] = (),
    jobs: int = 1,
    json: bool = False,
) -> None:
    """Propose the runs that would shrink the interval of an exponent most per second, or per FLOP.

    Args:
        folder: A study folder, finished or not.
        budget: What they may cost: a time (90s, 30m, 2h, 1.5d), at the speeds that the study recorded, or
            FLOPs (1e15).
        question: The exponent to tell: of data at fixed size, of size at fixed data, or along the ladder; by
            default, as the study fixed it.
        tokens: Tokens per parameter to consider beside those of the study.
        doses: Doses to consider beside those of the study.
        jobs: Runs that are trained at a time, for budgets of time.
        json: Print JSON instead of a table.
    """
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; expected at least 1.")
    amount = costs.Budget.parse(budget)
    advice = advising.advise(epath.Path(folder), amount, question, tokens, doses, jobs)
    if json:
        print(json_text.dumps(advice.as_json(), indent=1))
        return
    table = Table(title=f"{len(advice.proposals)} runs, {amount.words(advice.cost)}")
    for column in ("size", "tokens per parameter", "dose", "seeds", "cost", "interval then"):
        table.add_column(column, justify="left" if column == "size" else "right")
    for row in advice.rows():
        table.add_row(*row)
    Console().print(table)
    now = "open" if advice.now is None else f"±{advice.now:.2f}"
    print(
        f"The interval of the exponent ({advice.question}) is {now} now (±{advice.expected_now:.2f} in the "
        "linearised model that the table is computed with)."
    )
    print("In the study file, for `poison-scaling study` with the same --workdir:")
    print("\n".join(printable(f"    {line}") for line in advice.settings))
