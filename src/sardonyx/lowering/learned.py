"""Linear models, support vector machines, and what prepares features for them."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT64
from sardonyx.errors import SardonyxError
from sardonyx.loops import doubles
from sardonyx.loops.expr import Axis, Expr, Ref, index
from sardonyx.loops.nest import Contraction, Definition, Lowering, Nest, NotLowered, Source
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import is_nan, position, product
from sardonyx.lowering.trees import best_of, labelled, named, transformed
from sardonyx.ops.forest import TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike

_ML = "ai.onnx.ml"
_ZERO = const(0, DOUBLE)
_DEGREES = range(1, 9)
"""Of polynomials that are written as products."""


def _rows(k: Lowering, op: Any, x: Source, features: int) -> tuple[Source, DimLike]:
    """X as rows of `features` DOUBLEs, and how many."""
    if x.rank not in {1, 2}:
        raise NotLowered(f"{op.op_type} of rank {x.rank}")
    k.require_equal(x.shape[-1], features)
    count: DimLike = x.shape[0] if x.rank == 2 else 1

    def element(row: Axis, column: Axis) -> Expr:
        return cast(x[column] if x.rank == 1 else x[row, column], DOUBLE)

    return k.define("rows", k.compute((count, features), DOUBLE, element)), count


def _product(
    k: Lowering, rows: Source, weights: Any, last: Callable[[Expr, Axis], Expr]
) -> Contraction:
    """The rows times `weights` [outputs, features] transposed; `last` ends each sum."""
    given = k.constant("weights", np.ascontiguousarray(weights.T))
    shape = (rows.shape[0], weights.shape[0])
    row, column, depth = k.axes(3)
    return Contraction(
        shape,
        DOUBLE,
        (),
        (),
        row,
        column,
        depth,
        (*shape, weights.shape[1]),
        rows[row, depth],
        given[depth, column],
        last(Ref("sum", DOUBLE), column),
        (index(row), index(column)),
    )


def _numbers(values: Sequence[float] | None) -> Any:
    """FLOAT attributes, widened."""
    return np.array(values or (), np.float32).astype(np.float64)


def _linear(k: Lowering, op: Any, x: Source, coefficients: Any, offsets: Any, count: int) -> Source:
    """`count` linear scores for each row."""
    if count < 1 or not len(coefficients) or len(coefficients) % count:
        raise NotLowered(f"{op.op_type} with {len(coefficients)} coefficients")
    if len(offsets) not in {0, 1, count}:
        raise NotLowered(f"{op.op_type} with {len(offsets)} offsets")
    weights = coefficients.reshape(count, -1)
    rows, _ = _rows(k, op, x, weights.shape[1])
    added = k.constant("offsets", offsets) if len(offsets) else None

    def last(total: Expr, column: Axis) -> Expr:
        if added is None:
            return total
        return apply("add", total, added[0 if len(offsets) == 1 else column])

    return k.define("scores", _product(k, rows, weights, last))


@rule("LinearRegressor", domain=_ML)
def linear_regressor(k: Lowering, op: Any, x: Source) -> Nest:
    transform = named(op, "post_transform", op.post_transform, TRANSFORMS)
    offsets = _numbers(op.intercepts)
    if len(offsets) not in {0, op.targets}:
        raise NotLowered("LinearRegressor with other intercepts")
    scores = _linear(k, op, x, _numbers(op.coefficients), offsets, op.targets)
    return transformed(k, scores, transform)


@rule("LinearClassifier", domain=_ML)
def linear_classifier(k: Lowering, op: Any, x: Source) -> tuple[Definition, ...]:
    transform = named(op, "post_transform", op.post_transform, TRANSFORMS)
    labels = op.labels
    count = len(labels)
    features = x.shape[-1] if x.rank else 1
    given = len(op.intercepts or ())
    is_single = given == 1 or (not given and len(op.coefficients) == features)
    count = 1 if count == 2 and is_single else count
    offsets = _numbers(op.intercepts)
    if len(offsets) not in {0, count}:
        raise NotLowered("LinearClassifier with other intercepts")
    scores = _linear(k, op, x, _numbers(op.coefficients), offsets, count)
    if count > 1 or len(labels) != 2:
        return best_of(k, labels, scores), transformed(k, scores, transform)

    def pair(row: Axis, column: Axis) -> Expr:
        value = scores[row, 0]
        is_chance = transform in {"NONE", "PROBIT"}
        other = apply("sub", const(1, DOUBLE), value) if is_chance else apply("neg", value)
        return select(apply("eq", index(column), const(0, INT64)), other, value)

    def label(row: Axis) -> Expr:
        return labelled(k, labels, cast(apply("lt", _ZERO, scores[row, 0]), INT64))

    pairs = k.define("pairs", k.compute((scores.shape[0], 2), DOUBLE, pair))
    found = k.compute((scores.shape[0],), INT64, label)
    return found, transformed(k, pairs, transform)


def _kernels(k: Lowering, op: Any, x: Source, count: int) -> Source:
    """The kernel of each row with each of `count` support vectors."""
    vectors = _numbers(op.support_vectors)
    if not len(vectors) or len(vectors) % count:
        raise NotLowered(f"{op.op_type} with {len(vectors)} values of support_vectors")
    vectors = vectors.reshape(count, -1)
    kernel = named(op, "kernel_type", op.kernel_type, ("LINEAR", "POLY", "RBF", "SIGMOID"))
    params = op.kernel_params or ((0.0,) * 3 if kernel == "LINEAR" else None)
    if params is None or len(params) != 3:
        raise NotLowered(f"{op.op_type} without kernel_params")
    gamma, offset, degree = (float(np.float32(value)) for value in params)
    if kernel == "POLY" and degree not in _DEGREES:
        raise NotLowered(f"{op.op_type} of degree {degree}")
    rows, number = _rows(k, op, x, vectors.shape[1])

    def shaped(total: Expr) -> Expr:
        value = apply("add", apply("mul", const(gamma, DOUBLE), total), const(offset, DOUBLE))
        if kernel == "POLY":
            found = value
            for _ in range(int(degree) - 1):
                found = apply("mul", found, value)
            return found
        return doubles.tanh(value) if kernel == "SIGMOID" else total

    if kernel != "RBF":
        return k.define("kernels", _product(k, rows, vectors, lambda total, _: shaped(total)))
    given = k.constant("vectors", vectors)

    def square(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        row, vector, feature = point
        distance = apply("sub", rows[row, feature], given[vector, feature])
        return apply("mul", distance, distance)

    def power(_point: tuple[Axis, ...], total: Ref) -> Expr:
        return doubles.exp(apply("mul", const(-gamma, DOUBLE), total))

    stages: Any = [("total", "add", DOUBLE, 0.0, square)]
    return k.define("kernels", k.rows((number, *vectors.shape), [2], DOUBLE, stages, power))


def _checked(op: Any, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SardonyxError as error:
        raise NotLowered(str(error)) from error


@rule("SVMRegressor", domain=_ML)
def svm_regressor(k: Lowering, op: Any, x: Source) -> Nest:
    transform = named(op, "post_transform", op.post_transform, TRANSFORMS)
    offsets = _checked(op, lambda: op.offsets(1))
    weights = _numbers(op.coefficients)
    if op.n_supports > 0:
        if len(weights) != op.n_supports:
            raise NotLowered("SVMRegressor with other coefficients")
        kernels = _kernels(k, op, x, op.n_supports)
        add = const(float(offsets[0]), DOUBLE)
        summed = _product(k, kernels, weights[None], lambda total, _: apply("add", total, add))
        scores = k.define("scores", summed)
    else:
        scores = _linear(k, op, x, weights, offsets, 1)
    if not op.one_class:
        return transformed(k, scores, transform)

    def side(*axes: Axis) -> Expr:
        inside = apply("lt", _ZERO, scores[axes])
        return select(inside, const(1, FLOAT), const(-1, FLOAT))

    return k.compute(scores.shape, FLOAT, side)


@rule("Scaler", domain=_ML)
def scaler(k: Lowering, op: Any, x: Source) -> Nest:
    features = x.shape[-1] if x.rank else 1

    def parameter(name: str, values: Any) -> Callable[[tuple[Axis, ...]], Expr]:
        found = _numbers(values)
        if len(found) == 1:
            return lambda _axes: const(float(found[0]), DOUBLE)
        if not x.rank:
            raise NotLowered("Scaler of a scalar by features")
        k.require_equal(features, len(found))
        given = k.constant(name, found)
        return lambda axes: given[axes[-1]]

    offset = parameter("offset", op.offset or (0.0,))
    scale = parameter("scale", op.scale or (1.0,))

    def element(*axes: Axis) -> Expr:
        value = apply("sub", cast(x[axes], DOUBLE), offset(axes))
        return apply("mul", value, scale(axes))

    return k.compute(x.shape, FLOAT, element)


@rule("Normalizer", domain=_ML)
def normalizer(k: Lowering, op: Any, x: Source) -> Nest:
    norm = named(op, "norm", op.norm, ("MAX", "L1", "L2"))
    if x.rank not in {1, 2}:
        raise NotLowered(f"Normalizer of rank {x.rank}")

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return cast(x.at(point), DOUBLE)

    def size_of(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return apply("abs", read(point))

    def whole(largest: Expr) -> Expr:
        """What the elements are divided by before they are squared."""
        some = apply("lt", _ZERO, largest)
        finite = apply("lt", largest, const(float("inf"), DOUBLE))
        return select(apply("and", some, finite), largest, const(1, DOUBLE))

    def square(point: tuple[Axis, ...], largest: Ref) -> Expr:
        share = apply("div", read(point), whole(largest))
        return apply("mul", share, share)

    def result(point: tuple[Axis, ...], *found: Ref) -> Expr:
        divisor: Expr = found[-1]
        if norm == "L2":
            divisor = apply("mul", whole(found[0]), apply("sqrt", found[1]))
        none = apply("eq", divisor, _ZERO)
        return select(none, read(point), apply("div", read(point), divisor))

    stages: dict[str, Any] = {
        "MAX": [("peak", "maximum", DOUBLE, float("-inf"), read)],
        "L1": [("total", "add", DOUBLE, 0.0, size_of)],
        "L2": [
            ("largest", "maximum", DOUBLE, 0.0, size_of),
            ("total", "add", DOUBLE, 0.0, square),
        ],
    }
    return k.rows(x.shape, [x.rank - 1], FLOAT, stages[norm], result, spread=True)


@rule("Binarizer", domain=_ML)
def binarizer(k: Lowering, op: Any, x: Source) -> Nest:
    threshold = np.float32(op.threshold)
    bound = const(float(threshold), x.dtype if x.dtype.is_floating else DOUBLE)
    if not x.dtype.is_floating and np.isfinite(threshold):
        # x > t and x > floor(t) are the same for an integer x
        info = np.iinfo(x.dtype.numpy.str)
        whole = floor(threshold)
        if whole < info.min:
            return k.compute(x.shape, x.dtype, lambda *axes: const(1, x.dtype))
        bound = const(min(whole, info.max), x.dtype)
    return k.compute(x.shape, x.dtype, lambda *axes: apply("lt", bound, cast(x[axes], bound.dtype)))


@rule("Imputer", domain=_ML)
def imputer(k: Lowering, op: Any, x: Source) -> Nest:
    is_float = x.dtype.is_floating
    values = op.imputed_value_floats if is_float else op.imputed_value_int64s
    replaced = op.replaced_value_float if is_float else op.replaced_value_int64
    held = np.array(values or (), np.float32 if is_float else np.int64)
    found = held.astype(x.dtype.numpy)
    if not len(found) or (not is_float and (held != found).any()):
        raise NotLowered("Imputer with other values")
    if not is_float and replaced != np.array(replaced).astype(x.dtype.numpy):
        raise NotLowered("Imputer that replaces what its type does not hold")
    given: Source | None = None
    if len(found) > 1:
        if not x.rank:
            raise NotLowered("Imputer of a scalar by features")
        k.require_equal(x.shape[-1], len(found))
        given = k.constant("imputed", found)
    single = const(found[0].item(), x.dtype)
    gone = const(float(np.float32(replaced)) if is_float else replaced, x.dtype)

    def element(*axes: Axis) -> Expr:
        value = x[axes]
        hit = is_nan(value) if gone.value != gone.value else apply("eq", value, gone)
        return select(hit, single if given is None else given[axes[-1]], value)

    return k.compute(x.shape, x.dtype, element)


@rule("ArrayFeatureExtractor", domain=_ML)
def extracted(k: Lowering, op: Any, x: Source, places: Source) -> Nest:
    flat = k.define("places", k.view(places, (product(places.shape),)))
    dim = x.shape[-1]

    def element(*axes: Axis) -> Expr:
        given = flat[axes[-1]]
        # an index from the end is none: the run fails
        outside = apply("lt", given, const(0, INT64))
        chosen = position(select(outside, size(dim), given), dim)
        where = (*axes[: x.rank - 1], chosen)
        return x[where]

    return k.compute(k.outputs[0][1], x.dtype, element)
