"""Matching a pattern against the nodes that make a value."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, FLOAT16
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import Node
from sardonyx.ir.value import Value
from sardonyx.rewrite.pattern import COMMUTATIVE, Apply, Either, Number, Numbers, Pattern, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Shape
    from sardonyx.ops.fact import Fact
    from sardonyx.ops.operator import Operator
    from sardonyx.rewrite.pattern import Term
    from sardonyx.rewrite.scene import Scene

__all__ = ["Match", "Miss", "find_match"]

_NEAR: Final = 2e-5
_NEAR_OF: Final = {FLOAT16: 1e-3, BFLOAT16: 1e-2}
_MOST_TRIED: Final = 2000
"""Most pairs of a term and a value that one match may try."""


class Match:
    """Where a pattern was found: values by the names of its variables, and the nodes."""

    def __init__(self, scene: Scene, root: Node) -> None:
        self.scene = scene
        self.root = root
        self.values: dict[str, Value | None] = {}
        self.named: dict[str, Node] = {}
        self.nodes: list[Node] = []

    def __getitem__(self, name: str) -> Any:
        """The value of a variable; None where it stands for an omitted input."""
        return self.values.get(name)

    def node(self, name: str) -> Node | None:
        """The node that was bound to `name`."""
        return self.named.get(name)

    def operator(self, name: str) -> Operator | None:
        """The operator of the node that was bound to `name`."""
        node = self.named.get(name)
        return None if node is None else self.scene.operator(node)

    def fact(self, name: str) -> Fact:
        """What is known of a variable's value."""
        return self.scene.fact(self.values.get(name))

    def shape(self, name: str) -> Shape | None:
        """The shape of a variable's value."""
        return self.scene.shape(self.values.get(name))

    def rank(self, name: str) -> int | None:
        """The rank of a variable's value."""
        return self.scene.rank(self.values.get(name))

    def dtype(self, name: str) -> DType | None:
        """The element type of a variable's value."""
        return self.scene.dtype(self.values.get(name))

    def constant(self, name: str) -> Array | None:
        """The array that a variable's value always is, or None."""
        return self.scene.constant(self.values.get(name))

    def number(self, name: str) -> float | None:
        """The element of a variable's constant of one element, or None."""
        return self.scene.number(self.values.get(name))

    def ints(self, name: str) -> list[int] | None:
        """The elements of a variable's constant integer tensor, or None."""
        return self.scene.ints(self.values.get(name))


class Miss:
    """How far the best attempt came, and why it ended."""

    def __init__(self) -> None:
        self.matched = 0
        self.parts: tuple[object, ...] = ()

    def note(self, matched: int, *parts: object) -> None:
        """Note an attempt that ended after `matched` nodes."""
        if matched >= self.matched:
            self.matched = matched
            self.parts = parts

    def __str__(self) -> str:
        return " ".join([_shown(part) for part in self.parts])


def _shown(part: object) -> str:
    if isinstance(part, Node):
        return part.label
    return f"%{part.name}" if isinstance(part, Value) else str(part)


def find_match(
    pattern: Pattern, scene: Scene, node: Node, *, shared: bool = False
) -> tuple[Match | None, Miss]:
    """The first match of `pattern` that ends with `node`, and else the nearest miss.

    Inner nodes must be in the graph of `node`. Unless `shared`, nobody else may use what they make.
    """
    search = _Search(scene, node)
    for _ in search.match_node(pattern.root, node):
        match = search.match
        other = None if shared else _used_elsewhere(scene, match)
        if other is None:
            return match, search.miss
        search.miss.note(len(match.nodes), other, "is used elsewhere")
    return None, search.miss


def _used_elsewhere(scene: Scene, match: Match) -> Value | None:
    members = set(match.nodes)
    for node in match.nodes:
        if node is match.root:
            continue
        for value in node.outputs:
            if not scene.is_only_used_by(value, members):
                return value
    return None


