"""Writing files so that a reader never meets half of one; JSON as every file of a study has it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import secrets

from etils import epath

from poison_scaling.runtime.errors import Damaged


def in_bucket(path: epath.PathLike) -> bool:
    """Whether it is an object in a bucket, "gs://bucket/name": written whole or not, never extended."""
    return "://" in str(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Write `path` whole or not at all, and on the disk when this returns."""
    path = epath.Path(path)
    if in_bucket(path):
        path.write_text(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A random name that must be new: a link that lies in wait there is not followed.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_text(path: epath.PathLike) -> str:
    """Return the text of a regular file; raises Damaged where there is none."""
    content = _read_bytes(epath.Path(path))
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise Damaged(f"{path}: it is damaged (byte {e.start} is not text).") from e


def _read_bytes(path: epath.Path) -> bytes:
    # A pipe would be waited for, and epath takes it for a file.
    if path.exists() and not (path if in_bucket(path) else pathlib.Path(path)).is_file():
        raise Damaged(f"{path}: it is not a regular file.")
    return path.read_bytes()


# ------------------------------------------------------------------------------------ sealed JSON
#
# Objects are sealed: their last field, "digest", is the beginning of the SHA-256 of all that stands before
# it, so that a flipped byte is noticed where the JSON stays valid.


def write_json(path: epath.PathLike, value: dict) -> None:
    """Write a sealed JSON object."""
    text = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}") + ",\n "
    write_text(path, f"{text}{_digest(text)}\n}}\n")


def read_json(path: epath.PathLike) -> dict:
    """Return a JSON object, without its digest; raises Damaged where that does not fit, or there is none."""
    return _opened(read_text(path), str(path))


def json_line(value: dict) -> str:
    """Return one line of a .jsonl file: a sealed object."""
    text = json.dumps(value, allow_nan=False).removesuffix("}") + ", "
    return f"{text}{_digest(text)}}}\n"


def read_lines(path: epath.PathLike) -> list[dict]:
    """Return the objects of a .jsonl file, without their digests.

    A last line that was cut off while it was written is left out, and a file that is not there has none.
    Raises Damaged naming the first line whose digest does not fit, or that is no JSON object.
    """
    records, problem = intact_lines(path)
    if problem:
        raise problem
    return records


def intact_lines(path: epath.PathLike) -> tuple[list[dict], Damaged | None]:
    """Return the objects of `read_lines` up to the first damaged line, and what is wrong with that one."""
    path = epath.Path(path)
    if not path.exists():
        return [], None
    records: list[dict] = []
    try:
        *lines, _cut = _read_bytes(path).split(b"\n")
        for number, line in enumerate(lines, 1):
            if b'"digest"' not in line:
                raise Damaged(f"{path}, line {number}: it is damaged: it has no digest.")
            records.append(_opened(line.decode("utf-8", "replace"), f"{path}, line {number}"))
    except Damaged as e:
        return records, e
    return records, None


def _digest(text: str) -> str:
    """The field that seals `text`."""
    return f'"digest": "{hashlib.sha256(text.encode()).hexdigest()[:16]}"'


def _opened(text: str, where: str) -> dict:
    try:
        value = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as e:
        reason = "it is empty" if not text.strip() else f"it is cut off or damaged ({_reason(e)})"
        raise Damaged(f"{where}: {reason}.") from e
    if not isinstance(value, dict):
        raise Damaged(f"{where}: it is {type(value).__name__}, not a JSON object.")
    if value.pop("digest", None) is not None:
        body = text.rpartition('"digest"')[0]
        if not text.startswith(body + _digest(body)):
            raise Damaged(f"{where}: it is damaged: its digest is not that of what it holds.")
    return value


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _reason(e: Exception) -> str:
    return "nested too deeply" if isinstance(e, RecursionError) else str(e)


# ------------------------------------------------------------------------------ what went wrong, in words


def said(error: OSError) -> str:
    """Return a sentence for an error of the system."""
    if full := disk_full(error):
        return full
    file = f"{error.filename}: " if error.filename else ""
    return f"{file}{error.strerror or error}."


def disk_full(error: BaseException | None) -> str | None:
    """Return a sentence where an error, or what it came from, is that a disk is full."""
    while error is not None:
        number = getattr(error, "errno", None)
        # Libraries in C++ pass on what the system said.
        named = "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
        if number in (errno.ENOSPC, errno.EDQUOT) or named:
            file = getattr(error, "filename", None)
            return (
                f"no space is left on the disk{f' of {file}' if file else ''}. Nothing that was finished is "
                "lost: make room, and the same command goes on from there."
            )
        error = error.__cause__ or error.__context__
    return None
