"""How to call each operator: `draw` picks one, and inputs and attributes that are likely to fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from tests.generated.maker import Known, Maker, Refused, allows

from sardonyx import dtypes
from sardonyx.dtypes import BOOL, DType

Strategy = Callable[[Maker, str], object]
TABLE: dict[str, Strategy] = {}
_F = TypeVar("_F", bound=Strategy)

UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Cos Cosh Erf Exp Floor HardSwish "
    "Identity IsNaN Log Mish Neg Not Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Tan Tanh Shape Size NonZero"
)
BINARY = (
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Mul "
    "Or Pow PRelu Sub Xor Add Sub Mul Div"
)
INTEGERS = tuple(d for d in dtypes.ALL if d.is_integer and d.bits >= 8)
FLOATS = (dtypes.FLOAT, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.DOUBLE)
CAST = (*INTEGERS, *FLOATS, BOOL)


def strategy(names: str) -> Callable[[_F], _F]:
    def register(function: _F) -> _F:
        for name in names.split():
            TABLE[name] = function
        return function

    return register


OFTEN = {"Add": 4, "Mul": 4, "Transpose": 4, "MatMul": 4, "If": 3, "Loop": 3, "Scan": 3}


@cache
def weighted() -> list[str]:
    """Names of operators, some of them more than once."""
    return [name for name in TABLE for _ in range(OFTEN.get(name, 1))]


def draw(m: Maker) -> None:
    """Add one operator to what `m` has. Raises `Refused` where the draw does not fit."""
    if not m.extreme and m.chance(0.1):
        motif(m)
        return
    name = m.pick(weighted())
    TABLE[name](m, name)


def first(m: Maker, name: str, rank: int = 0, most: int = 6) -> Known:
    """A value that the operator takes as its first input."""
    return m.of(lambda v: allows(name, m.opset, 0, v.dtype) and rank <= v.rank <= most)


def floating(m: Maker, name: str, rank: int = 0, most: int = 6) -> Known:
    x = first(m, name, rank, most)
    if not x.dtype.is_floating:
        raise Refused
    return x


def size(value: Known, axis: int) -> int:
    """The size of an axis that is the same in all runs."""
    sizes = set(value.dim(axis))
    if len(sizes) > 1:
        raise Refused
    return sizes.pop()


@strategy(UNARY)
def unary(m: Maker, name: str) -> object:
    return m.call(name, first(m, name))


@strategy(BINARY)
def binary(m: Maker, name: str) -> object:
    x = first(m, name)
    y = x if m.chance(0.05) else m.like(x)
    if name in {"Pow"} and m.chance(0.6):
        y = m.constant(np.array(m.pick([2, 3, 0.5, -1, 1, 0, 4, 2.5]), x.dtype.numpy))
    pair = (y, x) if name not in {"PRelu", "Pow"} and m.chance(0.3) else (x, y)
    return m.call(name, *pair)


@strategy("Max Min Sum Mean")
def variadic(m: Maker, name: str) -> object:
    x = first(m, name)
    return m.call(name, x, *(m.like(x) for _ in range(m.integer(0, 3))))


@strategy("Mod")
def modulo(m: Maker, name: str) -> object:
    x = first(m, name)
    return m.call(name, x, m.like(x), fmod=int(x.dtype.is_floating or m.chance(0.5)))


@strategy("BitShift")
def shift(m: Maker, name: str) -> object:
    x = first(m, name)
    return m.call(name, x, m.like(x), direction=m.pick(["LEFT", "RIGHT"]))


@strategy("Where")
def where(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.dtype is not BOOL)
    tests = [v for v in m.known if v.dtype is BOOL]
    condition = m.pick(tests) if tests and m.chance(0.6) else None
    if condition is None:
        condition = m.call("Less" if x.dtype.is_floating else "Greater", x, m.like(x))[0]
    return m.call(name, condition, x, m.like(x))


@strategy("Clip")
def clip(m: Maker, name: str) -> object:
    x = first(m, name)
    bounds = [m.like(x, ()) if m.chance(0.7) else None for _ in range(2)]
    return m.call(name, x, *bounds)


@strategy("Cast")
def cast(m: Maker, name: str) -> object:
    return m.call(name, m.of(lambda v: True), to=m.pick(CAST).code)


@strategy("CastLike")
def cast_like(m: Maker, name: str) -> object:
    return m.call(name, m.of(lambda v: True), m.of(lambda v: True))


@strategy("BitCast")
def bit_cast(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.dtype is not BOOL)
    fitting = [d for d in (*INTEGERS, *FLOATS) if d.bits == x.dtype.bits]
    return m.call(name, x, to=m.pick(fitting).code)


@strategy("LeakyRelu ThresholdedRelu Elu Selu Celu HardSigmoid Shrink Swish Gelu IsInf")
def parametric(m: Maker, name: str) -> object:
    values = {
        "alpha": m.pick([0.01, 0.5, 1.0, 2.0]), "beta": 0.3, "gamma": 1.5, "bias": 0.25,
        "lambd": 0.75, "approximate": m.pick(["none", "tanh"]), "detect_negative": m.integer(0, 1),
    }  # fmt: skip
    return m.call(name, first(m, name), **(values if m.chance(0.7) else {}))


@strategy("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
          "ReduceProd ReduceSum ReduceSumSquare")  # fmt: skip
def reduce(m: Maker, name: str) -> object:
    x = first(m, name)
    count = m.integer(0, x.rank)
    axes = [m.sign(int(a), x.rank) for a in m.rng.choice(x.rank, count, replace=False)]
    given = m.ints(*axes) if m.chance(0.9) else None
    noop = int(m.chance(0.2))
    return m.call(name, x, given, keepdims=m.integer(0, 1), noop_with_empty_axes=noop)


@strategy("ArgMax ArgMin")
def arg(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    axis = m.sign(m.axis(x), x.rank)
    last = m.integer(0, 1)
    return m.call(name, x, axis=axis, keepdims=m.integer(0, 1), select_last_index=last)


@strategy("CumSum CumProd")
def cumulative(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    axis = m.constant(np.int64(m.sign(m.axis(x), x.rank)))
    return m.call(name, x, axis, exclusive=m.integer(0, 1), reverse=m.integer(0, 1))


@strategy("Softmax LogSoftmax Hardmax LpNormalization")
def row(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    return m.call(name, x, axis=m.sign(m.axis(x), x.rank), p=m.integer(1, 2))


@strategy("TopK")
def top(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    axis = m.axis(x)
    options = {"largest": m.integer(0, 1), "axis": m.sign(axis, x.rank)}
    k = m.ints(m.integer(0, min(x.dim(axis)) + m.integer(0, 1)))
    return m.call(name, x, k, n_outputs=2, **options)


@strategy("Transpose")
def transpose(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    perm = [int(a) for a in m.rng.permutation(x.rank)]
    return m.call(name, x, **({"perm": perm} if m.chance(0.85) else {}))


@strategy("Squeeze")
def squeeze(m: Maker, name: str) -> object:
    x = m.of(lambda v: any(set(d) == {1} for d in v.dims))
    ones = [axis for axis, sizes in enumerate(x.dims) if set(sizes) == {1}]
    return m.call(name, x, m.ints(m.sign(m.pick(ones), x.rank)))


@strategy("Unsqueeze")
def unsqueeze(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank < 5)
    count = m.integer(1, 2)
    rank = x.rank + count
    axes = [m.sign(int(a), rank) for a in m.rng.choice(rank, count, replace=False)]
    return m.call(name, x, m.ints(*axes))


@strategy("Flatten")
def flatten(m: Maker, name: str) -> object:
    x = m.of(lambda v: True)
    return m.call(name, x, axis=m.integer(-x.rank, x.rank))


@strategy("Reshape")
def reshape(m: Maker, name: str) -> object:
    x = m.of(lambda v: True)
    kind = m.integer(0, 4)
    if kind == 0:
        target: list[int] = [-1]
    elif kind == 1 and x.rank:
        axis = m.axis(x)
        target = [*([0] * axis), -1, *([1] * m.integer(0, 2))]
    elif kind == 2 and x.rank:
        axis = m.axis(x)
        whole = size(x, axis)
        part = m.pick([n for n in range(1, whole + 1) if whole % n == 0])
        rest = [sizes[0] if len(set(sizes)) == 1 else 0 for sizes in x.dims[axis + 1 :]]
        if 0 in rest:
            rest = [-1] if len(rest) == 1 else [-1, *rest[1:]]
        target = [*([0] * axis), whole // part, part, *rest]
    elif kind == 3:
        target = [m.pick([1, 2, 3]), -1]
    else:
        other = m.of(lambda v: v.rank > 0)
        (shape,) = m.call("Shape", other)
        return m.call(name, x, shape)
    return m.call(name, x, m.ints(*target))


@strategy("Expand")
def expand(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank < 5)
    if m.chance(0.4):
        (shape,) = m.call("Shape", m.of(lambda v: v.rank > 0))
        return m.call(name, x, shape)
    target = [d[0] if len(set(d)) == 1 and d[0] != 1 else m.pick([1, 1, 3]) for d in x.dims]
    if m.chance(0.3):
        target = [m.pick([1, 2]), *target]
    return m.call(name, x, m.ints(*target))


@strategy("Concat")
def concat(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    axis = m.axis(x)

    def joins(v: Known) -> bool:
        others = [a for a in range(x.rank) if a != axis]
        alike = v.dtype is x.dtype and v.rank == x.rank
        return alike and all(v.dim(a) == x.dim(a) for a in others)

    parts = [m.of(joins) for _ in range(m.integer(0, 3))]
    return m.call(name, x, *parts, axis=m.sign(axis, x.rank))


@strategy("Split")
def split(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    axis = m.axis(x)
    count = m.integer(1, 3)
    if m.chance(0.5):
        return m.call(name, x, n_outputs=count, axis=axis, num_outputs=count)
    whole = size(x, axis)
    cuts = sorted(m.integer(0, whole) for _ in range(count - 1))
    parts = np.diff([0, *cuts, whole])
    return m.call(name, x, m.ints(*parts), n_outputs=count, axis=axis - x.rank)


@strategy("Slice")
def slice_(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    count = m.integer(1, min(2, x.rank))
    axes = [int(a) for a in m.rng.choice(x.rank, count, replace=False)]
    ends = [0, 1, 2, -1, -2, 3, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 5]
    starts, stops = ([m.pick(ends) for _ in axes] for _ in range(2))
    steps = [m.pick([1, 1, 1, 2, 3, -1, -1, -2]) for _ in axes]
    inputs = [m.ints(*starts), m.ints(*stops), m.ints(*(m.sign(a, x.rank) for a in axes))]
    return m.call(name, x, *inputs, *([m.ints(*steps)] if m.chance(0.7) else []))


@strategy("Pad")
def pad(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    low = -1 if m.chance(0.2) else 0
    pads = [m.integer(low, 2) if m.chance(0.5) else 0 for _ in range(2 * x.rank)]
    modes = ["constant", "constant", "reflect", "edge", *(["wrap"] if m.opset >= 19 else [])]
    value = m.like(x, ()) if m.chance(0.5) else None
    return m.call(name, x, m.ints(*pads), value, mode=m.pick(modes))


@strategy("Tile")
def tile(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    return m.call(name, x, m.ints(*(m.pick([1, 1, 2, 3, 0]) for _ in range(x.rank))))


@strategy("Trilu")
def trilu(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 1)
    k = m.constant(np.int64(m.integer(-2, 2))) if m.chance(0.7) else None
    return m.call(name, x, k, upper=m.integer(0, 1))


@strategy("DepthToSpace SpaceToDepth")
def blocks(m: Maker, name: str) -> object:
    x = first(m, name, 4, 4)
    mode = {"mode": m.pick(["DCR", "CRD"])} if name == "DepthToSpace" else {}
    return m.call(name, x, blocksize=m.pick([1, 2, 2]), **mode)


@strategy("Gather GatherElements GatherND")
def gather(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    axis = m.axis(x)
    found = [v for v in m.known if v.dtype in (dtypes.INT64, dtypes.INT32)]
    if name != "GatherND" and found and m.chance(0.3):
        indices = m.pick(found)
        if name == "GatherElements" and indices.rank != x.rank:
            raise Refused
        return m.call(name, x, indices, axis=axis)
    if name == "GatherND":
        depth = m.integer(1, x.rank)
        most = [min(x.dim(a)) - 1 for a in range(depth)]
        rows = [[m.integer(-max(n, 0), max(n, 0)) for n in most] for _ in range(m.integer(1, 3))]
        return m.call(name, x, m.constant(np.array(rows, np.int64)))
    most_index = max(min(x.dim(axis)) - 1, 0)
    shape = tuple(m.integer(0, 3) for _ in range(m.integer(0, 2)))
    if name == "GatherElements":
        fixed = [d[0] if len(set(d)) == 1 else 1 for d in x.dims]
        shape = tuple(2 if a == axis else fixed[a] for a in range(x.rank))
    kind = m.pick([np.int64, np.int32])
    indices_array = m.rng.integers(-most_index, most_index + 1, shape).astype(kind)
    return m.call(name, x, m.constant(indices_array), axis=m.sign(axis, x.rank))


@strategy("ScatterElements ScatterND")
def scatter(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    axis = m.axis(x)
    fixed = [d[0] if len(set(d)) == 1 else 1 for d in x.dims]
    most = [max(min(d) - 1, 0) for d in x.dims]
    reductions = ["none", "none", "add", "mul", "max", "min"]
    reduction = m.pick(reductions if x.dtype is not BOOL else ["none"])
    if name == "ScatterElements":
        shape = tuple(2 if a == axis else fixed[a] for a in range(x.rank))
        indices = m.rng.integers(-most[axis], most[axis] + 1, shape)
        if reduction == "none":
            indices = np.broadcast_to(
                np.arange(2).reshape([2 if a == axis else 1 for a in range(x.rank)]), shape
            )
        updates = m.constant(m.numbers(x.dtype, shape))
        options = {"axis": m.sign(axis, x.rank), "reduction": reduction}
        return m.call(name, x, m.constant(indices.astype(np.int64)), updates, **options)
    depth = m.integer(1, x.rank)
    if any(len(set(d)) > 1 for d in x.dims[depth:]):
        raise Refused
    count = 1 if reduction == "none" else m.integer(1, 3)
    rows = [[m.integer(-n, n) for n in most[:depth]] for _ in range(count)]
    updates = m.constant(m.numbers(x.dtype, (count, *fixed[depth:])))
    return m.call(name, x, m.constant(np.array(rows, np.int64)), updates, reduction=reduction)


@strategy("OneHot")
def one_hot(m: Maker, name: str) -> object:
    x = first(m, name, 0, 4)
    values = m.constant(m.numbers(m.pick(FLOATS + INTEGERS), (2,)))
    return m.call(name, x, m.constant(np.int64(m.integer(1, 6))), values, axis=m.pick([-1, 0]))


@strategy("Compress")
def compress(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    return m.call(name, x, m.constant(m.rng.random(m.integer(0, 3)) < 0.5), axis=m.axis(x))


@strategy("Unique")
def unique(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.dtype in (*INTEGERS, dtypes.FLOAT, dtypes.DOUBLE))
    return m.call(name, x, n_outputs=m.integer(1, 4))


@strategy("ReverseSequence")
def reverse(m: Maker, name: str) -> object:
    x = first(m, name, 2)
    batch = size(x, 1)
    lengths = m.rng.integers(0, max(min(x.dim(0)), 1) + 1, batch)
    return m.call(name, x, m.constant(lengths), batch_axis=1, time_axis=0)


@strategy("ConstantOfShape")
def constant_of_shape(m: Maker, name: str) -> object:
    (shape,) = m.call("Shape", m.of(lambda v: True))
    return m.call(name, shape, value=m.numbers(m.pick(CAST), (1,)))


@strategy("EyeLike")
def eye(m: Maker, name: str) -> object:
    x = first(m, name, 2, 2)
    return m.call(name, x, k=m.integer(-2, 2), dtype=m.pick((*FLOATS[:2], dtypes.INT64)).code)


@strategy("Range")
def range_(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    (shape,) = m.call("Shape", x)
    (count,) = m.call("Gather", shape, m.constant(np.int64(m.axis(x))))
    zero, one = m.constant(np.int64(m.pick([0, -1]))), m.constant(np.int64(m.pick([1, 2])))
    (numbers,) = m.call(name, zero, count, one)
    return m.call("Cast", numbers, to=m.pick(CAST).code)


@strategy("MatMul")
def matmul(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    fitting = [
        v for v in m.known
        if v.dtype is x.dtype and v.rank and v.dim(max(v.rank - 2, 0)) == x.dim(x.rank - 1)
    ]  # fmt: skip
    if fitting and m.chance(0.5):
        return m.call(name, x, m.pick(fitting))
    if m.chance(0.3) and x.rank > 1:
        perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        return m.call(name, x, m.call("Transpose", x, perm=perm)[0])
    shape = (size(x, x.rank - 1), m.pick([1, 3, 8, 17]))
    return m.call(name, x, m.constant(m.numbers(x.dtype, shape)))


@strategy("Gemm")
def gemm(m: Maker, name: str) -> object:
    x = first(m, name, 2, 2)
    turn, other = m.integer(0, 1), m.integer(0, 1)
    inner, wide = size(x, 0 if turn else 1), m.pick([1, 3, 8, 17])
    w = m.constant(m.numbers(x.dtype, (wide, inner) if other else (inner, wide)))
    c = m.constant(m.numbers(x.dtype, m.pick([(wide,), (1, wide), (), (1,)])))
    options = {
        "transA": turn,
        "transB": other,
        "alpha": m.pick([1.0, 0.5]),
        "beta": m.pick([1.0, 2.0]),
    }
    return m.call(name, x, w, c if m.chance(0.7) else None, **options)


@strategy("Einsum")
def einsum(m: Maker, name: str) -> object:
    x = first(m, name, 2, 3)
    letters = "abc"[: x.rank]
    y = m.of(lambda v: v.dtype is x.dtype and v.rank == 2 and v.dim(0) == x.dim(x.rank - 1))
    out = "".join(str(c) for c in m.rng.permutation(list(letters[:-1] + "z")))
    return m.call(name, x, y, equation=f"{letters},{letters[-1]}z->{out}")


@strategy("MatMulInteger")
def matmul_integer(m: Maker, name: str) -> object:
    x = first(m, name, 2)
    w = m.constant(
        m.numbers(m.pick([dtypes.INT8, dtypes.UINT8]), (size(x, x.rank - 1), m.pick([3, 8])))
    )
    zeros = [m.like(x, ()), m.constant(w.arrays[0].dtype.type(2))] if m.chance(0.5) else []
    return m.call(name, x, w, *zeros)


@strategy("Conv ConvTranspose ConvInteger")
def conv(m: Maker, name: str) -> object:
    x = first(m, name, 3, 4)
    channels, n = size(x, 1), x.rank - 2
    group = m.pick([g for g in (1, 1, 2, channels) if g and channels % g == 0])
    wide = m.pick([1, 2, 3]) * group
    kernel = [m.integer(1, 3) for _ in range(n)]
    dtype = m.pick([dtypes.INT8, dtypes.UINT8]) if name == "ConvInteger" else x.dtype
    shape = (wide, channels // group, *kernel)
    if name == "ConvTranspose":
        shape = (channels, wide // group, *kernel)
    w = m.constant(m.numbers(dtype, shape))
    options: dict[str, Any] = {"group": group, "strides": [m.pick([1, 1, 2]) for _ in range(n)]}
    options["dilations"] = [m.pick([1, 1, 2]) for _ in range(n)]
    if m.chance(0.7):
        options["pads"] = [m.integer(0, 2) for _ in range(2 * n)]
    elif name == "Conv":
        options["auto_pad"] = m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    bias = (
        m.constant(m.numbers(x.dtype, (wide,))) if name != "ConvInteger" and m.chance(0.5) else None
    )
    return m.call(name, x, w, bias, **options)


@strategy("AveragePool MaxPool LpPool")
def pool(m: Maker, name: str) -> object:
    x = first(m, name, 3, 4)
    n = x.rank - 2
    options: dict[str, Any] = {"kernel_shape": [m.integer(1, 3) for _ in range(n)]}
    options["strides"] = [m.pick([1, 2, 3]) for _ in range(n)]
    if m.chance(0.6):
        # a window that lies in the padding alone has no greatest element
        most = [min(1, k - 1) for k in options["kernel_shape"]]
        options["pads"] = [m.integer(0, k) for k in (*most, *most)]
        options["ceil_mode"] = m.integer(0, 1)
    elif m.chance(0.5):
        options["auto_pad"] = m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if name == "MaxPool" or m.opset >= 19:
        options["dilations"] = [m.pick([1, 1, 2]) for _ in range(n)]
    options["count_include_pad"] = m.integer(0, 1)
    count = m.integer(1, 2) if name == "MaxPool" else 1
    return m.call(name, x, n_outputs=count, **options)


@strategy("GlobalAveragePool GlobalMaxPool GlobalLpPool LRN")
def whole(m: Maker, name: str) -> object:
    return m.call(name, first(m, name, 3, 5), **({"size": 3} if name == "LRN" else {}))


@strategy("BatchNormalization InstanceNormalization")
def channels(m: Maker, name: str) -> object:
    x = floating(m, name, 2)
    count = size(x, 1)
    pieces = [m.constant(m.numbers(x.dtype, (count,))) for _ in range(2)]
    if name == "BatchNormalization":
        pieces.append(m.constant(m.numbers(x.dtype, (count,))))
        pieces.append(m.constant(np.abs(m.numbers(x.dtype, (count,))) + x.dtype.numpy.type(0.5)))
    return m.call(name, x, *pieces)


@strategy("GroupNormalization")
def groups(m: Maker, name: str) -> object:
    x = floating(m, name, 3)
    count = size(x, 1)
    parts = m.pick([n for n in range(1, count + 1) if count % n == 0])
    length = count if m.opset >= 21 else parts
    pieces = [m.constant(m.numbers(x.dtype, (length,))) for _ in range(2)]
    return m.call(name, x, *pieces, num_groups=parts)


@strategy("LayerNormalization RMSNormalization")
def layer(m: Maker, name: str) -> object:
    x = floating(m, name, 1)
    axis = m.axis(x)
    shape = tuple(size(x, a) for a in range(axis, x.rank))
    scale = m.constant(m.numbers(x.dtype, shape))
    bias = m.constant(m.numbers(x.dtype, shape)) if name[0] == "L" and m.chance(0.6) else None
    return m.call(name, x, scale, bias, axis=axis - x.rank, epsilon=m.pick([1e-5, 1e-2]))


@strategy("MeanVarianceNormalization")
def mean_variance(m: Maker, name: str) -> object:
    x = first(m, name, 1)
    return m.call(name, x, axes=sorted({m.axis(x), m.axis(x)}))


@strategy("QuantizeLinear DequantizeLinear")
def quantize(m: Maker, name: str) -> object:
    x = first(m, name)
    per_axis = x.rank > 0 and m.chance(0.5)
    axis = m.axis(x) if per_axis else 1
    shape = (size(x, axis),) if per_axis else ()
    scale_type = x.dtype if name == "QuantizeLinear" else m.pick(FLOATS[:2])
    scale = np.abs(m.rng.standard_normal(shape)) + 0.1
    target = m.pick([dtypes.INT8, dtypes.UINT8]) if name == "QuantizeLinear" else x.dtype
    zero = m.constant(m.rng.integers(0, 4, shape).astype(target.numpy)) if m.chance(0.6) else None
    options = {"axis": axis} if per_axis else {}
    return m.call(name, x, m.constant(scale.astype(scale_type.numpy)), zero, **options)


@strategy("DynamicQuantizeLinear")
def dynamic_quantize(m: Maker, name: str) -> object:
    return m.call(name, first(m, name), n_outputs=3)


@strategy("Resize")
def resize(m: Maker, name: str) -> object:
    x = first(m, name, 1, 4)
    modes = ["nearest", "linear", "cubic"]
    options: dict[str, Any] = {"mode": m.pick(modes), "antialias": int(m.chance(0.15))}
    options["coordinate_transformation_mode"] = m.pick(
        ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    )
    options["nearest_mode"] = m.pick(["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"])
    which = [int(a >= x.rank - 2) for a in range(x.rank)]
    if m.chance(0.5):
        scales = [m.pick([0.5, 2.0, 1.5, 1.0]) if w else 1.0 for w in which]
        return m.call(name, x, None, m.constant(np.array(scales, np.float32)), **options)
    sizes = [m.integer(1, 7) if w else size(x, a) for a, w in enumerate(which)]
    return m.call(name, x, None, None, m.ints(*sizes), **options)


@strategy("LSTM GRU RNN")
def recurrent(m: Maker, name: str) -> object:
    x = floating(m, name, 3, 3)
    width, hidden = size(x, 2), m.pick([1, 3, 8])
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[name]
    direction = m.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    w = m.constant(m.numbers(x.dtype, (ways, gates * hidden, width)))
    r = m.constant(m.numbers(x.dtype, (ways, gates * hidden, hidden)))
    b = m.constant(m.numbers(x.dtype, (ways, 2 * gates * hidden))) if m.chance(0.6) else None
    options: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if name == "GRU":
        options["linear_before_reset"] = m.integer(0, 1)
    return m.call(name, x, w, r, b, n_outputs=2 + (name == "LSTM"), **options)


@strategy("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss")
def loss(m: Maker, name: str) -> object:
    x = floating(m, name, 2, 2)
    labels = m.of(lambda v: v.dtype in (dtypes.INT64, dtypes.INT32) and v.dims == x.dims[:1])
    return m.call(name, x, labels, reduction=m.pick(["none", "sum", "mean"]))


@strategy("Attention")
def attention(m: Maker, name: str) -> object:
    x = floating(m, name, 4, 4)
    return m.call(name, x, x, m.like(x) if m.chance(0.2) else x, is_causal=m.integer(0, 1))


@strategy("GridSample")
def grid_sample(m: Maker, name: str) -> object:
    x = floating(m, name, 4, 4)
    if 0 in (*x.dim(2), *x.dim(3)):
        raise Refused
    grid = m.constant(m.numbers(x.dtype, (size(x, 0), 2, 3, 2)))
    return m.call(name, x, grid, padding_mode=m.pick(["zeros", "border", "reflection"]))


@strategy("Dropout")
def dropout(m: Maker, name: str) -> object:
    return m.call(name, first(m, name), n_outputs=m.integer(1, 2))


@strategy("CenterCropPad")
def center(m: Maker, name: str) -> object:
    x = m.of(lambda v: v.rank > 0)
    return m.call(name, x, m.ints(m.integer(0, 6)), axes=[m.axis(x)])


@strategy("SwiGLU")
def swiglu(m: Maker, name: str) -> object:
    x = first(m, name)
    return m.call(name, x, m.of(lambda v: v.dtype is x.dtype and v.dims == x.dims))


@strategy("If")
def if_(m: Maker, name: str) -> object:
    tests = [v for v in m.known if v.dtype is BOOL and all(a.size == 1 for a in v.arrays)]
    if not tests:
        x = m.of(lambda v: v.dtype is not BOOL and v.rank > 0)
        (shape,) = m.call("Shape", x)
        (count,) = m.call("Gather", shape, m.constant(np.int64(0)))
        tests = m.call("Less", count, m.constant(np.int64(2)))
    dtype = m.of(lambda v: v.dtype is not BOOL).dtype

    def write(inner: Maker, _: list[Known]) -> list[Known]:
        return [chain(inner, dtype)]

    then, other = m.body([], write), m.body([], write)
    return m.call(name, m.pick(tests), then_branch=then, else_branch=other)


@strategy("Loop")
def loop(m: Maker, name: str) -> object:
    state = m.of(lambda v: v.dtype is not BOOL)
    number = Known("", (np.int64(0).reshape(()),) * len(m.sizes))
    going = Known("", (np.bool_(True).reshape(()),) * len(m.sizes))

    def write(inner: Maker, own: list[Known]) -> list[Known]:
        (keep,) = inner.call("Identity", own[1])
        new = same_shape(inner, own[2])
        return [keep, new, *([chain(inner, None)] if m.chance(0.5) else [])]

    body = m.body([number, going, state], write)
    trips = m.constant(np.int64(m.integer(0, 4)))
    return m.call(name, trips, None, state, n_outputs=len(body.outputs) - 1, body=body)


@strategy("Scan")
def scan(m: Maker, name: str) -> object:
    xs = m.of(lambda v: v.rank > 0)
    if min(xs.dim(0)) == 0:
        raise Refused
    row = Known("", tuple(array[0] for array in xs.arrays))
    state = m.like(row, tuple(size(row, a) for a in range(row.rank)))

    def write(inner: Maker, own: list[Known]) -> list[Known]:
        new = same_shape(inner, own[0], own[1])
        (out,) = inner.call("Identity", new)
        return [new, out]

    body = m.body([state, row], write)
    return m.call(name, state, xs, n_outputs=2, body=body, num_scan_inputs=1)


def same_shape(m: Maker, x: Known, other: Known | None = None) -> Known:
    """A value of the type and shape of `x`, by a few calls."""
    for _ in range(m.integer(1, 3)):
        if other is not None and m.chance(0.6):
            (x,) = m.call(m.pick(["Add", "Sub", "Mul"]), x, other)
        elif x.dtype.is_floating:
            (x,) = m.call(m.pick(["Tanh", "Neg", "Abs", "Sigmoid", "Sin"]), x)
        else:
            (x,) = m.call(m.pick(["Add", "Mul"]), x, m.like(x, ()))
    return x


def chain(m: Maker, dtype: DType | None) -> Known:
    """A value of type `dtype`, by a few random calls."""
    made: list[Known] = []
    for _ in range(8):
        if len(made) >= 3:
            break
        mark = len(m.calls), len(m.known)
        try:
            name = m.pick(weighted())
            if name in {"If", "Loop", "Scan"}:
                continue
            TABLE[name](m, name)
        except Refused:
            del m.calls[mark[0] :], m.known[mark[1] :]
            continue
        made += m.known[mark[1] :]
    found = m.pick(made)
    if dtype is not None and found.dtype is not dtype:
        (found,) = m.call("Cast", found, to=dtype.code)
    return found


# -- what rewriting and fusing look for ------------------------------------------------------------


def motif(m: Maker) -> None:
    """A few calls that the optimizer knows as one operator."""
    x = m.of(lambda v: v.dtype in FLOATS and v.rank > 0)
    m.pick(MOTIFS)(m, x)


def number(m: Maker, x: Known, value: float) -> Known:
    return m.constant(np.array(value, x.dtype.numpy))


def spelled_gelu(m: Maker, x: Known) -> None:
    (a,) = m.call("Div", x, number(m, x, 2**0.5))
    (b,) = m.call("Add", m.call("Erf", a)[0], number(m, x, 1))
    m.call("Mul", m.call("Mul", x, b)[0], number(m, x, 0.5))


def spelled_softmax(m: Maker, x: Known) -> None:
    last = m.ints(-1)
    (d,) = m.call("Sub", x, m.call("ReduceMax", x, last)[0])
    (e,) = m.call("Exp", d)
    m.call("Div", e, m.call("ReduceSum", e, last)[0])


def spelled_norm(m: Maker, x: Known) -> None:
    last = m.ints(-1)
    (d,) = m.call("Sub", x, m.call("ReduceMean", x, last)[0])
    (v,) = m.call("ReduceMean", m.call("Mul", d, d)[0], last)
    (s,) = m.call("Sqrt", m.call("Add", v, number(m, x, 1e-3))[0])
    (n,) = m.call("Div", d, s)
    w = m.constant(m.numbers(x.dtype, (size(x, x.rank - 1),)))
    m.call("Add", m.call("Mul", n, w)[0], w)


def spelled_swish(m: Maker, x: Known) -> None:
    m.call("Mul", x, m.call("Sigmoid", x)[0])


def spelled_attention(m: Maker, x: Known) -> None:
    if x.rank < 3:
        raise Refused
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    (scores,) = m.call("MatMul", x, m.call("Transpose", x, perm=perm)[0])
    (scaled,) = m.call("Mul", scores, number(m, x, 0.5))
    m.call("MatMul", m.call("Softmax", scaled, axis=-1)[0], x)


def neutral(m: Maker, x: Known) -> None:
    (a,) = m.call("Mul", x, number(m, x, 1))
    (b,) = m.call("Add", a, number(m, x, 0))
    m.call("Cast", m.call("Identity", b)[0], to=x.dtype.code)


def twice_moved(m: Maker, x: Known) -> None:
    for _ in range(3):
        perm = [int(a) for a in m.rng.permutation(x.rank)]
        (x,) = m.call("Transpose", x, perm=perm)
        if m.chance(0.5):
            (x,) = m.call(m.pick(["Relu", "Tanh"]), x)


def conv_and_norm(m: Maker, x: Known) -> None:
    conv(m, "Conv")
    y = m.known[-1]
    count = size(y, 1)
    shape = (count, *(1,) * (y.rank - 2))
    for op_type in ("Mul", "Add"):
        (y,) = m.call(op_type, y, m.constant(m.numbers(y.dtype, shape)))


MOTIFS = (
    spelled_gelu, spelled_softmax, spelled_norm, spelled_swish, spelled_attention, neutral,
    twice_moved, conv_and_norm,
)  # fmt: skip
