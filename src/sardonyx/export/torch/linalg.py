"""Factorizations and what is solved by them, as Loops over columns; batches run side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sardonyx import dims, dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.ranking import full
from sardonyx.export.torch.registry import TorchBuilder, known, translation
from sardonyx.export.torch.repeat import loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

    States = tuple[list[Value], list[Value]]

__all__ = ["empty", "eye", "indices", "transposed"]


def empty(op: TorchBuilder) -> tuple[Value, ...] | None:
    """The results, where all that are tensors are known to have no elements or to be of zeros."""
    shapes = [known(shape) for shape in op.result_shapes]
    if not any(shape is not None and 0 in shape for shape in shapes[:2]):
        return None
    both = zip(shapes, op.result_dtypes, strict=True)
    return tuple(full(op, shape or (), 0, dtype) for shape, dtype in both)


def indices(op: TorchBuilder, size: DimLike) -> Value:
    """0 … `size` - 1."""
    zero, one = op.constant(0, dtypes.INT64), op.constant(1, dtypes.INT64)
    made = op.Range(zero, op.scalar(size, dtypes.INT64), one)
    return op.typed(made, dtypes.INT64, [size])


def transposed(op: TorchBuilder, x: Value) -> Value:
    """`x` with its last two axes turned."""
    rank = op.rank_of(x)
    return op.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def eye(op: TorchBuilder, like: Value, rows: DimLike, columns: DimLike) -> Value:
    """The identity, in the type of `like`."""
    same = op.Equal(op.unsqueeze(indices(op, rows), [1]), indices(op, columns))
    return op.typed(op.cast(same, op.dtype_of(like)), op.dtype_of(like), [rows, columns])


def _column(op: TorchBuilder, x: Value) -> Value:
    """``x[..., None]``."""
    return op.unsqueeze(x, [op.rank_of(x)])


def _row(op: TorchBuilder, x: Value) -> Value:
    """``x[..., None, :]``."""
    return op.unsqueeze(x, [op.rank_of(x) - 1])


def _pick(op: TorchBuilder, x: Value, index: Value, axis: int) -> Value:
    """``x[..., index, …]`` along `axis`, counted from the back; the axis goes."""
    shape = list(op.shape_of(x))
    del shape[axis]
    made = op.Gather(x, index, axis=len(shape) + 1 + axis)
    return op.typed(made, op.dtype_of(x), shape)


def _same(op: TorchBuilder, made: Value, x: Value) -> Value:
    return op.typed(made, op.dtype_of(x), op.shape_of(x))


def _zeros(op: TorchBuilder, shape: Sequence[DimLike]) -> Value:
    return full(op, shape, 0, dtypes.INT32)


def _count(op: TorchBuilder, size: DimLike) -> Value:
    return op.scalar(size, dtypes.INT64)


@translation("aten._linalg_check_errors.default")
def check_errors(op: TorchBuilder, *_: Any, **__: Any) -> None:
    return None


# Cholesky


def _cholesky(op: TorchBuilder, a: Value, upper: bool) -> Value:
    if upper:
        a = transposed(op, a)
    rank, size, dtype = op.rank_of(a), op.shape_of(a)[-1], op.dtype_of(a)
    rows, zero = indices(op, size), op.constant(0, dtype)

    def step(k: Value, states: list[Value]) -> States:
        column = _pick(op, states[0], k, -1)
        pivot = _column(op, _pick(op, column, k, -1))
        scaled = op.Div(column, op.Sqrt(pivot))
        kept = _same(op, op.Where(op.Less(rows, k), zero, scaled), column)
        rest = op.Sub(states[0], op.Mul(_column(op, kept), _row(op, kept)))
        return [_same(op, rest, a)], [kept]

    stacked = loop(op, _count(op, size), [a], step)[1]
    last = [0, rank - 1] if upper else [rank - 1, 0]
    return _same(op, op.Transpose(stacked, perm=[*range(1, rank - 1), *last]), a)


@translation("aten.cholesky.default")
def cholesky(op: TorchBuilder, a: Value, upper: bool = False) -> Any:
    return _cholesky(op, a, upper)


@translation("aten.linalg_cholesky_ex.default")
def cholesky_ex(op: TorchBuilder, a: Value, *, upper: bool = False, **_: Any) -> Any:
    return _cholesky(op, a, upper), _zeros(op, op.shape_of(a)[:-2])


@translation("aten.cholesky_solve.default")
def cholesky_solve(op: TorchBuilder, b: Value, factor: Value, upper: bool = False) -> Any:
    shape = _solved_shape(op)
    low = transposed(op, factor) if upper else factor
    half = _triangular(op, low, b, shape, False, False)
    return _triangular(op, transposed(op, low), half, shape, True, False)


@translation("aten.cholesky_inverse.default")
def cholesky_inverse(op: TorchBuilder, factor: Value, upper: bool = False) -> Any:
    size = op.shape_of(factor)[-1]
    return cholesky_solve(op, eye(op, factor, size, size), factor, upper)


# Triangular systems


def _solved_shape(op: TorchBuilder) -> Sequence[DimLike]:
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("the shape of the solution is not known")
    return shape


def _triangular(op: TorchBuilder, a: Value, b: Value, shape: Sequence[DimLike], upper: bool,
                unit: bool) -> Value:  # fmt: skip
    """The solution, of `shape`, of ``a x = b``, row by row."""
    dtype, size = op.dtype_of(a), op.shape_of(a)[-1]
    rows = op.unsqueeze(indices(op, size), [1])
    last = op.scalar(size - 1, dtypes.INT64) if upper else None

    def step(number: Value, states: list[Value]) -> States:
        k = op.Sub(last, number) if upper else number
        row = _pick(op, a, k, -2)
        known_part = op.MatMul(_row(op, row), states[0])
        rest = op.Sub(_row(op, _pick(op, b, k, -2)), known_part)
        if not unit:
            rest = op.Div(rest, _column(op, _column(op, _pick(op, row, k, -1))))
        filled = op.Where(op.Equal(rows, k), rest, states[0])
        return [_same(op, filled, states[0])], []

    return loop(op, _count(op, size), [full(op, shape, 0, dtype)], step)[0]


@translation("aten.linalg_solve_triangular.default")
def solve_triangular(op: TorchBuilder, a: Value, b: Value, *, upper: bool, left: bool = True,
                     unitriangular: bool = False) -> Any:  # fmt: skip
    shape = list(_solved_shape(op))
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    if left:
        return _triangular(op, a, b, shape, upper, unitriangular)
    shape[-2:] = [shape[-1], shape[-2]]
    turned = _triangular(
        op, transposed(op, a), transposed(op, b), shape, not upper, unitriangular
    )  # fmt: skip
    return transposed(op, turned)


@translation("aten.triangular_solve.default")
def triangular_solve(op: TorchBuilder, b: Value, a: Value, upper: bool = True,
                     transpose: bool = False, unitriangular: bool = False) -> Any:  # fmt: skip
    shape = _solved_shape(op)
    if transpose:
        return _triangular(op, transposed(op, a), b, shape, not upper, unitriangular), a
    return _triangular(op, a, b, shape, upper, unitriangular), a


# LU


def _swapped(op: TorchBuilder, rows: Value, k: Value, p: Value) -> Value:
    """Row numbers with `k` and, per matrix, `p` exchanged."""
    moved: Value = op.Where(op.Equal(rows, k), p, op.Where(op.Equal(rows, p), k, rows))
    return moved


def _permuted(op: TorchBuilder, x: Value, order: Value) -> Value:
    """The rows of `x` in the order that `order` gives for each matrix."""
    wide = op.Expand(_column(op, order), op.sizes(op.shape_of(x)))
    return _same(op, op.GatherElements(x, wide, axis=op.rank_of(x) - 2), x)


def _lu(op: TorchBuilder, a: Value, pivot: bool = True) -> tuple[Value, Value, Value]:
    """L and U in one matrix, the pivots counted from 0, and the order of the rows."""
    shape, dtype, rank = op.shape_of(a), op.dtype_of(a), op.rank_of(a)
    height, width = shape[-2:]
    rows, columns = indices(op, height), indices(op, width)
    zero, one = op.constant(0, dtype), op.constant(1, dtype)
    batch = list(shape[:-2])
    order = op.typed(
        op.Expand(rows, op.sizes([*batch, height])), dtypes.INT64, [*batch, height]
    )  # fmt: skip
    count = op.Min(_count(op, height), _count(op, width))

    def step(k: Value, states: list[Value]) -> States:
        matrix, order = states
        if not pivot:
            chosen = op.typed(op.Expand(k, op.sizes([*batch, 1])), dtypes.INT64, [*batch, 1])
        else:
            size = op.Abs(_pick(op, matrix, k, -1))
            open_rows = op.Where(op.Less(rows, k), op.constant(-1, dtype), size)
            chosen = op.typed(op.ArgMax(open_rows, axis=rank - 2, keepdims=1),
                              dtypes.INT64, [*batch, 1])  # fmt: skip
            moved = op.typed(_swapped(op, rows, k, chosen), dtypes.INT64, [*batch, height])
            matrix = _permuted(op, matrix, moved)
            order = _same(op, op.GatherElements(order, moved, axis=rank - 2), order)
        row = _pick(op, matrix, k, -2)
        head = _column(op, _pick(op, row, k, -1))
        safe = op.Where(op.Equal(head, zero), one, head)
        column = _pick(op, matrix, k, -1)
        below = op.Greater(rows, k)
        factor = _same(op, op.Where(below, op.Div(column, safe), zero), column)
        right = _same(op, op.Where(op.Greater(columns, k), row, zero), row)
        rest = op.Sub(matrix, op.Mul(_column(op, factor), _row(op, right)))
        spot = op.And(
            op.unsqueeze(op.typed(below, dtypes.BOOL, [height]), [1]), op.Equal(columns, k)
        )
        kept = _same(op, op.Where(spot, _column(op, factor), rest), a)
        return [kept, order], [chosen]

    matrix, order, stacked = loop(op, count, [a, order], step)
    least = dims.minimum(height, width)
    op.typed(stacked, dtypes.INT64, [least, *batch, 1])
    pivots = op.transpose(op.squeeze(stacked, [rank - 1]), [*range(1, rank - 1), 0])
    return matrix, op.typed(pivots, dtypes.INT64, [*batch, least]), order


def _counted(op: TorchBuilder, pivots: Value) -> Value:
    """Pivots as torch gives them: counted from 1, in INT32."""
    return op.cast(op.Add(pivots, op.constant(1, dtypes.INT64)), dtypes.INT32)


def _diagonal(op: TorchBuilder, a: Value) -> Value:
    rows, columns = op.shape_of(a)[-2:]
    spots = op.Equal(op.unsqueeze(indices(op, rows), [1]), indices(op, columns))
    kept = _same(op, op.Where(spots, a, op.constant(0, op.dtype_of(a))), a)
    return op.reduce("Sum", kept, [op.rank_of(a) - 1], False)


@translation("aten.linalg_lu_factor_ex.default")
def lu_factor_ex(op: TorchBuilder, a: Value, *, pivot: bool = True, **_: Any) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    matrix, pivots, _order = _lu(op, a, pivot)
    return matrix, _counted(op, pivots), _zeros(op, op.shape_of(a)[:-2])


@translation("aten._linalg_det.default")
def det(op: TorchBuilder, a: Value) -> Any:
    if op.dtype_of(a) is not dtypes.DOUBLE and op.opset >= 11:
        return op.Det(a), None, None
    sign, size, matrix, pivots = slogdet(op, a)
    return op.Mul(sign, op.Exp(size)), matrix, pivots


@translation("aten._linalg_slogdet.default")
def slogdet(op: TorchBuilder, a: Value) -> Any:
    dtype, rank = op.dtype_of(a), op.rank_of(a)
    matrix, pivots, _ = _lu(op, a)
    diagonal = _diagonal(op, matrix)
    swaps = op.cast(op.Not(op.Equal(pivots, indices(op, op.shape_of(a)[-1]))), dtypes.INT32)
    total = op.reduce("Sum", op.typed(swaps, dtypes.INT32, pivots.shape or ()), [rank - 2], False)
    odd = op.cast(op.Mod(total, op.constant(2, dtypes.INT32)), dtype)
    parity = op.Sub(op.constant(1, dtype), op.Add(odd, odd))
    signs = op.reduce("Prod", _same(op, op.Sign(diagonal), diagonal), [rank - 2], False)
    logs = _same(op, op.Log(op.Abs(diagonal)), diagonal)
    size = op.reduce("Sum", logs, [rank - 2], False)
    return op.Mul(signs, parity), size, matrix, _counted(op, pivots)


def _solve_factored(op: TorchBuilder, matrix: Value, order: Value, b: Value,
                    shape: Sequence[DimLike]) -> Value:  # fmt: skip
    dtype = op.dtype_of(matrix)
    whole = op.typed(op.Expand(b, op.sizes(shape)), dtype, shape)
    height = op.shape_of(matrix)[-1]
    wide = op.typed(op.Expand(order, op.sizes([*shape[:-2], height])), dtypes.INT64,
                    [*shape[:-2], height])  # fmt: skip
    half = _triangular(op, matrix, _permuted(op, whole, wide), shape, False, True)
    return _triangular(op, matrix, half, shape, True, False)


@translation("aten.linalg_inv_ex.default")
def inv_ex(op: TorchBuilder, a: Value, **_: Any) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    size, shape = op.shape_of(a)[-1], op.shape_of(a)
    matrix, _pivots, order = _lu(op, a)
    inverse = _solve_factored(op, matrix, order, eye(op, a, size, size), shape)
    return inverse, _zeros(op, shape[:-2])


@translation("aten._linalg_solve_ex.default")
def solve_ex(op: TorchBuilder, a: Value, b: Value, *, left: bool = True, **_: Any) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    shape = list(_solved_shape(op))
    vector = op.rank_of(b) == 1 or (
        op.rank_of(b) == op.rank_of(a) - 1 and op.shape_of(b) == op.shape_of(a)[:-1]
    )
    if vector:
        b = _column(op, b)
        shape.append(1)
    if not left:
        a, b = transposed(op, a), transposed(op, b)
        shape[-2:] = [shape[-1], shape[-2]]
    matrix, pivots, order = _lu(op, a)
    found = _solve_factored(op, matrix, order, b, shape)
    if not left:
        found = transposed(op, found)
    if vector:
        found = op.squeeze(found, [len(shape) - 1])
    return found, matrix, _counted(op, pivots), _zeros(op, op.shape_of(a)[:-2])


def _order_of(op: TorchBuilder, pivots: Value, height: DimLike) -> Value:
    """The order of the rows that torch's pivots say."""
    batch, count = list(op.shape_of(pivots)[:-1]), op.shape_of(pivots)[-1]
    rows, axis = indices(op, height), len(batch)
    start = op.typed(op.Expand(rows, op.sizes([*batch, height])), dtypes.INT64, [*batch, height])
    swaps = op.Sub(op.cast(pivots, dtypes.INT64), op.constant(1, dtypes.INT64))
    op.typed(swaps, dtypes.INT64, op.shape_of(pivots))

    def step(k: Value, states: list[Value]) -> States:
        moved = _swapped(op, rows, k, _column(op, _pick(op, swaps, k, -1)))
        return [_same(op, op.GatherElements(states[0], moved, axis=axis), states[0])], []

    return loop(op, _count(op, count), [start], step)[0]


