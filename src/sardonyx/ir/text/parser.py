"""The textual syntax, read by recursive descent."""

from __future__ import annotations

import gc
import struct
from typing import TYPE_CHECKING, Any, Final

from sardonyx.errors import InputError, ModelError, SardonyxError, quote
from sardonyx.ir.model import Function, Model, TrainingInfo
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.text import details as keys
from sardonyx.ir.text.building import apply_details, build_attribute, build_graph, build_node
from sardonyx.ir.text.details import parse_header, parse_with
from sardonyx.ir.text.scanner import LARGEST, Scanner
from sardonyx.ir.text.syntax import GraphSyntax, NodeSyntax, ValueSyntax
from sardonyx.ir.text.types import next_is_type, parse_type
from sardonyx.ir.text.values import (
    ELIDED,
    ELIDED_HINT,
    parse_data,
    parse_float,
    parse_plain_numbers,
    parse_values,
)
from sardonyx.ir.text.words import FLOAT_WORDS
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.limits import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sardonyx.dtypes import DType
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.types import Type
    from sardonyx.limits import Limits

    External: TypeAlias = (
        Callable[[Sequence[tuple[str, str]], DType, Sequence[int], str], Tensor] | None
    )

__all__ = ["External", "parse", "parse_function", "parse_graph", "parse_node"]

_LEVELS: Final = 3
_LONG: Final = 1 << 20
_ATTRIBUTE_TYPES: Final = {kind.name.lower(): kind for kind in AttributeType}
_SINGLE: Final = {
    kind: AttributeType[kind.name[:-1]] if kind.is_list else kind for kind in AttributeType
}
_LIST: Final = {single: kind for kind, single in _SINGLE.items() if kind.is_list}


def parse(text: str, *, limits: Limits = DEFAULT, external: External = None) -> Model:
    """The model that `text` describes.

    `external` makes the tensors whose data lies in other files, from external_data entries,
    dtype, shape and name; `sardonyx.parse` gives one that refers to the files.

    Raises:
        TextError: the text is not in the syntax; the error says where and what was expected.
        ModelError: it is, but is no model: names given twice, data that does not fit.
        LimitError: a bound of `limits` is exceeded.
    """
    parser = _Parser(text, limits, external)
    pause = len(text) > _LONG and gc.isenabled()
    if pause:
        gc.disable()
    try:
        model = parser.model()
        parser.finish()
    finally:
        if pause:
            gc.enable()
    return model


def parse_graph(text: str, *, limits: Limits = DEFAULT, external: External = None) -> Graph:
    """The graph that `text` describes; errors as of `parse`."""
    parser = _Parser(text, limits, external)
    graph = build_graph(parser.graph(2))
    parser.finish()
    return graph


def parse_function(text: str, *, limits: Limits = DEFAULT, external: External = None) -> Function:
    """The function that `text` describes; errors as of `parse`."""
    parser = _Parser(text, limits, external)
    function = parser.function()
    parser.finish()
    return function


def parse_node(text: str, *, limits: Limits = DEFAULT, external: External = None) -> Node:
    """The node that `text` describes; its values are its own. Errors as of `parse`."""
    parser = _Parser(text, limits, external)
    node = build_node(parser.node(3))
    parser.finish()
    return node


