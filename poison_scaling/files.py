"""Writing files so that a reader never meets half of one; JSON as every file of a study has it."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath


def in_bucket(path: epath.PathLike) -> bool:
    """Whether it is an object in a bucket, "gs://bucket/name": written whole or not, never extended."""
    return "://" in str(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Write `path` whole or not at all."""
    path = epath.Path(path)
    if in_bucket(path):
        path.write_text(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary.write_text(text)
    temporary.replace(path)


def write_json(path: epath.PathLike, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
    return json.loads(epath.Path(path).read_text())


def json_line(value: Any) -> str:
    """One line of a .jsonl file."""
    return json.dumps(value, allow_nan=False) + "\n"


def read_lines(path: epath.PathLike) -> list[Any]:
    """The values of a .jsonl file; a last line that was cut off while being written is left out."""
    path = epath.Path(path)
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@contextlib.contextmanager
def new_folder(path: epath.Path) -> Iterator[epath.Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes otherwise.

    When another process made `path` meanwhile, that one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        yield temporary
        # Renaming onto a folder that is not empty fails: the first one to finish wins.
        with contextlib.suppress(OSError):
            os.rename(temporary, path)
    finally:
        if temporary.exists():
            temporary.rmtree()
