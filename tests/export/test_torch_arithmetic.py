"""Pointwise functions, special functions, reductions, losses and factorizations of PyTorch."""

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from torch.nn import functional  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.agree import agree  # noqa: E402

special = torch.special


class Call(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def table(rows):
    return [pytest.param(function, args, id=name) for name, function, *args in rows]


def close(expected, found, factor):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    eps = np.finfo(expected.dtype).eps
    scale = np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=1e-3)
    # absolute where terms cancel, relative elsewhere
    np.testing.assert_allclose(
        found, expected, rtol=factor * eps, atol=factor * eps * min(scale, 1)
    )


def agrees(function, args, *, factor=64, dynamic=False, opset=20):
    """Sardonyx and onnxruntime agree with the function, at two sizes of axis 0 if `dynamic`."""
    shapes = None
    if dynamic:
        shapes = (tuple({0: torch.export.Dim("n", min=2)} for _ in args),)
    model = sx.export(
        Call(function), tuple(args), verify=False, dynamic_shapes=shapes, opset_version=opset
    )
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    peer = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.inputs]
    for copies in (1, 3) if dynamic else (1,):
        sized = [arg.repeat_interleave(copies, 0) if copies > 1 else arg for arg in args]
        expected = function(*sized)
        expected = expected if isinstance(expected, (tuple, list)) else [expected]
        feeds = {name: arg.numpy() for name, arg in zip(names, sized, strict=True)}
        for results in (sx.Session(model).run(None, feeds), peer.run(None, feeds)):
            for want, got in zip(expected, results, strict=True):
                close(want.numpy(), got, factor)
    return model


def line(low, high, count=41):
    return torch.linspace(low, high, count)


torch.manual_seed(0)
X = torch.randn(4, 5)
Y = torch.randn(4, 5)
P = torch.rand(4, 5)
WHOLE = torch.tensor([[5, -7, 0, 12], [-3, 8, 9, -64]])
OTHERS = torch.tensor([[3, 2, 4, -8], [6, -12, 3, 6]])
LABELS = torch.tensor([1, 0, 4, 2])
ODD = torch.tensor([0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan, 1e-30, -200.0, 3e8])

