"""Exact duplicates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from poison_scaling.filters.filter import Filter, Judge, Rule
from poison_scaling.filters.seen import Seen


@dataclasses.dataclass(frozen=True)
class Duplicates(Filter):
    """Keeps the first of identical documents, by hash."""

    name: ClassVar[str] = "dedup"
    remembers: ClassVar[bool] = True

    def rules(self) -> tuple[Rule, ...]:
        return (Rule("duplicate", "identical to an earlier document", "every pipeline"),)

    def judge(self, scorer=None) -> Judge:
        return Seen("duplicate", lambda text: (text.encode("utf-8", "replace"),))
