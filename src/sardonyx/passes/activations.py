"""Activations as exporters write them out, as one operator again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from sardonyx.rewrite import Rule

if TYPE_CHECKING:
    from sardonyx.rewrite import Match

__all__ = ["ACTIVATIONS"]

_ROOT_2: Final = math.sqrt(2)
_TANH_SCALE: Final = math.sqrt(2 / math.pi)
_TANH_CUBE: Final = 0.044715


def _erf_of(op: Any, x: Any) -> Any:
    """1 + erf(x / sqrt(2))."""
    scaled = op.either(op.Div(x, _ROOT_2), op.Mul(x, 1 / _ROOT_2))
    return op.Add(op.Erf(scaled), 1.0)


def _gelu_erf(op: Any, x: Any) -> Any:
    one_plus = _erf_of(op, x)
    return op.either(
        op.Mul(op.Mul(x, one_plus), 0.5),
        op.Div(op.Mul(x, one_plus), 2.0),
        op.Mul(op.either(op.Mul(x, 0.5), op.Div(x, 2.0)), one_plus),
        op.Mul(x, op.either(op.Mul(one_plus, 0.5), op.Div(one_plus, 2.0))),
        op.Mul(
            x,
            op.Add(op.Mul(op.Erf(op.either(op.Div(x, _ROOT_2), op.Mul(x, 1 / _ROOT_2))), 0.5), 0.5),
        ),
    )


def _gelu_tanh(op: Any, x: Any) -> Any:
    square = op.either(op.Mul(x, x), op.Pow(x, 2.0))
    cube = op.either(op.Pow(x, 3.0), op.Mul(x, square))
    expanded = op.Add(x, op.either(op.Mul(cube, _TANH_CUBE), op.Mul(op.Mul(x, _TANH_CUBE), square)))
    factored = op.Mul(x, op.Add(op.Mul(square, _TANH_CUBE), 1.0))
    scaled = op.either(
        op.Mul(op.either(expanded, factored), _TANH_SCALE),
        op.Mul(op.Mul(x, _TANH_SCALE), op.Add(op.Mul(square, _TANH_CUBE), 1.0)),
        op.Mul(
            x,
            op.Add(op.Mul(square, _TANH_SCALE * _TANH_CUBE), _TANH_SCALE),
        ),
    )
    one_plus = op.Add(op.Tanh(scaled), 1.0)
    return op.either(
        op.Mul(op.either(op.Mul(x, 0.5), op.Div(x, 2.0)), one_plus),
        op.Mul(op.Mul(x, one_plus), 0.5),
        op.Mul(x, op.Mul(one_plus, 0.5)),
    )


def _swish(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Sigmoid(x))


def _swish_scaled(op: Any, x: Any, alpha: Any) -> Any:
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


def _hard_swish(op: Any, x: Any) -> Any:
    bounded = op.Clip(op.Add(x, 3.0), 0.0, 6.0)
    return op.either(
        op.Mul(x, op.HardSigmoid(x, _bind="gate")),
        op.Div(op.Mul(x, bounded), 6.0),
        op.Mul(op.Mul(x, bounded), 1 / 6),
        op.Mul(x, op.either(op.Div(bounded, 6.0), op.Mul(bounded, 1 / 6))),
    )


def _hard_sigmoid(op: Any, x: Any) -> Any:
    bounded = op.Clip(op.Add(x, 3.0), 0.0, 6.0)
    return op.either(op.Div(bounded, 6.0), op.Mul(bounded, 1 / 6))


def _softplus(op: Any, x: Any) -> Any:
    return op.Log(op.Add(op.Exp(x), 1.0))


def _mish(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Tanh(op.Softplus(x)))


def _is_standard_gate(match: Match) -> str | None:
    gate = match.operator("gate")
    if gate is None:
        return None
    alpha, beta = getattr(gate, "alpha", 0.0), getattr(gate, "beta", 0.0)
    if abs(alpha - 1 / 6) < 1e-6 and abs(beta - 0.5) < 1e-6:
        return None
    return f"the gate is {alpha} * x + {beta}, not x / 6 + 0.5"


def _is_number(match: Match) -> str | None:
    return None if match.number("alpha") is not None else "the factor is no constant number"


ACTIVATIONS: Final = (
    Rule("gelu-erf", _gelu_erf, lambda op, m: op.Gelu(m["x"]), opset=20),
    Rule("gelu-tanh", _gelu_tanh, lambda op, m: op.Gelu(m["x"], approximate="tanh"), opset=20),
    Rule(
        "hard-swish", _hard_swish, lambda op, m: op.HardSwish(m["x"]), _is_standard_gate, opset=14
    ),
    Rule(
        "hard-sigmoid",
        _hard_sigmoid,
        lambda op, m: op.HardSigmoid(m["x"], alpha=1 / 6, beta=0.5),
    ),
    Rule("softplus", _softplus, lambda op, m: op.Softplus(m["x"])),
    Rule("mish", _mish, lambda op, m: op.Mish(m["x"]), opset=18),
    Rule("swish", _swish, lambda op, m: op.Swish(m["x"]), opset=24),
    Rule(
        "swish-scaled",
        _swish_scaled,
        lambda op, m: op.Swish(m["x"], alpha=m.number("alpha")),
        _is_number,
        opset=24,
    ),
)
