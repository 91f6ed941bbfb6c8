"""Ensembles of decision trees: rows walk several trees at a time.

A tree's walk is one long chain of loads; eight that do not depend on each other keep the processor
busy. A group of eight trees is walked by a block of rows before the next, so that the nodes of the
group stay in cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, FLOAT16, INT64
from sardonyx.errors import SardonyxError
from sardonyx.loops import doubles
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import Accumulate, For, If, Let, Local, Store, Var
from sardonyx.loops.nest import Definition, Lowering, Nest, NotLowered, Source, Steps, Temporary
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.forests import WORDS, Table, table_of
from sardonyx.lowering.registry import rule
from sardonyx.lowering.sorting import first_of
from sardonyx.lowering.support import is_nan
from sardonyx.ops.forest import AGGREGATES, TRANSFORMS, choice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.ops.forest import Forest

__all__ = ["best_of", "labelled", "named", "transformed"]

_ML: Final = "ai.onnx.ml"
_TOGETHER: Final = 8
"""Trees that a row walks at a time."""
_BLOCK: Final = 64
_SCORES: Final = 2048
"""Scores of a block of rows that lie on the stack, at most."""
_SHALLOW: Final = 10
_STRIDE: Final = 4
"""Steps after which deeper trees are asked whether there is anything left to walk."""
_STARTS: Final = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": np.inf, "MAX": -np.inf}
_OPS: Final = {"SUM": "add", "AVERAGE": "add", "MIN": "min", "MAX": "max"}


class _Votes:
    """What the leaves add to the scores.

    Each has one weight for one and the same target, or one for each of `columns` targets, or
    votes `first[leaf]` to `first[leaf + 1]`.
    """

    def __init__(self, k: Lowering, forest: Forest, targets: int, aggregate: str) -> None:
        self.op = _OPS[aggregate]
        self.start = _STARTS[aggregate]
        counts = np.diff(forest.vote_start)
        given, weights = forest.vote_target, forest.vote_weight
        if aggregate in {"MIN", "MAX"} and not np.isfinite(weights).all():
            raise NotLowered("the least or greatest of weights that are not finite")
        self.only: int | None = None
        if bool((counts <= 1).all()) and len(given) and (given == given[0]).all():
            self.only = int(given[0])
        self.columns = 1 if self.only is not None else targets
        self.is_dense = self.only is not None or (
            bool((counts == targets).all())
            and bool((given.reshape(-1, targets) == np.arange(targets)).all())
        )
        # one leaf more has no vote
        if self.only is not None:
            spread = np.full(len(counts) + 1, self.start)
            spread[:-1][counts == 1] = weights
            weights = spread
        else:
            weights = np.append(weights, [self.start] * targets)
        self.weights = k.constant("weights", weights)
        if not self.is_dense:
            begins = np.append(forest.vote_start, forest.vote_start[-1])
            self.first = k.constant("first", begins)
            self.targets = k.constant("targets", np.append(given, 0))

    def cast(self, row: Axis, leaf: Expr, number: int) -> Iterator[Stmt]:
        """The votes of the leaf that a row reached."""
        name = Ref(f"leaf{number}", INT64)
        yield Let(name.name, leaf)
        if self.only is not None:
            yield self.add(row, index(0), self.weights[name])
            return
        vote = Axis(f"vote{number}")
        if self.is_dense:
            weight = self.weights[linear((name, self.columns), (vote, 1))]
            body = self.add(row, index(vote), weight)
            mode = "unroll" if self.columns <= _STRIDE else "vector"
            yield For(vote, size(self.columns), (body,), mode)
            return
        begin, end = Ref(f"begin{number}", INT64), self.first[linear((name, 1), (1, 1))]
        yield Let(begin.name, self.first[name])
        place = linear((begin, 1), (vote, 1))
        target = Ref(f"target{number}", INT64)
        body_ = (
            Let(target.name, self.targets[place]),
            self.add(row, target, self.weights[place]),
        )
        yield For(vote, apply("sub", end, begin), body_)

    def add(self, row: Axis, column: Expr, weight: Expr) -> Stmt:
        where = (linear((row, self.columns), (column, 1)),)
        return Store("scores", where, apply(self.op, Load("scores", where, DOUBLE), weight))


class _Walk:
    """Eight trees, or as many as there are, walked by one row."""

    def __init__(self, k: Lowering, x: Source, table: Table, together: int) -> None:
        self.x = x
        self.kind = _kind(x)
        self.together = together
        self.takes_missing = table.takes_missing
        self.records = k.constant("trees", table.records.reshape(-1))
        groups = table.depths.reshape(-1, together)
        self.count = len(groups)
        depths = groups.max(1)
        self.is_deep = int(depths.max()) > _SHALLOW
        self.depths = k.constant("depths", -(-depths // _STRIDE) if self.is_deep else depths)

    def node(self, number: int) -> Ref:
        return Ref(f"node{number}", INT64)

    def word(self, number: int, which: int) -> Expr:
        """A word of the record that tree `number` is at."""
        return self.records[linear((self.node(number), 1), (which, 1))]

    def begin(self, group: Axis) -> Iterator[Stmt]:
        for number in range(self.together):
            root = linear((group, self.together * WORDS), (number * WORDS, 1))
            yield Var(f"node{number}", INT64, root)

    def steps(self, group: Axis, row: Expr) -> Stmt:
        step: Block = tuple(part for n in range(self.together) for part in self.step(n, row))
        depth = self.depths[group]
        if not self.is_deep:
            return For(Axis("level"), depth, step)
        moving: Expr = const(0, self.records.dtype)
        for number in range(self.together):
            moving = apply("or", self.word(number, 1), moving)
        going = apply("ne", moving, const(0, moving.dtype))
        some = (If(going, (For(Axis("level"), const(_STRIDE, INT64), step),)),)
        return For(Axis("levels"), depth, some)

    def step(self, number: int, row: Expr) -> Iterator[Stmt]:
        feature = cast(self.word(number, 0), INT64)
        offset = Ref(f"offset{number}", INT64)
        yield Let(offset.name, cast(self.word(number, 1), INT64))
        where = (feature,) if self.x.rank == 1 else (row, feature)
        value = Ref(f"value{number}", self.kind)
        yield Let(value.name, cast(self.x[where], self.kind))
        split = apply("bits", self.word(number, 2), dtype=self.kind)
        holds = apply("le", value, split)
        move: Expr = offset
        if self.takes_missing:
            given = apply("ne", apply("and", offset, const(1, INT64)), const(0, INT64))
            holds = apply("or", holds, apply("and", given, is_nan(value)))
            move = apply("and", offset, const(-2, INT64))
        jump = apply("shl", cast(holds, INT64), const(WORDS.bit_length() - 1, INT64))
        yield Accumulate(f"node{number}", "add", apply("add", move, jump))


def _kind(x: Source) -> Any:
    """The type that features are compared in."""
    return FLOAT if x.dtype in {FLOAT, FLOAT16} else DOUBLE


def _forest(op: Any) -> Forest:
    try:
        found: Forest = op.trees
    except SardonyxError as error:
        raise NotLowered(str(error)) from error
    if not len(found.roots):
        raise NotLowered(f"{op.op_type} without trees")
    return found


def _scores(k: Lowering, op: Any, x: Source, targets: int, aggregate: str) -> Any:
    """The element of the aggregated scores at a row and a target, in DOUBLE."""
    forest = _forest(op)
    together = min(len(forest.roots), _TOGETHER)
    table = table_of(forest, np.float32 if _kind(x) is FLOAT else np.float64, together)
    if x.rank not in {1, 2}:
        raise NotLowered(f"{op.op_type} of rank {x.rank}")
    k.required.append(x.shape[-1] - table.features)
    votes = _Votes(k, forest, targets, aggregate)
    walk = _Walk(k, x, table, together)
    rows: DimLike = x.shape[0] if x.rank == 2 else 1
    held = max(min(_BLOCK, _SCORES // votes.columns), 1)
    (block,) = k.axes(1)
    group, row, column, cell = Axis("group"), Axis("row"), Axis("column"), Axis("cell")
    out = Temporary("scores of trees", DOUBLE, (rows, votes.columns))
    here = linear((block, held), (row, 1))
    count = Ref("rows", INT64)
    leaves = (cast(walk.word(n, 3), INT64) for n in range(together))
    body: Block = (
        Let(count.name, apply("min", const(held, INT64), linear((rows, 1), (block, -held)))),
        Local("scores", DOUBLE, (held * votes.columns,)),
        For(
            cell,
            size(held * votes.columns),
            (Store("scores", (index(cell),), const(votes.start, DOUBLE)),),
            "vector",
        ),
        For(
            group,
            size(walk.count),
            (
                For(
                    row,
                    count,
                    (
                        *walk.begin(group),
                        walk.steps(group, here),
                        *(
                            stmt
                            for n, leaf in enumerate(leaves)
                            for stmt in votes.cast(row, leaf, n)
                        ),
                    ),
                ),
            ),
        ),
        For(
            row,
            count,
            (
                For(
                    column,
                    size(votes.columns),
                    (
                        Store(
                            out,
                            (here, index(column)),
                            Load("scores", (linear((row, votes.columns), (column, 1)),), DOUBLE),
                        ),
                    ),
                    "vector",
                ),
            ),
        ),
    )
    work = held * walk.count * together * 16
    blocks = (rows + held - 1) // held
    steps = Steps(out.shape, DOUBLE, (block,), (blocks,), body, (out,), work)
    k.temporaries.append((out, steps))
    found = Source(out, DOUBLE, out.shape)
    trees = len(forest.roots)

    def element(point: tuple[Any, ...]) -> Expr:
        at, target = point
        value = found[at, 0 if votes.only is not None else target]
        if aggregate == "AVERAGE":
            value = apply("div", value, const(trees, DOUBLE))
        if votes.start:
            untouched = apply("eq", value, const(votes.start, DOUBLE))
            value = select(untouched, const(0, DOUBLE), value)
        if votes.only is None or targets == 1:
            return value
        mine = apply("eq", index(target), const(votes.only, INT64))
        return select(mine, value, const(0, DOUBLE))

    return element


def transformed(k: Lowering, scores: Source, transform: str) -> Nest:
    """The scores [N, C] in DOUBLE after the standard's post_transform, as FLOAT."""
    if transform == "PROBIT":
        raise NotLowered("the transform PROBIT")
    if transform in {"NONE", "LOGISTIC"}:
        change: Any = (lambda v: v) if transform == "NONE" else doubles.sigmoid
        return k.compute(scores.shape, FLOAT, lambda *axes: change(scores[axes]))

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return scores[point]

    def power(point: tuple[Axis, ...], peak: Ref, *_found: Ref) -> Expr:
        value = doubles.exp(apply("sub", read(point), peak))
        if transform == "SOFTMAX_ZERO":
            counts = apply("lt", const(1e-7, DOUBLE), apply("abs", read(point)))
            value = select(counts, value, const(0, DOUBLE))
        return value

    def result(point: tuple[Axis, ...], peak: Ref, total: Ref) -> Expr:
        none = apply("eq", total, const(0, DOUBLE))
        return select(none, const(0, DOUBLE), apply("div", power(point, peak), total))

    stages: Any = [
        ("peak", "maximum", DOUBLE, float("-inf"), read),
        ("total", "add", DOUBLE, 0.0, power),
    ]
    return k.rows(scores.shape, [1], FLOAT, stages, result, spread=True)


