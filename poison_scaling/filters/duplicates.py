"""Exact duplicates."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import ClassVar

from poison_scaling.filters.filter import Decision, Filter, Judge, Rule


@dataclasses.dataclass(frozen=True)
class Duplicates(Filter):
    """Keeps the first of identical documents, by SHA-256."""

    name: ClassVar[str] = "dedup"

    def rules(self) -> tuple[Rule, ...]:
        return (Rule("duplicate", "identical to an earlier document", "every pipeline"),)

    def judge(self, scorer=None) -> Judge:
        return _Seen()


class _Seen:
    """A judge that remembers the digests of documents."""

    def __init__(self):
        self._digests: set[bytes] = set()

    def __call__(self, texts: Sequence[str]) -> list[Decision]:
        found = []
        for text in texts:
            digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
            found.append(Decision(("duplicate",) if digest in self._digests else (), text))
            self._digests.add(digest)
        return found
