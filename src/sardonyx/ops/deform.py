"""Windows put back into images, and the convolution whose windows bend."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dtypes import INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import joined, of_rank
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.sampling import Inside, linear_taps, steady, weighted
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.symbolic import check_size, constant_ints, contents, divide, multiply
from sardonyx.ops.windows import Windows, spatial, trailing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape


class Col2Im(Operator, since=18):
    """The image of which `input` holds the windows as columns; where windows overlap, their sum."""

    input = Input("T", "[N, C * product of block_shape, windows].")
    image_shape, block_shape = Input((INT64,), "[D1, ...]."), Input((INT64,), "[b1, ...].")
    output = Output("T", "[N, C, D1, ...].")
    T = types.ALL_BFLOAT16
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, input: Fact, image_shape: Fact, block_shape: Fact) -> Fact:
        x = of_rank("Col2Im", "input", input, 3)
        sizes, block = contents(image_shape), contents(block_shape)
        if sizes is None and block is None:
            return Fact.tensor(input.dtype)
        if sizes is not None and block is not None and len(sizes) != len(block):
            raise InferenceError(
                f"Col2Im: image_shape has {len(sizes)} elements, block_shape {len(block)}"
            )
        channels: DimLike = None
        ints = constant_ints(block_shape)
        if ints is not None:
            if min(ints, default=1) < 1:
                raise InferenceError(f"Col2Im: block_shape {ints} must be at least 1")
            channels = divide(x[1], math.prod(ints))
        if sizes is None:
            sizes = [None] * len(block or ())
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise InferenceError(f"Col2Im: image_shape {shape_text(tuple(sizes))} is negative")
        return Fact.tensor(input.dtype, (x[0], channels, *sizes))

    def reference(self, input: Array, image_shape: Array, block_shape: Array) -> Array:
        facts = (Fact.constant(image_shape), Fact.constant(block_shape))
        found = self.infer(Fact.tensor(None, input.shape), *facts).shape
        assert found is not None
        shape = tuple(int(size) for size in found)  # type: ignore[arg-type]
        if input.dtype == object:
            raise ExecutionError("Col2Im cannot add strings where windows overlap")
        block = [int(size) for size in block_shape.reshape(-1)]
        axes = Windows.of("Col2Im", block, self.strides, self.dilations, self.pads).axes(
            "Col2Im", shape[2:]
        )
        counts = tuple(axis.output for axis in axes)
        if math.prod(counts) != input.shape[2]:
            raise ExecutionError(
                f"Col2Im: input has {input.shape[2]} columns, an image of {list(shape[2:])} has "
                f"{list(counts)} windows"
            )
        wide = widen(input)
        check_size("Col2Im", shape, wide.itemsize)
        columns = wide.reshape(*shape[:2], math.prod(block), *counts)
        result = np.zeros(shape, wide.dtype)
        with np.errstate(all="ignore"):
            for tap, place in enumerate(product(*(range(size) for size in block))):
                pairs = [
                    axis.overlap(t, 0, axis.output) for axis, t in zip(axes, place, strict=True)
                ]
                into = trailing(inputs for _, inputs in pairs)
                result[into] += columns[:, :, tap][trailing(windows for windows, _ in pairs)]
            return result.astype(input.dtype)


class MaxUnpool(Operator, since=22):
    """Zeros, with each element of X where its index says: the inverse of MaxPool.

    Indices count through a tensor of the size that MaxPool's input had by its attributes; this
    lies at the start of each axis where output_shape gives larger sizes.
    """

    X = Input("T1", "[N, C, D1, ...].")
    I = Input("T2", "Shaped like X.")  # noqa: E741
    output_shape = Input("T2", "The output's shape.", optional=True)
    output = Output("T1")
    T1, T2 = types.FLOATS_BFLOAT16, (INT64,)
    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    history = past(11, T1=types.FLOATS), past(9)

    def infer(self, X: Fact, I: Fact, output_shape: Fact | None = None) -> Fact:  # noqa: E741
        rank = len(self.kernel_shape) + 2
        x, i = of_rank("MaxUnpool", "X", X, rank), of_rank("MaxUnpool", "I", I, rank)
        merged = [
            joined("MaxUnpool", "the sizes of X and I", a, b) for a, b in zip(x, i, strict=True)
        ]
        full = self._full(merged)
        if output_shape is None:
            return Fact.tensor(X.dtype, full)
        dims = contents(output_shape)
        if dims is None:
            return Fact.tensor(X.dtype, (None,) * rank)
        if len(dims) != rank:
            raise InferenceError(f"MaxUnpool: output_shape has {len(dims)} elements for {rank}")
        return Fact.tensor(X.dtype, dims)

    def _full(self, sizes: Sequence[DimLike]) -> Shape:
        """The shape that the attributes lead back to."""
        rank = len(self.kernel_shape)
        windows = Windows.of("MaxUnpool", self.kernel_shape, self.strides, None, self.pads)
        result: list[DimLike] = list(sizes[:2])
        for axis in range(rank):
            size = sizes[axis + 2]
            kernel = self.kernel_shape[axis] - windows.begins[axis] - windows.ends[axis]
            full = None if size is None else (size - 1) * windows.strides[axis] + kernel
            if isinstance(full, int) and full < 0:
                raise InferenceError(f"MaxUnpool: axis {axis + 2} would have {full} elements")
            result.append(full)
        return tuple(result)

    def reference(
        self,
        X: Array,
        I: Array,  # noqa: E741
        output_shape: Array | None = None,
    ) -> Array:
        given = None if output_shape is None else Fact.constant(output_shape)
        found = self.infer(Fact.constant(X), Fact.constant(I), given).shape
        assert found is not None
        shape = tuple(int(size) for size in found)  # type: ignore[arg-type]
        full = tuple(int(size) for size in self._full(X.shape))  # type: ignore[arg-type]
        check_size("MaxUnpool", shape, X.itemsize)
        check_size("MaxUnpool", full, X.itemsize)
        if I.size and not (I.min() >= 0 and I.max() < math.prod(full)):
            raise ExecutionError(
                f"MaxUnpool: indices lie in [{I.min()}, {I.max()}] where {math.prod(full)} "
                "elements are"
            )
        places = np.unravel_index(I.reshape(-1), full) if I.size else (np.zeros(0, int),) * X.ndim
        fits = [place.max(initial=-1) < size for place, size in zip(places, shape, strict=True)]
        if not all(fits):
            raise ExecutionError(
                f"MaxUnpool: an index lies outside output_shape {list(shape)} "
                f"(indices count through {list(full)})"
            )
        result = np.zeros(shape, X.dtype)
        result[tuple(places)] = X.reshape(-1)
        return result


class DeformConv(Operator, since=22):
    """A convolution whose taps are moved by offsets, interpolated linearly, and scaled by a mask.

    What lies outside X counts as 0. Each of `offset_group` parts of the channels has offsets and
    mask of its own.
    """

    X = Input("T", "[N, C, D1, ...].")
    W = Input("T", "[M, C / group, k1, ...].")
    offset = Input("T", "[N, offset_group * k1 * ... * spatial rank, o1, ...].")
    B = Input("T", "[M].", optional=True)
    mask = Input("T", "[N, offset_group * k1 * ..., o1, ...].", optional=True)
    Y = Output("T", "[N, M, o1, ...].")
    T = types.FLOATS_BFLOAT16
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    offset_group: int = 1
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    history = (past(19, T=types.FLOATS),)

    def infer(
        self, X: Fact, W: Fact, offset: Fact, B: Fact | None = None, mask: Fact | None = None
    ) -> Fact:
        ranks = [fact.rank for fact in (X, W, offset, mask) if fact is not None]
        rank = next((rank for rank in ranks if rank is not None), None)
        if rank is None:
            return Fact.tensor(X.dtype)
        if rank < 3:
            raise InferenceError(f"DeformConv: X is [N, C, D1, ...], it has rank {rank}")
        if self.group < 1 or self.offset_group < 1:
            raise InferenceError("DeformConv: group and offset_group must be at least 1")
        x, w = of_rank("DeformConv", "X", X, rank), of_rank("DeformConv", "W", W, rank)
        o, m = (
            of_rank("DeformConv", "offset", offset, rank),
            of_rank("DeformConv", "mask", mask, rank),
        )
        kernel = w[2:]
        if self.kernel_shape:
            given = spatial("DeformConv", "kernel_shape", self.kernel_shape, rank - 2, 1)
            pairs = zip(given, kernel, strict=True)
            kernel = tuple(
                joined("DeformConv", "kernel_shape and W's size", a, b) for a, b in pairs
            )
        joined(
            "DeformConv", "channels of X and group * W.shape[1]", x[1], multiply(w[1], self.group)
        )
        for name, count, parts in (
            ("input channels", x[1], self.group),
            ("output channels", w[0], self.group),
            ("input channels", x[1], self.offset_group),
        ):
            if isinstance(count, int) and count % parts:
                raise InferenceError(f"DeformConv: {count} {name} do not divide into {parts}")
        sizes = self._windows(kernel).output("DeformConv", x[2:])
        taps: DimLike = self.offset_group
        for size in kernel:
            taps = multiply(taps, size)
        joined("DeformConv", "channels of offset", o[1], multiply(taps, rank - 2))
        joined("DeformConv", "channels of mask", m[1], taps)
        batch = joined("DeformConv", "the batch", x[0], o[0], m[0])
        merged = []
        for a, b, c in zip(sizes, o[2:], m[2:], strict=True):
            merged.append(joined("DeformConv", "the size of an axis", a, b, c))
        (bias,) = of_rank("DeformConv", "B", B, 1)
        channels = joined("DeformConv", "output channels and length of B", w[0], bias)
        return Fact.tensor(X.dtype, (batch, channels, *merged))

    def _windows(self, kernel: Sequence[DimLike]) -> Windows:
        return Windows.of("DeformConv", kernel, self.strides, self.dilations, self.pads)

    def reference(
        self,
        X: Array,
        W: Array,
        offset: Array,
        B: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        facts = [None if x is None else Fact.tensor(None, x.shape) for x in (X, W, offset, B, mask)]
        found = self.infer(*facts).shape  # type: ignore[arg-type]
        assert found is not None
        shape = tuple(int(size) for size in found)  # type: ignore[arg-type]
        x = widen(X)
        batch, channels = X.shape[:2]
        taps, places = math.prod(W.shape[2:]), math.prod(shape[2:])
        check_size("DeformConv", shape, x.itemsize)
        check_size("DeformConv", (batch, channels, taps, places), 8)
        if 0 in shape or not X.size or not W.size:
            columns = np.zeros((batch, channels, taps * places), x.dtype)
        else:
            columns = self._columns(x, W.shape[2:], widen(offset), mask, shape[2:])
        grouped = columns.reshape(batch, self.group, channels // self.group * taps, places)
        weights = widen(W).reshape(self.group, W.shape[0] // self.group, -1)
        with np.errstate(all="ignore"):
            result = np.matmul(weights, grouped).reshape(shape)
            if B is not None:
                result = result + widen(B).reshape(-1, *(1,) * (X.ndim - 2))
            return np.asarray(result).astype(X.dtype)

    def _columns(
        self,
        x: Array,
        kernel: tuple[int, ...],
        offset: Array,
        mask: Array | None,
        outputs: tuple[int, ...],
    ) -> Array:
        """Each tap's element at each place, [N, C, taps * places]."""
        parts, rank = x.shape[0] * self.offset_group, len(kernel)
        taps, places = math.prod(kernel), math.prod(outputs)
        sizes = x.shape[2:]
        moved = offset.reshape(parts, taps, rank, places)
        axes = self._windows(kernel).axes("DeformConv", sizes)
        coordinates: list[Any] = []
        with np.errstate(all="ignore"):
            for index, axis in enumerate(axes):
                tap = np.indices(kernel)[index].reshape(-1, 1) * axis.dilation
                start = np.indices(outputs)[index].reshape(-1) * axis.stride - axis.begin
                where = (tap + start).astype(x.dtype) + moved[:, :, index]
                coordinates.append(linear_taps(steady(where.reshape(parts, -1))))
            flat = x.reshape(parts, x.shape[1] // self.offset_group, -1)
            columns = weighted(flat, sizes, coordinates, Inside(sizes))
            if mask is not None:
                columns = columns * widen(mask).reshape(parts, 1, -1)
        return columns.reshape(x.shape[0], x.shape[1], taps * places)
