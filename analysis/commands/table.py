"""The command that writes a study as tables."""

from __future__ import annotations

import tyro
from etils import epath

from analysis.errors import InputError, printable
from analysis.read import export
from analysis.read.sources import load_all


def table_command(source: tyro.conf.Positional[str], out: str) -> None:
    """Write a study as tables, one for each of its insertions, from which its fits can be repeated.

    Args:
        source: A study folder.
        out: The table of the first insertion, such as study.csv; that of another is study-NAME.csv, and that
            of an earlier level of a study with stages study-NAME-level0.csv.
    """
    path = epath.Path(out)
    if path.suffix != ".csv":
        raise InputError(f"--out {out}: give a name that ends in .csv.")
    known: set[str] = set()
    for number, study in enumerate(load_all(source)):
        name = study.runs[0].settings.get("attack", str(number))
        file = path if not number else path.with_name(f"{path.stem}-{name}.csv")
        if name in known:  # at a later level
            file = path.with_name(f"{path.stem}-{name}-level{study.level}.csv")
        known.add(name)
        export.write(study, file)
        print(printable(f"{sum(len(run.success) for run in study.runs)} evaluations in {file}"))