class _Parser:
    """Reads the constructs of the grammar (docs/text.md), one method each."""

    def __init__(self, text: str, limits: Limits, external: External) -> None:
        if not isinstance(text, str):
            raise InputError(
                f"text is a str, not {type(text).__name__}",
                hint="decode bytes of text; sardonyx.loads reads ONNX's binary format",
            )
        self._scanner = Scanner(text, limits)
        self._limits = limits
        self._external = external
        self._nodes = 0

    def finish(self) -> None:
        """The text must be at its end."""
        if self._scanner.kind != "end":
            raise self._scanner.unexpected("the end of the text")

    def model(self) -> Model:
        """Header, graph, functions, training."""
        scanner = self._scanner
        header = parse_header(scanner, keys.MODEL, "a model")
        graph = build_graph(self.graph(2))
        model = Model(graph, header.pop("opset_imports", {}), ir_version=0)
        for name, value in header.items():
            setattr(model, name, list(value) if name == "configurations" else value)
        while scanner.kind != "end":
            place = scanner.start
            if scanner.value == "training_info" and scanner.next_mark() == "{":
                model.training.append(self._training(graph))
                continue
            function = self.function()
            if model.functions.setdefault(function.key, function) is not function:
                name = ":".join(part for part in function.key if part)
                raise scanner.error(f"two functions are called {quote(name)}", place)
        return model

    def function(self) -> Function:
        """A function: header, name, attributes, inputs and outputs, nodes."""
        scanner = self._scanner
        header = parse_header(scanner, keys.FUNCTION, "a function")
        syntax = GraphSyntax(scanner.name("the name of a function"))
        names: list[str] = []
        defaults: dict[str, Attribute] = {}
        if scanner.kind == "<":
            names, defaults = self._parameters()
        infos: list[ValueSyntax] = []
        for side in (syntax.inputs, syntax.outputs):
            if side is syntax.outputs:
                scanner.expect("=>")
            for value in self._values("(", ")"):
                side.append(ValueSyntax(value.name, None, {}))
                if value.type is not None or value.details:
                    infos.append(value)
        if scanner.kind == "<":
            infos += self._values("<", ">")
        syntax.listed = infos
        syntax.nodes = self._node_list(2)
        graph = build_graph(syntax)
        function = Function(
            syntax.name,
            header.pop("domain", ""),
            graph,
            header.pop("opset_imports", {}),
            attributes=names,
            defaults=defaults,
        )
        graph.name = ""
        apply_details(function, header)
        return function

    def _parameters(self) -> tuple[list[str], dict[str, Attribute]]:
        scanner = self._scanner
        names: list[str] = []
        defaults: dict[str, Attribute] = {}
        scanner.expect("<")
        while True:
            place = scanner.start
            name = scanner.name("the name of an attribute")
            if scanner.kind in {":", "="} or scanner.value == "with":
                attribute = build_attribute(self._attribute(name, 3))
                if defaults.setdefault(name, attribute) is not attribute:
                    raise scanner.error(f"two attributes are called {quote(name)}", place)
            else:
                names.append(name)
            if not scanner.accept(","):
                scanner.expect(">", "',' or '>'")
                return names, defaults

    def _training(self, main: Graph) -> TrainingInfo:
        """What follows the functions; its graphs read from the graph of the model."""
        scanner = self._scanner
        info = TrainingInfo()
        scanner.advance()
        scanner.expect("{")
        given: set[str] = set()
        while not scanner.accept("}"):
            place, word = scanner.start, scanner.expect("name", "a key of training_info")
            if word in given:
                raise scanner.error(f"{word} is given twice", place)
            given.add(word)
            scanner.expect(":")
            if word == "initialization":
                seen = {value.name: value for value in main.initializers}
                info.initialization = build_graph(self.graph(3), (seen,))
            elif word == "algorithm":
                info.algorithm = build_graph(self.graph(3), (main.values(),))
            elif word in {"initialization_binding", "update_binding"}:
                setattr(info, word, keys.parse_entries(scanner))
            elif word == "unknown":
                info.unknown = parse_data(scanner)
            else:
                raise scanner.error(
                    f"training_info has no {quote(word)}",
                    place,
                    hint="it has initialization, algorithm, initialization_binding, "
                    "update_binding, unknown",
                )
            if not scanner.accept(","):
                scanner.expect("}", "',' or '}'")
                break
        return info

    def graph(self, depth: int, name: str | None = None) -> GraphSyntax:
        """A graph `depth` levels into the model, its name if that is read already."""
        scanner = self._scanner
        scanner.check_depth(depth + _LEVELS)
        syntax = GraphSyntax(scanner.name("the name of a graph") if name is None else name)
        if scanner.kind == "(":
            syntax.inputs = self._values("(", ")", data=True)
        scanner.expect("=>")
        syntax.outputs = self._values("(", ")")
        if scanner.kind == "<":
            syntax.listed = self._values("<", ">", data=True)
        syntax.details = parse_with(scanner, keys.GRAPH, "a graph")
        syntax.nodes = self._node_list(depth)
        return syntax

    def _values(self, opening: str, closing: str, *, data: bool = False) -> list[ValueSyntax]:
        """Declared values between brackets, with their `data` where they can have some."""
        scanner = self._scanner
        values: list[ValueSyntax] = []
        scanner.expect(opening)
        if scanner.accept(closing):
            return values
        while True:
            known = parse_type(scanner, 4) if next_is_type(scanner) else None
            place, name = scanner.start, scanner.name("a type or the name of a value")
            value = ValueSyntax(name, known, parse_with(scanner, keys.DETAILS, "a value"))
            if data and scanner.accept("="):
                if known is None:
                    raise scanner.error(f"value {quote(name)} has data, but no type", place)
                value.data = self._data(known, name, place)
            values.append(value)
            if not scanner.accept(","):
                scanner.expect(closing, f"',' or '{closing}'")
                return values

    def _node_list(self, depth: int) -> list[NodeSyntax]:
        scanner = self._scanner
        nodes = []
        scanner.expect("{")
        while not scanner.accept("}"):
            nodes.append(self.node(depth + 1))
        return nodes

    def node(self, depth: int) -> NodeSyntax:
        """One node."""
        scanner = self._scanner
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            raise scanner.limit("nodes", self._limits.nodes, f"more than {self._limits.nodes}")
        label = ""
        if scanner.accept("["):
            label = scanner.name("the name of a node") if scanner.has_name() else ""
            scanner.expect("]")
        outputs = self._names()
        scanner.expect("=", "a node: outputs = Operator (inputs)")
        parts = [scanner.name("an operator")]
        while scanner.accept("."):
            parts.append(scanner.name("an operator"))
        overload = scanner.name("an overload") if scanner.accept(":") else ""
        attributes = self._attributes(depth + 1)
        scanner.expect("(")
        inputs = self._names()
        scanner.expect(")", "',' or ')'")
        if not attributes:
            attributes = self._attributes(depth + 1)
        found = parse_with(scanner, keys.NODE, "a node")
        domain = ".".join(parts[:-1])
        return NodeSyntax(label, outputs, domain, parts[-1], overload, inputs, attributes, found)

    def _names(self) -> tuple[str, ...]:
        """Names with commas between: one that is left out is empty, and one at the end is not."""
        scanner = self._scanner
        names: list[str] = []
        if scanner.has_name():
            names.append(scanner.name())
        elif scanner.kind == ",":
            names.append("")
        while scanner.accept(","):
            if scanner.has_name():
                names.append(scanner.name())
            elif scanner.kind == ",":
                names.append("")
        return tuple(names)

    def _attributes(self, depth: int) -> tuple[Attribute, ...]:
        scanner = self._scanner
        if not scanner.accept("<"):
            return ()
        attributes: list[Attribute] = []
        seen: set[str] = set()
        while True:
            place, name = scanner.start, scanner.name("the name of an attribute")
            if name in seen:
                raise scanner.error(f"two attributes are called {quote(name)}", place)
            if not name:
                raise scanner.error("an attribute without a name", place)
            seen.add(name)
            attributes.append(self._attribute(name, depth))
            if not scanner.accept(","):
                scanner.expect(">", "',' or '>'")
                return tuple(attributes)

    def _attribute(self, name: str, depth: int) -> Attribute:
        """An attribute after its name: details, type, value."""
        scanner = self._scanner
        found = parse_with(scanner, keys.ATTRIBUTE, "an attribute")
        kind: AttributeType | None = None
        if scanner.accept(":"):
            place, word = scanner.start, scanner.expect("name", "an attribute type")
            if word not in _ATTRIBUTE_TYPES:
                known = ", ".join(sorted(_ATTRIBUTE_TYPES))
                raise scanner.error(
                    f"{quote(word)} is no attribute type", place, hint=f"one is {known}"
                )
            kind = _ATTRIBUTE_TYPES[word]
        attribute = Attribute(name, AttributeType.UNDEFINED if kind is None else kind)
        apply_details(attribute, found)
        if kind is not None and scanner.kind != "=":
            return attribute
        scanner.expect("=")
        if scanner.kind == "[":
            attribute.type, attribute.value = self._list(kind, depth)
        elif scanner.accept("@"):
            attribute.ref = scanner.name("the name of an attribute of the function")
        else:
            attribute.type, attribute.value = self._single(kind, depth)
        return attribute

    def _list(self, kind: AttributeType | None, depth: int) -> tuple[AttributeType, Any]:
        scanner = self._scanner
        place = scanner.start
        expected = None if kind is None else _SINGLE[kind]
        numbers = parse_plain_numbers(scanner, as_floats=expected == AttributeType.FLOAT)
        if numbers is not None:
            found = AttributeType.INTS if isinstance(numbers[0], int) else AttributeType.FLOATS
            if kind is None or expected == _SINGLE[found]:
                scanner.accept("]")
                return found, numbers
        scanner.expect("[")
        values: list[Any] = []
        kinds: set[AttributeType] = set()
        if scanner.accept("]"):
            if kind is None or not kind.is_list:
                raise scanner.error(
                    "an empty list needs the type of its attribute",
                    place,
                    hint="write it as in axes: ints = []",
                )
            return kind, ()
        while True:
            found, value = self._single(expected, depth)
            kinds.add(found)
            values.append(value)
            if not scanner.accept(","):
                scanner.expect("]", "',' or ']'")
                break
        if kinds == {AttributeType.INT, AttributeType.FLOAT}:
            kinds = {AttributeType.FLOAT}
            values = [float(value) for value in values]
        if len(kinds) > 1:
            raise scanner.error("the values of a list are of one kind", place)
        return _LIST[kinds.pop()], tuple(values)

    def _single(self, expected: AttributeType | None, depth: int) -> tuple[AttributeType, Any]:
        place = self._scanner.start
        kind, value = self._any_single(expected, depth)
        if expected not in {None, kind}:
            assert expected is not None
            raise self._scanner.error(
                f"expected a value of type {expected.name.lower()}, found {kind.name.lower()}",
                place,
            )
        return kind, value

    def _any_single(self, expected: AttributeType | None, depth: int) -> tuple[AttributeType, Any]:
        scanner = self._scanner
        if scanner.kind in {"number", "hex"}:
            return self._number(expected)
        if scanner.has_text():
            is_bytes = scanner.kind == "bytes"
            text = scanner.advance()
            if scanner.kind in {"(", "=>"}:
                return AttributeType.GRAPH, self.graph(depth + 1, text)
            return AttributeType.STRING, _bytes_or_text(text) if is_bytes else text
        if scanner.kind != "name":
            raise scanner.unexpected("the value of an attribute")
        if next_is_type(scanner):
            return self._typed(depth)
        if scanner.value.lower() in FLOAT_WORDS:
            return self._number(expected)
        return AttributeType.GRAPH, self.graph(depth + 1)

    def _number(self, expected: AttributeType | None) -> tuple[AttributeType, Any]:
        scanner = self._scanner
        place, text = scanner.start, scanner.value
        if scanner.kind == "hex":
            data = parse_data(scanner)
            if len(data) != 4:
                raise scanner.error(f"a float has 4 bytes, {len(data)} are there", place)
            return AttributeType.FLOAT, struct.unpack("<f", data)[0]
        digits = text.removeprefix("-")
        if digits.isdigit() and expected != AttributeType.FLOAT:
            return AttributeType.INT, scanner.integer()
        number = parse_float(text)
        if number is None:
            raise scanner.error(f"{quote(text)} is no number that a float can hold", place)
        scanner.advance()
        return AttributeType.FLOAT, number

    def _typed(self, depth: int) -> tuple[AttributeType, Any]:
        """A type, or a tensor of that type."""
        scanner = self._scanner
        place = scanner.start
        found = parse_type(scanner, depth + 1)
        if scanner.kind == "<":
            raise scanner.error(ELIDED, hint=ELIDED_HINT)
        if scanner.kind not in {"{", "=", "hex", "base64"} and not scanner.has_name():
            return AttributeType.TYPE_PROTO, found
        name = scanner.name() if scanner.has_name() else ""
        scanner.accept("=")
        data = self._data(found, name, place)
        is_sparse = isinstance(data, SparseTensor)
        return AttributeType.SPARSE_TENSOR if is_sparse else AttributeType.TENSOR, data

    def _data(self, type: Type, name: str, place: int) -> Tensor | SparseTensor:
        """A constant after its type, name and equals sign: elements, or where they lie."""
        scanner = self._scanner
        if isinstance(type, SparseTensorType):
            return self._sparse(type, name, place)
        if not isinstance(type, TensorType) or type.dtype is None:
            raise scanner.error(f"a {quote(type)[1:-1]} has no constants", place)
        shape = self._shape(type, place)
        try:
            if scanner.kind == "[":
                tensor = self._reference(type.dtype, shape, name, place)
            else:
                tensor = parse_values(scanner, type.dtype, shape, name)
        except ModelError as error:
            raise scanner.error(error.message, place, error.hint) from error
        apply_details(tensor, parse_with(scanner, keys.DETAILS, "a tensor"))
        return tensor

    def _shape(self, type: TensorType | SparseTensorType, place: int) -> list[int]:
        """The shape of `type`, which must be known and have at most 2^63 elements."""
        shape = [dim for dim in type.shape or () if isinstance(dim, int)]
        if type.shape is None or len(shape) != len(type.shape):
            raise self._scanner.error(
                "a constant needs numbers as dimensions",
                place,
                hint="write float for one number, float[2, 3] for a table",
            )
        product = 1
        for dim in shape:
            product *= dim or 1
        if product > LARGEST:
            raise self._scanner.error(f"a tensor of {shape} has more than 2^63 elements", place)
        return shape

    def _reference(self, dtype: DType, shape: list[int], name: str, place: int) -> Tensor:
        scanner = self._scanner
        entries = keys.parse_pairs(scanner)
        if self._external is None:
            raise scanner.error(
                "the data lies in another file, which this function cannot open",
                place,
                hint="use sardonyx.parse, or sardonyx.load on a file",
            )
        try:
            return self._external(entries, dtype, shape, name)
        except SardonyxError as error:
            line, column = scanner.position(place)
            raise error.at(f"line {line}, column {column}") from error.__cause__

    def _sparse(self, type: SparseTensorType, name: str, place: int) -> SparseTensor:
        """``{values: tensor, indices: tensor}`` of the dense shape in `type`."""
        scanner = self._scanner
        parts: list[Tensor] = []
        if scanner.kind == "<":
            raise scanner.error(ELIDED, hint=ELIDED_HINT)
        scanner.expect("{", "the parts of a sparse tensor: {values: ..., indices: ...}")
        for word in ("values", "indices"):
            if scanner.value != word:
                raise scanner.unexpected(f"'{word}:'")
            scanner.advance()
            scanner.expect(":")
            start = scanner.start
            inner = parse_type(scanner, 6)
            inner_name = scanner.name() if scanner.has_name() else ""
            scanner.accept("=")
            part = self._data(inner, inner_name, start)
            if isinstance(part, SparseTensor):
                raise scanner.error("the parts of a sparse tensor are dense", start)
            parts.append(part)
            if word == "values":
                scanner.expect(",")
        scanner.expect("}")
        values, indices = parts
        if values.dtype is not type.dtype:
            raise scanner.error(f"{quote(type)[1:-1]} has values of {values.dtype.text}", place)
        if len(values.shape) != 1 or len(indices.shape) not in {1, 2}:
            raise scanner.error("values have rank 1 and indices rank 1 or 2", place)
        values.name = name or values.name
        sparse = SparseTensor(values, indices, self._shape(type, place))
        apply_details(sparse, parse_with(scanner, keys.SPARSE, "a sparse tensor"))
        return sparse


def _bytes_or_text(text: str) -> str | bytes:
    """The value of a string attribute: bytes where they are not UTF-8."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
