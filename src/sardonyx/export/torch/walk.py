"""The walk over a torch graph: each node's translation, with its name, type and origin."""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dtypes
from sardonyx.errors import ExportError, SardonyxError
from sardonyx.export.torch import tensors
from sardonyx.export.torch.missing import Missing
from sardonyx.export.torch.pairs import COMPLEX_TRANSLATIONS, Complex, part_dtype
from sardonyx.export.torch.registry import HIGHER_ORDER, TRANSLATIONS
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.export.torch.registry import TorchBuilder, Translation

__all__ = ["SYMBOLIC", "Walker", "module_of", "source_of", "target_name", "where"]

SYMBOLIC: Final = (torch.SymInt, torch.SymFloat, torch.SymBool)
"""Torch's numbers that are known only when the model runs."""

_NUMBERS: Final = (*SYMBOLIC, int, float, bool)
_TORCH: Final = str(Path(torch.__file__).parent)
_SARDONYX: Final = str(Path(__file__).parents[2])
_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_ASSERTIONS: Final = ("aten._assert", "aten.sym_constrain_range", "aten._functional_assert")


def target_name(node: Any) -> str:
    """How a node's target is called in the registry: ``aten.relu.default``."""
    target = node.target
    if isinstance(target, str):
        return target
    name = str(target)
    return name if not name.startswith("<") else getattr(target, "__name__", name)


def source_of(node: Any) -> str:
    """``file.py:12 in forward``: the innermost line that is not torch's own, if any."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    frames = [frame for frame in frames if not frame["file"].startswith("<")] or frames
    if not frames:
        return ""
    frames = [frame for frame in frames if not frame["file"].startswith(_SARDONYX)] or frames
    last = max((i for i, frame in enumerate(frames) if _enters_torch(frame)), default=-1)
    own = [frame for frame in frames[last + 1 :] if not frame["file"].startswith(_TORCH)]
    frame = (own or frames)[-1]
    return f"{Path(frame['file']).name}:{frame['line']} in {frame['function']}"


def _enters_torch(frame: re.Match[str]) -> bool:
    """Whether the frame is of the tracer: what called it is not the model's code."""
    return frame["file"].startswith((f"{_TORCH}/export", f"{_TORCH}/_export", f"{_TORCH}/fx"))