@translation("aten.linalg_lu_solve.default")
def lu_solve(op: TorchBuilder, matrix: Value, pivots: Value, b: Value, *, left: bool = True,
             adjoint: bool = False) -> Any:  # fmt: skip
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    shape = list(_solved_shape(op))
    height = op.shape_of(matrix)[-1]
    order = _order_of(op, pivots, height)
    if not left:
        b = transposed(op, b)
        shape[-2:] = [shape[-1], shape[-2]]
    if adjoint == left:
        # the transposed system: Uᵀ Lᵀ P x = b
        turned = transposed(op, matrix)
        half = _triangular(op, turned, b, shape, False, False)
        whole = _triangular(op, turned, half, shape, True, True)
        back = op.TopK(order, op.sizes([height]), axis=op.rank_of(order) - 1, largest=0, _outputs=2)
        inverse = op.typed(op.Expand(back[1], op.sizes([*shape[:-2], height])), dtypes.INT64,
                           [*shape[:-2], height])  # fmt: skip
        found = _permuted(op, whole, inverse)
    else:
        found = _solve_factored(op, matrix, order, b, shape)
    return found if left else transposed(op, found)


@translation("aten.lu_unpack.default")
def lu_unpack(op: TorchBuilder, matrix: Value, pivots: Value, unpack_data: bool = True,
              unpack_pivots: bool = True) -> Any:  # fmt: skip
    height, width = op.shape_of(matrix)[-2:]
    p = _permutation(op, matrix, _order_of(op, pivots, height)) if unpack_pivots else None
    low, high = _unpacked(op, matrix, height, width) if unpack_data else (None, None)
    return p, low, high


