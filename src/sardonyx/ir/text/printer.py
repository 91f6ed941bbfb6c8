"""Models and their parts as text that reads back as what it was."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final, Literal

from sardonyx.errors import InputError, ModelError, quote
from sardonyx.ir.graph import Graph
from sardonyx.ir.listing import name_values, value_infos
from sardonyx.ir.model import Function, Model
from sardonyx.ir.node import AttributeType, Node
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.text import details as keys
from sardonyx.ir.text.details import written_items
from sardonyx.ir.text.layout import STEP, last_line, listed
from sardonyx.ir.text.scanner import DEEPEST
from sardonyx.ir.text.types import written_type
from sardonyx.ir.text.values import float_text, written_values
from sardonyx.ir.text.words import quoted, written_name
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.limits import exceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sardonyx.ir.model import TrainingInfo
    from sardonyx.ir.node import Attribute
    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.text.details import Key
    from sardonyx.ir.value import Value

    Externalize: TypeAlias = Callable[[Tensor], Sequence[tuple[str, str]] | None] | None

__all__ = ["Weights", "model_text", "to_text"]

Weights = Literal["full", "elided"]

_NONE: Final[frozenset[str]] = frozenset()
_PLAIN_NANS: Final = {b"\x00\x00\xc0\x7f": "nan", b"\x00\x00\xc0\xff": "-nan"}
_ANNOTATED: Final = frozenset(
    {
        AttributeType.TENSORS,
        AttributeType.GRAPHS,
        AttributeType.SPARSE_TENSORS,
        AttributeType.TYPE_PROTOS,
    }
)


def to_text(part: Model | Graph | Function | Node, *, weights: Weights = "full") -> str:
    """`part` in the textual syntax (docs/text.md), which `sardonyx.parse` reads back.

    Values without a name that something reads, or that are graph outputs, are given unique
    names, which they keep. Tensors whose data lies in other files are written as references.

    Args:
        part: a model, a graph, a function or a node.
        weights: ``full`` writes every element, exactly; ``elided`` only counts the elements of
            all but the smallest tensors, for reading: such text cannot be parsed.

    Raises:
        ModelError: a file cannot hold the model: names that are not UTF-8, a function with
            initializers, attributes whose value is not of their type.
        ExternalDataError: weights cannot be read.
    """
    if weights not in {"full", "elided"}:
        raise InputError(f"weights is {weights!r}", hint="give 'full' or 'elided'")
    printer = _Printer(weights == "elided", None)
    if isinstance(part, Model):
        return printer.model(part)
    if isinstance(part, Graph):
        return printer.graph(part, "", _NONE, 2) + "\n"
    if isinstance(part, Function):
        return printer.function(part)
    if isinstance(part, Node):
        return printer.node(part, "", _NONE, 3) + "\n"
    raise InputError(
        f"{type(part).__name__} has no text", hint="pass a model, a graph, a function or a node"
    )


def model_text(model: Model, externalize: Externalize) -> str:
    """`model` in full, its weights where `externalize` says.

    That gives the external_data entries to write in place of a tensor's data, or None to write
    the data; without it external tensors keep their entries.
    """
    return _Printer(False, externalize).model(model)


def _entries(tensor: Tensor) -> Sequence[tuple[str, str]] | None:
    return tensor.entries


class _Printer:
    """Writes the constructs of the grammar, one method each; `indent` is that of their line."""

    def __init__(self, elided: bool, externalize: Externalize) -> None:
        self._elided = elided
        self._externalize = externalize or _entries
        self._names: dict[str, str] = {}

    def model(self, model: Model) -> str:
        """A whole file."""
        blocks = []
        header = self._header(model, keys.MODEL)
        blocks.append(header + self.graph(model.graph, "", _NONE, 2) + "\n")
        blocks += [self.function(function) for function in model.functions.values()]
        blocks += [self._training(info) for info in model.training]
        return "\n".join(blocks)

    def function(self, function: Function) -> str:
        """Header, name, attributes, inputs and outputs, nodes."""
        graph = function.graph
        taken = name_values(graph)
        if graph.initializers:
            raise ModelError(
                f"function {quote(function.name)} has initializers, which a file cannot hold",
                hint="make them Constant nodes",
            )
        text = self._header(function, keys.FUNCTION) + written_name(function.name)
        parameters = [written_name(name) for name in function.attributes]
        parameters += [
            self._attribute(attribute, STEP, taken, 3) for attribute in function.defaults.values()
        ]
        if parameters:
            text += " " + listed("<", parameters, ">", "", last_line(text))
        for start, values in ((" ", graph.inputs), (" => ", graph.outputs)):
            names = [written_name(value.name) for value in values]
            text += start + listed("(", names, ")", "", last_line(text))
        infos = [self._value(value) for value in value_infos(graph, in_function=True)]
        if infos:
            text += "\n" + listed("<", infos, ">", "", 0, inline=len(infos) == 1) + "\n"
        else:
            text += " "
        return text + self._nodes(graph, "", taken, 2) + "\n"

    def _header(self, source: object, table: tuple[Key, ...]) -> str:
        items = written_items(source, table, STEP, elided=self._elided)
        return listed("<", items, ">", "", 0, inline=False) + "\n" if items else ""

    def _with(self, source: object, table: tuple[Key, ...], indent: str, used: int) -> str:
        """`` with <...>`` where `source` has details."""
        items = written_items(source, table, indent + STEP, elided=self._elided)
        return " with " + listed("<", items, ">", indent, used + 6) if items else ""

    def _training(self, info: TrainingInfo) -> str:
        items = []
        for word in ("initialization", "algorithm"):
            graph = getattr(info, word)
            if graph is not None:
                items.append(f"{word}: {self.graph(graph, STEP, _NONE, 3)}")
        for word in ("initialization_binding", "update_binding"):
            entries = getattr(info, word)
            if entries:
                pairs = [f"{quoted(key)}: {quoted(value)}" for key, value in entries.items()]
                items.append(f"{word}: {listed('[', pairs, ']', STEP, 30)}")
        items += written_items(info, keys.SPARSE, STEP, elided=self._elided)
        return "training_info " + listed("{", items, "}", "", 0, inline=False) + "\n"

    def graph(self, graph: Graph, indent: str, taken: frozenset[str], depth: int) -> str:
        """A graph `depth` levels into the model; `taken` are names of enclosing graphs."""
        if depth + 3 > DEEPEST:
            raise exceeded("depth", DEEPEST, f"more than {DEEPEST}")
        taken = name_values(graph, taken)
        text = written_name(graph.name)
        for start, values in ((" ", graph.inputs), (" => ", graph.outputs)):
            items = [self._value(value) for value in values]
            text += start + listed("(", items, ")", indent, last_line(text) + len(indent))
        parts = [self._initializer(value, indent + STEP) for value in graph.initializers]
        parts += [self._value(value) for value in value_infos(graph)]
        if parts:
            text += "\n" + indent + listed("<", parts, ">", indent, 0, inline=len(parts) == 1)
        details = self._with(graph, keys.GRAPH, indent, 0)
        if details:
            text += "\n" + indent + details[1:]
        text += "\n" + indent if parts or details else " "
        return text + self._nodes(graph, indent, taken, depth)

    def _nodes(self, graph: Graph, indent: str, taken: frozenset[str], depth: int) -> str:
        inner = indent + STEP
        lines = [f"{inner}{self.node(node, inner, taken, depth + 1)}\n" for node in graph.nodes]
        return "{\n" + "".join(lines) + indent + "}"

    def _value(self, value: Value) -> str:
        known = value.type
        text = written_name(value.name)
        if known is not None:
            text = f"{written_type(known, DEEPEST)} {text}"
        return (
            text + self._with(value, keys.DETAILS, STEP, len(text)) if value.has_details else text
        )

    def _initializer(self, value: Value, indent: str) -> str:
        const = value.const
        if const is None:
            raise ModelError(f"initializer {quote(value.name)} has no data")
        name = written_name(value.name)
        if isinstance(const, SparseTensor):
            return self._sparse(const, f" {name} =", indent, in_initializer=True)
        return self._tensor(const, f" {name} =", indent)

    def _tensor(self, tensor: Tensor, name: str, indent: str) -> str:
        """A tensor, `name` being what stands between its type and its data."""
        text = written_type(TensorType(tensor.dtype, tensor.shape), DEEPEST) + name
        entries = self._externalize(tensor)
        if entries is not None:
            text += "" if name.endswith("=") else " ="
            pairs = [f"{quoted(key)}: {quoted(value)}" for key, value in entries]
            text += " " + listed("[", pairs, "]", indent, len(indent) + len(text))
        else:
            text += " " + written_values(tensor, indent, elided=self._elided)
        if tensor.doc or tensor.unknown or tensor._metadata:  # noqa: SLF001
            text += self._with(tensor, keys.DETAILS, indent, last_line(text) + len(indent))
        return text

    def _named(self, tensor: Tensor) -> str:
        return f" {written_name(tensor.name)}" if tensor.name else ""

    def _sparse(
        self, sparse: SparseTensor, name: str, indent: str, *, in_initializer: bool = False
    ) -> str:
        values, indices = sparse.values, sparse.indices
        inner = indent + STEP
        values_name = "" if in_initializer else self._named(values)
        items = [
            f"values: {self._tensor(values, values_name, inner)}",
            f"indices: {self._tensor(indices, self._named(indices), inner)}",
        ]
        text = written_type(SparseTensorType(values.dtype, sparse.shape), DEEPEST) + name
        text += " " + listed("{", items, "}", indent, len(indent) + len(text))
        return text + self._with(sparse, keys.SPARSE, indent, last_line(text))

    def node(self, node: Node, indent: str, taken: frozenset[str], depth: int) -> str:
        """One node, its first line not indented."""
        text = f"[{written_name(node.name)}] " if node.name else ""
        text += ", ".join([self._name(value.name) for value in node.outputs])
        text += " = " if text and not text.endswith(" ") else "= "
        text += "".join([f"{part}." for part in _domain_parts(node.domain)])
        text += self._name(node.op_type)
        if node.overload:
            text += f":{written_name(node.overload)}"
        names = [self._name("" if value is None else value.name) for value in node.inputs]
        inputs = f" ({', '.join(names)})"
        attributes = list(node.attributes.values())
        if attributes:
            inner = indent + STEP
            items = [self._attribute(item, inner, taken, depth + 1) for item in attributes]
            if any(item.type in _GRAPHS for item in attributes):
                text += inputs
                inputs = ""
            used = len(indent) + len(text) + len(inputs)
            text += " " + listed("<", items, ">", indent, used)
        text += inputs
        return text + self._with(node, keys.NODE, indent, len(indent) + last_line(text))

    def _name(self, name: str) -> str:
        """`written_name`, remembered: names of values come up again and again."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = written_name(name)
        return found

    def _attribute(
        self, attribute: Attribute, indent: str, taken: frozenset[str], depth: int
    ) -> str:
        kind = AttributeType(attribute.type)
        value = attribute.value
        text = self._name(attribute.name)
        table: tuple[Key, ...] = keys.ATTRIBUTE
        if value is None:
            table = tuple([key for key in table if key.attribute != "ref"])
        text += self._with(attribute, table, indent, len(indent) + len(text))
        if value is None:
            word = f": {kind.name.lower()}"
            if not attribute.ref:
                return text + word
            return f"{text}{word if kind else ''} = @{written_name(attribute.ref)}"
        try:
            if not kind.is_list:
                return f"{text} = {self._single(kind, value, indent, taken, depth)}"
            if kind in _ANNOTATED or not value:
                text += f": {kind.name.lower()}"
            single = AttributeType[kind.name[:-1]]
            inner = indent + STEP
            items = [self._single(single, item, inner, taken, depth) for item in value]
            return f"{text} = {listed('[', items, ']', indent, len(indent) + len(text))}"
        except (TypeError, AttributeError, KeyError, struct.error) as error:
            raise ModelError(
                f"attribute {quote(attribute.name)} of type {kind.name} cannot hold "
                f"{quote(repr(value))}"
            ) from error

    def _single(
        self, kind: AttributeType, value: Any, indent: str, taken: frozenset[str], depth: int
    ) -> str:
        if kind == AttributeType.INT:
            return _integer(value)
        if kind == AttributeType.FLOAT:
            return _float(value)
        if kind == AttributeType.STRING:
            return quoted(value)
        if kind == AttributeType.TENSOR:
            return self._tensor(value, self._named(value), indent)
        if kind == AttributeType.GRAPH:
            return self.graph(value, indent, taken, depth + 1)
        if kind == AttributeType.SPARSE_TENSOR:
            return self._sparse(value, "", indent)
        if kind == AttributeType.TYPE_PROTO:
            return written_type(value, DEEPEST)
        raise TypeError(kind)


_GRAPHS: Final = frozenset({AttributeType.GRAPH, AttributeType.GRAPHS})


def _domain_parts(domain: str) -> list[str]:
    """The parts of a domain as names; a domain that is not made of names is one part."""
    if not domain:
        return []
    parts = domain.split(".")
    return [quoted(domain)] if "" in parts else [written_name(part) for part in parts]


def _integer(value: Any) -> str:
    number = value.__index__()
    if not -(1 << 63) <= number < 1 << 63:
        raise ModelError(f"{number} does not fit 64 bits")
    return str(number)


def _float(value: Any) -> str:
    """A float attribute: the shortest text of the float32 that a file holds."""
    try:
        bits = struct.pack("<f", value)
    except OverflowError as error:
        raise ModelError(f"a float attribute that float32 cannot hold: {error}") from None
    if math.isnan(value):
        return _PLAIN_NANS.get(bits) or f'hex"{bits.hex()}"'
    return float_text(struct.unpack("<f", bits)[0])
