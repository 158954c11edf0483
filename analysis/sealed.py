"""JSON as a study has it: sealed objects, one a file or one a line.

The last field of a sealed object, "digest", holds the first 16 hexadecimal digits of the SHA-256 of all text
before that field, so that a flipped byte is noticed where the JSON stays valid. Objects of other tools need
not have one.
"""

import hashlib
import json
import os

from etils import epath

from analysis.errors import InputError


def in_bucket(path: epath.Path) -> bool:
    """Whether it is an object in a bucket, "gs://bucket/name", which is written whole or not at all."""
    return "://" in str(path)


def read_text(path: epath.Path) -> str:
    """Return the text of a regular file.

    Raises:
      InputError: where it is a folder, a pipe or the like, or is not UTF-8.
    """
    # Path.is_file() of etils says that a pipe is one.
    if not in_bucket(path) and os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: it is not a regular file.")
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: it is not UTF-8 text.") from None


def read_object(path: epath.Path) -> dict:
    """Return the object in a file, without its digest.

    Raises:
      InputError: naming the file, where it is damaged or holds something else.
    """
    return _opened(read_text(path), str(path))


def read_lines(path: epath.Path) -> tuple[list[tuple[str, dict]], bool]:
    """Return the objects of a .jsonl file, and whether a last line was cut off, which is left out.

    Each object comes with the words that name its file and line. A file that is not there has none.

    Raises:
      InputError: naming the first line that is damaged or holds something else.
    """
    if not path.exists():
        return [], False
    *lines, rest = read_text(path).split("\n")
    places = [f"{path}, line {number}" for number in range(1, len(lines) + 1)]
    opened = [(place, _opened(line, place)) for place, line in zip(places, lines, strict=True)]
    return opened, bool(rest)


def line(value: dict) -> str:
    """Return one line of a .jsonl file."""
    text = json.dumps(value, allow_nan=False).removesuffix("}") + ", "
    return f"{text}{_digest(text)}}}\n"


def file(value: dict) -> str:
    """Return the text of a file of one object."""
    text = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}") + ",\n "
    return f"{text}{_digest(text)}\n}}\n"


def _digest(text: str) -> str:
    """The field that seals `text`."""
    return f'"digest": "{hashlib.sha256(text.encode()).hexdigest()[:16]}"'


def _opened(text: str, where: str) -> dict:
    if not text.strip():
        raise InputError(f"{where}: it is empty.")
    try:
        value = json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise InputError(f"{where}: not valid JSON (it is nested too deeply).") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON ({error.msg}).") from None
    except ValueError as error:  # a constant that is refused, an integer of too many digits
        raise InputError(f"{where}: not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    if "digest" in value:
        body = text.rpartition('"digest"')[0]
        if text.rstrip() not in (f"{body}{_digest(body)}{end}" for end in ("}", "\n}")):
            raise InputError(f"{where}: it is damaged: its digest is not that of what it holds.")
        del value["digest"]
    return value


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
