"""Several corpora interleaved into one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Annotated, Any

from poison_scaling.config.ranges import Above
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Joined(Corpus):
    """Documents of several corpora, interleaved so that each has its share at any point.

    Shares are of documents. The corpus ends with the first of its parts that ends, so the
    shares hold throughout.
    """

    corpora: tuple[Corpus, ...] = ()
    # one per corpus, in any unit: with (9, 1), a tenth of the documents are from the second
    shares: tuple[Annotated[float, Above(0)], ...] = ()

    def texts(self, skip: int = 0) -> Iterator[str]:
        right = len(self.shares) == len(self.corpora) and all(share > 0 for share in self.shares)
        if not self.corpora or not right:
            raise InputError(
                f"data.corpus.shares={self.shares}: give a positive share for each of the "
                f"{len(self.corpora)} corpora."
            )
        turns = _turns(self.shares)
        skipped = [0] * len(self.corpora)
        for part in itertools.islice(turns, skip):
            skipped[part] += 1
        streams = [corpus.texts(n) for corpus, n in zip(self.corpora, skipped, strict=True)]
        for part in turns:
            text = next(streams[part], None)
            if text is None:
                return
            yield text

    def identity(self) -> list[Any]:
        return [corpus.identity() for corpus in self.corpora]

    def size_bytes(self) -> int:
        return sum(corpus.size_bytes() for corpus in self.corpora)


def _turns(shares: tuple[float, ...]) -> Iterator[int]:
    """Yield the index of the next part forever: that of the part furthest behind its share."""
    taken = [0] * len(shares)
    while True:
        part = min(range(len(shares)), key=lambda i: ((taken[i] + 1) / shares[i], i))
        taken[part] += 1
        yield part
