"""The walk over an exported program's graph that writes the ONNX graph."""

from __future__ import annotations

import operator
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dtypes
from sardonyx._version import __version__
from sardonyx.errors import ExportError, SardonyxError, quote
from sardonyx.export.contract import ir_version_of
from sardonyx.export.torch import tensors
from sardonyx.export.torch.registry import TRANSLATIONS, TorchBuilder
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import Model
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.export.contract import Options
    from sardonyx.export.torch.registry import Translation
    from sardonyx.export.torch.signature import Call, Leaf

__all__ = ["Translated", "target_name", "translate"]

_TORCH: Final = str(Path(torch.__file__).parent)
_SARDONYX: Final = str(Path(__file__).parents[2])
_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_SHOWN_SOURCES: Final = 3


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


class Translated:
    """The model, and the value of each node of the torch graph by its name."""

    def __init__(
        self, model: Model, values: dict[str, Value], input_names: list[str | None]
    ) -> None:
        self.model = model
        self.values = values
        self.input_names = input_names


class _Translator:
    def __init__(self, program: Any, call: Call, options: Options, name: str) -> None:
        self.program = program
        self.call = call
        self.options = options
        self.table: Mapping[str, Translation] = {**TRANSLATIONS, **options.custom_translations}
        self.graph = Graph(name)
        self.op = TorchBuilder(self.graph, options.opset_version)
        self.values: dict[Any, Any] = {}
        self.named: set[Value] = set()
        self.input_names: list[str | None] = []

    def run(self) -> Translated:
        self._refuse_unknown()
        self._reserve_names()
        self._inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._call(node)
        self._outputs()
        _remove_dead(self.graph)
        version = self.options.opset_version
        model = Model(
            self.graph,
            {"": version},
            ir_version=ir_version_of(version),
            producer_name="sardonyx",
            producer_version=__version__,
        )
        model.metadata["sardonyx.exported_from"] = f"torch {torch.__version__}"
        domains = {node.domain for node in self.graph.nodes} - {""}
        model.opset_imports.update(dict.fromkeys(sorted(domains), 1))
        found = {
            node.name: value for node, value in self.values.items() if isinstance(value, Value)
        }
        return Translated(model, found, self.input_names)

    def _refuse_unknown(self) -> None:
        counts: Counter[str] = Counter()
        sources: dict[str, list[str]] = {}
        for node in self.program.graph.nodes:
            name = target_name(node)
            if node.op == "call_function" and name not in self.table and not _is_size_or_pick(node):
                counts[name] += 1
                where = " ".join(filter(None, [source_of(node), _in_module(node)]))
                if where and where not in sources.setdefault(name, []):
                    sources[name].append(where)
        if not counts:
            return
        lines = [
            f"{name} ({count} times)"
            + "".join(f", {each}" for each in sources.get(name, [])[:_SHOWN_SOURCES])
            for name, count in counts.most_common()
        ]
        raise ExportError(
            "PyTorch operators have no translation into ONNX:\n    " + "\n    ".join(lines),
            hint="write one: export(..., custom_translations="
            f'{{"{next(iter(counts))}": lambda op, *args, **kwargs: ...}}); see docs/export.md',
        )

    def _reserve_names(self) -> None:
        for names in (self.options.input_names or (), self.options.output_names or ()):
            for name in names:
                if not name:
                    raise ExportError(f"an input or output name is {name!r}")
        both = [*(self.options.input_names or ()), *(self.options.output_names or ())]
        twice = [name for name, count in Counter(both).items() if count > 1]
        if twice:
            raise ExportError(f"input and output names have {quote(twice[0])} twice")

    def _inputs(self) -> None:
        op = self.op
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        specs = self.program.graph_signature.input_specs
        user: list[tuple[Any, Leaf | None]] = []
        leaves = iter(self.call.leaves)
        weights: list[tuple[Any, Any]] = []
        for node, spec in zip(placeholders, specs, strict=True):
            if spec.kind.name == "USER_INPUT":
                user.append((node, next(leaves, None)))
            else:
                weights.append((node, spec))
        fakes = [
            (leaf, node.meta["val"])
            for node, leaf in user
            if leaf is not None and isinstance(node.meta.get("val"), torch.Tensor)
        ]
        op.size_values.name_inputs(fakes)
        for node, leaf in user:
            self._user_input(node, leaf)
        for name in self.options.output_names or ():
            op.claim(name)
        self._weights(weights)

    def _user_input(self, node: Any, leaf: Leaf | None) -> None:
        fake = node.meta.get("val")
        if not isinstance(fake, torch.Tensor):
            self.values[node] = fake
            self.input_names.append(None)
            return
        wanted = leaf.name if leaf is not None else node.name
        name = self.op.claim(wanted) if self.options.input_names else self.op.unique(wanted)
        value = Value(name, self._type(fake))
        self.graph.inputs.append(value)
        self.values[node] = value
        self.input_names.append(name)
        self.op.size_values.read_from(value, fake)

    def _weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        shared: dict[Any, Value] = {}
        for node, spec in weights:
            if not node.users:
                continue
            tensor = self._data(spec)
            if not isinstance(tensor, torch.Tensor):
                raise ExportError(f"{spec.kind.name.lower()} {spec.target!r} is no tensor")
            key = tensors.storage_key(tensor)
            if key is None or key not in shared:
                name = self.op.free(spec.target)
                value = self.op.initializer(name, tensors.constant(tensor, name))
                if key is None:
                    self.values[node] = value
                    continue
                shared[key] = value
            self.values[node] = shared[key]

    def _data(self, spec: Any) -> Any:
        for place in (self.program.state_dict, self.program.constants):
            if spec.target in place:
                return place[spec.target]
        return None

    def _type(self, fake: Any) -> TensorType:
        sizes = self.op.size_values
        shape = tuple(sizes.dim_or_none(size) for size in fake.shape)
        return TensorType(tensors.dtype_of(fake.dtype), shape)

    def _call(self, node: Any) -> None:
        val = node.meta.get("val")
        if node.target is operator.getitem:
            whole = self.values[node.args[0]]
            self.values[node] = whole[node.args[1]]
            self._name(node, self.values[node], val)
            return
        if isinstance(val, (torch.SymInt, torch.SymFloat, torch.SymBool)) or (
            isinstance(val, (int, float, bool)) and target_name(node) not in self.table
        ):
            self.values[node] = val
            return
        made = self._translate(node, val)
        self.values[node] = made
        self._name(node, made, val)

    def _translate(self, node: Any, val: Any) -> Any:
        op, name = self.op, target_name(node)
        module = module_of(node)
        metadata = {"sardonyx.target": name}
        if module:
            metadata["sardonyx.module"] = module
        source = source_of(node)
        if source:
            metadata["sardonyx.source"] = source
        place = f"{name} ({_where(node)})"
        try:
            fakes = [each for each in (val if isinstance(val, (tuple, list)) else [val])
                     if isinstance(each, torch.Tensor)]  # fmt: skip
            types = [self._type(fake) for fake in fakes]
            op.result_shapes = [kind.shape or () for kind in types]
            op.result_dtype = types[0].dtype if types else None
            op.result_shape = op.result_shapes[0] if types else ()
            op.common_dtype = _common_dtype(node)
            with op.metadata(metadata, prefix=f"{module}/" if module else ""):
                args = [self._argument(arg) for arg in node.args]
                kwargs = {key: self._argument(arg) for key, arg in node.kwargs.items()}
                return self.table[name](op, *args, **kwargs)
        except SardonyxError as error:
            raise (error if isinstance(error, ExportError) else _wrapped(error)).at(place) from None
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
            value = self.op.size_values.number(arg)
            return self.op.typed(value, dtypes.FLOAT, ())
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
            if not isinstance(value, Value) or not isinstance(fake, torch.Tensor):
                continue
            if value.producer is None or value in self.named:
                continue
            value.type = self._type(fake)
            if node.target is operator.getitem or several:
                name = f"{node.name}.{index}" if several else node.name
            else:
                name = node.name
            self.op.rename(value, self.op.free(name))
            self.named.add(value)
            self.op.size_values.read_from(value, fake)

    def _outputs(self) -> None:
        op = self.op
        specs = self.program.graph_signature.output_specs
        (results,) = (node.args[0] for node in self.program.graph.nodes if node.op == "output")
        wanted = [
            result
            for result, spec in zip(results, specs, strict=True)
            if spec.kind.name == "USER_OUTPUT" and self._is_tensor(result)
        ]
        names = self.options.output_names
        if names is not None and len(names) != len(wanted):
            raise ExportError(f"{len(names)} output names for {len(wanted)} outputs")
        for index, result in enumerate(wanted):
            value = self.values[result] if isinstance(result, torch.fx.Node) else result
            if not isinstance(value, Value):
                value = op.scalar(self._argument(value), _number_dtype(value))
                value.type = TensorType(_number_dtype(result), ())
            if value.producer is None or value in self.graph.outputs:
                kind = value.type
                value = op.Identity(value)
                value.type = kind
            if names is None:
                op.rename(value, op.free("output" if not index else f"output_{index}"))
            else:
                value.name = names[index]
            self.graph.outputs.append(value)

    def _is_tensor(self, result: Any) -> bool:
        return result is not None and not (
            isinstance(result, torch.fx.Node) and self.values.get(result) is None
        )


