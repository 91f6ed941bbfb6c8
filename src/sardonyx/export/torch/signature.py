"""The example call: its leaves in torch's order, their names, and which dims are dynamic."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from sardonyx.errors import ExportError, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.export.contract import Options

__all__ = ["Call", "Leaf", "bind"]


@dataclass
class Leaf:
    """One flattened argument.

    `parameter` is the argument it is part of, `dims` what torch is told of each dynamic axis,
    `names` what the user calls it.
    """

    name: str
    parameter: str
    value: Any
    dims: dict[int, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    @property
    def is_tensor(self) -> bool:
        """Whether it becomes an input of the model."""
        return isinstance(self.value, torch.Tensor)

    def wanted(self, axis: int) -> bool:
        """Whether the user insists that `axis` is dynamic (AUTO leaves it to torch)."""
        return axis in self.dims and self.dims[axis] is not torch.export.Dim.AUTO

    def label(self, axis: int) -> str:
        """How messages name an axis."""
        name = self.names.get(axis)
        called = f" {quote(name)}" if name else ""
        return f"dimension{called} (axis {axis} of input {quote(self.name)})"

    def ask(self, axis: int, spec: Any) -> None:
        """Make `axis` dynamic: `spec` is a name, None, or torch's own."""
        rank = self.value.dim()
        if not -rank <= axis < rank:
            raise ExportError(f"input {quote(self.name)} of rank {rank} has no axis {axis}")
        axis %= rank
        if spec is None or isinstance(spec, str):
            self.dims[axis] = torch.export.Dim.DYNAMIC
            name = spec
        else:
            self.dims[axis] = spec
            name = _name_of(getattr(spec, "root", spec))
        if name:
            identifier = re.sub(r"\W", "_", name)
            self.names[axis] = identifier if identifier[0].isalpha() else f"_{identifier}"


@dataclass
class Call:
    """The example call, flattened, and how to build it again from other leaves."""

    leaves: list[Leaf]
    spec: Any
    parameters: list[str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call_spec: Any

    @property
    def dynamic_shapes(self) -> Any:
        """What `torch.export.export` takes; None where nothing is dynamic."""
        if not any(leaf.dims for leaf in self.leaves):
            return None
        return pytree.tree_unflatten([leaf.dims or None for leaf in self.leaves], self.spec)

    def rebuilt(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with `values` for the leaves."""
        args, kwargs = pytree.tree_unflatten(list(values), self.call_spec)
        return tuple(args), kwargs


def _name_of(spec: Any) -> str | None:
    """The name of a `torch.export.Dim`; None for a hint."""
    name = getattr(spec, "__name__", None)
    return name if isinstance(name, str) else None


def bind(module: Any, args: tuple[Any, ...], options: Options) -> Call:
    """Bind the example arguments to the parameters of ``module.forward``."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **dict(options.kwargs))
    except TypeError as error:
        raise ExportError(
            f"the example arguments do not fit {type(module).__name__}.forward{signature}: {error}",
            hint="args are the positional arguments as a tuple, kwargs the others",
        ) from None
    arguments = dict(bound.arguments)
    kwargs = dict(bound.kwargs)
    paths, spec = pytree.tree_flatten_with_path(arguments)
    leaves = [Leaf(_path_name(path), _path_name(path[:1]), value) for path, value in paths]
    call_leaves, call_spec = pytree.tree_flatten((bound.args, kwargs))
    if len(call_leaves) != len(leaves):
        raise ExportError("the example arguments hold containers that torch cannot flatten")
    _name(leaves, options.input_names)
    call = Call(leaves, spec, list(arguments), bound.args, kwargs, call_spec)
    if options.dynamic_axes is not None:
        _apply_axes(call, options.dynamic_axes, options.output_names or ())
    elif options.dynamic_shapes is not None:
        _apply_shapes(call, arguments, options.dynamic_shapes)
    return call


def _path_name(path: Sequence[Any]) -> str:
    parts = [
        str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path
    ]
    return re.sub(r"\W+", "_", "_".join(parts))


def _name(leaves: list[Leaf], names: Sequence[str] | None) -> None:
    tensors = [leaf for leaf in leaves if leaf.is_tensor]
    if names is None:
        return
    if len(names) != len(tensors):
        found = ", ".join(leaf.name for leaf in tensors)
        raise ExportError(
            f"{len(names)} input names for {len(tensors)} tensors", hint=f"the tensors are {found}"
        )
    for leaf, name in zip(tensors, names, strict=True):
        leaf.name = name


def _apply_axes(call: Call, axes: Mapping[str, Any], outputs: Sequence[str]) -> None:
    named = {leaf.name: leaf for leaf in call.leaves if leaf.is_tensor}
    for name, asked in axes.items():
        leaf = named.get(name)
        if leaf is None:
            if name in outputs or re.fullmatch(r"output(_\d+)?", name):
                continue
            raise ExportError(
                f"dynamic_axes names {quote(name)}, which is no input",
                hint=f"the inputs are {', '.join(map(quote, named))}",
            )
        pairs = asked.items() if hasattr(asked, "items") else [(axis, None) for axis in asked]
        for axis, label in pairs:
            leaf.ask(axis, label)


def _apply_shapes(call: Call, arguments: dict[str, Any], shapes: Any) -> None:
    if isinstance(shapes, (tuple, list)):
        shapes = dict(zip(arguments, shapes, strict=False))
    if not isinstance(shapes, dict):
        raise ExportError(
            f"dynamic_shapes is a {type(shapes).__name__}",
            hint="give a dict by parameter name, or a tuple in their order",
        )
    unknown = [name for name in shapes if name not in arguments]
    if unknown:
        raise ExportError(
            f"dynamic_shapes names {quote(unknown[0])}, which is no argument of the call",
            hint=f"the arguments are {', '.join(arguments)}",
        )
    flat: list[Any] = []
    for name, value in arguments.items():
        flat.extend(_flatten_specs(value, shapes.get(name)))
    for leaf, spec in zip(call.leaves, flat, strict=True):
        if not leaf.is_tensor or spec is None:
            continue
        pairs = spec.items() if hasattr(spec, "items") else enumerate(spec)
        for axis, dim in pairs:
            if dim is not None and not isinstance(dim, int) and dim is not torch.export.Dim.STATIC:
                leaf.ask(axis, dim)


def _flatten_specs(value: Any, spec: Any) -> list[Any]:
    """The dynamic-shape specs of the leaves of `value`, in its flattened order."""
    count = len(pytree.tree_leaves(value))
    if spec is None:
        return [None] * count
    if isinstance(value, (list, tuple)):
        parts = list(spec)
        return [
            leaf
            for item, part in zip(value, parts, strict=True)
            for leaf in _flatten_specs(item, part)
        ]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _flatten_specs(item, spec.get(key))]
    return [spec] * count
