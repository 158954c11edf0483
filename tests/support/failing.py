"""Work that fails in a process of its own. Without TensorFlow, so that the processes start at once."""

import errno
import os
import signal


def full(number: int) -> int:
    """A disk that is full from the third job on."""
    if number > 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return number


def killed(number: int) -> int:
    """All but the first are killed, as by the system when memory runs out."""
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
