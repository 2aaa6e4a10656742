"""A remix of a finished set: rendered, closed in integers, verified, published.

`stembridge.remix` is a function for scripts, and Python gives the same name to this package as soon as a
module of it is imported. So the package can be called, and is that function in either case.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return importlib.import_module("stembridge.python_api").remix(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
