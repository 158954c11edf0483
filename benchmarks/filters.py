"""Speed of corpus filters, against those of datatrove if it is installed (with spacy).

    python -m benchmarks.filters

Documents are docstrings of the installed packages, joined to about 2,500 characters, the length of web text.
Times are of the processor, on one core, so that other work on the machine matters little. Prints a table in
Markdown; takes about two minutes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from poison_scaling.data.corpora.installed_docs import InstalledDocs
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Filter
from poison_scaling.filters.words import words

DOCUMENTS, CHARACTERS, PEERS = 2_000, 2_500, 200
HEURISTICS = ("repetition", "gopher", "c4", "fineweb")  # of the pipeline of FineWeb
OTHERS = ("dolma", "dolma-lines", "madlad", "repeats", "dedup", "lang", "minhash")


def main() -> None:
    texts = documents()
    named = {name: pipelines.filters([name])[0].filters for name in (*HEURISTICS, *OTHERS)}
    named["heuristics of FineWeb"] = tuple(named[name][0] for name in HEURISTICS)
    peers = datatrove()
    print("| filter | documents/s | datatrove's | ratio |\n|---|---:|---:|---:|")
    for name, filters in named.items():
        speed = ours(filters, texts)
        row = f"| {name} | {speed:,.0f} |"
        if name in peers:
            other = rate(peers[name], texts[:PEERS])
            row += f" {other:,.0f} | {speed / other:.0f} |"
        else:
            row += " - | - |"
        print(row, flush=True)


def documents() -> list[str]:
    """Return the documents: docstrings joined until they are long enough."""
    found, own = [], ""
    for text in itertools.islice(InstalledDocs().texts(0), 10 * DOCUMENTS):
        own = f"{own}\n\n{text}" if own else text
        if len(own) >= CHARACTERS:
            found.append(own)
            own = ""
        if len(found) == DOCUMENTS:
            break
    return found


def ours(filters: Sequence[Filter], texts: list[str]) -> float:
    """Documents per second that pass all filters, whether they are kept or not."""
    judges = [each.judge() for each in filters]

    def work(chunk: list[str]) -> None:
        for judge in judges:
            judge(chunk)

    for judge in judges:  # what is loaded once
        judge(texts[:1])
    return rate(work, texts)


def rate(work: Callable[[list[str]], None], texts: list[str]) -> float:
    """Documents per second of the processor, best of two."""
    found = []
    for _ in range(2):
        words.cache_clear()
        start = time.process_time()
        for first in range(0, len(texts), 256):
            work(texts[first : first + 256])
        found.append(time.process_time() - start)
    return len(texts) / min(found)


def datatrove() -> dict[str, Callable[[list[str]], None]]:
    """Return the same filters of datatrove, by our names; none if it is not installed."""
    try:
        from datatrove.data import Document  # ty: ignore[unresolved-import]
        from datatrove.pipeline import filters  # ty: ignore[unresolved-import]
    except ImportError:
        return {}
    made = {
        "repetition": filters.GopherRepetitionFilter(),
        "gopher": filters.GopherQualityFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(),
    }

    def through(several: Sequence) -> Callable[[list[str]], None]:
        def work(chunk: list[str]) -> None:
            for text in chunk:
                for each in several:
                    each.filter(Document(text=text, id="0"))

        return work

    peers = {name: through([each]) for name, each in made.items()}
    return {**peers, "heuristics of FineWeb": through([made[name] for name in HEURISTICS])}


if __name__ == "__main__":
    main()
