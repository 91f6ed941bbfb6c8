"""The Gradient operator: points, order, functions, branches, higher order, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import sardonyx as sx
from build import from_text
from sardonyx import backend
from sardonyx.autodiff import expand
from sardonyx.check import validate
from sardonyx.errors import LimitError, ModelError, SardonyxError, UnsupportedError
from sardonyx.infer import infer
from sardonyx.ir import Model
from sardonyx.reference import Evaluator

X, W, P = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])


def model_of(graph: str, functions: str = "", imports: str = "") -> Model:
    header = (
        '<ir_version: 10, opset_import: ["": 21, "ai.onnx.preview.training": 1'
        f"{', ' if imports else ''}{imports}]>\n"
    )
    text = (header + graph + functions).replace("Gradient<", "ai.onnx.preview.training.Gradient<")
    return from_text(text)


def run(model: Model, **feeds: np.ndarray) -> list[list[float]]:
    """The outputs, of the session and of the written-out model, which are the same."""
    assert not validate(model).errors
    written = expand(model)
    assert not any(node.op_type == "Gradient" for node in written.all_nodes())
    assert not validate(written).errors
    results = sx.Session(model).run(None, feeds)
    again = sx.Session(sx.loads(sx.dumps(written))).run(None, feeds)
    for ours, theirs in zip(results, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return [np.asarray(array).tolist() for array in results]


@pytest.mark.parametrize("name", ["test_gradient_of_add", "test_gradient_of_add_and_mul"])
def test_official_cases(name: str) -> None:
    (case,) = [each for each in load_model_tests(kind="simple") if each.name == name]
    folder = Path(case.model_dir) / "test_data_set_0"
    model = onnx.load(Path(case.model_dir) / "model.onnx")

    def read(kind: str, index: int) -> np.ndarray:
        tensor = onnx.TensorProto.FromString((folder / f"{kind}_{index}.pb").read_bytes())
        return numpy_helper.to_array(tensor)

    inputs = [read("input", index) for index in range(len(model.graph.input))]
    results = backend.prepare(model).run(inputs)
    for index, result in enumerate(results):
        expected = read("output", index)
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_higher_order() -> None:
    model = model_of("""g (double[2] x) => (double[2] d, double[2] dd, double[2] ddd) {
        a = Mul(x, x)  y = Mul(a, x)
        d = Gradient<xs=["x"], y="y">(x)
        dd = Gradient<xs=["x"], y="d">(x)
        ddd = Gradient<xs=["x"], y="dd">(x)
    }""")
    # x^3: 3 x^2, 6 x, 6
    assert run(model, x=X) == [[3, 12], [6, 12], [6, 6]]


def test_mixed_second_order() -> None:
    model = model_of("""g (double[2] x, double[2] w) => (double[2] a, double[2] b) {
        s = Mul(x, x)  y = Mul(s, w)
        dx, dw = Gradient<xs=["x", "w"], y="y">(x, w)
        a, b = Gradient<xs=["x", "w"], y="dx">(x, w)
    }""")
    # y = x^2 w, dy/dx = 2 x w
    assert run(model, x=X, w=W) == [[6, 8], [2, 4]]


def test_at_another_point() -> None:
    model = model_of("""g (double[2] x, double[2] w, double[2] p)
            => (double[2] dx, double[2] dw, double[2] da, double[2] both, double[2] same) {
        a = Mul(x, w)  y = Mul(a, x)
        dx, dw = Gradient<xs=["x", "w"], y="y">(w, x)
        da = Gradient<xs=["a"], zs=["x"], y="y">(p, w)
        both, same = Gradient<xs=["x", "w"], y="y">(p, p)
    }""")
    # y = x^2 w: 2 x w and x^2 with x and w exchanged; x is w; 2 p^2 and p^2
    assert run(model, x=X, w=W, p=P) == [[6, 16], [9, 16], [3, 4], [50, 72], [25, 36]]


def test_intermediate_values_are_independent() -> None:
    model = model_of("""g (double[2] x) => (double[2] da, double[2] dx) {
        a = Mul(x, x)  y = Mul(a, x)
        da, dx = Gradient<xs=["a", "x"], y="y">(a, x)
    }""")
    assert run(model, x=X) == [[1, 2], [1, 4]]


def test_zs_are_held() -> None:
    model = model_of("""g (double[2] x) => (double[2] d) {
        a = Mul(x, x)  y = Mul(a, x)
        d = Gradient<xs=["x"], zs=["a"], y="y">(x, a)
    }""")
    assert run(model, x=X) == [[1, 4]]


def test_before_y_is_computed() -> None:
    model = model_of("""g (double[2] x) => (double[2] y, double[2] d) {
        d = Gradient<xs=["x"], y="y">(x)
        a = Mul(x, x)  y = Mul(a, x)
    }""")
    assert run(model, x=X) == [[1, 8], [3, 12]]


def test_of_what_does_not_depend_and_of_itself() -> None:
    model = model_of("""g (double[2] x, double[2] w) => (double[2] d, double[2] e) {
        y = Mul(x, x)
        d = Gradient<xs=["w"], y="y">(w)
        e = Gradient<xs=["y"], y="y">(y)
    }""")
    assert run(model, x=X, w=W) == [[0, 0], [1, 1]]


def test_outputs_may_be_left_out() -> None:
    model = model_of("""g (double[2] x, double[2] w) => (double[2] dw) {
        y = Mul(x, w)
        , dw = Gradient<xs=["x", "w"], y="y">(x, w)
    }""")
    assert run(model, x=X, w=W) == [[1, 2]]


FUNCTIONS = """
<domain: "f", opset_import: ["": 21]>
cube (x) => (y) { a = Mul(x, x)  y = Mul(a, x) }
<domain: "f", opset_import: ["": 21, "f": 1]>
twice <alpha: float = 2.0> (x, absent) => (y) { a = f.cube(x)  y = Elu<alpha: float = @alpha>(a) }
<domain: "f", opset_import: ["": 21, "f": 1, "ai.onnx.preview.training": 1]>
slope (x) => (d) { y = f.cube(x)  d = Gradient<xs=["x"], y="y">(x) }
"""


def test_functions() -> None:
    model = model_of(
        """g (double[2] x) => (double[2] y, double[2] d, double[2] e, double[2] t) {
        y = f.cube(x)
        d = Gradient<xs=["x"], y="y">(x)
        e = f.slope(x)
        n = Neg(x)
        u = f.twice<alpha = 3.0>(n)
        t = Gradient<xs=["n"], y="u">(n)
    }""",
        FUNCTIONS,
        '"f": 1',
    )
    found = run(model, x=X)
    assert found[:3] == [[1, 8], [3, 12], [3, 12]]
    np.testing.assert_allclose(found[3], 3 * np.exp(-(X**3)) * 3 * X**2)


@pytest.mark.parametrize("condition", [True, False])
def test_branches(condition: bool) -> None:
    model = model_of("""g (bool c, double[2] x, double[2] w) => (double[2] d, double[2] dw) {
        a = Mul(x, x)
        y = If (c) <
            then_branch = t () => (double[2] q) { b = Mul(a, w)  q = Mul(b, x) },
            else_branch = s () => (double[2] r) { r = Mul(x, x) }
        >
        d, dw = Gradient<xs=["x", "w"], y="y">(x, w)
    }""")
    # x^3 w, or x^2
    expected = [[9, 48], [1, 8]] if condition else [[2, 4], [0, 0]]
    assert run(model, c=np.array(condition), x=X, w=W) == expected


def test_inside_a_branch() -> None:
    model = model_of("""g (bool c, double[2] x) => (double[2] y) {
        a = Mul(x, x)
        y = If (c) <
            then_branch = t () => (double[2] q) {
                b = Mul(a, x)
                q = Gradient<xs=["x"], y="b">(x)
            },
            else_branch = s () => (double[2] r) { r = Exp(x) }
        >
    }""")
    assert run(model, c=np.array(True), x=X) == [[3, 12]]


def test_a_model_that_trains_itself() -> None:
    """A linear fit: forward, Gradient and Momentum in one graph, run until the loss is gone."""
    model = model_of("""g (double[8, 2] x, double[8] t, double[2] w, double[2] v, int64 n)
            => (double loss, double[2] new, double[2] state) {
        y = MatMul(x, w)  e = Sub(y, t)  s = Mul(e, e)
        loss = ReduceMean<keepdims=0>(s)
        d = Gradient<xs=["w"], zs=["x", "t"], y="loss">(w, x, t)
        r = Constant<value = float {0.1}>()
        new, state = ai.onnx.preview.training.Momentum
            <alpha=0.9, beta=1.0, mode="standard", norm_coefficient=0.0>(r, n, w, d, v)
    }""")
    random = np.random.default_rng(1)
    x = random.standard_normal((8, 2))
    wanted = np.array([2.0, -1.0])
    w, v = np.zeros(2), np.zeros(2)
    session = sx.Session(model)
    for step in range(300):
        feeds = {"x": x, "t": x @ wanted, "w": w, "v": v, "n": np.array(step)}
        loss, w, v = session.run(None, feeds)
    assert loss < 1e-6
    np.testing.assert_allclose(w, wanted, atol=1e-3)


def test_the_model_is_left_alone() -> None:
    model = model_of("""g (double[2] x) => (double[2] d) {
        y = Mul(x, x)  d = Gradient<xs=["x"], y="y">(x)
    }""")
    before = sx.dumps(model)
    expand(model)
    sx.Session(model)
    assert sx.dumps(model) == before
    plain = from_text(
        "<ir_version: 10, opset_import: ['': 21]> g (float x) => (float y) { y = Neg(x) }".replace(
            "'", '"'
        )
    )
    assert expand(plain) is plain


ERRORS: list[tuple[str, type[SardonyxError], str]] = [
    ('d = Gradient<xs=["x"], y="nix">(x)', ModelError, "'nix', which the graph does not have"),
    ('y = Mul(d, x) d = Gradient<xs=["x"], y="y">(x)', ModelError, "on its own gradient"),
    ('y = Mul(x, x) d = Gradient<xs=["x"], y="y">(x, x)', ModelError, "1 xs and 0 zs has 2 inputs"),
    (
        'a = Det(x) b = DFT(x) c = Sub(a, b) d = Gradient<xs=["x"], y="c">(x)',
        UnsupportedError,
        r"no gradient rule for node of 'a' \(Det\), node of 'b' \(DFT\)",
    ),
]


@pytest.mark.parametrize("nodes,error,message", ERRORS)
def test_errors(nodes: str, error: type[SardonyxError], message: str) -> None:
    model = model_of(f"g (double[1, 2, 2] x) => (double d) {{ {nodes} }}")
    with pytest.raises(error, match=message) as caught:
        Evaluator(model)
    assert "Gradient" in str(caught.value)


def test_the_checker_knows_the_names() -> None:
    model = model_of("""g (double[2] x) => (double[2] d) {
        speed = Mul(x, x)  d = Gradient<xs=["x", "spede"], y="speed">(x, x)
    }""")
    (problem,) = validate(model).errors
    assert "'spede'" in problem.message
    assert "did you mean 'speed'?" in str(problem)


def test_growth_is_bounded() -> None:
    lines = ["d0 = Mul(x, x) y0 = Tanh(d0)"]
    lines += [f'y{i + 1} = Gradient<xs=["x"], y="y{i}">(x)' for i in range(30)]
    model = model_of(f"g (double[2] x) => (double[2] y30) {{ {' '.join(lines)} }}")
    with pytest.raises(LimitError, match="nodes limit"):
        Evaluator(model, limits=sx.Limits(nodes=3000))


def test_inference_knows_the_type() -> None:
    model = model_of("""g (double[N, 2] x) => (double[N, 2] d) {
        y = Mul(x, x)  e = Gradient<xs=["x"], y="y">(x)  d = Neg(e)
    }""")
    facts: Any = infer(model).facts
    assert str(facts[model.graph.values()["e"]]) == "tensor(double)[N, 2]"


def test_functions_that_call_themselves() -> None:
    cycle = """
    <domain: "f", opset_import: ["": 21, "f": 1, "ai.onnx.preview.training": 1]>
    again (x) => (d) { y = f.again(x)  d = Gradient<xs=["x"], y="y">(x) }
    """
    model = model_of("g (double[2] x) => (double[2] y) { y = f.again(x) }", cycle, '"f": 1')
    with pytest.raises(ModelError, match="in a cycle: 'again'"):
        Evaluator(model)