def module_of(node: Any) -> str:
    """The path of the module whose forward called: ``features.0``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for entry in stack.values():
        path = entry[0]
    return re.sub(r"^L\['self'\]\.?", "", path)


def where(node: Any) -> str:
    """How messages say where a node comes from."""
    parts = [f"node {node.name}"]
    if module_of(node):
        parts.append(f"module {module_of(node)}")
    if source_of(node):
        parts.append(source_of(node))
    return ", ".join(parts)


class Walker:
    """Writes the nodes of torch graphs with `op`.

    `values` holds what each torch node gives: a `Value`, a `Complex`, a number of torch or
    Python, a graph module, None, or a tuple of these. Translations of higher-order operators are
    called with the walker, and walk their graphs with `run`.
    """

    def __init__(self, op: TorchBuilder, custom: Mapping[str, Translation]) -> None:
        self.op = op
        self.custom = custom
        self.table: Mapping[str, Translation] = {**TRANSLATIONS, **custom}
        self.values: dict[Any, Any] = {}
        self.named: set[Value] = set()
        self._callers: list[Any] = []

    def refuse_unknown(self, module: Any) -> None:
        """`ExportError` that lists all operators without a translation, in inner graphs too."""
        missing = Missing()
        for node in _all_calls(module):
            name = target_name(node)
            if self._is_known(node, name):
                continue
            if name in self.table:
                name = f"{name} of complex numbers"
            place = " ".join(filter(None, [source_of(node), _in_module(node)]))
            missing.add(name, place, node.target)
        missing.refuse()

    def run(self, module: Any, args: Sequence[Any]) -> list[Any]:
        """Walk a graph module called with `args`; what its output node names."""
        given = iter(args)
        results: list[Any] = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                self._receive(node, next(given))
            elif node.op == "output":
                (returned,) = node.args
                listed = returned if isinstance(returned, (list, tuple)) else [returned]
                results = [self.resolve(each) for each in listed]
            else:
                self.step(node, module)
        return results

    def step(self, node: Any, module: Any) -> None:
        """Write one node of `module`."""
        if node.op == "get_attr":
            self.values[node] = self._attribute(module, node)
        elif node.op == "call_function":
            self._call(node)

    def resolve(self, arg: Any) -> Any:
        """`arg` with the values of nodes in their place."""
        return torch.fx.node.map_arg(arg, self.values.__getitem__)

    def type_of(self, fake: Any) -> TensorType:
        """The type of a fake tensor."""
        sizes = self.op.size_values
        shape = tuple(sizes.dim_or_none(size) for size in fake.shape)
        return TensorType(tensors.dtype_of(fake.dtype), shape)

    def scalar(self, number: Any) -> Value:
        """A number of torch or Python as a scalar value."""
        sizes = self.op.size_values
        dtype = _number_dtype(number)
        if isinstance(number, torch.SymBool):
            return self.op.typed(sizes.truth(number), dtype, ())
        if isinstance(number, torch.SymFloat):
            return self.op.typed(sizes.number(number), dtype, ())
        number = sizes.dim(number) if isinstance(number, torch.SymInt) else number
        return self.op.typed(self.op.scalar(number, dtype), dtype, ())

    def place_of(self, node: Any) -> dict[str, str]:
        """The metadata that say where a node comes from."""
        callers = [node, *reversed(self._callers)]
        entries = {"sardonyx.target": target_name(node)}
        for key, read in (("sardonyx.module", module_of), ("sardonyx.source", source_of)):
            found = next(filter(None, map(read, callers)), "")
            if found:
                entries[key] = found
        return entries

    def settle(self, node: Any, made: Any, val: Any) -> Any:
        """What stands for `node`: a number that was computed is bound to torch's symbol."""
        if isinstance(val, SYMBOLIC) and isinstance(made, Value):
            self.op.size_values.bind(val, made)
            return val
        self._name(node, made, val)
        return made

    def _receive(self, node: Any, arg: Any) -> None:
        val = node.meta.get("val")
        if isinstance(val, SYMBOLIC) and arg is not val:
            value = arg if isinstance(arg, Value) else None
            if value is None and str(arg) != str(val):
                value = self.scalar(arg)
            if value is not None and not val.node.expr.is_number:
                self.op.size_values.bind(val, value)
            arg = val
        self.values[node] = arg

    def _attribute(self, module: Any, node: Any) -> Any:
        found = module
        for part in node.target.split("."):
            found = getattr(found, part)
        return self.weight(node.target, found) if isinstance(found, torch.Tensor) else found

    def weight(self, wanted: str, tensor: Any) -> Any:
        """`tensor` as an initializer called `wanted`, or it with a number where that is taken."""
        name = self.op.free(wanted)
        if not tensor.is_complex():
            return self.op.initializer(name, tensors.constant(tensor, name))
        packed = torch.view_as_real(tensor.detach().resolve_conj())
        value = self.op.initializer(name, tensors.constant(packed, name))
        dtype = part_dtype(tensors.dtype_of(tensor.dtype))
        return Complex(dtype, tuple(tensor.shape), packed=value, graph=self.op.bodies[0])

    def is_complex_result(self, result: Any) -> bool:
        """Whether what an output node names is a complex tensor."""
        return isinstance(result, torch.fx.Node) and isinstance(self.values[result], Complex)

    def _is_known(self, node: Any, name: str) -> bool:
        if name in self.custom or name in HIGHER_ORDER or node.target is operator.getitem:
            return True
        if name.startswith(_ASSERTIONS):
            return True
        if isinstance(node.meta.get("val"), _NUMBERS):
            return True
        return name in (COMPLEX_TRANSLATIONS if _is_complex(node) else self.table)

    def _call(self, node: Any) -> None:
        val, name = node.meta.get("val"), target_name(node)
        if node.target is operator.getitem:
            made = self.values[node.args[0]][node.args[1]]
        elif name.startswith(_ASSERTIONS) and name not in self.custom:
            made = None
        elif name in HIGHER_ORDER and name not in self.custom:
            made = self._higher(node, name)
        elif isinstance(val, _NUMBERS) and name not in self.table:
            made = val
        else:
            made = self._translate(node, name, val)
        self.values[node] = self.settle(node, made, val)

    def _higher(self, node: Any, name: str) -> Any:
        entries = self.place_of(node)
        module = entries.get("sardonyx.module")
        self._callers.append(node)
        try:
            with self.op.metadata(entries, prefix=f"{module}/" if module else ""):
                args = [self.resolve(arg) for arg in node.args]
                kwargs = {key: self.resolve(arg) for key, arg in node.kwargs.items()}
                return HIGHER_ORDER[name](self, node, *args, **kwargs)
        except SardonyxError as error:
            raise _as_export_error(error).at(f"{name} ({where(node)})") from None
        finally:
            self._callers.pop()

    def apply(
        self, node: Any, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], val: Any
    ) -> Any:
        """Translate a call of `target` that `node`, a higher-order operator, stands for."""
        name = str(target)
        if name not in self.table:
            raise ExportError(f"{name} has no translation")
        return self._written(node, name, val, args, kwargs, self.table)

    def _translate(self, node: Any, name: str, val: Any) -> Any:
        table = self.table
        if name not in self.custom and _is_complex(node):
            table = COMPLEX_TRANSLATIONS
        return self._written(node, name, val, node.args, node.kwargs, table)

    def _written(
        self,
        node: Any,
        name: str,
        val: Any,
        torch_args: Sequence[Any],
        torch_kwargs: Mapping[str, Any],
        table: Mapping[str, Translation],
    ) -> Any:
        op = self.op
        metadata = self.place_of(node)
        module = metadata.get("sardonyx.module")
        place = f"{name} ({where(node)})"
        try:
            fakes = [each for each in (val if isinstance(val, (tuple, list)) else [val])
                     if isinstance(each, torch.Tensor)]  # fmt: skip
            types = [self.type_of(fake) for fake in fakes]
            op.result_shapes = [kind.shape or () for kind in types]
            op.result_dtypes = [tensors.dtype_of(fake.dtype) for fake in fakes]
            op.result_dtype = types[0].dtype if types else None
            op.result_shape = op.result_shapes[0] if types else ()
            op.common_dtype = _common_dtype(node)
            op.node = node
            with op.metadata(metadata, prefix=f"{module}/" if module else ""):
                args = [self._argument(arg) for arg in torch_args]
                kwargs = {key: self._argument(arg) for key, arg in torch_kwargs.items()}
                return table[name](op, *args, **kwargs)
        except SardonyxError as error:
            raise _as_export_error(error).at(place) from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise ExportError(
                f"the translation of {name} failed: {error!r}", place=place
            ) from error

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, torch.fx.Node):
            arg = self.values[arg]
        if isinstance(arg, torch.SymInt):
            return self.op.size_values.dim(arg)
        if isinstance(arg, torch.SymFloat):
            wide = self.op.result_dtype in {dtypes.DOUBLE, dtypes.COMPLEX128}
            dtype = dtypes.DOUBLE if wide else dtypes.FLOAT
            return self.op.typed(self.op.size_values.number(arg, dtype), dtype, ())
        if isinstance(arg, torch.SymBool):
            return self.op.typed(self.op.size_values.truth(arg), dtypes.BOOL, ())
        if isinstance(arg, (list, tuple)):
            return [self._argument(each) for each in arg]
        if isinstance(arg, torch.dtype):
            return tensors.dtype_of(arg)
        return arg

    def _name(self, node: Any, made: Any, val: Any) -> None:
        """Name and type what a translation made after the torch node."""
        several = isinstance(made, (tuple, list))
        values = list(made) if several else [made]
        fakes = list(val) if isinstance(val, (tuple, list)) else [val]
        for index, (value, fake) in enumerate(zip(values, fakes, strict=False)):
            if not isinstance(fake, torch.Tensor):
                continue
            name = f"{node.name}.{index}" if several else node.name
            if isinstance(value, Complex):
                for part, suffix in value.computed():
                    if part.producer is not None and part not in self.named:
                        self.op.rename(part, self.op.free(f"{name}{suffix}"))
                        self.named.add(part)
                continue
            if not isinstance(value, Value) or value.producer is None or value in self.named:
                continue
            value.type = self.type_of(fake)
            self.op.rename(value, self.op.free(name))
            self.named.add(value)
            self.op.size_values.read_from(value, fake)


