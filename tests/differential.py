"""Our reference beside onnxruntime's, and our inference beside what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from sardonyx.dims import Dim, evaluate, symbol
from sardonyx.dtypes import from_numpy
from sardonyx.ops.fact import Fact
from single_operator import apply, by_onnxruntime, inferred

if TYPE_CHECKING:
    from collections.abc import Sequence


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed or 0)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng(*shape).standard_normal(shape).astype(dtype)


def close(actual: Sequence[Any], expected: Sequence[Any], terms: int = 1) -> None:
    """Equal types and shapes; floats within what rounding `terms` sums and products costs."""
    for ours, theirs in zip(actual, expected, strict=True):
        assert from_numpy(ours.dtype) is from_numpy(theirs.dtype)
        assert ours.shape == theirs.shape
        if not from_numpy(ours.dtype).is_floating:
            np.testing.assert_array_equal(ours, theirs)
            continue
        wide = theirs.astype(np.float64)
        scale = np.abs(wide[np.isfinite(wide)]).max(initial=1.0)
        bound = (terms + 8) * float(ml_dtypes.finfo(ours.dtype).eps) * scale
        np.testing.assert_allclose(ours.astype(np.float64), wide, rtol=0, atol=bound)


def compare(
    name: str,
    *inputs: Any,
    terms: int = 1,
    version: int = 22,
    n_outputs: int = 1,
    runtime_version: int | None = None,
    **attributes: Any,
) -> list[Any]:
    """Compare one operator with onnxruntime, then check inference; returns our outputs."""
    inputs = tuple(None if value is None else np.asarray(value) for value in inputs)
    options = {"version": version, "n_outputs": n_outputs, **attributes}
    ours = apply(name, *inputs, **options)
    theirs = by_onnxruntime(name, *inputs, **{**options, "version": runtime_version or version})
    close(ours, theirs, terms)
    agrees_with_inference(name, *inputs, outputs=ours, **options)
    return ours


def agrees_with_inference(name: str, *inputs: Any, outputs: Sequence[Any], **options: Any) -> None:
    """Facts with constants, and with symbols for the first input's sizes, say what came out."""
    for fact, output in zip(inferred(name, *inputs, **options), outputs, strict=True):
        assert fact.dtype is from_numpy(output.dtype)
        assert fact.shape == output.shape
    first = inputs[0]
    shape = [symbol(f"d{axis}", 1) for axis in range(first.ndim)]
    sizes = {f"d{axis}": size for axis, size in enumerate(first.shape)}
    symbolic = Fact.tensor(from_numpy(first.dtype), shape)
    for fact, output in zip(inferred(name, symbolic, *inputs[1:], **options), outputs, strict=True):
        if fact.shape is None:
            continue
        assert len(fact.shape) == output.ndim
        for dim, size in zip(fact.shape, output.shape, strict=True):
            if dim is not None:
                assert (evaluate(dim, sizes) if isinstance(dim, Dim) else dim) == size
