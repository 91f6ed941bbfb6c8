"""Fourier transforms: DFT (opset 17), STFT, and its inverse as a transposed convolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.complex import typed_like
from sardonyx.export.torch.pairs import Complex, complex_translation, constant_data
from sardonyx.export.torch.registry import TorchBuilder, positive, product, static, translation
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array

__all__: list[str] = []

_BY_ROOT, _BY_SIZE = 1, 2


def _transform(op: TorchBuilder, x: Value, axis: int, *, length: int | None = None,
               inverse: bool = False, onesided: bool = False) -> Value:  # fmt: skip
    """DFT along `axis` of `x`, whose last axis holds 1 or 2 numbers."""
    op.require(17, "a Fourier transform")
    flat = op.rank_of(x) == 2
    if flat:
        x, axis = op.unsqueeze(x, [0]), axis + 1
    flags = {"inverse": int(inverse) or None, "onesided": int(onesided) or None}
    size = None if length is None else op.constant(length, dtypes.INT64)
    if op.opset >= 20:
        made = op.DFT(x, size, op.constant(axis, dtypes.INT64), **flags)
    else:
        made = op.DFT(x, size, axis=axis, **flags)
    if not flat:
        result: Value = made
        return result
    op.typed(made, op.dtype_of(x), [1, None, None])
    return op.squeeze(made, [0])


def _factor(size: DimLike, normalization: int, inverse: bool) -> DimLike | float | None:
    """What the standard's transform of `size` elements in all is to be scaled by."""
    if not inverse and not normalization:
        return 1.0
    if inverse and normalization == _BY_SIZE:
        return 1.0
    if isinstance(size, Dim):
        return None
    power = {0: 0.0, _BY_ROOT: -0.5, _BY_SIZE: -1.0}[normalization] + (1.0 if inverse else 0.0)
    factor: float = float(size) ** power
    return factor


def _normalized(op: TorchBuilder, x: Value, dtype: DType, size: DimLike, normalization: int,
                inverse: bool) -> Value:  # fmt: skip
    factor = _factor(size, normalization, inverse)
    if factor == 1.0:
        return x
    if factor is not None:
        made: Value = op.Mul(x, op.constant(factor, dtype))
        return op.typed(made, dtype, x.shape or ())
    number = op.scalar(size, dtype)
    if normalization == _BY_ROOT:
        number = op.Sqrt(number)
    made = op.Mul(x, number) if inverse else op.Div(x, number)
    return op.typed(made, dtype, x.shape or ())


@complex_translation("aten._fft_c2c.default")
def fft_c2c(op: TorchBuilder, z: Complex, dim: Sequence[int], normalization: int,
            forward: bool) -> Any:  # fmt: skip
    axes = positive(dim, z.rank)
    packed = z.packed(op)
    for axis in axes:
        packed = _kept(op, _transform(op, packed, axis, inverse=not forward), z)
    size = product([z.shape[axis] for axis in axes])  # type: ignore[misc]
    return typed_like(
        op, _normalized(op, packed, z.dtype, size, normalization, inverse=not forward)
    )


def _kept(op: TorchBuilder, packed: Value, z: Complex) -> Value:
    return op.typed(packed, z.dtype, [*z.shape, 2])


@translation("aten._fft_r2c.default")
@complex_translation("aten._fft_r2c.default")
def fft_r2c(op: TorchBuilder, x: Value, dim: Sequence[int], normalization: int,
            onesided: bool) -> Any:  # fmt: skip
    rank, dtype, shape = op.rank_of(x), op.dtype_of(x), op.shape_of(x)
    axes = [axis % rank for axis in dim]
    packed = _transform(op, op.unsqueeze(x, [rank]), axes[-1], onesided=onesided)
    kind = [*op.result_shape, 2]
    op.typed(packed, dtype, kind)
    for axis in reversed(axes[:-1]):
        packed = op.typed(_transform(op, packed, axis), dtype, kind)
    size = product([shape[axis] for axis in axes])
    return typed_like(op, _normalized(op, packed, dtype, size, normalization, inverse=False))


