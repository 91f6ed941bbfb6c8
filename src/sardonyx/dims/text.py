"""The text of dims, written and read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sardonyx.dims.arithmetic import add_all, multiply
from sardonyx.dims.divide import ceil_div, floor_div, modulo
from sardonyx.dims.extremes import broadcast, maximum, minimum
from sardonyx.dims.terms import RANK, Atom, Dim, DimLike, as_atom, scale, symbol, terms, unparse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sardonyx.dims.intervals import Bounds

_MAX_TEXT: Final = 32_768
_MAX_DIGITS: Final = 100
_MAX_PARENTHESES: Final = 100  # what unparse writes for the deepest dim stays below
_FUNCTIONS: Final[dict[str, Callable[..., DimLike]]] = {
    "min": minimum,
    "max": maximum,
    "ceildiv": ceil_div,
    "broadcast": broadcast,
}
_CALLS: Final = frozenset({"min", "max", "broadcast"})
_BARE: Final = _CALLS | {"symbol"}
_OPERATORS: Final = {"*": multiply, "//": floor_div, "%": modulo}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9]+)|(?P<name>" + _IDENTIFIER.pattern + r")"
    r"|(?P<quoted>\{(?:[^}]|\}\})*\})|(?P<operator>//|[-+*%(),])|(?P<end>\Z))"
)


def dim_text(dim: Dim) -> str:
    """Write a sum, a positive term first where there is one."""
    # -N + 3 -> 3 - N
    ordered = terms(dim)
    first = next((i for i, term in enumerate(ordered) if term[1] > 0), 0)
    text = ""
    for monomial, factor in (ordered[first], *ordered[:first], *ordered[first + 1 :]):
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        parts = [str(abs(factor))] if abs(factor) != 1 or not monomial else []
        alone = not parts and len(monomial) == 1 and sign != "-"
        for atom in monomial:
            bare = alone or atom.kind in _BARE
            parts.append(atom.key[1] if bare else f"({atom.key[1]})")
        text += sign + "*".join(parts)
    return text


def atom_text(atom: Atom) -> str:
    """Write an atom, without parentheses around it."""
    if atom.kind == "symbol":
        plain = _IDENTIFIER.fullmatch(atom.name) and atom.name not in RANK
        return atom.name if plain else "{" + atom.name.replace("}", "}}") + "}"
    if atom.kind in _CALLS:
        return f"{atom.kind}({', '.join(map(unparse, atom.operands))})"
    joint = "//" if atom.kind == "floor" else "*"
    return joint.join(map(_factor_text, atom.operands))


def _factor_text(dim: DimLike) -> str:
    atom = as_atom(dim)
    bare = atom.kind in _BARE if atom else not isinstance(dim, Dim) and dim >= 0
    return unparse(dim) if bare else f"({unparse(dim)})"


def parse(text: str, ranges: Mapping[str, Bounds] | None = None) -> DimLike:
    """Read an expression: ``+ - * // %``, unary minus, parentheses, names, calls.

    Calls are of min, max, ceildiv and broadcast.

    Names are dotted identifiers, or any text in braces with ``}`` doubled. *ranges* gives the
    ranges of symbols by name; others are >= 0. ValueError, with the position, if the text is
    malformed or too long, too deep or too large an expression.
    """
    return _Parser(text, ranges or {}).parse()


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, ranges: Mapping[str, Bounds]) -> None:
        self.text, self.ranges = text, ranges
        self.position = self.depth = 0
        self.lexeme, self.kind = "", ""

    def parse(self) -> DimLike:
        if len(self.text) > _MAX_TEXT:
            raise self.error(f"more than {_MAX_TEXT} characters")
        try:
            self.advance()
            result = self.sum()
        except (ZeroDivisionError, OverflowError) as problem:
            raise self.error(str(problem)) from problem
        if self.kind != "end":
            raise self.error(f"unexpected {self.lexeme!r}")
        return result

    def error(self, problem: str) -> ValueError:
        return ValueError(f"dimension {self.text[:80]!r}, position {self.position}: {problem}")

    def advance(self) -> str:
        """Step to the next token and return the one left behind."""
        before = self.lexeme
        self.position += len(before)
        found = _TOKEN.match(self.text, self.position)
        if found is None or found.lastgroup is None:
            self.position = len(self.text) - len(self.text[self.position :].lstrip())
            raise self.error(f"unexpected {self.text[self.position]!r}")
        self.kind, self.lexeme = found.lastgroup, found[found.lastgroup]
        self.position = found.start(found.lastgroup)
        return before

    def expect(self, token: str) -> None:
        if self.lexeme != token:
            raise self.error(f"expected {token!r}, found {self.lexeme!r}")
        self.advance()

    def sum(self) -> DimLike:
        self.depth += 1
        if self.depth > _MAX_PARENTHESES:
            raise self.error(f"more than {_MAX_PARENTHESES} levels deep")
        parts = [self.product()]
        while self.lexeme in {"+", "-"}:
            sign = 1 if self.advance() == "+" else -1
            parts.append(scale(self.product(), sign))
        self.depth -= 1
        return add_all(parts)

    def product(self) -> DimLike:
        result = self.factor()
        while self.lexeme in {"*", "//", "%"}:
            apply = _OPERATORS[self.advance()]
            result = apply(result, self.factor())
        return result

    def factor(self) -> DimLike:
        sign = 1
        while self.lexeme in {"+", "-"}:
            sign = -sign if self.advance() == "-" else sign
        return scale(self.primary(), sign)

    def primary(self) -> DimLike:
        kind = self.kind
        if kind == "number":
            if len(self.lexeme) > _MAX_DIGITS:
                raise self.error(f"a number of more than {_MAX_DIGITS} digits")
            return int(self.advance())
        if kind == "name":
            name = self.advance()
            return self.call(name) if self.lexeme == "(" else self.named(name)
        if kind == "quoted":
            return self.named(self.advance()[1:-1].replace("}}", "}"))
        self.expect("(")
        result = self.sum()
        self.expect(")")
        return result

    def named(self, name: str) -> DimLike:
        return symbol(name, *self.ranges.get(name, (0, None)))

    def call(self, name: str) -> DimLike:
        if name not in _FUNCTIONS:
            raise self.error(f"unknown function {name!r}")
        self.advance()
        args = [self.sum()]
        while self.lexeme == ",":
            self.advance()
            args.append(self.sum())
        self.expect(")")
        if name == "ceildiv" and len(args) != 2:
            raise self.error(f"ceildiv takes 2 arguments, not {len(args)}")
        return _FUNCTIONS[name](*args)
