"""What the number or text of a field may be, declared beside it: `rate: Annotated[float, Above(0)] = 0.1`.

Several ranges of one field hold together. `serialization` checks them whenever a study is read or made;
NaN, infinity, and whole numbers beyond 64 bits are refused everywhere, declared or not.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

LARGEST = 2**63 - 1  # of whole numbers: what NumPy counts with


class Range:
    """Tells with `in` whether it holds a value; its `str` follows "a number" or "text" in a sentence."""

    def __contains__(self, value: Any) -> bool:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Between(Range):
    """Both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low:,} to {self.high:,}"


@dataclasses.dataclass(frozen=True)
class Above(Range):
    low: float

    def __contains__(self, value: float) -> bool:
        return value > self.low

    def __str__(self) -> str:
        return f"above {self.low:,}"


@dataclasses.dataclass(frozen=True)
class AtLeast(Range):
    low: float

    def __contains__(self, value: float) -> bool:
        return value >= self.low

    def __str__(self) -> str:
        return f"of at least {self.low:,}"


@dataclasses.dataclass(frozen=True)
class Below(Range):
    high: float

    def __contains__(self, value: float) -> bool:
        return value < self.high

    def __str__(self) -> str:
        return f"below {self.high:,}"


@dataclasses.dataclass(frozen=True)
class AtMost(Range):
    high: float

    def __contains__(self, value: float) -> bool:
        return value <= self.high

    def __str__(self) -> str:
        return f"of at most {self.high:,}"


@dataclasses.dataclass(frozen=True)
class Without(Range):
    """Text that a character is not in."""

    character: str

    def __contains__(self, value: str) -> bool:
        return self.character not in value

    def __str__(self) -> str:
        return f"without {self.character!r}"


# What many fields are.
Count = Annotated[int, Between(1, 2**31 - 1)]  # int32, as arrays and vocabularies count
Length = Annotated[int, Between(0, 2**24)]  # of a part of a document, in characters or tokens
Dose = Annotated[int, Between(0, 10**6)]  # documents
Share = Annotated[float, Between(0, 1)]
# jax.random.key takes 32 bits of a seed: beyond them, two seeds would be one without a word.
Seed = Annotated[int, Between(0, 2**32 - 1)]
Path = Annotated[str, Without("\0")]  # which no file system has in a name
