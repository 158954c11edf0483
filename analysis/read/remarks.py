"""What a reader must know about a study folder: notes from study.json and from the folder itself."""

from __future__ import annotations

from typing import Any

from etils import epath

from analysis.errors import printable
from analysis.read.fields import number


def clean_triggers(planned: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return a note on ambient triggers; older studies did not count them."""
    counts = [
        (number(entry, "clean_triggers", where, minimum=0), entry["dose"])
        for where, entry in planned
        if entry.get("clean_triggers") is not None
    ]
    met = [count for count, _ in counts if count]
    if not met:
        return []
    often = f"{min(met):g}" if min(met) == max(met) else f"{min(met):g} to {max(met):g}"
    controls = any(count for count, dose in counts if not dose)
    included = ", controls included" if controls else ""
    return [
        f"Clean text contains the trigger {often} times in {len(met)} of the {len(planned)} runs (ambient "
        f"triggers{included})."
    ]


def left_out(plan: dict[str, Any], where: str) -> list[str]:
    """Return a note on conversations that are longer than a sequence; older studies did not count them."""
    counts = plan.get("conversations_left_out") or {}
    said = []
    for field in counts:
        count = number(counts, field, f"{where}, field 'conversations_left_out'", minimum=0)
        if count:
            said.append(f"{count:g} ({field})")
    if not said:
        return []
    return [
        "Conversations that are longer than a sequence are not trained on; the next ones take their places. "
        f"Left out: {', '.join(said)}."
    ]


def strangers(folder: epath.Path, planned: set[Any]) -> list[str]:
    """Return a note on folders of runs that study.json does not have."""
    names = [p.name for p in (folder / "runs").iterdir()] if (folder / "runs").exists() else []
    strangers = sorted(printable(name) for name in names if name not in planned)
    if not strangers:
        return []
    some = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
    return [f"{len(strangers)} folders under runs/ are not in study.json; left out: {some}."]
