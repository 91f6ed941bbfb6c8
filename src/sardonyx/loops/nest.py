"""What a lowered operator is: a definition of its output, as data.

`Nest` says how each element of a value comes about. Without reductions it is a pure elementwise
definition, and any reader may take its expression in place of the value: that is fusion. With
reductions it is a row operation: for each point of `axes`, the variables are filled one after
the other by loops over `inner`, and then the result is stored, for each point of `axes` alone or
with `inner`.

`Contraction` is a matrix product, `Convolution` sums over windows, `View` has the same elements
under another shape. `Steps` is what no expression for each element says: scans, selections,
scattering.

`Lowering` is the `k` that operators' `lower` methods write with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sardonyx.dims import Dim, known_equal
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, from_numpy
from sardonyx.loops.expr import Axis, Const, Expr, Load, Ref, index, loads
from sardonyx.loops.kernel import expressions, mapped, statements
from sardonyx.loops.scalars import cast, const

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Index, Linear
    from sardonyx.loops.kernel import Block

__all__ = [
    "Chain",
    "Contraction",
    "Convolution",
    "Definition",
    "Lowering",
    "Nest",
    "NotLowered",
    "Pieces",
    "Reduction",
    "Source",
    "Steps",
    "Temporary",
    "View",
    "Window",
]

Shape: TypeAlias = "tuple[DimLike, ...]"


class NotLowered(Exception):  # noqa: N818 - it steers, it is no failure
    """Raised by a `lower` method that does not compile this case; the text says why."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """A variable filled by ``name = op(name, value)`` over the inner axes, from `start` on."""

    name: str
    op: str
    start: Const
    value: Expr


@dataclass(frozen=True, slots=True)
class Nest:
    """Elements ``out[target] = value`` for each point of `axes`, and of `inner` if `spread`."""

    shape: Shape
    dtype: DType
    axes: tuple[Axis, ...]
    extents: Shape
    value: Expr
    target: tuple[Linear, ...]
    inner: tuple[Axis, ...] = ()
    inner_extents: Shape = ()
    reductions: tuple[Reduction, ...] = ()
    spread: bool = False

    @property
    def is_pure(self) -> bool:
        """Whether every element stands for itself, so that a reader may compute it in place."""
        return not self.reductions

    def exprs(self) -> tuple[Expr, ...]:
        """All expressions that read."""
        return (*(reduction.value for reduction in self.reductions), self.value)

    def map(self, change: Callable[[Expr], Expr]) -> Nest:
        """The nest with each expression changed."""
        reductions = tuple(replace(r, value=change(r.value)) for r in self.reductions)
        return replace(self, reductions=reductions, value=change(self.value))


@dataclass(frozen=True, slots=True)
class View:
    """The elements of `source` in their order, under another `shape`."""

    shape: Shape
    dtype: DType
    source: Hashable


@dataclass(frozen=True, slots=True)
class Contraction:
    """``out[target] = value``, with ``Ref("sum")`` in it the sum over `k` of `a` * `b`.

    The axes are `batch`, `m` and `n`; `a` does not vary along `n` nor `b` along `m`. Both are
    expressions in the type that is summed in. Where `grow` is ``dot2`` each is a pair of 16-bit
    integers, and a step along `k` sums two products.
    """

    shape: Shape
    dtype: DType
    batch: tuple[Axis, ...]
    batch_extents: Shape
    m: Axis
    n: Axis
    k: Axis
    sizes: tuple[DimLike, DimLike, DimLike]
    a: Expr
    b: Expr
    value: Expr
    target: tuple[Linear, ...]
    grow: str = "fma"

    @property
    def sum_dtype(self) -> DType:
        """The type of the sums."""
        return self.a.dtype

    @property
    def products(self) -> int:
        """How many products a step along `k` adds to the sum."""
        return 2 if self.grow == "dot2" else 1

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the result."""
        return (*self.batch, self.m, self.n)

    @property
    def extents(self) -> Shape:
        """How many steps each of `axes` has."""
        return (*self.batch_extents, self.sizes[0], self.sizes[1])

    def exprs(self) -> tuple[Expr, ...]:
        """All expressions that read."""
        return (self.a, self.b, self.value)

    def map(self, change: Callable[[Expr], Expr]) -> Contraction:
        """The contraction with each expression changed."""
        return replace(self, a=change(self.a), b=change(self.b), value=change(self.value))


