"""Valid ranges of fields, declared in their annotations: `rate: Annotated[float, Above(0)] = 0.1`.

A value must be in all ranges of its field. `serialization` checks them whenever a study is read or created.
NaN, infinity and integers beyond 64 bits are always refused.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

LARGEST = 2**63 - 1  # the largest integer of NumPy


class Range:
    """A set of values, tested with `in`; its `str` completes "a number ..." or "text ..." in messages."""

    def __contains__(self, value: Any) -> bool:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Between(Range):
    """Numbers from `low` to `high`, both included."""

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
    """Text that does not contain a character."""

    character: str

    def __contains__(self, value: str) -> bool:
        return self.character not in value

    def __str__(self) -> str:
        return f"without {self.character!r}"


# Types that many fields share.
Count = Annotated[int, Between(1, 2**31 - 1)]  # fits int32
Length = Annotated[int, Between(0, 2**24)]  # of a part of a document, in characters or tokens
Dose = Annotated[int, Between(0, 10**6)]  # documents
Share = Annotated[float, Between(0, 1)]
# jax.random.key uses 32 bits of a seed: larger seeds could silently coincide.
Seed = Annotated[int, Between(0, 2**32 - 1)]
Path = Annotated[str, Without("\0")]  # which no file system allows in a name
