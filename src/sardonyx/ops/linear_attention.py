"""Attention in linear time: a recurrent state, and the causal convolution that goes before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, FLOAT, FLOAT16
from sardonyx.errors import InferenceError, UnsupportedError, quote
from sardonyx.ops.activation import sigmoid
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import joined, of_rank, shapes_of
from sardonyx.ops.numeric import rounded, widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import check_size, divide, multiply, subtract

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder


class CausalConvWithState(Operator, since=27):
    """Each channel convolved with its own kernel over the present and past, then activated.

    The state is the last k - 1 positions of past_state (zeros where omitted) and input.
    """

    input = Input("T", "[B, C, L].")
    weight = Input("T", "[C, 1, k].")
    bias = Input("T", "[C].", optional=True)
    past_state = Input("T", "[B, C, k - 1].", optional=True)
    output = Output("T", "[B, C, L].")
    present_state = Output("T", "[B, C, k - 1].")
    T = (FLOAT, FLOAT16, BFLOAT16)
    activation: str = "none"

    def infer(
        self,
        input: Fact,
        weight: Fact,
        bias: Fact | None = None,
        past_state: Fact | None = None,
    ) -> tuple[Fact, ...]:
        name = self.op_type
        if self.activation not in {"none", "silu", "swish"}:
            raise InferenceError(
                f"{name}: activation {quote(self.activation)}",
                hint='it is "none", "silu" or "swish"',
            )
        x = of_rank(name, "input", input, 3)
        w = of_rank(name, "weight", weight, 3)
        b = of_rank(name, "bias", bias, 1)
        state = of_rank(name, "past_state", past_state, 3)
        if w[2] == 0:
            raise InferenceError(f"{name}: weight has kernel size 0")
        batch = joined(name, "the batch", x[0], state[0])
        channels = joined(name, "the number of channels", x[1], w[0], b[0], state[1])
        joined(name, "dimension 1 of weight", w[1], 1)
        carried = joined(name, "the length of the state", subtract(w[2], 1), state[2])
        dtype = input.dtype or weight.dtype
        return (
            Fact.tensor(dtype, (batch, channels, x[2])),
            Fact.tensor(dtype, (batch, channels, carried)),
        )

    def reference(
        self,
        input: Array,
        weight: Array,
        bias: Array | None = None,
        past_state: Array | None = None,
    ) -> tuple[Array, ...]:
        self.infer(*shapes_of(input, weight, bias, past_state))
        kernel, length = weight.shape[2], input.shape[2]
        if past_state is None:
            check_size(self.op_type, (*input.shape[:2], kernel - 1 + length), input.itemsize)
            past_state = np.zeros((*input.shape[:2], kernel - 1), input.dtype)
        whole = np.concatenate([past_state, input], axis=2)
        x, w = widen(whole), widen(weight)
        with np.errstate(all="ignore"):
            total = np.zeros(input.shape, x.dtype)
            for tap in range(kernel):
                total += x[:, :, tap : tap + length] * w[:, 0, tap, None]
            if bias is not None:
                total += widen(bias)[:, None]
            result = total.astype(input.dtype)
        if self.activation != "none":
            result = rounded(np.multiply, result, rounded(sigmoid, result))
        return result, whole[:, :, length:]

    def body(
        self,
        op: BodyBuilder,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        past_state: Value | None = None,
    ) -> tuple[Value, ...]:
        known = [(input, 1), (weight, 0), (bias, 0), (past_state, 1)]
        shapes = [(op.fact(value).shape, axis) for value, axis in known if value is not None]
        sizes = [shape[axis] for shape, axis in shapes if shape is not None]
        channels = next((size for size in sizes if isinstance(size, int)), None)
        if channels is None:
            raise UnsupportedError(
                "the function body of CausalConvWithState needs the number of channels",
                hint="infer shapes first, or declare them",
            )
        last = np.array([2], np.int64)
        if past_state is None:
            carried = op.Sub(op.size(weight, 2), np.ones(1, np.int64))
            whole = op.Pad(input, op.sizes(carried, 0), None, last)
        else:
            whole = op.Concat(past_state, input, axis=2)
        shift = None if bias is None else op.wide(bias)
        result = op.Conv(op.wide(whole), op.wide(weight), shift, group=channels)
        result = op.cast_like(result, input)
        if self.activation != "none":
            result = op.Mul(result, op.Sigmoid(result))
        end = np.array([np.iinfo(np.int64).max], np.int64)
        return result, op.Slice(whole, op.size(input, 2), end, last)


_RULES: Final = ("linear", "gated", "delta", "gated_delta")


class LinearAttention(Operator, since=27):
    """A recurrent state S of each head, updated and read once per position: scale * q^T S.

    With decay g ("gated", "gated_delta") S is first multiplied by exp(g). Then k v^T is added,
    or for "delta" and "gated_delta" beta * k (v - S^T k)^T. Each group of
    q_num_heads / kv_num_heads query heads reads one state. The state is computed in at least
    float32. `chunk_size` is a hint and changes nothing.
    """

    query = Input("T", "[B, L, Hq * Dk].")
    key = Input("T", "[B, L, Hkv * Dk].")
    value = Input("T", "[B, L, Hkv * Dv].")
    past_state = Input("S", "[B, Hkv, Dk, Dv]; zeros where omitted.", optional=True)
    decay = Input("T", "[B, L, Hkv * Dk] or [B, L, Hkv].", optional=True)
    beta = Input("T", "[B, L, Hkv] or [B, L, 1].", optional=True)
    output = Output("T", "[B, L, Hq * Dv].")
    present_state = Output("S", "[B, Hkv, Dk, Dv].")
    T = S = (FLOAT, FLOAT16, BFLOAT16)
    chunk_size: int = 64
    kv_num_heads: int
    q_num_heads: int
    scale: float = 0.0
    update_rule: str = "gated_delta"

    def infer(
        self,
        query: Fact,
        key: Fact,
        value: Fact,
        past_state: Fact | None = None,
        decay: Fact | None = None,
        beta: Fact | None = None,
    ) -> tuple[Fact, ...]:
        name, heads, groups = self.op_type, self.kv_num_heads, self.q_num_heads
        self._check(decay, beta)
        q, k = of_rank(name, "query", query, 3), of_rank(name, "key", key, 3)
        v, state = of_rank(name, "value", value, 3), of_rank(name, "past_state", past_state, 4)
        g, b = of_rank(name, "decay", decay, 3), of_rank(name, "beta", beta, 3)
        batch = joined(name, "the batch", q[0], k[0], v[0], state[0], g[0], b[0])
        length = joined(name, "the length", q[1], k[1], v[1], g[1], b[1])
        for what, size, count in (
            ("query", q[2], groups),
            ("key", k[2], heads),
            ("value", v[2], heads),
        ):
            if isinstance(size, int) and size % count:
                raise InferenceError(f"{name}: {what} has {size} columns for {count} heads")
        dk = joined(name, "the key head size", divide(q[2], groups), divide(k[2], heads), state[2])
        dv = joined(name, "the value head size", divide(v[2], heads), state[3])
        joined(name, "the number of heads of past_state", state[1], heads)
        if isinstance(b[2], int) and b[2] not in {1, heads}:
            raise InferenceError(f"{name}: beta has {b[2]} columns, needs 1 or {heads}")
        if isinstance(g[2], int) and isinstance(dk, int) and g[2] not in {heads, heads * dk}:
            raise InferenceError(f"{name}: decay has {g[2]} columns, needs {heads} or {heads * dk}")
        held = query.dtype if past_state is None else past_state.dtype
        return (
            Fact.tensor(query.dtype, (batch, length, multiply(groups, dv))),
            Fact.tensor(held, (batch, heads, dk, dv)),
        )

    def _check(self, decay: Any, beta: Any) -> None:
        name = self.op_type
        if self.update_rule not in _RULES:
            raise InferenceError(
                f"{name}: update_rule {quote(self.update_rule)}",
                hint=f"it is one of {', '.join(_RULES)}",
            )
        if self.kv_num_heads < 1 or self.q_num_heads < 1 or self.q_num_heads % self.kv_num_heads:
            raise InferenceError(
                f"{name}: {self.q_num_heads} query heads do not divide among "
                f"{self.kv_num_heads} KV heads"
            )
        if "gated" in self.update_rule and decay is None:
            raise InferenceError(f"{name}: update_rule {quote(self.update_rule)} needs decay")
        if "delta" in self.update_rule and beta is None:
            raise InferenceError(f"{name}: update_rule {quote(self.update_rule)} needs beta")

    def reference(
        self,
        query: Array,
        key: Array,
        value: Array,
        past_state: Array | None = None,
        decay: Array | None = None,
        beta: Array | None = None,
    ) -> tuple[Array, ...]:
        facts = shapes_of(query, key, value, past_state, decay, beta)
        shape = self.infer(*facts)[1].shape
        assert shape is not None
        _, heads, dk, dv = (int(size) for size in shape)  # type: ignore[arg-type]
        batch, length = query.shape[:2]
        check_size(self.op_type, (batch, heads, dk, dv), 4)
        held = query.dtype if past_state is None else past_state.dtype
        q = widen(query).reshape(batch, length, heads, self.q_num_heads // heads, dk)
        k = widen(key).reshape(batch, length, heads, dk, 1)
        v = widen(value).reshape(batch, length, heads, 1, dv)
        state = np.zeros((batch, heads, dk, dv), q.dtype)
        if past_state is not None:
            state = state + widen(past_state)
        scale = q.dtype.type(self.scale if self.scale != 0 else 1 / math.sqrt(max(dk, 1)))
        result = np.empty((batch, length, heads, q.shape[3], dv), q.dtype)
        with np.errstate(all="ignore"):
            g = None
            if decay is not None and "gated" in self.update_rule:
                columns = decay.shape[2] // heads
                g = np.exp(widen(decay)).reshape(batch, length, heads, columns, 1)
            b = None if beta is None else widen(beta)[..., None, None]
            for step in range(length):
                if g is not None:
                    state = state * g[:, step]
                change = v[:, step]
                if b is not None and "delta" in self.update_rule:
                    known = np.matmul(k[:, step].swapaxes(2, 3), state)
                    change = b[:, step] * (change - known)
                state = state + k[:, step] * change
                result[:, step] = scale * np.matmul(q[:, step], state)
            output = result.reshape(batch, length, self.q_num_heads * dv).astype(query.dtype)
            return output, state.astype(held)

    def body(
        self,
        op: BodyBuilder,
        query: Value,
        key: Value,
        value: Value,
        past_state: Value | None = None,
        decay: Value | None = None,
        beta: Value | None = None,
    ) -> tuple[Value, ...]:
        heads, each = self.kv_num_heads, self.q_num_heads // self.kv_num_heads
        batch, length = op.size(query, 0), op.size(query, 1)
        count = np.array([heads], np.int64)
        dk, dv = op.Div(op.size(key, 2), count), op.Div(op.size(value, 2), count)
        parts = {
            "query": op.reshape(op.wide(query), batch, length, heads, each, dk),
            "key": op.reshape(op.wide(key), batch, length, heads, dk, 1),
            "value": op.reshape(op.wide(value), batch, length, heads, 1, dv),
        }
        if decay is not None and "gated" in self.update_rule:
            rows = op.Div(op.size(decay, 2), count)
            parts["decay"] = op.reshape(op.Exp(op.wide(decay)), batch, length, heads, rows, 1)
        if beta is not None and "delta" in self.update_rule:
            parts["beta"] = op.Unsqueeze(op.wide(beta), np.array([3, 4], np.int64))
        if past_state is None:
            zero = np.zeros(1, op.dtype(parts["query"]).numpy)
            start = op.ConstantOfShape(op.sizes(batch, heads, dk, dv), value=zero)
        else:
            start = op.cast_like(past_state, parts["query"])
        state, read = op.Scan(
            start,
            *parts.values(),
            body=self._step(op, start, parts).graph,
            num_scan_inputs=len(parts),
            scan_input_axes=(1,) * len(parts),
            scan_output_axes=(1,),
            _outputs=2,
        )
        scale = self._scale_body(op, dk, read)
        columns = op.Mul(dv, np.array([self.q_num_heads], np.int64))
        output = op.reshape(op.Mul(read, scale), batch, length, columns)
        held = query if past_state is None else past_state
        return op.cast_like(output, query), op.cast_like(state, held)

    def _step(self, op: BodyBuilder, start: Value, parts: dict[str, Value]) -> BodyBuilder:
        """One position: the state it leaves and, not yet scaled, what its queries read."""
        slices = []
        for name, part in parts.items():
            shape = op.fact(part).shape
            kept = None if shape is None else (shape[0], *shape[2:])
            slices.append((name, Fact.tensor(op.dtype(part), kept)))
        inner = op.inner("step", [("state", op.fact(start)), *slices])
        state, *values = inner.graph.inputs
        now = dict(zip(parts, values, strict=True))
        if "decay" in now:
            state = inner.Mul(state, now["decay"])
        change = now["value"]
        if "beta" in now:
            known = inner.MatMul(inner.Transpose(now["key"], perm=(0, 1, 3, 2)), state)
            change = inner.Mul(now["beta"], inner.Sub(change, known))
        state = inner.Add(state, inner.Mul(now["key"], change))
        inner.graph.outputs.extend([state, inner.MatMul(now["query"], state)])
        return inner

    def _scale_body(self, op: BodyBuilder, dk: Value, like: Value) -> Value:
        size = op.fact(dk).constant_value()
        if self.scale != 0:
            return op.like(self.scale, like)
        if size is not None:
            return op.like(1 / math.sqrt(max(int(size.reshape(-1)[0]), 1)), like)
        root: Value = op.Reciprocal(op.Sqrt(op.cast_like(op.reshape(dk), like)))
        return root
