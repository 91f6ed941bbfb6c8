"""Einsum: a bounded parser, shape rules, and products in pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dims import known_equal
from sardonyx.dtypes import BFLOAT16
from sardonyx.errors import InferenceError, UnsupportedError, quote
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast_dim
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

__all__ = ["Einsum", "Equation"]

_ELLIPSIS = "."
_LETTERS = ascii_letters
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Equation:
    """A parsed equation: one string of labels per term, ``.`` standing for the ellipsis."""

    terms: tuple[str, ...]
    output: str

    @staticmethod
    def parse(text: str) -> Equation:
        """Read `text` in one pass; `InferenceError` says where it is malformed.

        Without ``->`` the output has the ellipsis, then the labels that occur once, sorted.
        """
        if len(text) > _LONGEST:
            raise InferenceError(f"Einsum: an equation of {len(text)} characters is too long")
        left, arrow, right = text.partition("->")
        terms = tuple(_labels(term, text) for term in left.split(","))
        if arrow:
            output = _labels(right, text)
            if len(set(output)) < len(output):
                raise _malformed(text, "a label of the output occurs twice")
            unknown = set(output) - set("".join(terms)) - {_ELLIPSIS}
            if unknown:
                raise _malformed(text, f"output label {quote(min(unknown))} is in no term")
        else:
            counts = Counter("".join(terms))
            once = sorted(label for label, count in counts.items() if count == 1)
            output = "." * (_ELLIPSIS in counts) + "".join(x for x in once if x != _ELLIPSIS)
        return Equation(terms, output)


def _labels(term: str, text: str) -> str:
    if "\0" in term:
        raise _malformed(text, "it has a NUL character")
    labels = term.replace(" ", "").replace("...", "\0")
    for label in labels:
        if label != "\0" and not (label.isascii() and label.isalpha()):
            raise _malformed(text, f"{quote(label)} is neither a letter nor part of '...'")
    if labels.count("\0") > 1:
        raise _malformed(text, "a term has two ellipses")
    return labels.replace("\0", _ELLIPSIS)


def _malformed(text: str, problem: str) -> InferenceError:
    return InferenceError(
        f"Einsum: equation {quote(text)}: {problem}",
        hint="write it as in 'bij,bjk->bik', with '...' for leading dimensions",
    )


class Einsum(Operator, since=28):
    """The sum of products that `equation` describes, in Einstein's notation."""

    Inputs = Input("T", variadic=True)
    result = Output("T", name="Output")
    T = types.NUMERIC_BFLOAT16
    equation: str
    history = (past(12, T=types.without(types.NUMERIC_BFLOAT16, BFLOAT16)),)

    def infer(self, *Inputs: Fact) -> Fact:
        equation = self._parsed(len(Inputs))
        dtype = next((fact.dtype for fact in Inputs if fact.dtype), None)
        sizes: dict[object, DimLike] = {}
        depth = 0
        complete = True
        for term, fact in zip(equation.terms, Inputs, strict=True):
            if fact.shape is None:
                complete = complete and _ELLIPSIS not in term
                for label in term:
                    if label != _ELLIPSIS:
                        _merge(sizes, label, None)
                continue
            axes = _axes(term, len(fact.shape), self.equation)
            depth = max(depth, len(fact.shape) - len(term) + 1 if _ELLIPSIS in term else 0)
            for axis, dim in zip(axes, fact.shape, strict=True):
                _merge(sizes, axis, dim)
        if not complete and _ELLIPSIS in equation.output:
            return Fact.tensor(dtype)
        return Fact.tensor(dtype, [sizes[axis] for axis in _expand(equation.output, depth)])

    def _parsed(self, count: int) -> Equation:
        equation = Equation.parse(self.equation)
        if len(equation.terms) != count:
            raise InferenceError(
                f"Einsum: equation {quote(self.equation)} has {len(equation.terms)} terms, "
                f"the node has {count} inputs"
            )
        return equation

    def reference(self, *Inputs: Array) -> Array:
        shape = self.infer(*(Fact.constant(array) for array in Inputs)).shape
        assert shape is not None
        check_bytes([size for size in shape if isinstance(size, int)], Inputs[0].itemsize)
        equation = self._parsed(len(Inputs))
        depth = 0
        operands = []
        for term, array in zip(equation.terms, Inputs, strict=True):
            axes = _axes(term, array.ndim, self.equation)
            depth = max(depth, sum(isinstance(axis, int) for axis in axes))
            operands.append(_diagonal(widen(array), axes))
        sizes: dict[object, int] = {}
        for array, axes in operands:
            for axis, size in zip(axes, array.shape, strict=True):
                sizes[axis] = size if sizes.get(axis, 1) == 1 else sizes[axis]
        wanted = _expand(equation.output, depth)
        with np.errstate(all="ignore"):
            result = _contract([_squeezed(*operand, sizes) for operand in operands], wanted)
            return np.broadcast_to(result, [sizes[axis] for axis in wanted]).astype(Inputs[0].dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        equation = self._parsed(len(inputs))
        return [
            _by_operand(op, equation, index, grads[0], inputs, self.equation)
            for index in range(len(inputs))
        ]


def _axes(term: str, rank: int, text: str) -> list[object]:
    """One key per dimension: a letter, or for the ellipsis its distance from the end, negative."""
    free = rank - len(term.replace(_ELLIPSIS, ""))
    if free < 0 or (free and _ELLIPSIS not in term):
        raise InferenceError(
            f"Einsum: equation {quote(text)}: term {quote(term.replace('.', '...'))} "
            f"does not fit an input of rank {rank}"
        )
    return _expand(term, free)


def _expand(term: str, depth: int) -> list[object]:
    axes: list[object] = []
    for label in term:
        if label == _ELLIPSIS:
            axes.extend(range(-depth, 0))
        else:
            axes.append(label)
    return axes


def _merge(sizes: dict[object, DimLike], axis: object, dim: DimLike) -> None:
    """Note that `axis` has size `dim`; size 1 broadcasts."""
    if axis not in sizes:
        sizes[axis] = dim
        return
    known = sizes[axis]
    if isinstance(known, int) and isinstance(dim, int) and known != dim and 1 not in {known, dim}:
        label = "of '...'" if isinstance(axis, int) else quote(axis)
        raise InferenceError(f"Einsum: label {label} has sizes {known} and {dim}")
    if known is not None and dim is not None and known_equal(known, dim):
        return
    sizes[axis] = broadcast_dim(known, dim)


def _diagonal(array: Array, axes: list[object]) -> tuple[Array, list[object]]:
    """`array` with axes of one label merged into their diagonal."""
    kept = list(dict.fromkeys(axes))
    if len(kept) == len(axes):
        return array, axes
    numbers = {axis: number for number, axis in enumerate(kept)}
    sizes: dict[object, int] = {}
    for axis, size in zip(axes, array.shape, strict=True):
        sizes[axis] = max(sizes.get(axis, size), size) if size else 0
    # a repeated label broadcasts like any other: size 1 is read again and again
    strides = [0] * len(kept)
    for axis, size, stride in zip(axes, array.shape, array.strides, strict=True):
        strides[numbers[axis]] += stride if size != 1 else 0
    view = np.lib.stride_tricks.as_strided(
        array, [sizes[axis] for axis in kept], strides, writeable=False
    )
    return view, kept


def _squeezed(
    array: Array, axes: Sequence[object], sizes: dict[object, int]
) -> tuple[Array, list[object]]:
    """`array` without the dimensions of size 1 that broadcast."""
    kept = [
        axis
        for axis, size in zip(axes, array.shape, strict=True)
        if size == sizes[axis] or size != 1
    ]
    shape = [
        size
        for axis, size in zip(axes, array.shape, strict=True)
        if size == sizes[axis] or size != 1
    ]
    return array.reshape(shape), kept


def _contract(operands: list[tuple[Array, list[object]]], wanted: Iterable[object]) -> Array:
    """Multiply the operands from left to right, summing each label as soon as it is done."""
    wanted = list(wanted)
    array, axes = operands[0]
    for index in range(1, len(operands) + 1):
        later = {axis for _, names in operands[index:] for axis in names} | set(wanted)
        array, axes = _sum_out(array, axes, later)
        if index < len(operands):
            right, names = operands[index]
            after = {axis for _, rest in operands[index + 1 :] for axis in rest} | set(wanted)
            right, names = _sum_out(right, names, after | set(axes))
            array, axes = _multiply(array, axes, right, names, after)
    present = [axis for axis in wanted if axis in axes]
    array = np.asarray(array.transpose([axes.index(axis) for axis in present]))
    sizes = dict(zip(present, array.shape, strict=True))
    return array.reshape([sizes.get(axis, 1) for axis in wanted])


def _sum_out(array: Array, axes: list[object], keep: set[object]) -> tuple[Array, list[object]]:
    gone = tuple(index for index, axis in enumerate(axes) if axis not in keep)
    if gone:
        array = np.asarray(array.sum(gone, dtype=array.dtype))
    return array, [axis for axis in axes if axis in keep]


def _multiply(
    a: Array, a_axes: list[object], b: Array, b_axes: list[object], keep: set[object]
) -> tuple[Array, list[object]]:
    """The product of two operands, summed over shared labels that nothing needs any more."""
    shared = [axis for axis in a_axes if axis in b_axes]
    batch = [axis for axis in shared if axis in keep]
    summed = [axis for axis in shared if axis not in keep]
    rows = [axis for axis in a_axes if axis not in b_axes]
    columns = [axis for axis in b_axes if axis not in a_axes]
    left = a.transpose([a_axes.index(axis) for axis in (*batch, *rows, *summed)])
    right = b.transpose([b_axes.index(axis) for axis in (*batch, *summed, *columns)])
    n, m, k = len(batch), len(rows), len(summed)
    shape = (*left.shape[: n + m], *right.shape[n + k :])
    check_bytes(shape, a.itemsize)
    size = [int(np.prod(part, dtype=np.int64)) for part in (left.shape[:n], left.shape[n : n + m],
            left.shape[n + m :], right.shape[n + k :])]  # fmt: skip
    result = np.matmul(
        left.reshape(size[0], size[1], size[2]), right.reshape(size[0], size[2], size[3])
    )
    return result.reshape(shape), [*batch, *rows, *columns]


def _by_operand(
    op: Writer, equation: Equation, index: int, dy: Value, inputs: Values, text: str
) -> Value:
    """The gradient by one operand: the sum of products of the others and `dy`.

    A label that occurs twice in the operand is read along its diagonal: one of the two becomes
    a label of its own, tied to the first by an identity matrix. A label that is nowhere else was
    summed alone, and is put back by broadcasting.
    """
    x, term = inputs[index], equation.terms[index]
    _check_ellipses(op, equation, index, dy, x, text)
    used = set("".join((*equation.terms, equation.output)))
    spare = (letter for letter in _LETTERS if letter not in used)
    operands = [dy, *inputs[:index], *inputs[index + 1 :]]
    left = [equation.output, *equation.terms[:index], *equation.terms[index + 1 :]]
    right = ""
    for axis, label in enumerate(term):
        if label in right and label != _ELLIPSIS:
            other = next(spare)
            place = axis if _ELLIPSIS not in term[:axis] else axis - len(term)
            operands.append(_identity(op, op.size(x, place), dy))
            left.append(label + other)
            label = other
        right += label
    present = set("".join(left))
    kept = "".join(label for label in right if label in present)
    found: Value = op.Einsum(
        *operands, equation=f"{','.join(left)}->{kept}".replace(_ELLIPSIS, "...")
    )
    alone = [
        axis if _ELLIPSIS not in right[:axis] else axis - len(right)
        for axis, label in enumerate(right)
        if label not in present
    ]
    if alone:
        found = op.expanded(op.Unsqueeze(found, alone), x)
    return op.sum_to(found, x)


def _check_ellipses(
    op: Writer, equation: Equation, index: int, dy: Value, x: Value, text: str
) -> None:
    term = equation.terms[index]
    if _ELLIPSIS not in term:
        return
    elsewhere = _ELLIPSIS in equation.output
    same = elsewhere and (op.rank(x) - len(term)) == (op.rank(dy) - len(equation.output))
    if not elsewhere or not (same or term[0] == equation.output[0] == _ELLIPSIS):
        raise UnsupportedError(
            f"Einsum with equation {quote(text)} has no gradient rule",
            hint="write leading dimensions as '...' in front of each term and of the output",
        )


def _identity(op: Writer, size: Value, like: Value) -> Value:
    identity: Value = op.EyeLike(op.zeros(op.sizes(size, size), like))
    return identity