def labelled(k: Lowering, labels: Any, best: Expr) -> Expr:
    """The class label, an INT64, of the class `best`."""
    if np.array_equal(labels, np.arange(len(labels))):
        return best
    return k.constant("labels", labels)[best]


def best_of(k: Lowering, labels: Any, scores: Source) -> Nest:
    """The label of the first of the highest scores of each row."""
    stages = first_of(k, scores, [1], least=False, last=False)
    return k.rows(
        scores.shape, [1], INT64, stages, lambda _point, _peak, place: labelled(k, labels, place)
    )


def _base(k: Lowering, op: Any, targets: int) -> Any:
    base = op.either("base_values").astype(np.float64)
    if base.size not in {0, 1, targets}:
        raise NotLowered(f"{base.size} base_values for {targets} outputs")
    if base.size > 1:
        given = k.constant("base", base)
        return lambda value, column: apply("add", value, given[column])
    if base.size:
        return lambda value, _column: apply("add", value, const(float(base[0]), DOUBLE))
    return lambda value, _column: value


def named(op: Any, name: str, value: Any, known: Any) -> str:
    """The choice that an attribute names."""
    try:
        return choice(op.op_type, name, value, known)
    except SardonyxError as error:
        raise NotLowered(str(error)) from error


def _regressed(k: Lowering, op: Any, x: Source, targets: int, base: Any) -> Nest:
    aggregate = named(op, "aggregate_function", op.aggregate_function, AGGREGATES)
    transform = named(op, "post_transform", op.post_transform, TRANSFORMS)
    element = _scores(k, op, x, targets, aggregate)
    dtype, shape = k.outputs[0]
    if transform == "NONE":
        return k.compute(shape, dtype, lambda *axes: base(element(axes), axes[1]))
    if dtype is not FLOAT:
        raise NotLowered(f"the transform {transform} of {dtype}")
    summed = k.compute(shape, DOUBLE, lambda *axes: base(element(axes), axes[1]))
    return transformed(k, k.define("summed", summed), transform)


