"""Patterns: what a rule looks for, written with `op` as the nodes themselves would be."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sardonyx.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Apply", "Either", "Number", "Numbers", "Pattern", "PatternBuilder", "Term", "Variable"]

COMMUTATIVE: Final = frozenset(
    {
        "Add",
        "And",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Equal",
        "Max",
        "Mean",
        "Min",
        "Mul",
        "Or",
        "Sum",
        "Xor",
    }
)
"""Operators whose two inputs may be exchanged."""


@dataclass(frozen=True, eq=False)
class Variable:
    """Any value; the same one wherever the variable stands."""

    name: str
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Number:
    """A constant of one element, of about this value."""

    value: float


@dataclass(frozen=True, eq=False)
class Numbers:
    """A constant of these integers."""

    values: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Apply:
    """A node: one of these operators on these terms, with these attributes."""

    op_types: tuple[str, ...]
    inputs: tuple[Term, ...]
    attributes: tuple[tuple[str, Any], ...]
    domain: str = ""
    name: str = ""
    output: int = 0


@dataclass(frozen=True, eq=False)
class Either:
    """One of several terms; the first that matches."""

    terms: tuple[Term, ...]


Term = Variable | Number | Numbers | Apply | Either


class PatternBuilder:
    """The `op` of patterns: ``op.Mul(x, op.Sigmoid(x))`` is the term that such nodes match.

    Inputs are terms, numbers (a constant of one element), lists of integers (a constant integer
    tensor), or None (omitted). Attributes that are given must be equal, defaults included; others
    may be anything. ``_bind="name"`` lets `check` and `rewrite` ask for the node by that name.
    """

    def __getattr__(self, op_type: str) -> Callable[..., Apply]:
        if not op_type[:1].isupper():
            raise AttributeError(f"{type(self).__name__} has no attribute {op_type!r}")

        def apply(*inputs: Any, **attributes: Any) -> Apply:
            return self.any_of((op_type,), *inputs, **attributes)

        return apply

    def any_of(
        self,
        op_types: tuple[str, ...],
        *inputs: Any,
        _bind: str = "",
        _domain: str = "",
        **attributes: Any,
    ) -> Apply:
        """A node of any of these operators."""
        terms = tuple([_as_term(value) for value in inputs])
        return Apply(op_types, terms, tuple(attributes.items()), _domain, _bind)

    def either(self, *terms: Any) -> Either:
        """One of several terms."""
        return Either(tuple([_as_term(term) for term in terms]))

    def maybe(self, op_type: str, term: Any, *others: Any, **attributes: Any) -> Either:
        """A node of `op_type` on `term` (and `others`), or `term` itself."""
        return self.either(self.any_of((op_type,), term, *others, **attributes), term)


class Pattern:
    """What ``write(op, x, ...)`` writes: the root term, its variables and its operators.

    A variable with the default None may stand for an omitted input.
    """

    def __init__(self, write: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(write).parameters.values())[1:]
        self.variables = [
            Variable(each.name, each.default is not inspect.Parameter.empty) for each in parameters
        ]
        self.root = _as_term(write(PatternBuilder(), *self.variables))
        self.operators = _operators(self.root)
        self.before = _before(self.root)

    @property
    def size(self) -> int:
        """How many nodes the longest match has at most."""
        return _size(self.root)


def _operators(root: Term) -> frozenset[tuple[str, str]]:
    """Domain and name of the operators that a match may end with."""
    if isinstance(root, Either):
        return frozenset().union(*[_operators(term) for term in root.terms])
    if not isinstance(root, Apply):
        raise InputError("the last node of a pattern must be the application of an operator")
    return frozenset([(root.domain, op_type) for op_type in root.op_types])


def _before(root: Term) -> frozenset[str] | None:
    """Operators of which one must make an input of the last node; None where none need."""
    if isinstance(root, Either):
        found = [_before(term) for term in root.terms]
        known = [each for each in found if each is not None]
        return frozenset().union(*known) if len(known) == len(found) else None
    assert isinstance(root, Apply)
    for term in root.inputs:
        names = _made_by(term)
        if names is not None:
            return names
    return None


def _made_by(term: Term) -> frozenset[str] | None:
    """The operators that may make a value that `term` matches; None where there need be none."""
    if isinstance(term, Apply):
        return frozenset(term.op_types)
    if isinstance(term, Either):
        found = [_made_by(each) for each in term.terms]
        known = [each for each in found if each is not None]
        return frozenset().union(*known) if len(known) == len(found) else None
    return None


def _size(term: Term) -> int:
    if isinstance(term, Either):
        return max([_size(each) for each in term.terms])
    if isinstance(term, Apply):
        return 1 + sum([_size(each) for each in term.inputs])
    return 0


def _as_term(value: Any) -> Any:
    if isinstance(value, (Variable, Number, Numbers, Apply, Either)):
        return value
    if value is None:
        return Variable("", optional=True)
    if isinstance(value, (int, float)):
        return Number(float(value))
    if isinstance(value, (list, tuple)):
        return Numbers(tuple([int(item) for item in value]))
    raise InputError(f"a pattern cannot hold {value!r}")