@translation("aten.linalg_lu.default")
def lu(op: TorchBuilder, a: Value, *, pivot: bool = True) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    height, width = op.shape_of(a)[-2:]
    matrix, _, order = _lu(op, a, pivot)
    return (_permutation(op, a, order), *_unpacked(op, matrix, height, width))


def _permutation(op: TorchBuilder, like: Value, order: Value) -> Value:
    height = op.shape_of(order)[-1]
    column = op.unsqueeze(indices(op, height), [1])
    made: Value = op.cast(op.Equal(column, _row(op, order)), op.dtype_of(like))
    return made


def _unpacked(op: TorchBuilder, matrix: Value, height: Any, width: Any) -> tuple[Value, Value]:
    rank, dtype = op.rank_of(matrix), op.dtype_of(matrix)
    low = high = matrix
    least, batch = dims.minimum(height, width), list(op.shape_of(matrix)[:-2])
    if least != width:
        low = op.typed(op.slice(matrix, rank - 1, 0, least), dtype, [*batch, height, least])
    if least != height:
        high = op.typed(op.slice(matrix, rank - 2, 0, least), dtype, [*batch, least, width])
    zero, one = op.constant(0, dtype), op.constant(1, dtype)
    rows = op.unsqueeze(indices(op, op.shape_of(low)[-2]), [1])
    columns = indices(op, op.shape_of(low)[-1])
    left = op.Where(op.Greater(rows, columns), low, op.Where(op.Equal(rows, columns), one, zero))
    rows = op.unsqueeze(indices(op, op.shape_of(high)[-2]), [1])
    right = op.Where(op.Greater(rows, indices(op, width)), zero, high)
    return left, right


