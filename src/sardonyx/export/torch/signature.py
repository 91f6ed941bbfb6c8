"""The example call: its leaves in torch's order, their names, and which dims are dynamic."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from sardonyx.errors import ExportError, quote
from sardonyx.export.torch.names import joined, key_text, plain_spec, register_caches
from sardonyx.export.torch.shapes import specs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sardonyx.export.contract import Options

__all__ = ["Call", "Leaf", "bind"]


@dataclass
class Leaf:
    """One flattened argument.

    `parameter` is the argument it is part of, `dims` what torch is told of each dynamic axis,
    `names` what the user calls it; `number` is what torch is told of an integer.
    """

    name: str
    parameter: str
    value: Any
    dims: dict[int, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    number: Any = None

    @property
    def is_tensor(self) -> bool:
        """Whether it becomes an input of the model."""
        return isinstance(self.value, torch.Tensor)

    @property
    def is_input(self) -> bool:
        """Whether it becomes an input of the model: a tensor, or an integer that may change."""
        return self.is_tensor or self.number is not None

    @property
    def shape_spec(self) -> Any:
        """What torch is told of it."""
        return (self.dims or None) if self.is_tensor else self.number

    def wanted(self, axis: int) -> bool:
        """Whether the user insists that `axis` is dynamic (AUTO leaves it to torch)."""
        return axis in self.dims and self.dims[axis] is not torch.export.Dim.AUTO

    def label(self, axis: int) -> str:
        """How messages name an axis."""
        name = self.names.get(axis)
        called = f" {quote(name)}" if name else ""
        return f"dimension{called} (axis {axis} of input {quote(self.name)})"

    def ask(self, axis: Any, spec: Any) -> None:
        """Make `axis` dynamic: `spec` is a name, None, or torch's own."""
        rank = self.value.dim()
        if not isinstance(axis, int) or not -rank <= axis < rank:
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
    """The example call, flattened, and how to build it again from other leaves.

    `others` are further calls, as leaves, that the user gave to tell sizes by; `extra` is the
    parameter that takes any keywords, where some were given.
    """

    leaves: list[Leaf]
    spec: Any
    parameters: list[str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call_spec: Any
    is_auto: bool = False
    others: list[list[Any]] = field(default_factory=list)
    extra: str | None = None

    @property
    def dynamic_shapes(self) -> Any:
        """What `torch.export.export` takes; None where nothing is dynamic."""
        if not any(leaf.shape_spec for leaf in self.leaves):
            return None
        leaves = [leaf.shape_spec for leaf in self.leaves]
        shapes = pytree.tree_unflatten(leaves, plain_spec(self.spec))
        if self.extra is not None:
            shapes = {**shapes, **shapes[self.extra]}
            del shapes[self.extra]
        return shapes

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
    register_caches()
    signature = _signature(module)
    bound = _bound(module, signature, args, dict(options.kwargs))
    arguments = dict(bound.arguments)
    kwargs = dict(bound.kwargs)
    paths, spec = pytree.tree_flatten_with_path(arguments)
    extra = _variadic(signature)
    leaves = [_leaf(path, value, extra) for path, value in paths]
    call_leaves, call_spec = pytree.tree_flatten((bound.args, kwargs))
    if len(call_leaves) != len(leaves):
        raise ExportError("the example arguments hold containers that torch cannot flatten")
    call = Call(leaves, spec, list(arguments), bound.args, kwargs, call_spec)
    call.extra = extra if extra in arguments else None
    shapes = options.dynamic_shapes
    if shapes is not None:
        _apply_shapes(call, module, arguments, shapes, extra)
        for more_args, more_kwargs in getattr(shapes, "_examples", ()):
            more = _bound(module, signature, more_args, dict(more_kwargs or {}))
            call.others.append(pytree.tree_leaves(dict(more.arguments)))
    _name(leaves, options.input_names)
    if options.dynamic_axes is not None:
        _apply_axes(call, options.dynamic_axes, options.output_names or ())
    return call


def _signature(module: Any) -> inspect.Signature:
    """The parameters of ``forward``; those of TorchScript are in its schema."""
    function = getattr(module, "forward", module)
    schema = getattr(function, "schema", None)
    if schema is None:
        return inspect.signature(function)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            inspect.Parameter(
                argument.name,
                kind,
                default=argument.default_value
                if argument.has_default_value()
                else inspect.Parameter.empty,
            )
            for argument in schema.arguments
            if argument.name != "self"
        ]
    )


