"""Quantization, and products."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import check, random

BYTES = [np.int8, np.uint8]


def scale(*shape: int, dtype: Any = np.float32) -> Any:
    return random(*shape, dtype=dtype, low=0.01, high=0.2)


@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_quantizing(target: Any, axis: int | None) -> None:
    def make(n: int) -> list[Any]:
        x = random(3, n, 6, low=-40, high=40)
        x.reshape(-1)[:3] = np.array([np.nan, np.inf, -np.inf])[: x.size]
        shape = () if axis is None else (x.shape[axis],)
        return [x, scale(*shape), random(*shape, dtype=target, low=-5, high=5)]

    check("QuantizeLinear", make, opset=21, axis=axis or 0, sizes=(5, 9, 0))


@pytest.mark.parametrize("source", [*BYTES, np.int16, np.int32])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_dequantizing(source: Any, dtype: Any) -> None:
    check(
        "DequantizeLinear",
        lambda n: [
            random(n, 6, dtype=source, low=-100, high=100),
            scale(6, dtype=dtype),
            random(6, dtype=source, low=-3, high=3),
        ],
        opset=21,
        axis=1,
        length=8,
    )


def test_blocks_of_scales() -> None:
    check(
        "DequantizeLinear",
        lambda n: [random(n, 10, dtype=np.int8, low=-100, high=100), scale(n, 3)],
        opset=21,
        axis=1,
        block_size=4,
    )
    check(
        "QuantizeLinear",
        lambda n: [random(10, n), scale(3, n), random(3, n, dtype=np.uint8)],
        opset=21,
        axis=0,
        block_size=4,
    )


@pytest.mark.parametrize("source", [np.int32, np.float16, ml_dtypes.bfloat16])
def test_quantizing_other_types(source: Any) -> None:
    kind = np.float32 if source is np.int32 else source
    check(
        "QuantizeLinear",
        lambda n: [random(n, 6, dtype=source, low=-9, high=9), scale(dtype=kind)],
        opset=23,
    )


@pytest.mark.parametrize("low", [-3.0, 1.0])
@pytest.mark.parametrize("high", [0.0, 7.0])
def test_quantizing_dynamically(low: float, high: float) -> None:
    check(
        "DynamicQuantizeLinear",
        lambda n: [random(n, 70, low=min(low, high), high=max(low, high))],
        n_outputs=3,
    )


def test_quantizing_zeros() -> None:
    check("DynamicQuantizeLinear", lambda n: [np.zeros((n, 3), np.float32)], n_outputs=3)


SHAPES: list[Any] = [
    lambda n: ((n, 40), (40, 33)),
    lambda n: ((2, n, 8), (8, 5)),
    lambda n: ((2, 1, n, 8), (3, 8, n)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_integer_products(shapes: Any, left: Any, right: Any) -> None:
    def make(n: int) -> list[Any]:
        a, b = shapes(n)
        return [
            random(*a, dtype=left, low=-128, high=255),
            random(*b, dtype=right, low=-128, high=255),
            random(dtype=left),
            random(dtype=right),
        ]

    check("MatMulInteger", make)
    check("MatMulInteger", lambda n: make(n)[:2])


def test_zero_points_of_rows_and_columns() -> None:
    check(
        "MatMulInteger",
        lambda n: [
            random(4, n, dtype=np.uint8, high=255),
            random(n, 7, dtype=np.int8, low=-128, high=127),
            random(4, dtype=np.uint8),
            random(7, dtype=np.int8),
        ],
    )


def extreme(*shape: int, dtype: Any) -> Any:
    """Numbers of which about half are the least or the greatest of the type."""
    bounds = np.iinfo(dtype)
    chosen = random(*shape, dtype=np.int32, low=0, high=4)
    inner = random(*shape, dtype=np.int32, low=bounds.min, high=bounds.max)
    found = np.where(chosen == 0, bounds.min, np.where(chosen == 1, bounds.max, inner))
    return np.asarray(found).astype(dtype)


@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
@pytest.mark.parametrize("depth", [1, 2, 7, 64])
@pytest.mark.parametrize("columns", [1, 5, 16, 40])
def test_integer_products_of_extremes(left: Any, right: Any, depth: int, columns: int) -> None:
    """Whatever the zero points are, and for a last element of a row that is alone."""

    def make(rows: int, batch: tuple[int, ...] = (), ends: tuple[int, int] = (0, 1)) -> list[Any]:
        bounds = [np.iinfo(kind) for kind in (left, right)]
        ones = [(one.min, one.max)[end] for one, end in zip(bounds, ends)]
        return [
            extreme(*batch, rows, depth, dtype=left),
            extreme(*batch[1:], depth, columns, dtype=right),
            np.array(ones[0], left),
            np.array(ones[1], right),
        ]

    def zeros(rows: int) -> list[Any]:
        return [extreme(rows, 1, dtype=left), extreme(columns, dtype=right)]

    check("MatMulInteger", lambda n: make(n, ends=(0, 0)), sizes=(*range(1, 10), 0))
    check("MatMulInteger", lambda n: make(n, ends=(1, 1)), sizes=(1, 6))
    check("MatMulInteger", lambda n: make(n, (2, 3)), sizes=(1, 4, 13))
    check("MatMulInteger", lambda n: [*make(n)[:2], *zeros(n)], sizes=(1, 6, 7))


def test_integer_products_of_any_depth() -> None:
    check(
        "MatMulInteger",
        lambda n: [
            extreme(3, n, dtype=np.uint8),
            extreme(n, 40, dtype=np.int8),
            np.array(255, np.uint8),
            np.array(-128, np.int8),
        ],
        sizes=(*range(1, 20), 0),
    )


@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantizing_whatever_is_fed(target: Any) -> None:
    """Ends of the range, halves, what no integer type holds."""
    ends = [float(np.iinfo(target).min), float(np.iinfo(target).max)]
    near = [end + step for end in ends for step in (-1, -0.5, -0.49, 0, 0.49, 0.5, 1, 1.5)]
    edges = np.array([*near, -0.0, 0.5, 2.5, 1e9, -1e9, 3e38, np.nan, np.inf, -np.inf], np.float32)

    def make(n: int) -> list[Any]:
        return [np.resize(edges, n), np.float32(1), target(3)]

    check("QuantizeLinear", make, opset=21, sizes=(1, len(edges), 4 * len(edges)))


@pytest.mark.parametrize("dtype", BYTES)
def test_quantized_products(dtype: Any) -> None:
    def byte(*shape: int) -> Any:
        return random(*shape, dtype=dtype, low=-128, high=255)

    check(
        "QLinearMatMul",
        lambda n: [
            byte(n, 40), scale(), byte(), byte(40, 9), scale(9), byte(9), scale(), byte(),
        ],
        opset=21,
    )  # fmt: skip


VECTORS: list[Any] = [
    lambda n: ((n,), (n,)),
    lambda n: ((40,), (40, n)),
    lambda n: ((n, 40), (40,)),
    lambda n: ((3, n, 4), (4,)),
    lambda n: ((4,), (2, 3, 4, n)),
]


@pytest.mark.parametrize("shapes", VECTORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_products_with_vectors(shapes: Any, dtype: Any) -> None:
    check("MatMul", lambda n: [random(*shape, dtype=dtype) for shape in shapes(n)], length=40)


EQUATIONS: list[Any] = [
    ("bij,bjk->bik", lambda n: [(2, n, 8), (2, 8, 9)]),
    ("bhqd,bhkd->bhqk", lambda n: [(2, 3, n, 8), (2, 3, 9, 8)]),
    ("ij->ji", lambda n: [(n, 4)]),
    ("ij->", lambda n: [(n, 4)]),
    ("ii->i", lambda n: [(n, n)]),
    ("ij,jk,kl->il", lambda n: [(3, n), (n, 4), (4, 5)]),
    ("...ij,jk->...ik", lambda n: [(2, n, 3, 4), (4, 5)]),
    ("...,...", lambda n: [(n, 3), (3,)]),
    ("i,j->ij", lambda n: [(n,), (4,)]),
    ("bij,jk->bk", lambda n: [(2, 3, n), (n, 4)]),
    ("bsd,hd->bsh", lambda n: [(2, n, 8), (5, 8)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(equation: str, shapes: Any) -> None:
    for dtype in (np.float32, np.int32):
        check(
            "Einsum",
            lambda n, dtype=dtype: [random(*shape, dtype=dtype) for shape in shapes(n)],
            length=64,
            equation=equation,
        )


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_linear_convolution(dtype: Any, each: bool) -> None:
    count = 4 if each else 1
    least, most = (0, 255) if dtype is np.uint8 else (-128, 127)
    shape = (count,) if each else ()
    scales = random(count, low=0.01, high=0.1).reshape(shape)
    zeros = random(count, dtype=dtype, low=-3, high=3).reshape(shape)
    check(
        "QLinearConv",
        lambda n: [
            random(2, 6, n, 7, dtype=dtype, low=least, high=most),
            np.float32(0.02).reshape(()),
            np.array(3, dtype),
            random(4, 3, 3, 2, dtype=dtype, low=least, high=most),
            scales,
            zeros,
            np.float32(0.3).reshape(()),
            np.array(5, dtype),
            random(4, dtype=np.int32, low=-900, high=900),
        ],
        opset=10,
        sizes=(5, 9, 16),
        group=2,
        pads=[1, 1, 1, 0],
        off=1,
    )


GROUPS = [(1, 1, 5), (1, 2, 4), (1, 3, 7), (1, 8, 13), (2, 1, 4), (2, 2, 2), (2, 3, 8), (4, 2, 4)]
"""Groups, channels that each reads, output channels."""


@pytest.mark.parametrize(("group", "channels", "outputs"), GROUPS)
@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_convolutions_of_extremes(
    group: int, channels: int, outputs: int, left: Any, right: Any
) -> None:
    for kernel, attributes in (
        ((1, 1), {}),
        ((3, 2), {"pads": [1, 0, 1, 1]}),
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ):

        def make(n: int, kernel: tuple[int, ...] = kernel) -> list[Any]:
            return [
                extreme(2, group * channels, n, 11, dtype=left),
                extreme(outputs, channels, *kernel, dtype=right),
                np.array(np.iinfo(left).max, left),
                extreme(outputs, dtype=right),
            ]

        check("ConvInteger", make, opset=10, sizes=(3, 8, 17), group=group, **attributes)


def test_integer_convolutions_of_any_channels() -> None:
    check(
        "ConvInteger",
        lambda n: [
            extreme(1, n, 5, 6, dtype=np.uint8),
            extreme(7, n, 3, 3, dtype=np.int8),
            np.array(255, np.uint8),
            np.array(-128, np.int8),
        ],
        opset=10,
        sizes=(5, 1, 2, 3, 8),
        pads=[1, 1, 1, 1],
    )
