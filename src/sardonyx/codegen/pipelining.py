"""Software pipelining: a long body of a vector loop as two halves, of two vectors at a time.

A processor looks at a bounded number of instructions ahead. Where each of them waits for the one
before, as in a polynomial, these are soon all waiting. So a step computes the second half of one
vector and the first half of the next, which do not wait for each other::

    first half of 0 | second half of 0, first half of 1 | second half of 1, first half of 2 | ...

What the halves share is a few values that stay in registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.dtypes import BOOL
from sardonyx.loops.expr import Apply, Axis, Linear, Load, Ref, walk
from sardonyx.loops.kernel import Accumulate, Let, Store

if TYPE_CHECKING:
    from sardonyx.loops.expr import Expr
    from sardonyx.loops.kernel import Block, For

__all__ = ["halfway"]

_LATENCY: Final = {
    "div": 11, "rem": 30, "sqrt": 14, "add": 3, "sub": 3, "mul": 4, "fma": 4, "dot2": 4, "cast": 4,
    "floor": 6, "ceil": 6, "trunc": 6, "rint": 6, "bits": 0,
}  # fmt: skip
"""Cycles until the result of an operation can be used, about; 1 of all others."""
_LOADED: Final = 5
_LONG: Final = 30
"""Cycles of a body that is worth it."""
_LARGEST: Final = 256
"""Expressions of a body up to which places to divide it are compared: each is looked at anew."""
_MOST_SHARED: Final = 2
_MOST_MENDED: Final = 8
"""Shared values up to which a division may become one that shares few enough."""
_PER_SHARED: Final = 2
"""Cycles that keeping a value in a register is taken to cost."""


def halfway(stmt: For) -> tuple[Expr, ...]:
    """What the first half of a vector loop's body computes for the second; () for no halves.

    All of it is pure, and may be computed before the vector that precedes it is finished.
    """
    if not all(isinstance(inner, (Let, Store, Accumulate)) for inner in stmt.body):
        return ()
    body = _Body(stmt.axis, stmt.body)
    whole = max(body.depth.values(), default=0)
    if whole < _LONG or len(body.depth) > _LARGEST:
        return ()
    best = whole
    shared: tuple[Expr, ...] = ()
    for limit in sorted(set(body.depth.values()), key=lambda limit: abs(2 * limit - whole)):
        if max(limit, whole - limit) >= best:
            break
        cost, found = body.divided(limit)
        if found and len(found) <= _MOST_SHARED and cost < best:
            best, shared = cost, found
    return shared


class _Body:
    """The expressions of a body in `order`, parts before wholes.

    `depth` is how many cycles after its start each is known.
    """

    def __init__(self, axis: Axis, block: Block) -> None:
        lets = {inner.name: inner.value for inner in block if isinstance(inner, Let)}
        changing = {inner.buffer for inner in block if isinstance(inner, Store)}
        changing |= {inner.name for inner in block if isinstance(inner, (Let, Accumulate))}
        values = [inner.value for inner in block if isinstance(inner, (Let, Store, Accumulate))]
        self._roots = set(values)
        self._order = list(walk(*values))
        self._users: dict[Expr, list[Expr]] = {part: [] for part in self._order}
        self._inputs: dict[Expr, tuple[Expr, ...]] = {}
        self._early: set[Expr] = set()
        self.depth: dict[Expr, int] = {}
        self._varying: set[Expr] = set()
        for part in self._order:
            inputs = part.children
            if isinstance(part, Ref) and part.name in lets:
                inputs = (lets[part.name],)
            self._inputs[part] = inputs
            for each in inputs:
                self._users[each].append(part)
            if part is axis or not self._varying.isdisjoint(inputs):
                self._varying.add(part)
                start = max((self.depth[each] for each in inputs), default=0)
                self.depth[part] = start + _latency(part)
            else:
                self.depth[part] = 0
            if _is_pure(part, changing) and self._early.issuperset(inputs):
                self._early.add(part)
        self._shareable = {
            part for part in self._early & self._varying
            if isinstance(part, Apply) and part.dtype is not BOOL
        }  # fmt: skip

    def divided(self, limit: int) -> tuple[int, tuple[Expr, ...]]:
        """A first half of about `limit` cycles: what it costs, and what it hands on.

        What the second half can as well compute of the other values that it gets is left to it.
        """
        inside = {part for part in self._early if self.depth[part] <= limit}
        cost, found = self._cost(inside)
        is_better = len(found) <= _MOST_MENDED
        while is_better:
            is_better = False
            for part in found:
                fewer = inside - {part}
                less, others = self._cost(fewer)
                if others and (less, *self._sizes(others)) < (cost, *self._sizes(found)):
                    inside, cost, found, is_better = fewer, less, others, True
                    break
        return cost, found

    def _sizes(self, shared: tuple[Expr, ...]) -> tuple[int, int]:
        return len(shared), sum(self.depth[part] for part in shared)

    def _cost(self, inside: set[Expr]) -> tuple[int, tuple[Expr, ...]]:
        inside = set(inside)
        found: list[Expr] = []
        for part in reversed(self._order):
            if part in inside and (part in self._roots or not inside.issuperset(self._users[part])):
                if part in self._shareable:
                    found.append(part)
                elif isinstance(part, Apply):
                    inside.remove(part)
        first = max((self.depth[part] for part in found), default=0)
        second = dict.fromkeys(found, 0)
        for part in self._order:
            if part not in second:
                start = max((second[each] for each in self._inputs[part]), default=0)
                is_later = part in self._varying and not isinstance(part, Linear)
                second[part] = start + _latency(part) if is_later else 0
        last = max(second[part] for part in self._order if part in self._roots)
        return max(first, last) + _PER_SHARED * len(found), tuple(reversed(found))


def _latency(part: Expr) -> int:
    if isinstance(part, Load):
        return _LOADED
    return _LATENCY.get(part.op, 1) if isinstance(part, Apply) else 0


def _is_pure(part: Expr, changing: set[object]) -> bool:
    """Whether `part`, of pure parts, is the same before the statements of the body run."""
    if isinstance(part, Load):
        return part.buffer not in changing
    if isinstance(part, Linear):
        return all(isinstance(term, Axis) for term, _ in part.terms)
    if isinstance(part, Ref):
        return part.name not in changing
    return not (isinstance(part, Apply) and part.op == "index")
