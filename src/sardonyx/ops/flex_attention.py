"""FlexAttention: attention whose scores and probabilities a model's own graphs modify."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import BFLOAT16, DOUBLE, FLOAT, FLOAT16
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.graph import Graph  # noqa: TC001 - attribute annotations are evaluated
from sardonyx.ir.types import TensorType, shape_text
from sardonyx.ops import types
from sardonyx.ops.activation import Softmax
from sardonyx.ops.attention_bodies import grouped_matmul, root_of_scale
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import joined, of_rank, shapes_of
from sardonyx.ops.numeric import rounded, single
from sardonyx.ops.operator import ControlFlow
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import GraphInfer, GraphRun

_PRECISIONS: Final = (FLOAT, FLOAT16, DOUBLE, BFLOAT16)


class FlexAttention(ControlFlow, since=1, domain="ai.onnx.preview"):
    """prob_mod(softmax(score_mod(`scale` * Q K^T))) V for each head.

    Each group of Hq / Hkv consecutive query heads shares one key and value head. Both graphs take
    and return one tensor [B, Hq, L, S] of type `softmax_precision`, which also the product with V
    is computed in: DOUBLE for DOUBLE inputs and FLOAT for others where it is not given. A missing
    graph changes nothing. A row of scores that are all -inf gives NaN, as Softmax does. The scale
    is a FLOAT for inputs of any type, 1 / sqrt(D) where it is not given.
    """

    Q = Input("T1", "[B, Hq, L, D].")
    K = Input("T1", "[B, Hkv, S, D].")
    V = Input("T1", "[B, Hkv, S, Dv].")
    Y = Output("T1", "[B, Hq, L, Dv].")
    T1 = types.FLOATS_BFLOAT16
    prob_mod: Graph | None = None
    scale: float | None = None
    score_mod: Graph | None = None
    softmax_precision: int | None = None

    def infer(self, infer_graph: GraphInfer, Q: Fact, K: Fact, V: Fact) -> Fact:
        scores, result = self._shapes(Q, K, V)
        dtype = Q.dtype or K.dtype or V.dtype
        modified = Fact.tensor(self._precision(dtype), scores)
        for name, graph in self._modifiers():
            if graph is not None:
                self._check_inferred(name, modified, infer_graph(graph, [modified]))
        return Fact.tensor(dtype, result)

    def _modifiers(self) -> tuple[tuple[str, Graph | None], ...]:
        return (("score_mod", self.score_mod), ("prob_mod", self.prob_mod))

    def _shapes(self, Q: Fact, K: Fact, V: Fact) -> tuple[Shape, Shape]:
        """The shapes of the scores and of Y."""
        op_type = self.op_type
        q = of_rank(op_type, "Q", Q, 4)
        k = of_rank(op_type, "K", K, 4)
        v = of_rank(op_type, "V", V, 4)
        batch = joined(op_type, "the batch", q[0], k[0], v[0])
        kv_heads = joined(op_type, "the number of KV heads", k[1], v[1])
        length = joined(op_type, "the length of K and V", k[2], v[2])
        joined(op_type, "the head size of Q and K", q[3], k[3])
        self._check_groups(q[1], kv_heads)
        return (batch, q[1], q[2], length), (batch, q[1], q[2], v[3])

    def _check_groups(self, q_heads: DimLike, kv_heads: DimLike) -> None:
        if not (isinstance(q_heads, int) and isinstance(kv_heads, int)) or q_heads == kv_heads:
            return
        if kv_heads < 1 or q_heads % kv_heads:
            raise InferenceError(
                f"FlexAttention: {q_heads} query heads do not divide among {kv_heads} KV heads"
            )

    def _precision(self, dtype: DType | None) -> DType | None:
        """The type of scores and probabilities for inputs of `dtype`."""
        if self.softmax_precision is None:
            return DOUBLE if dtype is DOUBLE else None if dtype is None else FLOAT
        for allowed in _PRECISIONS:
            if allowed.code == self.softmax_precision:
                return allowed
        raise InferenceError(
            f"FlexAttention: softmax_precision {self.softmax_precision} is not allowed",
            hint="it is the code of "
            + ", ".join(f"{allowed} ({allowed.code})" for allowed in _PRECISIONS),
        )

    def _check_inferred(self, name: str, given: Fact, outputs: list[Fact]) -> None:
        if len(outputs) != 1:
            raise InferenceError(f"FlexAttention: {name} needs one output, got {len(outputs)}")
        found = outputs[0]
        if found.type is None:
            return
        if not isinstance(found.type, TensorType):
            raise InferenceError(f"FlexAttention: {name} must return a tensor, got {found.type}")
        if found.dtype and given.dtype and found.dtype is not given.dtype:
            raise InferenceError(
                f"FlexAttention: {name} takes {given.dtype} and must return it, got {found.dtype}"
            )
        returned = of_rank("FlexAttention", f"the output of {name}", found, 4)
        assert given.shape is not None
        for axis, pair in enumerate(zip(given.shape, returned, strict=True)):
            joined("FlexAttention", f"axis {axis} of input and output of {name}", *pair)

    def reference(self, run_graph: GraphRun, Q: Array, K: Array, V: Array) -> Array:
        self._shapes(*shapes_of(Q, K, V))
        precision = self._precision(dtypes.from_numpy(Q.dtype))
        assert precision is not None
        shape = (*Q.shape[:3], K.shape[2])
        check_size("FlexAttention", shape, max(precision.numpy.itemsize, Q.itemsize))
        check_size("FlexAttention", (*Q.shape[:3], V.shape[3]), precision.numpy.itemsize)
        scores = _converted(self._scores(Q, K).reshape(shape), precision.numpy)
        scores = self._modified(run_graph, "score_mod", self.score_mod, scores)
        weights = Softmax(version=13).reference(scores)
        weights = self._modified(run_graph, "prob_mod", self.prob_mod, weights)
        values = _converted(V, precision.numpy)[:, :, None]
        Y = rounded(np.matmul, _grouped(weights, V.shape[1]), values)
        return _converted(Y.reshape(*Q.shape[:3], V.shape[3]), V.dtype)

    def _scores(self, q: Array, k: Array) -> Array:
        """`scale` * Q K^T, [B, Hkv, Hq / Hkv, L, S]: the scale's FLOAT root is on either factor."""
        scale = 1 / single(math.sqrt(max(q.shape[3], 1))) if self.scale is None else self.scale
        root = single(math.sqrt(abs(single(scale))))
        left = _converted(np.asarray(math.copysign(root, scale)), q.dtype)
        right = _converted(np.asarray(root), k.dtype)
        queries = _grouped(rounded(np.multiply, q, left), k.shape[1])
        keys = rounded(np.multiply, k, right).swapaxes(2, 3)[:, :, None]
        return rounded(np.matmul, queries, keys)

    def _modified(
        self, run_graph: GraphRun, name: str, graph: Graph | None, values: Array
    ) -> Array:
        if graph is None:
            return values
        outputs: list[Any] = run_graph(graph, [values])
        if len(outputs) != 1:
            raise ExecutionError(f"FlexAttention: {name} needs one output, got {len(outputs)}")
        result = outputs[0]
        if not isinstance(result, np.ndarray):
            raise ExecutionError(f"FlexAttention: {name} must return a tensor")
        if result.shape != values.shape or result.dtype != values.dtype:
            raise ExecutionError(
                f"FlexAttention: {name} takes {values.dtype} {shape_text(values.shape)} and must "
                f"return the same, got {result.dtype} {shape_text(result.shape)}"
            )
        return result

    def body(self, op: BodyBuilder, Q: Value, K: Value, V: Value) -> Any:
        dtype = op.dtype(Q)
        self._shapes(op.fact(Q), op.fact(K), op.fact(V))
        precision = self._precision(dtype)
        assert precision is not None
        first, second = self._roots(op, Q)
        keys = op.Transpose(op.Mul(K, second), perm=(0, 1, 3, 2))
        scores = op.cast(grouped_matmul(op, op.Mul(Q, first), keys), precision)
        if self.score_mod is not None:
            (scores,) = self._inlined(op, "score_mod", self.score_mod, scores)
        weights = op.Softmax(scores, axis=-1)
        if self.prob_mod is not None:
            (weights,) = self._inlined(op, "prob_mod", self.prob_mod, weights)
        return op.cast(grouped_matmul(op, weights, op.cast(V, precision)), dtype)

    def _roots(self, op: BodyBuilder, Q: Value) -> tuple[Value, Value]:
        scale, size = self.scale, op.shape(Q)[3]
        if scale is None and isinstance(size, int):
            scale = 1 / single(math.sqrt(max(size, 1)))
        if scale is None:
            return root_of_scale(op, None, Q)
        root = single(math.sqrt(abs(single(scale))))
        return op.like(math.copysign(root, scale), Q), op.like(root, Q)

    def _inlined(self, op: BodyBuilder, name: str, graph: Graph, values: Value) -> list[Value]:
        outputs = op.inline(graph, [values])
        self._check_inferred(name, op.fact(values), [op.fact(value) for value in outputs])
        return outputs


def _converted(x: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _grouped(x: Array, kv_heads: int) -> Array:
    """[B, Hq, ...] as [B, Hkv, Hq / Hkv, ...]."""
    return x.reshape(x.shape[0], kv_heads, x.shape[1] // max(kv_heads, 1), *x.shape[2:])
