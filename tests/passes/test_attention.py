"""Attention as exporters write it out."""

from __future__ import annotations

import pytest

import sardonyx as sx
from build import from_text
from sardonyx.ir import Model


def model(body: str, mask: str = "float[N, 1, S, T] mask") -> Model:
    return from_text(
        '<ir_version: 10, opset_import: ["" : 24]>'
        f" g (float[N, 2, S, 4] q, float[N, 2, T, 4] k, float[N, 2, T, 4] v, {mask})"
        " => (float[N, 2, S, 4] y)"
        " <float two = {2}, float half = {0.5}, float root = {0.70710678}, float low = {-3.0e38},"
        f" float near = {{-100}}> {{ {body} y = MatMul (p, v) }}"
    )


KT = "t = Transpose <perm = [0, 1, 3, 2]> (k)"

FUSED = {
    "divided": f"{KT} s = MatMul (q, t) d = Div (s, two) p = Softmax (d)",
    "multiplied": f"{KT} s = MatMul (q, t) d = Mul (s, half) p = Softmax (d)",
    "not scaled": f"{KT} s = MatMul (q, t) p = Softmax <axis = 3> (s)",
    "mask": f"{KT} s = MatMul (q, t) d = Div (s, two) m = Add (d, mask) p = Softmax (m)",
    "both scaled": (
        f"{KT} qs = Mul (q, root) ks = Mul (t, root) s = MatMul (qs, ks) m = Add (mask, s)"
        " p = Softmax (m)"
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_fuses(name: str) -> None:
    after = sx.optimize(model(FUSED[name]), verify=True)
    assert [node.op_type for node in after.graph.nodes] == ["Attention"]


def test_where() -> None:
    body = f"{KT} s = MatMul (q, t) m = Where (mask, s, low) p = Softmax (m)"
    built = model(body, "bool[N, 1, S, T] mask")
    after = sx.optimize(built, verify=True)
    assert [node.op_type for node in after.graph.nodes] == ["Where", "Attention"]
    kept = sx.optimize(model(body.replace("low", "near"), "bool[N, 1, S, T] mask"))
    assert "Attention" not in [node.op_type for node in kept.graph.nodes]


def test_masks_that_broadcast_over_keys_stay() -> None:
    built = model(FUSED["mask"], "float[N, 1, S, 1] mask")
    after = sx.optimize(built, verify=True)
    assert "Attention" not in [node.op_type for node in after.graph.nodes]