@dataclass(frozen=True, slots=True)
class Chain:
    """A product, a row operation on it, and a product with its rows: attention.

    All have the batch axes and the rows of `second`; the columns of `first`, the inner axis of
    `rows` and what `second` sums over are one axis. In `rows` stands ``Ref("score")`` for the
    element of `first` at the point, in `second` ``Ref("weight")`` for that of `rows`.
    """

    first: Contraction
    rows: Nest
    second: Contraction

    @property
    def shape(self) -> Shape:
        """The shape of the result."""
        return self.second.shape

    @property
    def dtype(self) -> DType:
        """The element type of the result."""
        return self.second.dtype

    def exprs(self) -> tuple[Expr, ...]:
        """All expressions that read."""
        return (*self.first.exprs(), *self.rows.exprs(), *self.second.exprs())

    def map(self, change: Callable[[Expr], Expr]) -> Chain:
        """The chain with each expression changed."""
        return Chain(self.first.map(change), self.rows.map(change), self.second.map(change))


@dataclass(frozen=True, slots=True)
class Window:
    """The windows along a spatial axis of `size` elements between `begin` and `end` zeros.

    A window has `taps` that lie `dilation` apart, and starts `stride` after the one before.
    """

    size: DimLike
    output: DimLike
    taps: int
    stride: int = 1
    dilation: int = 1
    begin: DimLike = 0
    end: DimLike = 0

    @property
    def is_point(self) -> bool:
        """Whether each window is the one element of the same number."""
        unpadded = self.begin == 0 and self.end == 0
        return self.taps == 1 and self.stride == 1 and unpadded


