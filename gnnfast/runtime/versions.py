"""What a result was computed with."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("gnnfast", "torch", "torch_geometric", "numba", "numpy", "lightning")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
