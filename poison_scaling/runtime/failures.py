"""Messages for errors of the operating system."""

from __future__ import annotations

import errno


def said(error: OSError) -> str:
    """Return a message for an error of the operating system."""
    if full := disk_full(error):
        return full
    file = f"{error.filename}: " if error.filename else ""
    return f"{file}{error.strerror or error}."


def disk_full(error: BaseException | None) -> str | None:
    """Return a message if an error, or one of its causes, is that a disk is full; None otherwise."""
    while error is not None:
        number = getattr(error, "errno", None)
        # C++ libraries pass on the system's message, without its number.
        named = "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
        if number in (errno.ENOSPC, errno.EDQUOT) or named:
            file = getattr(error, "filename", None)
            return (
                f"no space is left on the disk{f' of {file}' if file else ''}. No finished work is lost: "
                "free some space, and the same command resumes from there."
            )
        error = error.__cause__ or error.__context__
    return None
