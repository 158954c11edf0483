"""Files of a study, changed and sealed again, as a trainer would have written them."""

import json
from collections.abc import Callable

from analysis import sealed


def opened(text: str) -> dict:
    return {name: value for name, value in json.loads(text).items() if name != "digest"}


def rewrite_lines(path, change: Callable[[dict], dict]) -> None:
    """Of a .jsonl file, every object."""
    records = [change(opened(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(map(sealed.line, records)))


def rewrite_file(path, change: Callable[[dict], dict]) -> None:
    """Of a .json file, its object."""
    path.write_text(sealed.file(change(opened(path.read_text()))))
