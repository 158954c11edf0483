"""SIGINT and SIGTERM as a request to stop at the next step."""

from __future__ import annotations

import signal
import threading


class StopSignals:
    """A context manager whose event is set by the first SIGINT or SIGTERM; a second one acts as usual."""

    def __enter__(self) -> threading.Event:
        self._event, self._before = threading.Event(), {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self._event

    def _stop(self, number, frame) -> None:
        self._event.set()
        signal.signal(number, self._before[number])

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
