"""The walk over an exported program's graph that writes the ONNX graph."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dtypes
from sardonyx._version import __version__
from sardonyx.errors import ExportError, quote
from sardonyx.export.contract import ir_version_of
from sardonyx.export.torch import tensors
from sardonyx.export.torch.names import output_names
from sardonyx.export.torch.pairs import Complex, part_dtype
from sardonyx.export.torch.registry import TorchBuilder
from sardonyx.export.torch.walk import Walker, source_of, target_name
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import Model
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.export.contract import Options
    from sardonyx.export.torch.signature import Call, Leaf

__all__ = ["Translated", "source_of", "target_name", "translate"]


_CHANGES: Final = frozenset({"BUFFER_MUTATION", "PARAMETER_MUTATION", "USER_INPUT_MUTATION"})


class Translated:
    """The model, and the value of each node of the torch graph by its name.

    `input_names` has the name of each leaf's input; `state` says, for each output after the
    module's own, which state it gives: a buffer's name, or the position of an argument's leaf.
    """

    def __init__(
        self,
        model: Model,
        values: dict[str, Value],
        input_names: list[str | None],
        state: list[str | int],
    ) -> None:
        self.model = model
        self.values = values
        self.input_names = input_names
        self.state = state


class _Translator:
    def __init__(self, program: Any, call: Call, options: Options, name: str) -> None:
        self.program = program
        self.call = call
        self.options = options
        self.graph = Graph(name)
        self.op = TorchBuilder(self.graph, options.opset_version)
        self.walker = Walker(self.op, options.custom_translations)
        self.values = self.walker.values
        self.input_names: list[str | None] = []
        self.complex_names: list[str] = []
        self.state: list[str | int] = []
        self.state_data: list[tuple[Value, Any]] = []
        self.kinds: dict[str, list[str]] = {"sardonyx.buffers": [], "sardonyx.constants": []}

    def run(self) -> Translated:
        module = self.program.graph_module
        self.walker.refuse_unknown(module)
        self._reserve_names()
        self._inputs()
        for node in module.graph.nodes:
            self.walker.step(node, module)
        self._outputs()
        if self.options.state == "inputs_outputs":
            self._state_outputs()
        _remove_dead(self.graph)
        for value, data in self.state_data:
            value.const = data
            self.graph.initializers.append(value)
        version = self.options.opset_version
        model = Model(
            self.graph,
            {"": version},
            ir_version=ir_version_of(version),
            producer_name="sardonyx",
            producer_version=__version__,
        )
        model.metadata["sardonyx.exported_from"] = f"torch {torch.__version__}"
        if self.complex_names:
            model.metadata["sardonyx.complex"] = ", ".join(self.complex_names)
        for kind, listed in self.kinds.items():
            if listed:
                model.metadata[kind] = "\n".join(listed)
        domains = {node.domain for node in self.graph.nodes} - {""}
        model.opset_imports.update(dict.fromkeys(sorted(domains), 1))
        found = {
            node.name: value
            for node, value in self.values.items()
            if isinstance(value, Value) and node.graph is module.graph
        }
        return Translated(model, found, self.input_names, self.state)

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
        if not isinstance(fake, (torch.Tensor, torch.SymInt)):
            self.values[node] = fake
            self.input_names.append(None)
            return
        wanted = leaf.name if leaf is not None else node.name
        name = self.op.claim(wanted) if self.options.input_names else self.op.unique(wanted)
        self.input_names.append(name)
        value = Value(name)
        self.graph.inputs.append(value)
        if isinstance(fake, torch.SymInt):
            value.type = TensorType(dtypes.INT64, ())
            self.values[node] = fake
            self.op.size_values.bind(fake, value)
            return
        value.type, self.values[node] = self._carried(fake, value)
        self.op.size_values.read_from(value, fake)

    def _carried(self, fake: Any, value: Value) -> tuple[TensorType, Any]:
        """The type of the value that carries a tensor, and what stands for the tensor."""
        kind = self.walker.type_of(fake)
        if not fake.is_complex():
            return kind, value
        shape = kind.shape or ()
        pair = Complex(part_dtype(kind.dtype), shape, packed=value, graph=self.graph)
        self.complex_names.append(value.name)
        return TensorType(pair.dtype, (*shape, 2)), pair

    def _weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        shared: dict[Any, Any] = {}
        changed = {spec.target for spec in _changes(self.program, "BUFFER", "PARAMETER")}
        for node, spec in weights:
            if spec.kind.name == "TOKEN":
                self.values[node] = None
                continue
            tensor = self._data(spec)
            if spec.target in changed and self.options.state == "inputs_outputs":
                self.values[node] = self._state_input(spec, tensor)
                continue
            if not node.users:
                continue
            if not isinstance(tensor, torch.Tensor):
                raise ExportError(f"{spec.kind.name.lower()} {spec.target!r} is no tensor")
            key = tensors.storage_key(tensor)
            if key is None or key not in shared:
                made = self.walker.weight(spec.target, tensor)
                self._note_kind(spec, made)
                if key is None:
                    self.values[node] = made
                    continue
                shared[key] = made
            self.values[node] = shared[key]

    def _state_input(self, spec: Any, tensor: Any) -> Any:
        """A buffer that the model changes as an input, which has the buffer's data by default."""
        name = self.op.unique(spec.target)
        packed = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        data = tensors.constant(packed, name)
        value = Value(name)
        value.type, made = self._carried(tensor, value)
        self.graph.inputs.append(value)
        self.state_data.append((value, data))
        return made

    def _state_outputs(self) -> None:
        """The changed buffers and arguments as further outputs, called ``<name>.next``."""
        (results,) = (node.args[0] for node in self.program.graph.nodes if node.op == "output")
        leaves = [
            spec.arg.name
            for spec in self.program.graph_signature.input_specs
            if spec.kind.name == "USER_INPUT"
        ]
        specs = self.program.graph_signature.output_specs
        for result, spec in zip(results, specs, strict=True):
            kind = spec.kind.name
            if kind not in _CHANGES:
                continue
            state: str | int = spec.target
            name = spec.target
            if kind == "USER_INPUT_MUTATION":
                state = leaves.index(spec.target)
                name = self.input_names[state] or name
            value = self._output(self.walker.resolve(result))
            self.op.rename(value, self.op.free(f"{name}.next"))
            self.graph.outputs.append(value)
            self.state.append(state)
            if self.walker.is_complex_result(result):
                self.complex_names.append(value.name)

    def _note_kind(self, spec: Any, made: Any) -> None:
        """Remember which weights are no parameters, for whoever makes a module of the file."""
        if spec.kind.name == "PARAMETER" or not isinstance(made, Value):
            return
        is_state = spec.kind.name == "BUFFER" and spec.persistent
        self.kinds["sardonyx.buffers" if is_state else "sardonyx.constants"].append(made.name)

    def _data(self, spec: Any) -> Any:
        for place in (self.program.state_dict, self.program.constants):
            if spec.target in place:
                return place[spec.target]
        return None

    def _outputs(self) -> None:
        op = self.op
        specs = self.program.graph_signature.output_specs
        (results,) = (node.args[0] for node in self.program.graph.nodes if node.op == "output")
        shown = [
            result
            for result, spec in zip(results, specs, strict=True)
            if spec.kind.name == "USER_OUTPUT"
        ]
        spec = self.program.module_call_graph[0].signature.out_spec
        known = output_names(spec, {value.name for value in self.graph.inputs})
        known = known if len(known) == len(shown) else [None] * len(shown)
        said = [name for name, result in zip(known, shown, strict=True) if self._is_tensor(result)]
        wanted = [result for result in shown if self._is_tensor(result)]
        names = self.options.output_names
        if names is not None and len(names) != len(wanted):
            raise ExportError(f"{len(names)} output names for {len(wanted)} outputs")
        for index, result in enumerate(wanted):
            value = self._output(self.walker.resolve(result))
            if names is None:
                counted = "output" if not index else f"output_{index}"
                op.rename(value, op.free(said[index] or counted))
            else:
                value.name = names[index]
            self.graph.outputs.append(value)
            if self.walker.is_complex_result(result):
                self.complex_names.append(value.name)

    def _output(self, result: Any) -> Value:
        """`result` as a value that can be an output: one that a node gives, and no other's."""
        if isinstance(result, Complex):
            result = result.packed(self.op)
        value: Value = result if isinstance(result, Value) else self.walker.scalar(result)
        if value.producer is None or value in self.graph.outputs:
            kind = value.type
            value = self.op.Identity(value)
            value.type = kind
        return value

    def _is_tensor(self, result: Any) -> bool:
        return result is not None and not (
            isinstance(result, torch.fx.Node) and self.values.get(result) is None
        )


def translate(program: Any, call: Call, options: Options, name: str) -> Translated:
    """Write the decomposed `program` as a model."""
    return _Translator(program, call, options, name).run()


def _changes(program: Any, *kinds: str) -> list[Any]:
    """The output specs that say what of `kinds` the program changes."""
    wanted = {f"{kind}_MUTATION" for kind in kinds}
    specs = program.graph_signature.output_specs
    return [spec for spec in specs if spec.kind.name in wanted]


def _remove_dead(graph: Graph) -> None:
    """Remove nodes and initializers that no output needs, in bodies too."""
    _remove_dead_nodes(graph)
    kept = set(graph.outputs)
    graph.initializers[:] = [value for value in graph.initializers if value.users or value in kept]


def _remove_dead_nodes(graph: Graph) -> None:
    kept = set(graph.outputs)
    for node in reversed(graph.nodes):
        if any(value.users or value in kept for value in node.outputs):
            for body in node.subgraphs():
                _remove_dead_nodes(body)
            continue
        for body in node.subgraphs():
            body.outputs.clear()
            _remove_dead_nodes(body)
        graph.nodes.remove(node)
