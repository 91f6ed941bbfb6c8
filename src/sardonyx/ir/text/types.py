"""Types in the textual syntax: ``float[N, 3]``, ``seq(int64[])``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.dims import symbol
from sardonyx.errors import quote
from sardonyx.ir.text.words import CONTAINERS, DTYPES, quoted, written_name
from sardonyx.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)
from sardonyx.limits import exceeded

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.text.scanner import Scanner
    from sardonyx.ir.types import DimLike, Type

__all__ = ["next_is_type", "parse_type", "written_dim", "written_type"]

_UNDEFINED = "undefined"


def written_type(type: Type, deepest: int) -> str:
    """`type` as text; `LimitError` where it is nested more than `deepest` levels."""
    if deepest < 1:
        raise exceeded("depth", deepest, "more")
    if isinstance(type, TensorType):
        text = _tensor(type)
    elif isinstance(type, SparseTensorType):
        text = f"sparse_tensor({_tensor(type)})"
    elif isinstance(type, SequenceType):
        text = f"seq({written_type(type.element, deepest - 2)})"
    elif isinstance(type, OptionalType):
        text = f"optional({written_type(type.element, deepest - 2)})"
    elif isinstance(type, MapType):
        text = f"map({_dtype(type.key)}, {written_type(type.value, deepest - 2)})"
    else:
        text = f"opaque({_opaque(type)})"
    return f"{text} @ {quoted(type.denotation)}" if type.denotation else text


def _dtype(dtype: DType | None) -> str:
    return _UNDEFINED if dtype is None else dtype.text


def _tensor(type: TensorType | SparseTensorType) -> str:
    if type.shape == ():
        return _dtype(type.dtype)
    dims = [written_dim(dim) for dim in type.shape or ()]
    for index, denotation in enumerate(type.denotations[: len(dims)]):
        if denotation:
            dims[index] += f" @ {quoted(denotation)}"
    return f"{_dtype(type.dtype)}[{', '.join(dims)}]"


def written_dim(dim: DimLike) -> str:
    """``?``, a number, or a name or expression."""
    if dim is None:
        return "?"
    return str(dim) if isinstance(dim, int) else written_name(str(dim))


def _opaque(type: OpaqueType) -> str:
    if type.domain:
        return f"{_qualified(type.domain)}, {written_name(type.name)}"
    return _qualified(type.name) if type.name else ""


def _qualified(name: str) -> str:
    parts = [written_name(part) for part in name.split(".")]
    return quoted(name) if any(part[-1] == '"' for part in parts) else name


def next_is_type(scanner: Scanner) -> bool:
    """Whether a type begins at the current token, and not a name."""
    if scanner.kind != "name":
        return False
    word = scanner.value
    if word == _UNDEFINED:
        mark = scanner.next_mark()
        return mark == "[" or mark == '"' or mark == "_" or mark == "@" or mark.isalpha()
    return word in DTYPES or word in CONTAINERS


def parse_type(scanner: Scanner, depth: int) -> Type:
    """The type that begins at the current token, `depth` levels into the model."""
    scanner.check_depth(depth)
    word = scanner.value if scanner.kind == "name" else ""
    if word in DTYPES or word == _UNDEFINED:
        scanner.advance()
        return _parse_tensor(scanner, DTYPES.get(word))
    if word not in CONTAINERS:
        raise scanner.unexpected("a type")
    scanner.advance()
    scanner.expect("(")
    found: Type
    if word == "opaque":
        found = _parse_opaque(scanner)
    elif word == "sparse_tensor":
        inner = _parse_tensor(scanner, _parse_dtype(scanner), denoted=False)
        found = SparseTensorType(inner.dtype, inner.shape, "", inner.denotations)
    elif word == "map":
        key = _parse_dtype(scanner)
        scanner.expect(",")
        found = MapType(key, parse_type(scanner, depth + 2))
    else:
        element = parse_type(scanner, depth + 2)
        found = SequenceType(element) if word == "seq" else OptionalType(element)
    scanner.expect(")")
    denotation = _parse_denotation(scanner)
    if not denotation:
        return found
    if isinstance(found, SparseTensorType):
        return SparseTensorType(found.dtype, found.shape, denotation, found.denotations)
    if isinstance(found, MapType):
        return MapType(found.key, found.value, denotation)
    if isinstance(found, OpaqueType):
        return OpaqueType(found.domain, found.name, denotation)
    return type(found)(found.element, denotation)


def _parse_dtype(scanner: Scanner) -> DType | None:
    place, word = scanner.start, scanner.expect("name", "an element type")
    if word not in DTYPES and word != _UNDEFINED:
        raise scanner.error(f"expected an element type, found {quote(word)}", place)
    return DTYPES.get(word)


def _parse_denotation(scanner: Scanner) -> str:
    return scanner.name("a denotation") if scanner.accept("@") else ""


def _parse_tensor(scanner: Scanner, dtype: DType | None, *, denoted: bool = True) -> TensorType:
    shape: list[DimLike] = []
    denotations: list[str] = []
    known = True
    if scanner.accept("["):
        known = not scanner.accept("]")
        while known:
            shape.append(_parse_dim(scanner))
            denotations.append(_parse_denotation(scanner))
            if len(shape) > scanner.limits.rank:
                raise scanner.limit("rank", scanner.limits.rank, f"more than {len(shape) - 1}")
            if not scanner.accept(","):
                scanner.expect("]", "',' or ']'")
                break
    return TensorType(
        dtype,
        tuple(shape) if known else None,
        _parse_denotation(scanner) if denoted else "",
        tuple(denotations) if any(denotations) else (),
    )


def _parse_dim(scanner: Scanner) -> DimLike:
    if scanner.accept("?"):
        return None
    if scanner.has_name():
        name = scanner.name()
        return symbol(name) if name else None
    size = scanner.integer("a dimension: a number, a name or '?'")
    return size if size >= 0 else None


def _parse_opaque(scanner: Scanner) -> OpaqueType:
    if scanner.kind == ")":
        return OpaqueType("", "")
    name = _parse_qualified(scanner)
    if scanner.accept(","):
        return OpaqueType(name, _parse_qualified(scanner))
    return OpaqueType("", name)


def _parse_qualified(scanner: Scanner) -> str:
    parts = [scanner.name("the name of an opaque type")]
    while scanner.accept("."):
        parts.append(scanner.name("the rest of the name"))
    return ".".join(parts)
