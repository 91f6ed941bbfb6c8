"""The values and sizes of one activation of a compiled graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import Dim, symbols
from sardonyx.errors import ExecutionError, quote
from sardonyx.limits import active, exceeded
from sardonyx.runtime.program import SizesDiffer, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.value import Value
    from sardonyx.runtime.compilation import Compilation

__all__ = ["Scope"]


class Scope:
    """What the values and symbols of `program` stand for in one run of it.

    `values` are the arrays by value or buffer, `env` the sizes by symbol. `outer` is the activation
    that encloses it: its sizes hold here too, and it is asked for the values that the graph
    captures. `shapes` are those that were asked for, `held` is what the run's ledger counts for it.
    With `is_checked` the sizes are known to agree.
    """

    __slots__ = ("env", "held", "is_checked", "outer", "program", "shapes", "values")

    def __init__(self, program: Compilation, outer: Scope | None = None) -> None:
        self.program = program
        self.outer = outer
        self.env: dict[str, int] = {} if outer is None else dict(outer.env)
        self.values: dict[Any, Any] = {}
        self.shapes: dict[Any, tuple[int, ...]] = {}
        self.held: list[Any] = []
        self.is_checked = False

    def enter(self, given: Sequence[Any]) -> None:
        """Take the inputs of a body. Raises `SizesDiffer` where one is not as inferred."""
        inputs = self.program.graph.inputs
        if len(given) != len(inputs):
            name = quote(self.program.graph.name)
            raise ExecutionError(f"graph {name} takes {len(inputs)} inputs, got {len(given)}")
        facts = self.program.facts
        for value, array in zip(inputs, given, strict=True):
            self.values[value] = array
            fact = facts.get(value)
            dtype = None if fact is None else fact.dtype
            if dtype is not None and getattr(array, "dtype", None) != dtype.numpy:
                raise SizesDiffer
            self.bind(value, array)

    def bind(self, value: Value, array: Any) -> None:
        """Learn sizes from an array, and hold it against what inference said."""
        fact = self.program.facts.get(value)
        if fact is None or fact.shape is None or not isinstance(array, np.ndarray):
            return
        if len(fact.shape) != array.ndim:
            raise SizesDiffer
        for dim, size in zip(fact.shape, array.shape, strict=True):
            self._settle(dim, size)
        if fact.value is not None and fact.value.dtype == object and fact.value.size == array.size:
            for item, element in zip(fact.value.flat, array.flat, strict=True):
                if isinstance(item, Dim):
                    self._settle(item, int(element))

    def _settle(self, dim: Any, size: int) -> None:
        if isinstance(dim, int):
            if dim != size:
                raise SizesDiffer
        elif isinstance(dim, Dim):
            env = self.env
            unknown = [str(name) for name in symbols(dim) if str(name) not in env]
            if not unknown:
                if number(dim, env) != size:
                    raise SizesDiffer
            elif str(dim) == unknown[0]:
                env[unknown[0]] = size

    def resolve(self) -> None:
        """Decide conditions on sizes: `program` becomes the one for the sizes of this run."""
        while (fork := self.program.fork) is not None:
            self.program = fork.take(self.env)
            self.shapes = {}
            if self.program.is_decided:
                self._rebind(fork.captured)

    def _rebind(self, captured: Sequence[Value]) -> None:
        """Learn the sizes anew, for a program whose symbols are others."""
        self.env = {}
        chain: list[Scope] = [self]
        while chain[-1].outer is not None:
            chain.append(chain[-1].outer)
        for scope in reversed(chain):
            for value in scope.program.graph.inputs:
                if value in scope.values:
                    self.bind(value, scope.values[value])
        for value in captured:
            self.bind(value, self.value(value))

    def look_at_sizes(self) -> None:
        """Hold sizes that were taken to agree against each other, as far as they are known."""
        if self.is_checked:
            return
        env = self.env
        for dim, names in self.program.required:
            if names <= env.keys() and number(dim, env) < 0:
                raise SizesDiffer

    def value(self, value: Any) -> Any:
        """The array of a value: computed, constant, captured, a view of another, or of sizes."""
        if value in self.values:
            return self.values[value]
        program = self.program
        if value in program.constants:
            return program.constants[value]
        if self.outer is not None and value not in program.own:
            found = self.values[value] = self.outer.value(value)
            return found
        fact = program.facts.get(value)
        if value in program.aliases:
            source = self.value(program.aliases[value])
            if value in program.renamed:
                return source
            assert fact is not None
            assert fact.shape is not None
            return source.reshape(self.shape(value))
        if fact is not None and fact.value is not None and fact.dtype is not None:
            return _from_sizes(fact.value, fact.dtype.numpy, self.env)
        if fact is not None and fact.shape is not None and fact.dtype is not None:
            shape = self.shape(value)
            if 0 in shape:
                return np.empty(shape, fact.dtype.numpy)
        raise ExecutionError(f"value {quote(value.name)} has not been computed")

    def shape(self, value: Any) -> tuple[int, ...]:
        """The shape of a value for the sizes of this run."""
        found = self.shapes.get(value)
        if found is None:
            fact = self.program.facts[value]
            assert fact.shape is not None
            found = tuple(number(dim, self.env) for dim in fact.shape if dim is not None)
            self.shapes[value] = found
        return found


def _from_sizes(contents: Any, dtype: Any, env: Mapping[str, int]) -> Any:
    bound = active().tensor_bytes
    if contents.size * dtype.itemsize > bound:
        raise exceeded("tensor_bytes", bound, contents.size * dtype.itemsize)
    if contents.dtype != object:
        return contents.astype(dtype, copy=False)
    found = np.empty(contents.shape, dtype)
    flat = found.reshape(-1)
    try:
        for position, item in enumerate(contents.flat):
            flat[position] = number(item, env)
    except OverflowError as error:  # the operators wrap
        raise SizesDiffer from error
    return found