class _Search:
    """One search; `match` is what is bound at the moment."""

    def __init__(self, scene: Scene, root: Node) -> None:
        self.scene = scene
        self.match = Match(scene, root)
        self.miss = Miss()
        self.tried = 0

    def match_node(self, term: Term, node: Node) -> Iterator[None]:
        if isinstance(term, Either):
            for each in term.terms:
                yield from self.match_node(each, node)
        elif isinstance(term, Apply):
            yield from self._apply(term, node)

    def match_value(self, term: Term, value: Value | None) -> Iterator[None]:
        self.tried += 1
        if self.tried > _MOST_TRIED:
            return
        if isinstance(term, Variable):
            yield from self._variable(term, value)
        elif isinstance(term, Either):
            for each in term.terms:
                yield from self.match_value(each, value)
        elif value is None:
            self._fail("an input is omitted")
        elif isinstance(term, Number):
            if self._is_number(value, term.value):
                yield
            else:
                self._fail(value, "is not", term.value)
        elif isinstance(term, Numbers):
            if self.scene.ints(value) == list(term.values):
                yield
            else:
                self._fail(value, "is not", term.values)
        else:
            producer = value.producer
            if producer is None or producer.graph is not self.match.root.graph:
                self._fail(value, "is not made by", *term.op_types)
            elif value.index != term.output:
                self._fail(value, "is another output")
            else:
                yield from self._apply(term, producer)

    def _apply(self, term: Apply, node: Node) -> Iterator[None]:
        if node.op_type not in term.op_types or canonical_domain(node.domain) != term.domain:
            self._fail(node, "is not", *term.op_types)
            return
        operator = self.scene.operator(node)
        if operator is None:
            return
        for name, wanted in term.attributes:
            actual = getattr(operator, name, None)
            if actual != wanted:
                self._fail(name, "of", node, f"is {actual!r}, not {wanted!r}")
                return
        arguments = self.scene.arguments(node, operator)
        orders = [term.inputs]
        if node.op_type in COMMUTATIVE and len(term.inputs) == 2:
            orders.append(term.inputs[::-1])
        match = self.match
        match.nodes.append(node)
        outer = match.named.get(term.name) if term.name else None
        if term.name:
            match.named[term.name] = node
        for inputs in orders:
            yield from self._inputs(inputs, arguments)
        match.nodes.pop()
        if term.name and outer is not None:
            match.named[term.name] = outer
        elif term.name:
            del match.named[term.name]

    def _inputs(self, terms: Sequence[Term], arguments: Sequence[Value | None]) -> Iterator[None]:
        for extra in itertools.islice(arguments, len(terms), None):
            if extra is not None:
                self._fail(extra, "is one input more")
                return
        values = [*arguments, *[None] * (len(terms) - len(arguments))]
        yield from self._rest(terms, values, 0)

    def _rest(
        self, terms: Sequence[Term], values: Sequence[Value | None], place: int
    ) -> Iterator[None]:
        if place == len(terms):
            yield
            return
        for _ in self.match_value(terms[place], values[place]):
            yield from self._rest(terms, values, place + 1)

    def _variable(self, term: Variable, value: Value | None) -> Iterator[None]:
        bound = self.match.values
        if value is None and not term.optional:
            self._fail("an input is omitted")
        elif not term.name:
            if value is None:
                yield
            else:
                self._fail(value, "is one input more")
        elif term.name in bound:
            if self._is_same(bound[term.name], value):
                yield
            else:
                self._fail(value or "nothing", "is not the", term.name, "before")
        else:
            bound[term.name] = value
            yield
            del bound[term.name]

    def _is_same(self, one: Value | None, other: Value | None) -> bool:
        if one is other:
            return True
        if one is None or other is None or one.const is None or other.const is None:
            return False
        left, right = self.scene.constant(one), self.scene.constant(other)
        if left is None or right is None or left.dtype != right.dtype:
            return False
        return left.size <= 64 and np.array_equal(left, right)

    def _is_number(self, value: Value, wanted: float) -> bool:
        actual = self.scene.number(value)
        if actual is None:
            return False
        near = _NEAR_OF.get(self.scene.dtype(value), _NEAR)  # type: ignore[arg-type]
        if abs(actual - wanted) > near * abs(wanted):
            return False
        return (
            self.scene.rank(value) == 0 or self.scene.rank(self.match.root.outputs[0]) is not None
        )

    def _fail(self, *parts: object) -> None:
        self.miss.note(len(self.match.nodes), *parts)
