"""Recurrent layers and cells: LSTM, GRU and plain ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, translation
from sardonyx.export.torch.tensors import data_of
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.graph import Graph

__all__: list[str] = []


@dataclass(frozen=True)
class _Kind:
    """An operator of ONNX, and which of torch's gates its gates are."""

    op_type: str
    gates: tuple[int, ...]
    activation: str | None = None

    @property
    def states(self) -> int:
        return 2 if self.op_type == "LSTM" else 1


_LSTM: Final = _Kind("LSTM", (0, 3, 1, 2))
_GRU: Final = _Kind("GRU", (1, 0, 2))
_TANH: Final = _Kind("RNN", (0,))
_RELU: Final = _Kind("RNN", (0,), "Relu")


def _constant(op: TorchBuilder, kind: _Kind, parts: Sequence[Sequence[Value]],
              name: str) -> Value | None:  # fmt: skip
    """Constant `parts` of each direction with their gates in ONNX's order; None if they are not."""
    gates, rows = len(kind.gates), []
    for direction in parts:
        ordered = []
        for part in direction:
            data = data_of(part)
            if data is None:
                return None
            blocks = data.reshape(gates, data.shape[0] // gates, *data.shape[1:])
            ordered.append(blocks[list(kind.gates)].reshape(data.shape))
        rows.append(np.concatenate(ordered))
    return op.initializer(op.free(name), ArrayTensor(np.stack(rows), op.dtype_of(parts[0][0])))


def _weights(op: TorchBuilder, kind: _Kind, parts: Sequence[Sequence[Value]], name: str) -> Value:
    """The `parts` of each direction with their gates in ONNX's order, (directions, gates, ...)."""
    constant = _constant(op, kind, parts, name)
    if constant is not None:
        return constant
    rows = []
    for direction in parts:
        row = _joined(op, [_ordered(op, part, kind.gates) for part in direction], 0)
        rows.append(op.unsqueeze(row, [0]))
    return _joined(op, rows, 0)


def _ordered(op: TorchBuilder, x: Value, gates: Sequence[int]) -> Value:
    """The blocks of `x` along axis 0 in the order `gates`."""
    if list(gates) == sorted(gates):
        return x
    shape = op.shape_of(x)
    size = shape[0] // len(gates)
    ordered = _joined(op, [op.slice(x, 0, gate * size, (gate + 1) * size) for gate in gates], 0)
    return op.typed(ordered, op.dtype_of(x), shape)


def _joined(op: TorchBuilder, parts: Sequence[Value], axis: int) -> Value:
    if len(parts) == 1:
        return parts[0]
    joined: Value = op.Concat(*parts, axis=axis)
    return joined


def _is_zero(x: Value) -> bool:
    """Whether `x` is nothing but zeros, which is what an initial state is by default."""
    data = data_of(x)
    if data is not None:
        return data.size <= 2**20 and not np.any(data)
    node = x.producer
    if node is None or node.op_type != "ConstantOfShape":
        return False
    value = node.attributes.get("value")
    return value is None or not np.any(value.value.numpy())


def _layer(op: TorchBuilder, kind: _Kind, x: Value, states: Sequence[Value | None],
           weights: Sequence[Sequence[Value]], lengths: Value | None = None) -> Any:  # fmt: skip
    """One layer (time, batch, features), of one direction or two: Y and the last states."""
    hidden = op.shape_of(weights[0][1])[1]
    name = _layer_name(weights[0][0])
    w = _weights(op, kind, [each[:1] for each in weights], f"{name}.W")
    r = _weights(op, kind, [each[1:2] for each in weights], f"{name}.R")
    b = None
    if len(weights[0]) > 2:
        b = _weights(op, kind, [each[2:4] for each in weights], f"{name}.B")
    activations = [kind.activation] * len(weights) if kind.activation else None
    return op.apply(
        kind.op_type,
        [x, w, r, b, lengths, *states],
        hidden_size=hidden,
        direction="bidirectional" if len(weights) == 2 else None,
        activations=activations,
        linear_before_reset=1 if kind is _GRU else None,
        _outputs=1 + kind.states,
    )


def _layer_name(weight: Value) -> str:
    return weight.name.replace("weight_ih_", "").replace("weight_ih", "cell") or "recurrent"


def _stacked(op: TorchBuilder, kind: _Kind, x: Value, initial: Sequence[Value],
             params: Sequence[Value], has_biases: bool, layers: int, bidirectional: bool,
             batch_first: bool) -> Any:  # fmt: skip
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    projected = kind is _LSTM and len(params) == layers * directions * (each + 1)
    if projected:
        each += 1
    dtype = op.dtype_of(x)
    if batch_first:
        x = op.transpose(x, [1, 0, 2])
    parts = [_parts(op, state, layers, directions) for state in initial]
    finals: list[list[Value]] = [[] for _ in initial]
    for layer in range(layers):
        weights = [
            params[(layer * directions + side) * each : (layer * directions + side + 1) * each]
            for side in range(directions)
        ]
        states = [part[layer] for part in parts]
        if projected:
            x, *last = _projected(op, x, [_some(op, s, p, layer, directions)
                                          for s, p in zip(states, initial, strict=True)],
                                  weights)  # fmt: skip
        else:
            y, *last = _layer(op, kind, x, states, weights)
            outer = layer == layers - 1 and batch_first
            if directions == 1:
                x = op.Squeeze(y, op.ints([1])) if op.opset >= 13 else op.Squeeze(y, axes=[1])
                x = op.Transpose(x, perm=[1, 0, 2]) if outer else x
            else:
                x = op.Transpose(y, perm=[2, 0, 1, 3] if outer else [0, 2, 1, 3])
                x = op.Reshape(x, op.ints([0, 0, -1]))
        x.type = TensorType(dtype, None)
        for found, one in zip(finals, last, strict=True):
            found.append(one)
    if projected and batch_first:
        x = op.Transpose(x, perm=[1, 0, 2])
    return x, *(_joined(op, found, 0) for found in finals)


def _parts(op: TorchBuilder, state: Value, layers: int, directions: int) -> list[Value | None]:
    """An initial state by layers; None where it is zeros."""
    if _is_zero(state):
        return [None] * layers
    if layers == 1:
        return [state]
    return [op.slice(state, 0, i * directions, (i + 1) * directions) for i in range(layers)]


def _some(op: TorchBuilder, part: Value | None, whole: Value, layer: int, directions: int) -> Value:
    if part is not None:
        return part
    return op.slice(whole, 0, layer * directions, (layer + 1) * directions)


def _projected(op: TorchBuilder, x: Value, states: Sequence[Value],
               weights: Sequence[Sequence[Value]]) -> tuple[Value, Value, Value]:  # fmt: skip
    """A layer of LSTM whose output is projected, as a Scan for each direction."""
    op.require(9, "an LSTM with projections")
    dtype = op.dtype_of(x)
    outputs: list[Value] = []
    lasts: tuple[list[Value], list[Value]] = ([], [])
    for side, each in enumerate(weights):
        first = [op.Gather(state, op.constant(side, dtypes.INT64), axis=0) for state in states]
        turned = [op.transpose(weight, [1, 0]) for weight in (each[0], each[1], each[-1])]
        bias = op.Add(each[2], each[3]) if len(each) == 5 else None
        sides = [side] if side else None
        h, c, y = op.Scan(
            *first,
            x,
            body=_step(op, x, turned, bias),
            num_scan_inputs=1,
            scan_input_directions=sides,
            scan_output_directions=sides,
            _outputs=3,
        )
        outputs.append(y)
        for found, one in zip(lasts, (h, c), strict=True):
            one.type = TensorType(dtype, (None, None))
            found.append(op.unsqueeze(one, [0]))
    return _joined(op, outputs, 2), _joined(op, lasts[0], 0), _joined(op, lasts[1], 0)


def _step(op: TorchBuilder, x: Value, turned: Sequence[Value], bias: Value | None) -> Graph:
    """One step of an LSTM with projections; `turned`: w_ih, w_hh and w_hr transposed."""
    dtype = op.dtype_of(x)
    hidden, size = op.shape_of(turned[2])
    features = op.shape_of(turned[0])[0]
    batch: DimLike | None = (x.shape or (None, None))[1]
    with op.body("step") as graph:
        inputs = [
            Value(op.unique(name), TensorType(dtype, (batch, width)))
            for name, width in (("h", size), ("c", hidden), ("x", features))
        ]
        graph.inputs.extend(inputs)
        h, c, now = inputs
        gates = op.Add(op.MatMul(now, turned[0]), op.MatMul(h, turned[1]))
        gates = gates if bias is None else op.Add(gates, bias)
        blocks = [hidden] * 4
        if op.opset >= 13:
            i, f, g, o = op.Split(gates, op.sizes(blocks), axis=1, _outputs=4)
        else:
            i, f, g, o = op.Split(gates, axis=1, split=blocks, _outputs=4)
        kept = op.Mul(op.Sigmoid(f), c)
        cell = op.Add(kept, op.Mul(op.Sigmoid(i), op.Tanh(g)))
        out = op.MatMul(op.Mul(op.Sigmoid(o), op.Tanh(cell)), turned[2])
        for value, width in ((out, size), (cell, hidden), (op.Identity(out), size)):
            graph.outputs.append(op.typed(value, dtype, (batch, width)))
    return graph


@translation("aten.lstm.input", "sardonyx.lstm.default")
def lstm(op: TorchBuilder, x: Value, states: Sequence[Value], params: Sequence[Value],
         has_biases: bool, layers: int, dropout: float, train: bool, bidirectional: bool,
         batch_first: bool) -> Any:  # fmt: skip
    _refuse_dropout(dropout, train)
    return _stacked(op, _LSTM, x, states, params, has_biases, layers, bidirectional, batch_first)


def _register_single(name: str, kind: _Kind) -> None:
    @translation(f"aten.{name}.input", f"sardonyx.{name}.default")
    def layer(op: TorchBuilder, x: Value, state: Value, params: Sequence[Value], has_biases: bool,
              layers: int, dropout: float, train: bool, bidirectional: bool,
              batch_first: bool) -> Any:  # fmt: skip
        _refuse_dropout(dropout, train)
        return _stacked(
            op, kind, x, [state], params, has_biases, layers, bidirectional, batch_first
        )


_register_single("gru", _GRU)
_register_single("rnn_tanh", _TANH)
_register_single("rnn_relu", _RELU)


def _refuse_dropout(dropout: float, train: bool) -> None:
    if dropout and train:
        raise ExportError(
            "a recurrent layer with dropout in training cannot be exported",
            hint="put the module in eval mode",
        )


def _cell(op: TorchBuilder, kind: _Kind, x: Value, states: Sequence[Value], w_ih: Value,
          w_hh: Value, b_ih: Value | None, b_hh: Value | None) -> list[Value]:  # fmt: skip
    weights = [w_ih, w_hh] if b_ih is None or b_hh is None else [w_ih, w_hh, b_ih, b_hh]
    first = [None if _is_zero(state) else op.unsqueeze(state, [0]) for state in states]
    _, *last = _layer(op, kind, op.unsqueeze(x, [0]), first, [weights])
    return [op.squeeze(one, [0]) for one in last]


@translation("aten.lstm_cell.default")
def lstm_cell(op: TorchBuilder, x: Value, states: Sequence[Value], w_ih: Value, w_hh: Value,
              b_ih: Value | None = None, b_hh: Value | None = None) -> Any:  # fmt: skip
    return tuple(_cell(op, _LSTM, x, states, w_ih, w_hh, b_ih, b_hh))


def _register_cell(target: str, kind: _Kind) -> None:
    @translation(target)
    def cell(op: TorchBuilder, x: Value, state: Value, w_ih: Value, w_hh: Value,
             b_ih: Value | None = None, b_hh: Value | None = None) -> Any:  # fmt: skip
        return _cell(op, kind, x, [state], w_ih, w_hh, b_ih, b_hh)[0]


_register_cell("aten.gru_cell.default", _GRU)
_register_cell("aten.rnn_tanh_cell.default", _TANH)
_register_cell("aten.rnn_relu_cell.default", _RELU)