POINTWISE = [
    ("expm1", torch.expm1, ODD),
    ("log1p", torch.log1p, ODD),
    ("isfinite", torch.isfinite, ODD),
    ("isposinf", torch.isposinf, ODD),
    ("isneginf", torch.isneginf, ODD),
    ("signbit", torch.signbit, ODD),
    ("copysign", torch.copysign, ODD, ODD.flip(0)),
    ("fmax", torch.fmax, ODD, ODD.flip(0)),
    ("fmin", torch.fmin, ODD, ODD.flip(0)),
    ("remainder", torch.remainder, line(-9, 9), line(2, 5)),
    ("remainder_number", lambda x: x % -2.5, line(-9, 9)),
    ("remainder_infinite", lambda x: x % torch.inf, line(-9, 9)),
    ("hypot", torch.hypot, X, Y),
    ("ldexp", torch.ldexp, X, torch.arange(5)),
    ("frexp", torch.frexp, torch.tensor([0.0, 1.0, 0.5, -8.0, 3.7, 1e-30, 3e38, 2.0**-126])),
    ("nextafter", torch.nextafter, torch.tensor([0.0, 1.0, 2.0, -4.0, 1e-40, 3.0]), torch.tensor([1.0, 0.0, 3.0, 9.0, 0.0, 3.0])),
    ("round_tens", lambda x: torch.round(x, decimals=-1), line(-100, 100)),
    ("lerp", torch.lerp, X, Y, P),
    ("where_bool", lambda x, y: torch.where(x > 0, y > 0, y < 1), X, Y),
    ("maximum_bool", lambda x, y: torch.maximum(x > 0, y > 0), X, Y),
    ("isnan_int", torch.isnan, WHOLE),
    ("gcd", torch.gcd, WHOLE, OTHERS),
    ("lcm", torch.lcm, WHOLE, OTHERS),
    ("left_shift", lambda a: a << 3, WHOLE),
    ("left_shift_tensor", torch.bitwise_left_shift, WHOLE, OTHERS.abs()),
    ("right_shift", torch.bitwise_right_shift, WHOLE, OTHERS.abs()),
    ("floor_divide", lambda a, b: a // b, WHOLE, OTHERS),
    ("addmm_int", torch.addmm, WHOLE[:, :2], WHOLE, OTHERS.T),
    ("mm_int8", torch.mm, WHOLE.to(torch.int8), OTHERS.T.to(torch.int8)),
]  # fmt: skip

SPECIAL = [
    ("erfinv", torch.erfinv, line(-1, 1)),
    ("ndtri", special.ndtri, line(0, 1)),
    ("erfcx", special.erfcx, line(-3, 30)),
    ("log_ndtr", special.log_ndtr, line(-20, 5)),
    ("lgamma", torch.lgamma, line(-4.3, 30)),
    ("digamma", torch.digamma, line(-4.3, 30)),
    ("polygamma1", lambda x: torch.polygamma(1, x), line(0.2, 20)),
    ("polygamma2", lambda x: torch.polygamma(2, x), line(-2.3, 20)),
    ("zeta", special.zeta, line(1.1, 9), line(0.2, 30)),
    ("i0", torch.i0, line(-12, 12)),
    ("i0e", special.i0e, line(-50, 50)),
    ("i1", special.i1, line(-12, 12)),
    ("i1e", special.i1e, line(-50, 50)),
    ("k0", special.modified_bessel_k0, line(0.1, 20)),
    ("k1", special.modified_bessel_k1, line(0, 20)),
    ("scaled_k1", special.scaled_modified_bessel_k1, line(0.1, 20)),
    ("j0", special.bessel_j0, line(-20, 20)),
    ("j1", special.bessel_j1, line(-20, 20)),
    ("y0", special.bessel_y0, line(0.1, 20)),
    ("y1", special.bessel_y1, line(0, 20)),
    ("airy", special.airy_ai, line(-1.9, 6)),
    ("chebyshev", special.chebyshev_polynomial_t, line(-1.5, 1.5), torch.tensor([4])),
    ("hermite", special.hermite_polynomial_h, line(-1, 1, 5), torch.arange(5)),
    ("laguerre", special.laguerre_polynomial_l, line(-1, 1, 5), torch.arange(5)),
    ("igamma", special.gammainc, line(0.1, 9), line(0, 12)),
    ("igammac", special.gammaincc, line(0.1, 9), line(0, 12)),
]

REDUCTIONS = [
    ("any", lambda x: (x > 1).any(0), X),
    ("all", lambda x: (x > -1).all(1, keepdim=True), X),
    ("cumprod", lambda x: x.cumprod(1), X),
    ("cummax", lambda x: x.cummax(1), X),
    ("cummin", lambda x: x.cummin(0), X),
    ("cummax_nan", lambda x: x.cummax(0), ODD),
    ("logcumsumexp", lambda x: x.logcumsumexp(1), X),
    ("median", lambda x: x.median(1, keepdim=True), X),
    ("nanmedian", lambda x: x.nanmedian(), ODD),
    ("mode", lambda x: x.mode(1), torch.tensor([[2, 1, 2, 1, 3], [5, 4, 4, 4, 5]])),
    ("kthvalue", lambda x: x.kthvalue(2, 1), X),
    ("dist", lambda x, y: torch.dist(x, y, 1), X, Y),
    ("cdist", lambda x, y: torch.cdist(x, y), X, Y),
    ("cdist1", lambda x, y: torch.cdist(x, y, 1.0), X, Y),
    ("var_mean", lambda x: torch.var_mean(x, 1), X),
]

LOSSES = [
    ("cross_entropy", functional.cross_entropy, X, LABELS),
    ("ignored", lambda x, t: functional.cross_entropy(x, t, ignore_index=1), X, LABELS),
    ("weighted", lambda x, t, w: functional.cross_entropy(x, t, weight=w), X, LABELS, P[0]),
    ("smoothed", lambda x, t: functional.cross_entropy(x, t, label_smoothing=0.1), X, LABELS),
    ("smoothed_weighted", lambda x, t, w: functional.cross_entropy(
        x, t, weight=w, label_smoothing=0.1, ignore_index=4), X, LABELS, P[0]),
    ("probabilities", functional.cross_entropy, X, P),
    ("unreduced", lambda x, t: functional.cross_entropy(x, t, reduction="none"), X, LABELS),
    ("unbatched", functional.cross_entropy, X[0], LABELS[0]),
    ("nll", lambda x, t: functional.nll_loss(x, t, reduction="sum"), X, LABELS),
    ("bce", functional.binary_cross_entropy, P, P.flip(0)),
    ("bce_logits", functional.binary_cross_entropy_with_logits, X, P),
    ("soft_margin", functional.soft_margin_loss, X * 10, Y.sign()),
    ("multilabel", functional.multilabel_margin_loss, X,
     torch.tensor([[3, 0, -1, 1, 1], [-1, 0, 0, 0, 0], [0, 1, 2, 3, 4], [2, -1, 0, 0, 0]])),
    ("kl", lambda x, y: functional.kl_div(x, y, reduction="batchmean"), X, P),
    ("huber", functional.huber_loss, X, Y),
    ("triplet", lambda x, y: functional.triplet_margin_loss(x, y, x + y), X, Y),
]  # fmt: skip

SQUARE = torch.randn(2, 4, 4)
POSITIVE = SQUARE @ SQUARE.mT + torch.eye(4)
LINALG = [
    ("cholesky", torch.linalg.cholesky, POSITIVE),
    ("cholesky_solve", torch.cholesky_solve, SQUARE[0, :, :2], torch.linalg.cholesky(POSITIVE[0])),
    ("triangular", lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), POSITIVE, SQUARE),
    ("triangular_right", lambda a, b: torch.linalg.solve_triangular(
        a, b, upper=False, left=False), POSITIVE, SQUARE),
    ("det", torch.linalg.det, SQUARE),
    ("slogdet", torch.linalg.slogdet, SQUARE),
    ("inv", torch.linalg.inv, SQUARE),
    ("solve", torch.linalg.solve, SQUARE, POSITIVE),
    ("lu", torch.linalg.lu, SQUARE),
    ("lu_factor", torch.linalg.lu_factor, SQUARE),
    ("qr", torch.linalg.qr, torch.randn(5, 3)),
    ("svdvals", torch.linalg.svdvals, torch.randn(5, 3)),
    ("eigvalsh", torch.linalg.eigvalsh, POSITIVE),
    ("pinv", torch.linalg.pinv, torch.randn(3, 5)),
    ("matrix_exp", torch.linalg.matrix_exp, SQUARE),
    ("inv_of_nothing", torch.linalg.inv_ex, torch.zeros(0, 3, 3)),
    ("ormqr", torch.ormqr, *torch.geqrf(torch.randn(5, 3)), torch.randn(5, 2)),
    ("ormqr_right", lambda a, tau, c: torch.ormqr(a, tau, c, left=False, transpose=True),
     *torch.geqrf(torch.randn(5, 3)), torch.randn(2, 5)),
    ("addmv", torch.addmv, X[0, :4], SQUARE[0], X[1, :4]),
    ("addbmm", torch.addbmm, SQUARE[0], SQUARE, POSITIVE),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args"), table(POINTWISE))
def test_pointwise(function, args):
    agrees(function, args)


@pytest.mark.parametrize(("function", "args"), table(SPECIAL))
def test_special_functions(function, args):
    agrees(function, args, factor=256)


@pytest.mark.parametrize(("function", "args"), table(REDUCTIONS))
def test_reductions(function, args):
    agrees(function, args)


@pytest.mark.parametrize(("function", "args"), table(LOSSES))
def test_losses(function, args):
    agrees(function, args)


@pytest.mark.parametrize(("function", "args"), table(LINALG))
def test_factorizations(function, args):
    # the matrices' condition numbers are below about 100
    agrees(function, args, factor=2000)


DYNAMIC = ["cumprod", "cummax", "logcumsumexp", "median", "mode", "any"]
ROWS = {name: (function, args) for name, function, *args in REDUCTIONS}


@pytest.mark.parametrize("name", DYNAMIC)
def test_reductions_of_dynamic_sizes(name):
    function, args = ROWS[name]
    model = agrees(function, args, dynamic=True)
    assert model.graph.inputs[0].shape[0] != args[0].shape[0]


@pytest.mark.parametrize("name", ["cross_entropy", "smoothed", "bce", "multilabel"])
def test_losses_of_dynamic_batches(name):
    function, args = {name: (function, args) for name, function, *args in LOSSES}[name]
    agrees(function, args, dynamic=True)


def test_cholesky_of_a_dynamic_batch():
    agrees(torch.linalg.cholesky, [POSITIVE], dynamic=True, factor=2000)


def rebuilt(a):
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    return s, (u * s) @ vh


@pytest.mark.parametrize(
    "function",
    [rebuilt, torch.linalg.pinv, torch.linalg.lu, lambda a: torch.linalg.eigvalsh(a @ a.mT)],
    ids=["svd", "pinv", "lu", "eigvalsh"],
)
def test_factorizations_of_dynamic_sizes(function):
    # which side is longer is known only when the model runs
    torch.manual_seed(1)
    args, *sizes = [(torch.randn(shape),) for shape in [(3, 4), (7, 5), (2, 6), (3, 3)]]
    agree(function, *args, sizes=sizes, dynamic=({0: "n", 1: "m"},), terms=2000)


def test_bounds_that_are_sizes():
    x = torch.arange(-4, 8).reshape(6, 2)
    agree(
        lambda x: (x.clamp(0, x.shape[0] - 1), x.float().clamp(max=x.shape[0] - 3)), x,
        dynamic=({0: "n"},), sizes=[(x[:3],), (x.repeat(3, 1),)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "opset"),
    [("log1p", 9), ("remainder", 9), ("fmax", 9), ("left_shift", 11), ("isfinite", 7)],
)
def test_older_opsets(name, opset):
    function, args = {name: (function, args) for name, function, *args in POINTWISE}[name]
    agrees(function, args, opset=opset)


def test_cross_entropy_is_one_node():
    model = agrees(functional.cross_entropy, [X, LABELS])
    assert [node.op_type for node in model.graph.nodes] == ["SoftmaxCrossEntropyLoss"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_special_functions_in_other_types(dtype):
    agrees(torch.lgamma, [line(0.2, 9).to(dtype)], factor=2000)
    agrees(torch.i0, [line(-4, 4).to(dtype)], factor=2000)
