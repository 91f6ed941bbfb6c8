"""Symbols for what no one named: an unknown dim stays equal to itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from sardonyx import dims
from sardonyx.dims import Dim
from sardonyx.ir.types import OptionalType, SequenceType, TensorType
from sardonyx.ops.fact import Fact
from sardonyx.ops.inferring import ANONYMOUS
from sardonyx.ops.symbolic import UNNAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Type
    from sardonyx.ir.value import Value

__all__ = ["Naming", "Origin"]

_FEW: Final = 8
"""Most elements of an integer tensor that get symbols although nothing is known of them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a symbol comes from: `what` in words, unknown of `value`, a dim or an element of it."""

    value: Value
    what: str = ""
    axis: int | None = None


class Naming:
    """Gives symbols to unknown dims and elements, and knows what each stands for.

    Operators hand over a dim that only data decides as a symbol that begins with `UNNAMED`; it
    is a symbol of the node then. A file's own names that begin so are renamed as well.
    """

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}
        self.made = 0
        self._plain: set[Dim] = set()
        self._of_file: dict[str, Dim] = {}
        self._node: Node | None = None
        self._of_node: dict[str, Dim] = {}

    def of_file(self, value: Value, fact: Fact) -> Fact:
        """The fact of an input of the main graph.

        Names that the file has for dims within a sequence say nothing: they may differ from
        element to element.
        """
        known = fact.type
        if isinstance(known, TensorType):
            for axis, dim in enumerate(known.shape or ()):
                for name in dims.symbols(dim) if isinstance(dim, Dim) else ():
                    if name.startswith(UNNAMED) and name not in self._of_file:
                        self._of_file[name] = self._symbol(Origin(value, axis=axis))
        elif isinstance(known, (SequenceType, OptionalType)):
            fact = Fact(_without_names(known))
        if self._of_file:
            known = _map_type(fact.type, self._local)
            fact = Fact(known, fact.value)
        return self._named(value, fact, {})

    def _local(self, dim: DimLike) -> DimLike:
        return dim.substitute(self._of_file) if isinstance(dim, Dim) else dim

    def of_input(self, value: Value, fact: Fact, local: dict[str, Dim]) -> Fact:
        """The fact of an input of a subgraph; `local` holds the symbols of one pass over it."""
        return self._named(value, fact, local)

    def begin(self) -> None:
        """Begin a pass over a graph: its nodes get symbols anew."""
        self._node = None

    def of_output(self, value: Value, fact: Fact) -> Fact:
        """The fact of a node's output."""
        producer = value.producer
        if producer is not self._node:
            self._node, self._of_node = producer, {}
        return self._named(value, fact, self._of_node)

    def is_plain(self, facts: Sequence[Fact]) -> bool:
        """Whether no fact would get a symbol: then they hold for every node that is alike."""
        return all(self._is_plain(fact) for fact in facts)

    def _is_plain(self, fact: Fact) -> bool:
        known = fact.type
        if not isinstance(known, TensorType) or known.shape is None or fact.value is not None:
            return False
        if known.dtype is None or (known.dtype.is_integer and len(known.shape) < 2):
            return False
        return all(dim.__class__ is int or dim in self._plain for dim in known.shape)

    def again(self, facts: Sequence[Fact], made: range) -> list[Fact]:
        """`facts` with new symbols for those that were `made` when they were inferred."""
        if not made:
            return list(facts)
        fresh: dict[str, dims.DimLike] = {}

        def renew(dim: DimLike) -> DimLike:
            if not isinstance(dim, Dim):
                return dim
            for name in dims.symbols(dim):
                if name not in fresh and _number(name) in made:
                    fresh[name] = self._again(name, dim)
            return dim.substitute(fresh)

        return [_mapped(fact, renew) for fact in facts]

    def _again(self, name: str, dim: Dim) -> Dim:
        (limits,) = {atom.range for atom in dims.symbol_atoms(dim) if atom.name == name}
        return self._symbol(self.origins[name], *limits)

    def _symbol(self, origin: Origin, lower: int | None = 0, upper: int | None = None) -> Dim:
        name = f"{ANONYMOUS}{self.made}"
        self.made += 1
        self.origins[name] = origin
        return dims.symbol(name, lower, upper)

    def _named(self, value: Value, fact: Fact, local: dict[str, Dim]) -> Fact:
        known, contents = fact.type, fact.value
        if not isinstance(known, TensorType):
            if isinstance(known, (SequenceType, OptionalType)):
                return self._container(value, fact, known)
            return fact
        shape = known.shape
        if shape is not None:
            named = self._shape(value, shape, local)
            if named is not shape:
                known = replace(known, shape=named)
            dtype = known.dtype
            if contents is not None:
                if contents.dtype == object and dtype is not None and dtype.is_integer:
                    contents = self._contents(value, contents, local)
            elif len(shape) < 2 and dtype is not None and dtype.is_integer and dtype.bits >= 32:
                size = shape[0] if shape else 1
                if isinstance(size, int) and 0 < size <= _FEW:
                    nothing = np.full([size] if shape else [], None, object)
                    contents = self._contents(value, nothing, local)
        if known is fact.type and contents is fact.value:
            return fact
        return Fact(known, contents)

    def _shape(
        self, value: Value, shape: tuple[DimLike, ...], local: dict[str, Dim]
    ) -> tuple[DimLike, ...]:
        for dim in shape:
            if dim is None or (dim.__class__ is Dim and dim not in self._plain):
                break
        else:
            return shape
        named: list[DimLike] = []
        changed = False
        for axis, dim in enumerate(shape):
            new = dim
            if dim is None:
                new = self._symbol(Origin(value, axis=axis))
            elif isinstance(dim, Dim) and dim not in self._plain:
                new = self._renamed(dim, Origin(value, axis=axis), local)
            changed = changed or new is not dim
            named.append(new)
        return tuple(named) if changed else shape

    def _renamed(self, dim: Dim, origin: Origin, local: dict[str, Dim]) -> DimLike:
        """`dim` with symbols of this inference for those that no one may name."""
        placeholders = [
            atom
            for atom in dims.symbol_atoms(dim)
            if atom.name.startswith(UNNAMED) and atom.name not in self.origins
        ]
        if not placeholders:
            self._plain.add(dim)
            return dim
        for atom in placeholders:
            if atom.name not in local:
                what = atom.name.removeprefix(UNNAMED)
                local[atom.name] = self._symbol(replace(origin, what=what), *atom.range)
        return dim.substitute({atom.name: local[atom.name] for atom in placeholders})

    def _contents(self, value: Value, contents: Array, local: dict[str, Dim]) -> Array:
        if all(item is not None and not isinstance(item, Dim) for item in contents.flat):
            return contents
        named: Array = contents.copy()
        flat = named.reshape(-1)
        for index, item in enumerate(flat):
            if item is None:
                flat[index] = self._symbol(Origin(value, f"element {index}"), None)
            elif isinstance(item, Dim) and item not in self._plain:
                flat[index] = self._renamed(item, Origin(value), local)
        return named

    def _container(self, value: Value, fact: Fact, known: SequenceType | OptionalType) -> Fact:
        """The fact of a sequence or optional; what differs between elements stays unnamed."""
        if fact.elements is None:
            return fact
        return Fact(known, None, tuple([self._named(value, each, {}) for each in fact.elements]))