def _all_calls(module: Any) -> Iterator[Any]:
    for each in module.modules():
        graph = getattr(each, "graph", None)
        if graph is not None:
            yield from (node for node in graph.nodes if node.op == "call_function")


def _is_complex(node: Any) -> bool:
    """Whether a complex tensor goes in or comes out."""
    vals = [node.meta.get("val"), *(each.meta.get("val") for each in node.all_input_nodes)]
    return any(
        isinstance(leaf, torch.Tensor) and leaf.is_complex()
        for val in vals
        for leaf in (val if isinstance(val, (tuple, list)) else [val])
    )


def _in_module(node: Any) -> str:
    path = module_of(node)
    return f"(module {path})" if path else ""


def _as_export_error(error: SardonyxError) -> ExportError:
    if isinstance(error, ExportError):
        return error
    wrapped = ExportError(error.message, hint=error.hint)
    wrapped.places = list(error.places)
    return wrapped


def _common_dtype(node: Any) -> Any:
    parts: list[Any] = []
    for arg in node.args[:2]:
        val = arg.meta.get("val") if isinstance(arg, torch.fx.Node) else arg
        if isinstance(val, torch.SymInt):
            val = 1
        elif isinstance(val, torch.SymFloat):
            val = 1.0
        if not isinstance(val, (torch.Tensor, int, float, bool, complex)):
            return None
        parts.append(val)
    if len(parts) != 2:
        return None
    return tensors.dtype_of(torch.result_type(*parts))


def _number_dtype(value: Any) -> DType:
    if isinstance(value, (bool, torch.SymBool)):
        return dtypes.BOOL
    return dtypes.FLOAT if isinstance(value, (float, torch.SymFloat)) else dtypes.INT64