@rule("TreeEnsembleRegressor", domain=_ML)
def regressor(k: Lowering, op: Any, x: Source) -> Nest:
    return _regressed(k, op, x, op.targets, _base(k, op, op.targets))


@rule("TreeEnsemble", domain=_ML)
def ensemble(k: Lowering, op: Any, x: Source) -> Nest:
    return _regressed(k, op, x, op.targets, lambda value, _column: value)


@rule("TreeEnsembleClassifier", domain=_ML)
def classifier(k: Lowering, op: Any, x: Source) -> tuple[Definition, ...]:
    transform = named(op, "post_transform", op.post_transform, TRANSFORMS)
    labels = op.labels
    count = len(labels)
    element = _scores(k, op, x, count, "SUM")
    shape = (k.outputs[0][1][0], count)
    if count != 2 or len(set(op.class_ids or ())) != 1:
        base = _base(k, op, count)
        summed = k.define(
            "summed", k.compute(shape, DOUBLE, lambda *axes: base(element(axes), axes[1]))
        )
        return best_of(k, labels, summed), transformed(k, summed, transform)
    voted = op.class_ids[0]
    given = op.either("base_values").astype(np.float64)
    base_value = const(float(given[-1]) if given.size else 0.0, DOUBLE)
    weights = op.either("class_weights")
    is_chance = bool(weights.size and weights.min() >= 0)

    def positive(row: Axis) -> Expr:
        return apply("add", element((row, index(voted))), base_value)

    def pair(row: Axis, column: Axis) -> Expr:
        value = positive(row)
        is_rest = is_chance and transform != "LOGISTIC"
        other = apply("sub", const(1, DOUBLE), value) if is_rest else apply("neg", value)
        return select(apply("eq", index(column), const(0, INT64)), other, value)

    def label(row: Axis) -> Expr:
        bound = const(0.5 if is_chance else 0.0, DOUBLE)
        return labelled(k, labels, cast(apply("lt", bound, positive(row)), INT64))

    pairs = k.define("pairs", k.compute(shape, DOUBLE, pair))
    return k.compute(shape[:1], INT64, label), transformed(k, pairs, transform)