def _number(name: str) -> int:
    return int(name.removeprefix(ANONYMOUS)) if name.startswith(ANONYMOUS) else -1


def _mapped(fact: Fact, function: Callable[[DimLike], DimLike]) -> Fact:
    known, contents = fact.type, fact.value
    if contents is not None and contents.dtype == object:
        mapped = np.empty(contents.size, object)
        mapped[:] = [function(item) for item in contents.reshape(-1)]
        contents = mapped.reshape(contents.shape)
    return Fact(
        _map_type(known, function),
        contents,
        None
        if fact.elements is None
        else tuple([_mapped(each, function) for each in fact.elements]),
    )


def _map_type(known: Type | None, function: Callable[[DimLike], DimLike]) -> Type | None:
    if isinstance(known, TensorType) and known.shape is not None:
        return replace(known, shape=tuple([function(dim) for dim in known.shape]))
    if isinstance(known, (SequenceType, OptionalType)):
        element = _map_type(known.element, function)
        return known if element is None else replace(known, element=element)
    return known


def _without_names(known: Type, *, inside: bool = False) -> Type:
    """The type without symbolic dims of a sequence's elements."""
    if isinstance(known, TensorType) and known.shape is not None and inside:
        return replace(
            known, shape=tuple([None if isinstance(dim, Dim) else dim for dim in known.shape])
        )
    if isinstance(known, (SequenceType, OptionalType)):
        inside = inside or isinstance(known, SequenceType)
        return replace(known, element=_without_names(known.element, inside=inside))
    return known