@translation("aten.linalg_matrix_exp.default", "aten.matrix_exp.default")
def matrix_exp(op: TorchBuilder, a: Value) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing if len(nothing) > 1 else nothing[0]
    # Taylor's series of a / 2^10, squared ten times, in float64
    dtype, size = op.dtype_of(a), op.shape_of(a)[-1]
    wide = op.typed(op.cast(a, dtypes.DOUBLE), dtypes.DOUBLE, op.shape_of(a))
    one = eye(op, wide, size, size)
    total: Any = one
    for k in range(12, 0, -1):
        term = op.Mul(op.MatMul(wide, total), op.constant(2.0**-10 / k, dtypes.DOUBLE))
        total = op.Add(term, one)
    for _ in range(10):
        total = op.MatMul(total, total)
    return op.cast(_same(op, total, wide), dtype)


@translation("aten.linalg_householder_product.default")
def householder_product(op: TorchBuilder, a: Value, tau: Value) -> Any:
    shape, dtype = op.shape_of(a), op.dtype_of(a)
    height, width = shape[-2:]
    count = op.shape_of(tau)[-1]
    rows = indices(op, height)
    last = op.scalar(count - 1, dtypes.INT64)
    start = op.typed(op.Expand(eye(op, a, height, width), op.sizes(shape)), dtype, shape)

    def step(number: Value, states: list[Value]) -> States:
        k = op.Sub(last, number)
        column = _pick(op, a, k, -1)
        ones = op.Where(op.Equal(rows, k), op.constant(1, dtype), column)
        v = _same(op, op.Where(op.Less(rows, k), op.constant(0, dtype), ones), column)
        scale = _column(op, _column(op, _pick(op, tau, k, -1)))
        mirrored = op.MatMul(_row(op, v), states[0])
        rest = op.Sub(states[0], op.Mul(op.Mul(_column(op, v), scale), mirrored))
        return [_same(op, rest, states[0])], []

    if isinstance(count, int) and count == 0:
        return start
    return loop(op, _count(op, count), [start], step)[0]