def translate(program: Any, call: Call, options: Options, name: str) -> Translated:
    """Write the decomposed `program` as a model."""
    return _Translator(program, call, options, name).run()


def _is_size_or_pick(node: Any) -> bool:
    val = node.meta.get("val")
    return node.target is operator.getitem or isinstance(
        val, (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
    )


def _in_module(node: Any) -> str:
    path = module_of(node)
    return f"(module {path})" if path else ""


def _where(node: Any) -> str:
    parts = [f"node {node.name}"]
    if module_of(node):
        parts.append(f"module {module_of(node)}")
    if source_of(node):
        parts.append(source_of(node))
    return ", ".join(parts)


def _wrapped(error: SardonyxError) -> ExportError:
    wrapped = ExportError(error.message, hint=error.hint)
    wrapped.places = list(error.places)
    return wrapped


def _common_dtype(node: Any) -> Any:
    parts = []
    for arg in node.args[:2]:
        val = arg.meta.get("val") if isinstance(arg, torch.fx.Node) else arg
        if isinstance(val, torch.SymInt):
            val = 1
        elif isinstance(val, torch.SymFloat):
            val = 1.0
        if not isinstance(val, (torch.Tensor, int, float, bool)):
            return None
        parts.append(val)
    if len(parts) != 2:
        return None
    return tensors.dtype_of(torch.result_type(*parts))


def _number_dtype(value: Any) -> Any:
    if isinstance(value, torch.fx.Node):
        value = value.meta.get("val")
    if isinstance(value, (bool, torch.SymBool)):
        return dtypes.BOOL
    return dtypes.FLOAT if isinstance(value, (float, torch.SymFloat)) else dtypes.INT64


def _remove_dead(graph: Graph) -> None:
    """Remove nodes and initializers that no output needs."""
    kept = set(graph.outputs)
    for node in reversed(graph.nodes):
        if not any(value.users or value in kept for value in node.outputs):
            graph.nodes.remove(node)
    graph.initializers[:] = [value for value in graph.initializers if value.users or value in kept]