@dataclass(frozen=True, slots=True)
class Convolution:
    """``out[target] = value`` with ``Ref("sum")`` the sum over channels and taps of `x` * `w`.

    The axes of the result are `image`, `channel` and `spatial`, those of `x` are `image`, `source`
    and `positions`, those of `w` are `channel`, `depth` and `taps`: an output channel reads the
    `channels` sources of its group, of which there are `group`. `x` and `w` are expressions in the
    type that is summed in, pairs of channels where `grow` is ``dot2``. A step takes `block` panels
    of pixels; where it is 0 the kernel decides.
    """

    shape: Shape
    dtype: DType
    image: Axis
    channel: Axis
    spatial: tuple[Axis, ...]
    extents: Shape
    source: Axis
    positions: tuple[Axis, ...]
    depth: Axis
    taps: tuple[Axis, ...]
    group: DimLike
    channels: DimLike
    windows: tuple[Window, ...]
    x: Expr
    w: Expr
    value: Expr
    target: tuple[Linear, ...]
    block: DimLike = 0
    grow: str = "fma"

    @property
    def sum_dtype(self) -> DType:
        """The type of the sums."""
        return self.x.dtype

    @property
    def products(self) -> int:
        """How many products an element of `x` and one of `w` add to a sum."""
        return 2 if self.grow == "dot2" else 1

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the result."""
        return (self.image, self.channel, *self.spatial)

    @property
    def is_padded_or_strided(self) -> bool:
        """Whether the input is copied before, with its padding and so that columns lie together."""
        last = self.windows[-1]
        padded = any(window.begin != 0 or window.end != 0 for window in self.windows)
        return padded or (last.stride > 1 and last.taps > 1)

    def exprs(self) -> tuple[Expr, ...]:
        """All expressions that read."""
        return (self.x, self.w, self.value)

    def map(self, change: Callable[[Expr], Expr]) -> Convolution:
        """The convolution with each expression changed."""
        return replace(self, x=change(self.x), w=change(self.w), value=change(self.value))


@dataclass(frozen=True, slots=True)
class Steps:
    """Statements that run for each point of `axes`, and store into the values `results`.

    Points may run at once, so they store to different places. `work` is about how many
    operations one point takes. `is_partial` is whether an index outside means data that are too
    large for the statements, not data that are wrong.
    """

    shape: Shape
    dtype: DType
    axes: tuple[Axis, ...]
    extents: Shape
    body: Block
    results: tuple[Hashable, ...]
    work: DimLike
    is_partial: bool = False

    def exprs(self) -> tuple[Expr, ...]:
        """All expressions that read."""
        return tuple(expr for stmt in statements(self.body) for expr in expressions(stmt))

    def map(self, change: Callable[[Expr], Expr]) -> Steps:
        """The steps with each expression changed."""
        return replace(self, body=mapped(self.body, change))


@dataclass(frozen=True, slots=True)
class Pieces:
    """A value that several nests fill, one after the other: where they overlap the later wins."""

    shape: Shape
    dtype: DType
    nests: tuple[Nest | Steps | Convolution, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Temporary:
    """A buffer that no value of the model stands for."""

    name: str
    dtype: DType
    shape: Shape


Definition: TypeAlias = Nest | View | Contraction | Convolution | Chain | Pieces | Steps


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that a lowering reads: ``x[i, j]`` is the expression of one element.

    `contents` are the elements as numbers, dims or None where inference knows them.
    """

    buffer: Hashable
    dtype: DType
    shape: Shape
    contents: Any = None

    def __getitem__(self, indices: Index | tuple[Index, ...]) -> Expr:
        where = indices if isinstance(indices, tuple) else (indices,)
        if self.contents is not None and not self.shape:
            known = self.contents.reshape(-1)[0]
            if isinstance(known, Dim):
                return cast(index(known), self.dtype)
            if known is not None:
                return const(known.item() if hasattr(known, "item") else known, self.dtype)
        return Load(self.buffer, where, self.dtype)

    @property
    def rank(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    def at(self, axes: Sequence[Index]) -> Expr:
        """The element that broadcasting (from the last axis on) puts at `axes`."""
        offset = len(axes) - self.rank
        where = tuple(0 if dim == 1 else axes[i + offset] for i, dim in enumerate(self.shape))
        return self[where]


def reads(definition: Definition) -> set[Hashable]:
    """The buffers that a definition loads from; of `Steps`, scratch buffers and its own too."""
    if isinstance(definition, View):
        return {definition.source}
    nests = definition.nests if isinstance(definition, Pieces) else (definition,)
    return {load.buffer for nest in nests for load in loads(*nest.exprs())}


COMPUTED_AS = {FLOAT16: FLOAT, BFLOAT16: FLOAT}
"""Types that are only storage: arithmetic on them is done in another."""


class Lowering:
    """Writes definitions. Axes have names that are unique within one definition.

    `outputs` are the types and shapes of what is defined, `results` the buffers that it goes to,
    which `Steps` name. `temporaries` are what the rule defines besides, `constants` the arrays that
    it makes of attributes. `counted` is what was made to learn how large the outputs are.
    """

    def __init__(
        self, outputs: Sequence[tuple[DType, Shape]] = (), results: Sequence[Hashable] = ()
    ) -> None:
        self.outputs = list(outputs)
        self.results = tuple(results)
        self.required: list[DimLike] = []
        self.temporaries: list[tuple[Temporary, Definition]] = []
        self.constants: dict[Temporary, Any] = {}
        self.counted: tuple[Source, ...] = ()
        self._count = 0

    def require_equal(self, a: DimLike, b: DimLike) -> None:
        """What is written is right only for runs in which the sizes `a` and `b` are equal."""
        if not known_equal(a, b):
            self.required += [a - b, b - a]

    def define(self, name: str, definition: Definition) -> Source:
        """A value of the rule's own, computed before the outputs."""
        found = Temporary(name, definition.dtype, definition.shape)
        self.temporaries.append((found, definition))
        return Source(found, found.dtype, found.shape)

    def constant(self, name: str, array: Any) -> Source:
        """A NumPy array of the rule's own, contiguous, that is the same in all runs."""
        found = Temporary(name, from_numpy(array.dtype), array.shape)
        self.constants[found] = array
        return Source(found, found.dtype, found.shape)

    def axes(self, count: int, prefix: str = "i") -> tuple[Axis, ...]:
        """New axes."""
        first = self._count
        self._count += count
        return tuple(Axis(f"{prefix}{first + number}") for number in range(count))

    def compute(self, shape: Sequence[DimLike], dtype: DType, element: Callable[..., Expr]) -> Nest:
        """``out[axes] = element(*axes)``, converted to `dtype`."""
        axes = self.axes(len(shape))
        value = cast(element(*axes), dtype)
        target = tuple(index(axis) for axis in axes)
        return Nest(tuple(shape), dtype, axes, tuple(shape), value, target)

    def map(
        self, element: Callable[..., Expr], *sources: Source, dtype: DType | None = None
    ) -> Nest:
        """`element` of the broadcast inputs, computed in float where that is wider."""
        result_dtype, shape = self.outputs[0]

        def value(*axes: Axis) -> Expr:
            return element(*(widened(source.at(axes)) for source in sources))

        return self.compute(shape, dtype or result_dtype, value)

    def rows(
        self,
        source_shape: Sequence[DimLike],
        along: Sequence[int],
        dtype: DType,
        stages: Sequence[tuple[str, str, DType, float, Callable[..., Expr]]],
        element: Callable[..., Expr],
        *,
        keep: bool = False,
        spread: bool = False,
    ) -> Nest:
        """Reductions over the axes `along` of `source_shape`.

        A stage is (name, op, dtype, start, value); value and `element` are called with the point
        (all axes of the source) and the variables filled before. The result has the source's
        shape if `spread`, else the other axes, with ones for `along` if `keep`.
        """
        points = self.axes(len(source_shape))
        inner = tuple(points[i] for i in along)
        outer = tuple(axis for i, axis in enumerate(points) if i not in along)
        found: list[Ref] = []
        reductions = []
        for name, op, kind, start, value in stages:
            reductions.append(
                Reduction(name, op, const(start, kind), cast(value(points, *found), kind))
            )
            found.append(Ref(name, kind))
        if spread:
            target: list[Index] = list(points)
            shape = tuple(source_shape)
        else:
            kept = [i for i in range(len(points)) if keep or i not in along]
            target = [0 if i in along else points[i] for i in kept]
            shape = tuple(1 if i in along else source_shape[i] for i in kept)
        return Nest(
            shape,
            dtype,
            outer,
            tuple(source_shape[i] for i in range(len(points)) if i not in along),
            cast(element(points, *found), dtype),
            tuple(index(axis) for axis in target),
            inner,
            tuple(source_shape[i] for i in along),
            tuple(reductions),
            spread,
        )

    def view(self, source: Source, shape: Sequence[DimLike]) -> View:
        """The elements of `source` under another shape."""
        return View(tuple(shape), source.dtype, source.buffer)


def widened(value: Expr) -> Expr:
    """`value` in the type that arithmetic on its type is done in."""
    return cast(value, COMPUTED_AS.get(value.dtype, value.dtype))


def is_number(dtype: DType) -> bool:
    """Whether generated code computes with the type (the narrow and odd ones it does not)."""
    return dtype in {FLOAT, DOUBLE, FLOAT16, BFLOAT16, BOOL} or (
        dtype.is_integer and dtype.bits >= 8
    )