@translation("aten.ormqr.default")
def ormqr(op: TorchBuilder, a: Value, tau: Value, c: Value, left: bool = True,
          transpose: bool = False) -> Any:  # fmt: skip
    """The product with a Q of reflections: `a` has them below its diagonal, `tau` their scales."""
    if (nothing := empty(op)) is not None:
        return nothing[0]
    dtype, count = op.dtype_of(a), op.shape_of(tau)[-1]
    rows, last = indices(op, op.shape_of(a)[-2]), op.scalar(count - 1, dtypes.INT64)
    start = c if left else transposed(op, c)

    def step(number: Value, states: list[Value]) -> States:
        k = number if transpose == left else op.Sub(last, number)
        column = _pick(op, a, k, -1)
        ones = op.Where(op.Equal(rows, k), op.constant(1, dtype), column)
        v = _same(op, op.Where(op.Less(rows, k), op.constant(0, dtype), ones), column)
        scale = _column(op, _column(op, _pick(op, tau, k, -1)))
        mirrored = op.MatMul(_row(op, v), states[0])
        rest = op.Sub(states[0], op.Mul(op.Mul(_column(op, v), scale), mirrored))
        return [_same(op, rest, start)], []

    found = loop(op, _count(op, count), [start], step)[0]
    return found if left else transposed(op, found)


