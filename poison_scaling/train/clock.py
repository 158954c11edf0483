"""Throughput and utilisation of a run."""

from __future__ import annotations

import time

import jax
from jax.sharding import Mesh

from poison_scaling.runtime import chips


class Clock:
    """Measures the time that a run spends on training and evaluation, and its model FLOPs utilisation.

    Model FLOPs utilisation (MFU; Chowdhery et al. 2022, arXiv 2204.02311, appendix B) is the FLOPs that the
    model needs for the tokens trained on, without rematerialisation, as a share of the devices' peak.
    `flops_per_token` is that of `Architecture.train_flops_per_token`.
    """

    def __init__(self, flops_per_token: float, mesh: Mesh):
        peak = chips.peak_flops(mesh.devices.flat[0].device_kind)
        self._needed = flops_per_token / (peak * mesh.size) if peak else None  # seconds, at peak
        self._last = self._saved = time.monotonic()
        self._spent = {"training": 0.0, "evaluation": 0.0}

    def lap(self, part: str) -> None:
        """Attribute the time since the last lap to `part`, "training" or "evaluation"."""
        now = time.monotonic()
        self._spent[part] += now - self._last
        self._last = now

    def saved(self) -> None:
        self._saved = time.monotonic()

    def minutes_since_save(self) -> float:
        return (time.monotonic() - self._saved) / 60

    def record(self, done: int, tokens: int) -> dict:
        """Return the line of timing.jsonl for step `done`.

        Seconds, and the `tokens` trained on, count from where this process started or resumed the run. Memory
        is the peak of any device of this process. Memory and MFU are None if unknown.
        """
        seconds = {f"{part}_seconds": round(s, 3) for part, s in self._spent.items()}
        speed = tokens / max(self._spent["training"], 1e-9)
        statistics = [d.memory_stats() or {} for d in jax.local_devices()]
        peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
        return {
            "step": done,
            **seconds,
            "tokens_per_second": round(speed),
            "mfu": round(speed * self._needed, 4) if self._needed else None,
            "peak_memory_bytes": max(peaks, default=None),
        }