@complex_translation("aten._fft_c2r.default")
def fft_c2r(op: TorchBuilder, z: Complex, dim: Sequence[int], normalization: int,
            last: DimLike) -> Any:  # fmt: skip
    axes = [axis % z.rank for axis in dim]
    packed = z.packed(op)
    for axis in axes[:-1]:
        packed = _kept(op, _transform(op, packed, axis, inverse=True), z)
    others = product([z.shape[axis] for axis in axes[:-1]])  # type: ignore[misc]
    axis = axes[-1]
    if isinstance(last, int):
        made = _real_inverse(op, z, packed, axis, last, others * last, normalization)
    else:
        made = _mirrored_inverse(op, z, packed, axis, last)
        made = op.typed(made, z.dtype, op.result_shape)
        made = _normalized(op, made, z.dtype, others * last, normalization, inverse=True)
    return made


def _real_inverse(op: TorchBuilder, z: Complex, packed: Value, axis: int, last: int,
                  size: DimLike, normalization: int) -> Value:  # fmt: skip
    # the missing half mirrors the given one: count it twice, but for its ends, and take the real
    # part
    bins = last // 2 + 1
    given = z.shape[axis]
    if given != bins:
        if not isinstance(given, int) or given > bins:
            packed = op.slice(packed, axis, 0, bins)
        else:
            bins = given
    weights = np.full(bins, 2.0)
    weights[0] = 1
    if last % 2 == 0 and bins == last // 2 + 1:
        weights[-1] = 1
    factor = _factor(size, normalization, True)
    if isinstance(factor, float):
        weights *= factor
    shape = [bins, *[1] * (z.rank - axis)]
    packed = op.Mul(packed, op.constant(weights.reshape(shape), z.dtype))
    op.typed(packed, z.dtype, [*z.shape[:axis], bins, *z.shape[axis + 1 :], 2])
    full = _transform(op, packed, axis, length=None if bins == last else last, inverse=True)
    made: Value = op.Gather(full, op.constant(0, dtypes.INT64), axis=z.rank)
    op.typed(made, z.dtype, op.result_shape)
    if factor is None:
        return _normalized(op, made, z.dtype, size, normalization, inverse=True)
    return made


