"""Constants that hold on to the size that a dim had: found, and rewritten where that is proven."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compose.copying import copy
from sardonyx.compose.mixing import refuse_mixing
from sardonyx.compose.nodes import builder
from sardonyx.compose.opsets import version_of
from sardonyx.compose.reshapes import Opened, carried_shape, product
from sardonyx.compose.results import unread
from sardonyx.compose.scopes import all_graphs, captured, defined_in
from sardonyx.compose.symbols import substitute_symbols
from sardonyx.dims import Dim, known_equal, symbols
from sardonyx.errors import InferenceError, ModelError, UnsupportedError, quote
from sardonyx.infer import infer
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.tensor import ArrayTensor, Tensor
from sardonyx.ir.types import shape_text
from sardonyx.ir.value import Value
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sardonyx.infer import Inference
    from sardonyx.ir.builder import Builder
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import DimLike
    from sardonyx.ops.fact import Fact

    Facts = Mapping[Value, Fact]
    Shapes = dict[tuple[int, int], tuple[DimLike, ...] | None]

__all__ = ["Opened", "inferred", "release", "verify"]

_FIRST_WITH_EXPAND = 8
_FIRST_WITH_WHERE = 9
_RECURRENT = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_BROADCASTING = frozenset(
    {
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "Less",
        "Max",
        "Min",
        "Mul",
        "Or",
        "Pow",
        "Sub",
        "Where",
    }
)
_TAKE_APART = frozenset({"Reshape", "Slice", "Gather", "Squeeze", "Split", "Resize", "Upsample"})


def inferred(model: Model) -> Inference:
    """What inference finds; checksummed weights stay unread."""
    with unread(model.graph):
        return infer(model)


def release(model: Model, opened: Opened, before: Facts, *, apart: bool = False) -> None:
    """Rewrite, in place, what holds on to the old size of `opened`.

    `before` is what was inferred while the size was a number. Raises `ModelError` with the node
    and the constant where it is not proven what they should be, and with `apart`, or where
    a dim could have gone to several places, for a node that computes across a dim that opened.
    """
    done: set[Node] = set()
    while _Pass(model, opened, before, (facts := inferred(model).facts), done).run():
        pass
    _refuse_unknown_operators(model, opened, facts)
    if apart or opened.guessed:
        refuse_mixing(model, opened, facts)


def _refuse_unknown_operators(model: Model, opened: Opened, facts: Facts) -> None:
    for node in model.graph.all_nodes():
        known = registry.find(node.domain, node.op_type) or model.function_of(node)
        given = [value for value in node.inputs if value is not None and value in facts]
        if known is None and any(opened.is_in_any(facts[value].shape) for value in given):
            raise UnsupportedError(
                f"what {quote(node.op_type)} of domain {quote(node.domain)} makes of "
                f"{' and '.join(map(quote, opened.sizes))} is not known, so that what follows "
                "cannot be checked",
                place=node.label,
                hint="export the model with this dimension open",
            )


class _Pass:
    """One walk over the nodes with one inference: what follows a rewritten node waits."""

    def __init__(
        self, model: Model, opened: Opened, before: Facts, facts: Facts, done: set[Node]
    ) -> None:
        self._model = model
        self._opened = opened
        self._before = before
        self._facts = facts
        self._done = done
        self._stale: set[Value] = set()
        self._followers: set[Value] | None = None
        self._version = version_of(model.opset_imports, "") or 1

    def run(self) -> bool:
        """Rewrite what can be; returns whether anything was."""
        for node in list(self._model.graph.all_nodes()):
            if any(value in self._stale for value in node.inputs) or (
                canonical_domain(node.domain) == ""
                and self._model.function_of(node) is None
                and self._rewrite(node)
            ):
                self._stale.update(node.outputs)
        return bool(self._stale)

    def _rewrite(self, node: Node) -> bool:
        """Rewrite `node` where it needs that, once at most; returns whether it did."""
        changed = node not in self._done and self._changed(node)
        if changed:
            self._done.add(node)
        return changed

    def _changed(self, node: Node) -> bool:
        if node.op_type == "Reshape":
            return self._reshape(node)
        if node.op_type == "Expand":
            return self._expand(node)
        if node.op_type == "Resize":
            return self._resize(node)
        if node.op_type == "Concat":
            return self._concat(node)
        if node.op_type in _RECURRENT:
            return self._initial_states(node)
        if node.op_type in _BROADCASTING:
            return self._broadcast(node)
        return False

    def _shape(self, value: Value | None, facts: Facts) -> tuple[DimLike, ...] | None:
        fact = None if value is None else facts.get(value)
        return None if fact is None else fact.shape

    def _contents(self, value: Value | None) -> list[DimLike] | None:
        fact = None if value is None else self._facts.get(value)
        return None if fact is None or fact.value is None else fact.dims_value()

    def _reshape(self, node: Node) -> bool:
        opened = self._opened
        source, made = node.inputs[0], node.outputs[0]
        old_in, old_out = self._shape(source, self._before), self._shape(made, self._before)
        new_in, new_out = self._shape(source, self._facts), self._shape(made, self._facts)
        if new_in is None or not opened.is_in_any(new_in):
            self._refuse_unknown(node, new_in)
            return False
        expected = None
        before, after, now = _full(old_in), _full(old_out), _full(new_in)
        if before is not None and after is not None and now is not None:
            expected = carried_shape(opened, (before, after), now)
        if expected is None:
            self._accept(node, new_in, new_out)
            return False
        if new_out is not None and _same(expected, new_out):
            return False
        self._aim(node, expected, new_in)
        return True

    def _refuse_unknown(self, node: Node, new_in: Sequence[DimLike] | None) -> None:
        """Refuse a fixed target for what may have opened: its shape is not known any more."""
        source = node.inputs[0]
        if _full(new_in) is not None or _full(self._shape(source, self._before)) is None:
            return
        target = self._contents(node.inputs[1]) if len(node.inputs) > 1 else None
        is_fixed = all(isinstance(size, int) and size > 0 for size in target or [None])
        if is_fixed and source in self._dependent():
            raise self._pinned(node, f"of {shape_text(None if new_in is None else tuple(new_in))}")

    def _accept(
        self, node: Node, new_in: Sequence[DimLike], new_out: Sequence[DimLike] | None
    ) -> None:
        """Leave alone a Reshape that computes its target itself; refuse one that is fixed."""
        full_in, full_out = _full(new_in), _full(new_out)
        if full_in is not None and full_out is not None:
            if known_equal(product(full_in), product(full_out)):
                inputs = set(full_in)
                for dim in full_out:
                    if isinstance(dim, Dim) and self._opened.is_in(dim) and dim not in inputs:
                        self._opened.factors[dim] = None
                return
        elif new_out is None or self._opened.is_in_any(new_out):
            return
        raise self._pinned(node, f"of {shape_text(tuple(new_in))}")

    def _aim(self, node: Node, expected: Sequence[int | Dim], new_in: Sequence[DimLike]) -> None:
        """Change the target of a Reshape so that `expected` comes out."""
        target = self._contents(node.inputs[1]) if len(node.inputs) > 1 else None
        keeps_zeros = bool(node.attribute("allowzero", 0))
        entries: list[int | None] = []
        pending: list[int] = []
        for axis, wanted in enumerate(expected):
            entry = target[axis] if target is not None and axis < len(target) else None
            copies = not keeps_zeros and axis < len(new_in) and _same((new_in[axis],), (wanted,))
            if isinstance(wanted, int):
                entries.append(wanted)
            elif isinstance(entry, Dim) and known_equal(entry, wanted):
                entries.append(None)
            elif copies and entry != -1:
                entries.append(0)
            else:
                pending.append(axis)
                entries.append(-1)
        if len(pending) > 1:
            copied = [
                axis
                for axis in pending
                if not keeps_zeros
                and axis < len(new_in)
                and _same((new_in[axis],), (expected[axis],))
            ]
            for axis in copied[: len(pending) - 1]:
                entries[axis] = 0
                pending.remove(axis)
        if len(pending) > 1 or (None in entries and self._version < _FIRST_WITH_WHERE):
            raise self._pinned(node, f"to give {shape_text(tuple(expected))}")
        if len(node.inputs) < 2:
            node.set_attribute("shape", [entry or 0 for entry in entries])
            return
        self._replace_input(node, 1, entries)

    def _replace_input(self, node: Node, position: int, entries: Sequence[int | None]) -> None:
        """Give `node` a shape whose elements are `entries`, or what they were where None."""
        assert node.graph is not None
        op = builder(self._model, node.graph)
        old = node.inputs[position]
        constant = np.array([entry or 0 for entry in entries], np.int64)
        with op.at(node):
            if None in entries:
                mask = np.array([entry is not None for entry in entries])
                new = op.Where(mask, constant, old)
            else:
                new = op.value(constant)
        node.set_input(position, new)
        if old is not None:
            _drop_unused(old)

    def _expand(self, node: Node) -> bool:
        """Expand takes 1 for a dim that its input has already."""
        source = self._shape(node.inputs[0], self._facts)
        target = self._contents(node.inputs[1])
        if source is None or target is None or not self._opened.is_in_any(source):
            return False
        shift = len(target) - len(source)
        entries: list[int | None] = [None] * len(target)
        for axis, dim in enumerate(source):
            if shift + axis >= 0 and self._opened.is_in(dim):
                entry = target[shift + axis]
                if isinstance(entry, int) and entry != 1:
                    entries[shift + axis] = 1
        if all(entry is None for entry in entries):
            return False
        if all(isinstance(entry, int) for entry in target):
            known = [entry if isinstance(entry, int) else 1 for entry in target]
            entries = [old if new is None else new for old, new in zip(known, entries, strict=True)]
        self._replace_input(node, 1, entries)
        return True

    def _resize(self, node: Node) -> bool:
        """Sizes that were the input's own follow it."""
        sizes = node.inputs[3] if len(node.inputs) > 3 else None
        source, target = node.inputs[0], self._contents(sizes)
        old, new = self._shape(source, self._before), self._shape(source, self._facts)
        if old is None or new is None or target is None or node.attribute("axes") is not None:
            return False
        mask = [
            self._opened.is_in(dim) and entry == size and isinstance(entry, int)
            for dim, size, entry in zip(new, old, target, strict=False)
        ]
        if not any(mask) or node.graph is None or len(mask) != len(target):
            return False
        op = builder(self._model, node.graph)
        with op.at(node):
            node.set_input(3, op.Where(np.array(mask), op.Shape(source), sizes))
        return True

    def _concat(self, node: Node) -> bool:
        """What is the same for each slice is repeated for as many as the others have."""
        shapes = [self._shape(value, self._facts) for value in node.inputs]
        ranks = {len(shape) for shape in shapes if shape is not None}
        if len(ranks) != 1:
            return False
        along = node.attribute("axis", 1) % max(*ranks, 1)
        changed = False
        for axis in range(*ranks):
            like = next(
                (
                    value
                    for value, shape in zip(node.inputs, shapes, strict=True)
                    if shape is not None and self._opened.is_in(shape[axis])
                ),
                None,
            )
            if like is None or axis == along:
                continue
            for position, (value, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
                if value is None or shape is None or self._opened.is_in(shape[axis]):
                    continue
                changed |= self._repeat(node, position, axis, (like, axis))
        return changed

    def _broadcast(self, node: Node) -> bool:
        """What is the same for each slice needs to be there once to be broadcast."""
        shapes = [self._shape(value, self._facts) for value in node.inputs]
        changed = False
        for like, opened in zip(node.inputs, shapes, strict=True):
            for axis, dim in enumerate(opened or ()):
                if like is None or opened is None or not self._opened.is_in(dim):
                    continue
                from_end = axis - len(opened)
                for position, shape in enumerate(shapes):
                    value = node.inputs[position]
                    size = self._old_size(like, axis)
                    if value is None or shape is None or len(shape) + from_end < 0:
                        continue
                    own = len(shape) + from_end
                    if shape[own] != size or size == 1 or value in self._dependent():
                        continue
                    op = builder(self._model, _graph_of(node))
                    single = self._single(value, own, op, size)
                    if single is not None:
                        node.set_input(position, single)
                        _drop_unused(value)
                        changed = True
        return changed

    def _initial_states(self, node: Node) -> bool:
        """Initial states of zeros may as well be left out; others are repeated."""
        source = self._shape(node.inputs[0], self._facts)
        batch_first = bool(node.attribute("layout", 0))
        of_input, of_state = (0, 0) if batch_first else (1, 1)
        if source is None or len(source) < 3 or not self._opened.is_in(source[of_input]):
            return False
        changed = False
        for position in _RECURRENT[node.op_type]:
            state = node.inputs[position] if position < len(node.inputs) else None
            fact = None if state is None else self._facts.get(state)
            if state is None or fact is None or self._opened.is_in_any(fact.shape):
                continue
            contents = fact.constant_value() if fact.is_constant else None
            if contents is not None and not np.any(contents):
                node.set_input(position, None)
                _drop_unused(state)
                changed = True
            elif node.inputs[0] is not None:
                changed |= self._repeat(node, position, of_state, (node.inputs[0], of_input))
        return changed

    def _repeat(self, node: Node, position: int, axis: int, like: tuple[Value, int]) -> bool:
        """Repeat an input of `node` along `axis`, as often as another value is long.

        That needs the input to be the same at each place of the axis; returns whether it is.
        """
        value = node.inputs[position]
        if value is None or node.graph is None or self._version < _FIRST_WITH_EXPAND:
            return False
        if value in self._dependent():
            return False
        op = builder(self._model, node.graph)
        shape = self._shape(value, self._facts)
        source, source_axis = like
        single = self._single(value, axis, op, self._old_size(source, source_axis))
        if single is None or shape is None:
            return False
        ones = np.ones(len(shape), np.int64)
        with op.at(node):
            length = op.Gather(op.Shape(source), np.array([source_axis], np.int64), axis=0)
            before, after = ones[:axis], ones[axis + 1 :]
            parts = [
                part for part in (before, length, after) if isinstance(part, Value) or part.size
            ]
            target = op.Concat(*parts, axis=0) if len(parts) > 1 else length
            node.set_input(position, op.Expand(single, target))
        _drop_unused(value)
        return True

    def _dependent(self) -> set[Value]:
        """The values that are computed from contents of what opened, not from shapes alone."""
        if self._followers is None:
            graph = self._model.graph
            found = {
                value
                for value in graph.inputs
                if self._opened.is_in_any(self._shape(value, self._facts))
            }
            for node in graph.all_nodes():
                for inner in node.subgraphs():
                    found.update(inner.inputs)
                if node.op_type not in {"Shape", "Size"} and any(
                    value in found for value in (*node.inputs, *captured(node))
                ):
                    found.update(node.outputs)
            self._followers = found
        return self._followers

    def _old_size(self, value: Value, axis: int) -> DimLike:
        shape = self._shape(value, self._before)
        return None if shape is None else shape[axis]

    def _single(self, value: Value, axis: int, op: Builder, size: DimLike) -> Value | None:
        """`value`, of `size` along `axis`, with size 1 there: where each place holds the same."""
        shape = self._shape(value, self._facts)
        if shape is None or shape[axis] != size:
            return None
        if size == 1:
            return value
        maker = value.producer
        if maker is not None and maker.op_type == "Expand":
            inner = self._shape(maker.inputs[0], self._facts)
            if inner is not None and len(inner) == len(shape) and inner[axis] == 1:
                return maker.inputs[0]
        const = value.const
        if maker is not None and maker.op_type == "Constant":
            const = maker.attribute("value")
        fact = self._facts.get(value)
        array = const.numpy() if isinstance(const, Tensor) else None
        if array is None and fact is not None:
            array = fact.constant_value()
        if array is None or array.ndim != len(shape):
            return None
        first = array.take([0], axis)
        is_same = np.array_equal(np.broadcast_to(first, array.shape), array)
        return op.value(ArrayTensor(first)) if is_same else None

    def _pinned(self, node: Node, what: str) -> ModelError:
        constant = node.inputs[1] if len(node.inputs) > 1 else None
        contents = self._contents(constant)
        shown = "" if contents is None else f" {shape_text(tuple(contents))}"
        name = "its target" if constant is None else f"the target {quote(constant.name)}"
        names = self._opened.names_in(self._shape(node.inputs[0], self._facts))
        names = names or list(self._opened.sizes)
        sizes = ", ".join(f"{self._opened.sizes[each]} for {quote(each)}" for each in names)
        return ModelError(
            f"{node.op_type} {what} holds on to {sizes}: {name} is{shown or ' fixed'}",
            place=node.label,
            hint="compute the target from the input's Shape, or export the model with this "
            "dimension open",
        )


def _graph_of(node: Node) -> Graph:
    assert node.graph is not None
    return node.graph


def _full(shape: Sequence[DimLike] | None) -> list[int | Dim] | None:
    """`shape` where every dim of it is known by numbers and symbols of the file, else None."""
    if shape is None:
        return None
    known = [dim for dim in shape if dim is not None and not _is_anonymous(dim)]
    return known if len(known) == len(shape) else None


def _is_anonymous(dim: int | Dim) -> bool:
    return isinstance(dim, Dim) and any(name.startswith("?") for name in symbols(dim))


def _same(one: Sequence[DimLike], other: Sequence[DimLike]) -> bool:
    return len(one) == len(other) and all(
        a is not None and b is not None and known_equal(a, b) is True
        for a, b in zip(one, other, strict=True)
    )


def _drop_unused(value: Value) -> None:
    """Remove the nodes that only `value`, which lost a user, was computed for."""
    stack: list[Value | None] = [value]
    while stack:
        current = stack.pop()
        node = None if current is None else current.producer
        if node is None or node.graph is None or any(made.users for made in node.outputs):
            continue
        if any(made in node.graph.outputs for made in node.outputs) or any(node.subgraphs()):
            continue
        stack.extend(node.inputs)
        node.graph.nodes.remove(node)


def verify(model: Model, sizes: Sequence[Mapping[str, int]], known: set[str]) -> None:
    """Infer `model` at each of `sizes`, by symbol, and raise the first thing that does not fit.

    `known` are places of problems that were there before. A node that takes a tensor apart and
    gives the same shape at different sizes is a `ModelError`.
    """
    shapes: list[Shapes] = []
    for each in sizes:
        sized = copy(model)
        values = [value for graph in all_graphs(sized.graph) for value in defined_in(graph)]
        substitute_symbols(values, dict(each))
        result = inferred(sized)
        for problem in result.problems:
            if isinstance(problem, InferenceError) and problem.places[0] not in known:
                listed = ", ".join(f"{name}={size}" for name, size in each.items())
                problem.hint = (
                    f"the node does not fit any more with {listed}: something on the way to it "
                    "holds on to the old size"
                ) + ("; inline the model's functions first" if model.functions else "")
                raise problem
        shapes.append(
            {
                (number, port): _fixed(result.facts.get(value) if value else None)
                for number, node in enumerate(sized.graph.all_nodes())
                for port, value in _ports(node)
            }
        )
    for first, second in pairwise(shapes):
        for number, node in enumerate(model.graph.all_nodes()):
            if node.op_type in _TAKE_APART and _loses(number, node, first, second):
                raise ModelError(
                    f"{node.op_type} gives the same shape whatever {' and '.join(sizes[0])} is",
                    place=node.label,
                    hint="it takes out one part, or holds on to the old size: the model has to "
                    "be changed there first",
                )


def _ports(node: Node) -> Iterator[tuple[int, Value | None]]:
    yield 0, node.inputs[0] if node.inputs else None
    for index, value in enumerate(node.outputs):
        yield index + 1, value


def _fixed(fact: Fact | None) -> tuple[DimLike, ...] | None:
    shape = None if fact is None else fact.shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return shape


def _loses(number: int, node: Node, first: Shapes, second: Shapes) -> bool:
    pairs = [(first[number, port], second[number, port]) for port, _ in _ports(node)]
    if any(one is None or other is None for one, other in pairs):
        return False
    (source, other), *made = pairs
    return source != other and all(one == two for one, two in made)
