"""Packages that are called like the function they are named after: `sardonyx.check(model)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__all__ = ["make_callable"]


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(name: str) -> None:
    """Make calling the module `name` call the function in it of the same (last) name.

    `sardonyx.check` is a package and, for users, a function; importing the package anywhere
    binds that name to the module, so the module itself must answer the call.
    """
    sys.modules[name].__class__ = _CallableModule