def _bound(
    module: Any, signature: inspect.Signature, args: Sequence[Any], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ExportError(
            f"the example arguments do not fit {type(module).__name__}.forward{signature}: {error}",
            hint="args are the positional arguments as a tuple, kwargs the others",
        ) from None


def _variadic(signature: inspect.Signature) -> str | None:
    """The name of the parameter that takes any keywords."""
    kinds = signature.parameters.values()
    return next((each.name for each in kinds if each.kind is inspect.Parameter.VAR_KEYWORD), None)


def _leaf(path: Sequence[Any], value: Any, extra: str | None) -> Leaf:
    parts = [key_text(key) for key in path]
    shown = parts[1:] if parts[0] == extra and len(parts) > 1 else parts
    return Leaf(joined(shown), parts[0], value)


def _name(leaves: list[Leaf], names: Sequence[str] | None) -> None:
    inputs = [leaf for leaf in leaves if leaf.is_input]
    if names is None:
        return
    if len(names) != len(inputs):
        found = ", ".join(leaf.name for leaf in inputs)
        raise ExportError(
            f"{len(names)} input names for {len(inputs)} tensors", hint=f"the tensors are {found}"
        )
    for leaf, name in zip(inputs, names, strict=True):
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


def _apply_shapes(
    call: Call, module: Any, arguments: dict[str, Any], shapes: Any, extra: str | None
) -> None:
    if isinstance(shapes, str):
        if shapes != "auto":
            raise ExportError(
                f"dynamic_shapes is {quote(shapes)}",
                hint='give "auto", a dict by parameter name, or a tuple in their order',
            )
        call.is_auto = True
        for leaf in call.leaves:
            for axis in range(leaf.value.dim() if leaf.is_tensor else 0):
                leaf.ask(axis, torch.export.Dim.AUTO)
        return
    if callable(getattr(shapes, "dynamic_shapes", None)):
        try:
            shapes = shapes.dynamic_shapes(module, call.args, call.kwargs)
        except Exception as error:
            raise ExportError(f"dynamic_shapes does not fit the call: {error}") from error
    flat = specs_of(arguments, shapes, extra)
    for leaf, spec in zip(call.leaves, flat, strict=True):
        if spec is None:
            continue
        if leaf.is_tensor:
            for axis, dim in _pairs(leaf, spec):
                if dim is not None and not isinstance(dim, int) and dim != torch.export.Dim.STATIC:
                    leaf.ask(axis, dim)
        elif isinstance(leaf.value, int) and not isinstance(leaf.value, bool):
            leaf.number = torch.export.Dim.DYNAMIC if isinstance(spec, str) else spec


def _pairs(leaf: Leaf, spec: Any) -> Iterable[tuple[Any, Any]]:
    if hasattr(spec, "items"):
        found: Iterable[tuple[Any, Any]] = spec.items()
        return found
    if isinstance(spec, (list, tuple)):
        if len(spec) != leaf.value.dim():
            raise ExportError(
                f"dynamic_shapes gives {len(spec)} dims for input {quote(leaf.name)} of rank "
                f"{leaf.value.dim()}"
            )
        return enumerate(spec)
    raise ExportError(
        f"dynamic_shapes gives {spec!r} for input {quote(leaf.name)}",
        hint='give a dict by axis, {0: "batch"}, or a tuple with an item for each axis',
    )
