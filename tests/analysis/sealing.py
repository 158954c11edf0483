"""Files of a study, changed and sealed again, as a trainer would have written them."""

import json
import pathlib
from collections.abc import Callable

from etils import epath

from analysis import files

Change = Callable[[dict], dict]


def opened(text: str) -> dict:
    """Return the object in a line or file, without its digest."""
    return {name: value for name, value in json.loads(text).items() if name != "digest"}


def rewrite_lines(path: pathlib.Path | epath.Path, change: Change) -> None:
    """Change every object of a .jsonl file."""
    records = [change(opened(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(map(files.json_line, records)))


def rewrite_file(path: pathlib.Path | epath.Path, change: Change) -> None:
    """Change the object of a .json file."""
    files.write_json(path, change(opened(path.read_text())))
