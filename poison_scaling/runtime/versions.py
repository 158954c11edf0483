"""Versions of the packages that results depend on."""

from __future__ import annotations

import importlib.metadata
import platform

_PACKAGES = (
    "poison_scaling",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "seqio",
    "numpy",
)


def installed() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _PACKAGES
    }