@translation("aten.linalg_qr.default")
def qr(op: TorchBuilder, a: Value, mode: str = "reduced") -> Any:
    """Householder's reflections, with the signs that LAPACK gives."""
    shape, dtype, rank = op.shape_of(a), op.dtype_of(a), op.rank_of(a)
    height, width = shape[-2:]
    rows, zero, one = indices(op, height), op.constant(0, dtype), op.constant(1, dtype)
    whole = [*shape[:-2], height, height]
    start = op.typed(op.Expand(eye(op, a, height, height), op.sizes(whole)), dtype, whole)

    def step(k: Value, states: list[Value]) -> States:
        upper, q = states
        column = _pick(op, upper, k, -1)
        below = _same(op, op.Where(op.Greater(rows, k), column, zero), column)
        head = _column(op, _pick(op, column, k, -1))
        rest = op.reduce("SumSquare", below, [rank - 2], True)
        norm = op.Sqrt(op.Add(op.Mul(head, head), rest))
        flat = op.Equal(rest, zero)
        target = op.Where(op.Less(head, zero), norm, op.Neg(norm))
        first = op.Where(flat, zero, op.Sub(head, target))
        v = _same(op, op.Where(op.Equal(rows, k), first, below), column)
        length = op.reduce("SumSquare", v, [rank - 2], True)
        scale = op.Div(op.constant(2, dtype), op.Where(op.Equal(length, zero), one, length))
        tall = _column(op, v)
        scaled = _column(op, _same(op, op.Mul(v, scale), v))
        upper = op.Sub(upper, op.Mul(scaled, op.MatMul(_row(op, v), upper)))
        q = op.Sub(q, op.Mul(op.MatMul(q, tall), transposed(op, scaled)))
        return [_same(op, upper, a), _same(op, q, start)], []

    count = op.Min(_count(op, height), _count(op, width))
    upper, q = loop(op, count, [a, start], step)
    columns = indices(op, width)
    upper = op.Where(op.Greater(op.unsqueeze(rows, [1]), columns), zero, upper)
    if mode != "complete" and height != width:
        least = op.Reshape(count, op.ints([1]))
        begin = op.ints([0])
        upper = op.Slice(upper, begin, least, op.ints([rank - 2]))
        q = op.Slice(q, begin, least, op.ints([rank - 1]))
    if mode == "r":
        return op.constant(math.nan, dtype), upper
    return q, upper
