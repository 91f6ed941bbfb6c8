"""Singular values and symmetric eigenvalues, by Jacobi's rotations in a Loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dims, dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.linalg import empty, eye, indices, transposed
from sardonyx.export.torch.registry import TorchBuilder, known, translation
from sardonyx.export.torch.repeat import loop
from sardonyx.export.torch.tensors import torch_dtype_of

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

    States = tuple[list[Value], list[Value]]

__all__: list[str] = []

_SWEEPS: Final = 12
"""Convergence is quadratic: float64 is reached in fewer for sizes to some hundreds."""


def _rounds(op: TorchBuilder, size: DimLike) -> tuple[Value, Value, Value]:
    """How many rounds pair each index with each other one once; in which a pair is, and its sign.

    The numbers of rounds are [size, size], -1 on the diagonal, and the sign is 1 above the
    diagonal and -1 below it. Two indices meet in the round that their sum gives, modulo the
    number of rounds; the last of an even number meets another in the round of twice the other.
    """
    count = dims.maximum(size - 1 + size % 2, 1)
    rounds = op.scalar(count, dtypes.INT64)
    numbers = indices(op, size)
    rows = op.typed(op.unsqueeze(numbers, [1]), dtypes.INT64, [size, 1])
    first, second = op.Min(rows, numbers), op.Max(rows, numbers)
    other = op.Where(op.Equal(second, rounds), first, second)
    met = op.Mod(op.Add(first, other), rounds)
    which = op.Where(op.Equal(rows, numbers), op.constant(-1, dtypes.INT64), met)
    sign = op.Sign(op.Sub(op.cast(numbers, dtypes.DOUBLE), op.cast(rows, dtypes.DOUBLE)))
    return rounds, which, sign


def _rotations(op: TorchBuilder, gram: Value, pairs: Value, one: Value) -> Value:
    """The orthogonal matrix that makes the paired entries of `gram` vanish."""
    dtype, rank = dtypes.DOUBLE, op.rank_of(gram)
    shape = op.shape_of(gram)
    zero = op.constant(0, dtype)
    single = op.constant(1, dtype)
    partner = op.Abs(pairs)
    diagonal = op.typed(op.Mul(gram, one), dtype, shape)
    own = op.reduce("Sum", diagonal, [rank - 1], True)
    across = op.typed(op.Mul(gram, partner), dtype, shape)
    shared = op.reduce("Sum", across, [rank - 2], True)
    mine = transposed(op, own)
    other = transposed(op, op.typed(op.MatMul(partner, own), dtype, [*shape[:-1], 1]))
    order = op.reduce("Sum", op.typed(pairs, dtype, shape[-2:]), [0], True)
    safe = op.Where(op.Equal(shared, zero), single, shared)
    zeta = op.Div(op.Sub(other, mine), op.Add(safe, safe))
    # the first of a pair has -1 in its column of `pairs`
    sign = op.Where(op.Equal(zeta, zero), op.Neg(order), op.Sign(zeta))
    size = op.Add(op.Abs(zeta), op.Sqrt(op.Add(op.Mul(zeta, zeta), single)))
    tangent = op.Where(op.Equal(shared, zero), zero, op.Div(sign, size))
    cosine = op.Reciprocal(op.Sqrt(op.Add(op.Mul(tangent, tangent), single)))
    sine = op.Mul(cosine, tangent)
    turn: Value = op.Sub(op.Mul(one, cosine), op.Mul(partner, sine))
    return op.typed(turn, dtype, shape)


def _rotated(op: TorchBuilder, a: Value, size: DimLike, symmetric: bool) -> tuple[Value, Value]:
    """`a` with orthogonal columns, or diagonal if `symmetric`, and the rotation."""
    shape = op.shape_of(a)
    one = eye(op, a, size, size)
    square = [*shape[:-2], size, size]
    start = op.typed(op.Expand(one, op.sizes(square)), dtypes.DOUBLE, square)
    rounds, meetings, sign = _rounds(op, size)
    none = op.constant(0, dtypes.DOUBLE)

    def step(number: Value, states: list[Value]) -> States:
        matrix, turned = states
        now = op.Equal(meetings, op.Mod(number, rounds))
        pairs = op.typed(op.Where(now, sign, none), dtypes.DOUBLE, [size, size])
        gram = matrix if symmetric else op.MatMul(transposed(op, matrix), matrix)
        turn = _rotations(op, op.typed(gram, dtypes.DOUBLE, square), pairs, one)
        matrix = op.MatMul(matrix, turn)
        if symmetric:
            matrix = op.MatMul(transposed(op, turn), matrix)
        turned = op.MatMul(turned, turn)
        return [op.typed(matrix, dtypes.DOUBLE, shape), op.typed(turned, dtypes.DOUBLE, square)], []

    total = op.Mul(rounds, op.constant(_SWEEPS, dtypes.INT64))
    matrix, turned = loop(op, total, [a, start], step)
    return matrix, turned


def _columns(op: TorchBuilder, x: Value, places: Value) -> Value:
    rank = op.rank_of(x)
    shape = [*op.shape_of(x)[:-1], op.shape_of(places)[-1]]
    wide = op.Expand(op.unsqueeze(places, [rank - 2]), op.sizes(shape))
    return op.typed(op.GatherElements(x, wide, axis=rank - 1), dtypes.DOUBLE, shape)


def _svd(op: TorchBuilder, a: Value) -> tuple[Value, Value, Value]:
    """U, S and V of a reduced decomposition, in float64."""
    shape = op.shape_of(a)
    height, width = shape[-2:]
    wide = op.typed(op.cast(a, dtypes.DOUBLE), dtypes.DOUBLE, shape)
    flat = dims.known_less(height, width) is True
    if flat:
        wide, width = transposed(op, wide), height
    # where it is not known which is less, columns may be left that have no length
    least, rank = dims.minimum(height, width), len(shape)
    matrix, v = _rotated(op, wide, width, False)
    square = op.reduce("SumSquare", matrix, [rank - 2], False)
    norms = op.typed(op.Sqrt(square), dtypes.DOUBLE, [*shape[:-2], width])
    values, places = op.TopK(norms, op.sizes([least]), axis=rank - 2, _outputs=2)
    op.typed(values, dtypes.DOUBLE, [*shape[:-2], least])
    op.typed(places, dtypes.INT64, [*shape[:-2], least])
    tiny = op.constant(1e-300, dtypes.DOUBLE)
    scale = op.unsqueeze(
        op.typed(op.Max(values, tiny), dtypes.DOUBLE, values.shape or ()), [rank - 2]
    )
    columns = _columns(op, matrix, places)
    u = op.typed(op.Div(columns, scale), dtypes.DOUBLE, op.shape_of(columns))
    v = _columns(op, v, places)
    return (v, values, u) if flat else (u, values, v)


@translation("aten._linalg_svd.default")
def svd(op: TorchBuilder, a: Value, full_matrices: bool = False, compute_uv: bool = True,
        **_: Any) -> Any:  # fmt: skip
    if (nothing := empty(op)) is not None:
        return nothing
    dtype, (height, width) = op.dtype_of(a), op.shape_of(a)[-2:]
    if compute_uv and full_matrices and height != width:
        raise ExportError(
            "a full singular value decomposition of matrices that are not square",
            hint="pass full_matrices=False",
        )
    u, values, v = _svd(op, a)
    if not compute_uv:
        return None, op.cast(values, dtype), None
    return op.cast(u, dtype), op.cast(values, dtype), op.cast(transposed(op, v), dtype)


@translation("aten._linalg_eigh.default")
def eigh(op: TorchBuilder, a: Value, uplo: str = "L", compute_v: bool = True) -> Any:
    if (nothing := empty(op)) is not None:
        return nothing
    dtype = op.dtype_of(a)
    values, vectors = _symmetric(op, a, uplo)
    return op.cast(values, dtype), op.cast(vectors, dtype) if compute_v else None


def _symmetric(op: TorchBuilder, a: Value, uplo: str) -> tuple[Value, Value]:
    """Eigenvalues in order, and eigenvectors, in float64."""
    shape, rank = op.shape_of(a), op.rank_of(a)
    size = shape[-1]
    wide = op.typed(op.cast(a, dtypes.DOUBLE), dtypes.DOUBLE, shape)
    rows, columns = op.unsqueeze(indices(op, size), [1]), indices(op, size)
    kept = op.Less(rows, columns) if uplo == "L" else op.Greater(rows, columns)
    whole = op.typed(op.Where(kept, transposed(op, wide), wide), dtypes.DOUBLE, shape)
    matrix, turned = _rotated(op, whole, size, True)
    one = eye(op, whole, size, size)
    diagonal = op.typed(op.Mul(matrix, one), dtypes.DOUBLE, shape)
    found = op.reduce("Sum", diagonal, [rank - 1], False)
    values, places = op.TopK(found, op.sizes([size]), axis=rank - 2, largest=0, _outputs=2)
    op.typed(places, dtypes.INT64, shape[:-1])
    op.typed(values, dtypes.DOUBLE, shape[:-1])
    return values, _columns(op, turned, places)


def _row_of(op: TorchBuilder, made: Value, like: Value) -> Value:
    shape = op.shape_of(like)
    return op.unsqueeze(op.typed(made, dtypes.DOUBLE, shape), [len(shape) - 1])


@translation("aten.linalg_pinv.atol_rtol_tensor")
def pinv(op: TorchBuilder, a: Value, *, atol: Value | None = None, rtol: Value | None = None,
         hermitian: bool = False) -> Any:  # fmt: skip
    dtype, shape = op.dtype_of(a), op.shape_of(a)
    wide, result = dtypes.DOUBLE, known(op.result_shape)
    height, width = shape[-2:]
    if 0 in shape:
        return transposed(op, a)
    rank = len(shape)
    if hermitian:
        values, v = _symmetric(op, a, "L")
        assert v is not None
        u = op.typed(op.Mul(v, _row_of(op, op.Sign(values), values)), wide, shape)
        values = op.typed(op.Abs(values), wide, values.shape or ())
    else:
        u, values, v = _svd(op, a)
    largest = op.reduce("Max", values, [rank - 2], True)
    limit: Any = op.constant(0, wide)
    if rtol is not None:
        limit = op.Mul(_trailing(op, rtol), largest)
    elif atol is None:
        eps = float(torch.finfo(torch_dtype_of(dtype)).eps)
        longest = op.scalar(dims.maximum(height, width), wide)
        limit = op.Mul(largest, op.Mul(longest, op.constant(eps, wide)))
    if atol is not None:
        limit = op.Max(limit, _trailing(op, atol))
    kept = op.Greater(values, limit)
    safe = op.Where(kept, values, op.constant(1, wide))
    inverse = op.Where(kept, op.Reciprocal(safe), op.constant(0, wide))
    inverse = op.unsqueeze(op.typed(inverse, wide, values.shape or ()), [rank - 2])
    found = op.MatMul(op.Mul(v, inverse), transposed(op, u))
    return op.cast(op.typed(found, wide, result or (*shape[:-2], width, height)), dtype)


def _trailing(op: TorchBuilder, x: Value) -> Value:
    x = op.typed(op.cast(x, dtypes.DOUBLE), dtypes.DOUBLE, op.shape_of(x))
    return op.unsqueeze(x, [op.rank_of(x)])
