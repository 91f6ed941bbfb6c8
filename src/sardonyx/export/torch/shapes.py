"""What the user says of dynamic shapes, for each leaf of the call."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._pytree import _get_node_type

from sardonyx.errors import ExportError, quote
from sardonyx.export.torch.names import child_names

__all__ = ["specs_of"]


def specs_of(arguments: dict[str, Any], shapes: Any, extra: str | None) -> list[Any]:
    """The spec of each leaf of `arguments`, in flattened order; None is static.

    `shapes` is a dict by argument, or a sequence in their order. Keywords that the parameter
    `extra` takes may be given at the top. A spec given to a container holds for each tensor in
    it.
    """
    if isinstance(shapes, (tuple, list)):
        if len(shapes) > len(arguments):
            raise ExportError(
                f"dynamic_shapes has {len(shapes)} items for {len(arguments)} arguments",
                hint=f"the arguments are {', '.join(arguments)}",
            )
        shapes = dict(zip(arguments, shapes, strict=False))
    if not isinstance(shapes, dict):
        raise ExportError(
            f"dynamic_shapes is a {type(shapes).__name__}",
            hint="give a dict by parameter name, or a tuple in their order",
        )
    known = set(arguments)
    within = arguments.get(extra) if extra is not None else None
    if isinstance(within, dict):
        nested = {key: shapes[key] for key in within if key in shapes}
        if nested:
            shapes = {**shapes, extra: {**(shapes.get(extra) or {}), **nested}}
            known |= set(nested)
    unknown = [name for name in shapes if name not in known]
    if unknown:
        raise ExportError(
            f"dynamic_shapes names {quote(unknown[0])}, which is no argument of the call",
            hint=f"the arguments are {', '.join(arguments)}",
        )
    return [
        leaf
        for name, value in arguments.items()
        for leaf in _flattened(value, shapes.get(name), name)
    ]


def _flattened(value: Any, spec: Any, name: str) -> list[Any]:
    count = len(pytree.tree_leaves(value))
    if spec is None:
        return [None] * count
    if pytree.tree_structure(value).is_leaf():
        return [spec]
    if _is_of_tensor(spec):
        return [spec] * count
    children, context = pytree.SUPPORTED_NODES[_kind(value)].flatten_fn(value)
    names = child_names(type(value), context, len(children))
    if hasattr(spec, "items"):
        given = {str(key): each for key, each in spec.items()}
        unknown = [key for key in given if key not in names]
        if unknown:
            raise ExportError(
                f"dynamic_shapes names {quote(unknown[0])}, which is not in {quote(name)}",
                hint=f"it holds {', '.join(names)}",
            )
        specs = [given.get(key) for key in names]
    else:
        specs = list(spec) if isinstance(spec, (list, tuple)) else [spec]
        if len(specs) == count != len(children):
            return specs
        if len(specs) != len(children):
            raise ExportError(
                f"dynamic_shapes has {len(specs)} items for the {len(children)} of {quote(name)}"
            )
    return [
        leaf
        for key, child, each in zip(names, children, specs, strict=True)
        for leaf in _flattened(child, each, f"{name}.{key}")
    ]


def _is_of_tensor(spec: Any) -> bool:
    """Whether `spec` speaks of one tensor's axes: ``{0: "batch"}``."""
    if not isinstance(spec, dict) or not spec:
        return False
    kinds = (str, type(torch.export.Dim.AUTO), type(torch.export.Dim("_")))
    return all(isinstance(axis, int) for axis in spec) and all(
        each is None or isinstance(each, (int, *kinds)) or hasattr(each, "__name__")
        for each in spec.values()
    )


def _kind(value: Any) -> Any:
    if type(value) in pytree.SUPPORTED_NODES:
        return type(value)
    return _get_node_type(value)