def _mirrored_inverse(op: TorchBuilder, z: Complex, packed: Value, axis: int,
                      last: DimLike) -> Value:  # fmt: skip
    half = op.slice(packed, axis, 0, last // 2 + 1)
    inner = op.slice(packed, axis, (last + 1) // 2 - 1, 0, -1)
    mirrored = op.Mul(inner, op.constant([1, -1], z.dtype))
    whole = op.Concat(half, mirrored, axis=axis)
    op.typed(whole, z.dtype, [*z.shape[:axis], last, *z.shape[axis + 1 :], 2])
    full = _transform(op, whole, axis, inverse=True)
    made: Value = op.Gather(full, op.constant(0, dtypes.INT64), axis=z.rank)
    return made


@translation("aten.fft_fftfreq.default", "aten.fft_rfftfreq.default")
def frequencies(op: TorchBuilder, n: DimLike, d: float = 1.0, **_: Any) -> Any:
    dtype = op.result()
    (size,) = static([n], "the frequencies of a transform")
    half = op.result_shape == (size // 2 + 1,) and size > 1
    found = np.fft.rfftfreq(size, d) if half else np.fft.fftfreq(size, d)
    return op.constant(found, dtype)


def _window(op: TorchBuilder, window: Value | None, width: int, size: int, dtype: DType,
            scale: float) -> Value:  # fmt: skip
    """The window in the middle of `size` elements, times `scale`."""
    left = (size - width) // 2
    data = np.ones(width) if window is None else constant_data(window)
    if data is not None:
        if window is not None and scale == 1 and width == size:
            return window
        padded = np.pad(data.astype(np.float64), (left, size - width - left))
        return op.constant(padded * scale, dtype)
    if width != size:
        op.require(11, "padding of a window")
        window = op.Pad(window, op.ints([left, size - width - left]))
    made: Any = window if scale == 1 else op.Mul(window, op.constant(scale, dtype))
    return op.typed(made, dtype, [size])


@translation("aten.stft.default")
@complex_translation("aten.stft.default")
def stft(op: TorchBuilder, x: Any, n_fft: int, hop_length: int | None = None,
         win_length: int | None = None, window: Any = None, normalized: bool = False,
         onesided: bool | None = None, return_complex: bool | None = None,
         align_to_window: bool | None = None) -> Any:  # fmt: skip
    return stft_center(op, x, n_fft, hop_length, win_length, window, False, "reflect", normalized,
                       onesided, return_complex, align_to_window)  # fmt: skip


@translation("aten.stft.center")
@complex_translation("aten.stft.center")
def stft_center(op: TorchBuilder, x: Any, n_fft: int, hop_length: int | None = None,
                win_length: int | None = None, window: Any = None, center: bool = True,
                pad_mode: str = "reflect", normalized: bool = False,
                onesided: bool | None = None, return_complex: bool | None = None,
                align_to_window: bool | None = None) -> Any:  # fmt: skip
    if isinstance(window, Complex) or align_to_window:
        raise ExportError("an STFT with a complex or an aligned window cannot be exported")
    hop = n_fft // 4 if hop_length is None else hop_length
    real = isinstance(x, Value)
    dtype = op.dtype_of(x) if isinstance(x, Value) else x.dtype
    signal, rank = (x, op.rank_of(x)) if isinstance(x, Value) else (x.packed(op), x.rank)
    onesided = real if onesided is None else onesided
    if rank == 1:
        signal = op.unsqueeze(signal, [0])
    if center:
        op.require(11, "padding of a signal")
        places = [0, n_fft // 2] if real else [0, n_fft // 2, 0]
        signal = op.Pad(signal, op.ints(places * 2), mode=pad_mode)
    shape = tuple(signal.shape or (None, None))
    scale = n_fft**-0.5 if normalized else 1.0
    weights = _window(op, window, win_length or n_fft, n_fft, dtype, scale)
    if op.opset >= 17:
        if real:
            op.typed(signal, dtype, shape)
            signal = op.unsqueeze(signal, [2])
        count, step = (op.constant(number, dtypes.INT64) for number in (n_fft, hop))
        frames = op.STFT(signal, step, weights, count, onesided=int(onesided))
        turned = op.Transpose(frames, perm=[0, 2, 1, 3])
    else:
        if not real:
            op.require(17, "an STFT of complex numbers")
        turned = _by_convolution(op, signal, weights, n_fft, hop, onesided, dtype)
    if rank == 1:
        op.typed(turned, dtype, [1, None, None, 2])
        turned = op.squeeze(turned, [0])
    if not return_complex:
        return turned
    return typed_like(op, turned)


def _basis(n_fft: int, bins: int) -> tuple[Array, Array]:
    """Cosines and sines, by frequency and time."""
    angles = 2 * math.pi * (np.outer(np.arange(bins), np.arange(n_fft)) % n_fft) / n_fft
    return np.cos(angles), np.sin(angles)


def _weighted(op: TorchBuilder, kernel: Array, window: Value, dtype: DType) -> Value:
    data = constant_data(window)
    if data is not None:
        return op.constant(kernel * data.astype(np.float64), dtype)
    made: Value = op.Mul(op.constant(kernel, dtype), window)
    return made


def _by_convolution(op: TorchBuilder, signal: Value, window: Value, n_fft: int, hop: int,
                    onesided: bool, dtype: DType) -> Value:  # fmt: skip
    bins = n_fft // 2 + 1 if onesided else n_fft
    cosines, sines = _basis(n_fft, bins)
    kernel = _weighted(op, np.concatenate([cosines, -sines])[:, None], window, dtype)
    op.typed(signal, dtype, signal.shape or (None, None))
    found = op.Conv(op.unsqueeze(signal, [1]), kernel, strides=[hop], kernel_shape=[n_fft])
    split = op.Reshape(found, op.ints([0, 2, bins, -1]))
    made: Value = op.Transpose(split, perm=[0, 2, 3, 1])
    return made


@translation("aten.istft.default")
@complex_translation("aten.istft.default")
def istft(op: TorchBuilder, z: Complex, n_fft: int, hop_length: int | None = None,
          win_length: int | None = None, window: Any = None, center: bool = True,
          normalized: bool = False, onesided: bool | None = None, length: DimLike | None = None,
          return_complex: bool = False) -> Any:  # fmt: skip
    if return_complex or isinstance(window, Complex):
        raise ExportError("an inverse STFT to complex numbers cannot be exported")
    op.require(11, "an inverse STFT")
    hop, dtype = hop_length or n_fft // 4, z.dtype
    bins, frames = z.shape[-2:]
    (count,) = static([bins or 0], "an inverse STFT")
    packed = z.packed(op)
    if count != n_fft // 2 + 1:
        # torch reads the first half of a two-sided spectrum, and lets it mirror
        count = n_fft // 2 + 1
        packed = op.slice(packed, z.rank - 2, 0, count)
        op.typed(packed, dtype, [*z.shape[:-2], count, frames, 2])
    if z.rank == 2:
        packed = op.unsqueeze(packed, [0])
    spectra = op.Transpose(packed, perm=[0, 3, 1, 2])
    spectra = op.Reshape(spectra, op.ints([0, 2 * count, -1]))
    cosines, sines = _basis(n_fft, count)
    twice = np.full((count, 1), 2.0)
    twice[0] = 1
    if n_fft % 2 == 0:
        twice[-1] = 1
    scale = n_fft**-0.5 if normalized else 1 / n_fft
    weights = _window(op, window, win_length or n_fft, n_fft, dtype, 1.0)
    basis = np.concatenate([cosines * twice, -sines * twice])[:, None] * scale
    kernel = _weighted(op, basis, weights, dtype)
    sums = op.ConvTranspose(spectra, kernel, strides=[hop], kernel_shape=[n_fft])
    signal = op.Div(sums, _envelope(op, weights, frames, n_fft, hop, dtype))
    start = n_fft // 2 if center else 0
    signal = op.typed(signal, dtype, [z.shape[0] if z.rank > 2 else 1, 1, None])
    end = _end(frames, n_fft, hop, start, length)
    if start or end is not None:
        signal = op.slice(signal, 2, start, 2**63 - 1 if end is None else end)
    signal = _lengthened(op, signal, frames, n_fft, hop, start, length)
    op.typed(signal, dtype, [z.shape[0] if z.rank > 2 else 1, 1, None])
    return op.squeeze(signal, [1] if z.rank > 2 else [0, 1])


def _end(frames: Any, n_fft: int, hop: int, start: int, length: DimLike | None) -> DimLike | None:
    if length is not None:
        return length + start
    return -start if start else None


def _lengthened(op: TorchBuilder, signal: Value, frames: Any, n_fft: int, hop: int, start: int,
                length: DimLike | None) -> Value:  # fmt: skip
    """`signal` with zeros up to `length`."""
    if not isinstance(length, int) or not isinstance(frames, int):
        return signal
    missing = length - (n_fft + hop * (frames - 1) - start)
    if missing <= 0:
        return signal
    padded: Value = op.Pad(signal, op.ints([0, 0, 0, 0, 0, missing]))
    return padded


def _envelope(op: TorchBuilder, window: Value, frames: Any, n_fft: int, hop: int,
              dtype: DType) -> Value:  # fmt: skip
    """The sum of the squares of the windows that lie over each sample."""
    data = constant_data(window)
    if data is not None and isinstance(frames, int):
        squares = data.astype(np.float64) ** 2
        total = np.zeros(n_fft + hop * (frames - 1))
        for frame in range(frames):
            total[frame * hop : frame * hop + n_fft] += squares
        return op.constant(np.where(total < 1e-11, 1, total), dtype)
    ones = op.Expand(op.constant(np.ones((1, 1, 1)), dtype), op.sizes([1, 1, frames]))
    kernel = op.reshape(op.typed(op.Mul(window, window), dtype, [n_fft]), [1, 1, n_fft])
    total_value = op.ConvTranspose(ones, kernel, strides=[hop], kernel_shape=[n_fft])
    made: Value = op.Max(total_value, op.constant(1e-11, dtype))
    return made
