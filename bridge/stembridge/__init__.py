"""Stembridge: stems that sum back to the original, through one resident daemon.

``split`` and ``remix`` are the whole of it for scripts; ``Client`` speaks to the daemon directly. All are
imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stembridge.client import Client
    from stembridge.python_api import Remix, Stems, remix, split

__version__ = "0.1.0"
__all__ = ["Client", "Remix", "Stems", "__version__", "remix", "split"]

_MODULE_OF = {
    "Client": "stembridge.client",
    "Remix": "stembridge.python_api",
    "Stems": "stembridge.python_api",
    "remix": "stembridge.python_api",
    "split": "stembridge.python_api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stembridge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULE_OF[name]), name)
