"""Symbolic dimensions: exact, canonical, and never wrong about what is known."""

from __future__ import annotations

import copy
import subprocess
import sys
from math import prod

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sardonyx.dims import (
    Dim,
    bounds,
    broadcast,
    ceil_div,
    divide_exact,
    evaluate,
    known_equal,
    known_less,
    known_less_equal,
    maximum,
    minimum,
    parse,
    substitute,
    symbol,
    symbols,
    unparse,
)

N, M, H, B, S = (symbol(name) for name in "NMHBS")
P = symbol("p", lower=1)
X = symbol("x", lower=None)
NAMES = {"N": N, "M": M, "p": P, "x": X, "c d}": symbol("c d}", -3, 5)}
RANGES = {"p": (1, None), "x": (None, None), "c d}": (-3, 5)}

OPERATIONS = {
    "+": (lambda a, b: a + b,) * 2,
    "-": (lambda a, b: a - b,) * 2,
    "*": (lambda a, b: a * b,) * 2,
    "//": (lambda a, b: a // b,) * 2,
    "%": (lambda a, b: a % b,) * 2,
    "ceil": (ceil_div, lambda a, b: -(-a // b)),
    "min": (minimum, min),
    "max": (maximum, max),
}

leaves = st.one_of(st.integers(-9, 9), st.sampled_from(sorted(NAMES)))
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=9,
)
small_trees = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=4,
)
assignments = st.fixed_dictionaries(
    {
        "N": st.integers(0, 40),
        "M": st.integers(0, 12),
        "p": st.integers(1, 9),
        "x": st.integers(-40, 40),
        "c d}": st.integers(-3, 5),
    }
)


def symbolic(tree):
    if isinstance(tree, tuple):
        return OPERATIONS[tree[0]][0](symbolic(tree[1]), symbolic(tree[2]))
    return NAMES[tree] if isinstance(tree, str) else tree


def plain(tree, values):
    if isinstance(tree, tuple):
        return OPERATIONS[tree[0]][1](plain(tree[1], values), plain(tree[2], values))
    return values[tree] if isinstance(tree, str) else tree


def build(tree):
    """The symbolic value; None where a divisor is the constant zero or it is too large."""
    try:
        return symbolic(tree)
    except (ZeroDivisionError, OverflowError):
        return None


def defined(trees, values):
    """What plain integers give, or None where a divisor is zero."""
    try:
        return [plain(tree, values) for tree in trees]
    except ZeroDivisionError:
        return None


@settings(max_examples=150, deadline=None)
@given(trees, st.lists(assignments, min_size=6, max_size=6))
@example(("//", ("-", 0, "N"), 2), [{"N": 3, "M": 0, "p": 1, "x": -3, "c d}": 0}])
def test_agrees_with_integers_and_stays_in_bounds(tree, points):
    dim = build(tree)
    assume(dim is not None)
    assert type(dim) in {int, Dim}
    lower, upper = bounds(dim)
    for values in points:
        wanted = defined([tree], values)
        if wanted is None:
            continue
        assert evaluate(dim, values) == wanted[0]
        assert lower is None or lower <= wanted[0]
        assert upper is None or upper >= wanted[0]
        env = {name: (value - 1, value + 2) for name, value in values.items()}
        low, high = bounds(dim, env)
        assert low is None or low <= wanted[0]
        assert high is None or high >= wanted[0]
        try:
            assert substitute(dim, values) == wanted[0]
        except ZeroDivisionError:
            pytest.fail("substitution divided by zero where the expression is defined")


@settings(max_examples=80, deadline=None)
@given(trees, trees, st.lists(assignments, min_size=6, max_size=6))
def test_what_is_known_holds(left, right, points):
    a, b = build(left), build(right)
    assume(a is not None and b is not None)
    guards = [
        (known_equal(a, b), lambda x, y: x == y),
        (known_less_equal(a, b), lambda x, y: x <= y),
        (known_less(a, b), lambda x, y: x < y),
    ]
    for values in points:
        wanted = defined([left, right], values)
        if wanted is None:
            continue
        if a == b:
            assert wanted[0] == wanted[1]
        for known, holds in guards:
            assert known is None or known is holds(*wanted)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_text_round_trip(tree):
    dim = build(tree)
    assume(dim is not None)
    again = parse(unparse(dim), RANGES)
    assert again == dim
    assert hash(again) == hash(dim)
    assert unparse(again) == unparse(dim)


@settings(max_examples=100, deadline=None)
@given(trees, trees, assignments)
def test_substituting_expressions(tree, inner, values):
    dim, value = build(tree), build(inner)
    assume(dim is not None and value is not None)
    wanted = defined([inner], values)
    assume(wanted is not None)
    outer = {**values, "x": wanted[0]}
    assume(defined([tree], outer) is not None)
    try:
        replaced = substitute(dim, {"x": value})
    except (ZeroDivisionError, OverflowError):
        return
    assert evaluate(replaced, values) == evaluate(dim, outer)


@settings(max_examples=60, deadline=None)
@given(small_trees, small_trees, small_trees)
def test_ring_laws(x, y, z):
    a, b, c = build(x), build(y), build(z)
    assume(a is not None and b is not None and c is not None)
    assert a + b == b + a
    assert hash(a * b) == hash(b * a)
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert (a - b) + b == a
    assert minimum(a, b) == minimum(b, a)
    assert (a - a, a * 0) == (0, 0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((8 * N) // 8, N),
        ((8 * N + 16) // 8, N + 2),
        ((8 * N + 3) // 8, N),
        ((8 * N - 1) // 8, N - 1),
        ((N // 2) // 2, N // 4),
        (((H + 1) // 2 + 1) // 2, (H + 3) // 4),
        ((N // M) // 2, N // (2 * M)),
        ((1 - 2 // M) // 2, -(1 // M)),
        (1 // (2 * M), 0),
        ((N // P) // P, N // (P * P)),
        ((6 * N) // 4, (3 * N) // 2),
        ((N + 4 * M) // 4, N // 4 + M),
        (ceil_div(N, 8), (N + 7) // 8),
        (ceil_div(N, 2), (N + 1) // 2),
        (-(-N // 8), (N + 7) // 8),
        (N // -2, -((N + 1) // 2)),
        ((N % 8) % 8, N % 8),
        ((N + 8) % 8, N % 8),
        ((8 * N) % 8, 0),
        ((N % 8) // 8, 0),
        (symbol("k", 0, 7) // 8, 0),
        ((N * P) // P, N),
        ((N * P + P) // P, N + 1),
        ((2 * N) // (2 * M), N // M),
        ((-N) // (-M), N // M),
        (N // (N + 1), 0),
        (maximum(N, 0), N),
        (minimum(N, N + 1), N),
        (minimum(N, minimum(M, 3), 5), minimum(3, M, N)),
        (maximum(N), N),
        (maximum(2, 7), 7),
        (-minimum(N, M), maximum(-N, -M)),
        (-minimum(X, 4), maximum(-X, -4)),
        (minimum(2 * N, 2 * M), 2 * minimum(N, M)),
        (maximum(N + 1, M + 1), maximum(N, M) + 1),
        (maximum(2 * N + 1, 2 * M + 3), 2 * maximum(N, M + 1) + 1),
        (maximum(X, -X - 1), maximum(-X, X + 1) - 1),
        (minimum(-N, -maximum(M, X)), -maximum(M, N, X)),
        (minimum(X, -X), -maximum(X, -X)),
        ((N + 1) * (N - 1), N * N - 1),
        (symbol("N", 1) - N, 0),
        (symbol("N", 1) + N, 2 * symbol("N", 1)),
    ],
)
def test_equal_by_algebra(left, right):
    assert left == right
    assert hash(left) == hash(right)
    assert str(left) == str(right)


def test_not_simplified_without_proof():
    assert (N * M) // N != M
    assert maximum(X, 0) != X
    assert N != M
    assert N != 3
    assert N != "N"


def test_constants_are_plain_ints():
    for value in (N - N, 0 * N, N // N * 0, (N + 3) - N, minimum(N, 0), parse("2 + 3*4")):
        assert type(value) is int


def test_divide_exact():
    assert divide_exact(B * S * 8, 8 * B) == S
    assert divide_exact((N + 1) * (M + 2), M + 2) == N + 1
    assert divide_exact(N * ((H + 1) // 2), (H + 1) // 2) == N
    assert divide_exact(0, N) == 0
    assert divide_exact(6, 3) == 2
    assert divide_exact(N, 2) is None
    assert divide_exact(N + 1, N) is None
    assert divide_exact(3, N) is None
    with pytest.raises(ZeroDivisionError):
        divide_exact(N, 0)
    with pytest.raises(ZeroDivisionError):
        divide_exact(N, N - N)


@settings(max_examples=80, deadline=None)
@given(small_trees, small_trees)
def test_divide_exact_inverts_products(x, y):
    a, b = build(x), build(y)
    assume(a is not None and b is not None)
    assume(b != 0)
    assert divide_exact(a * b, b) == a


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (N * 2, "2*N"),
        (S * B, "B*S"),
        (1 + N, "N + 1"),
        ((H + 1) // 2, "(H + 1)//2"),
        (maximum(N - 3, 0), "max(0, N - 3)"),
        (minimum(10, N), "min(N, 10)"),
        (3 - N, "3 - N"),
        (-(N // 2), "-(N//2)"),
        (-N - 1, "-N - 1"),
        (M - N // 2, "M - N//2"),
        (B * (H // 2), "B*(H//2)"),
        ((N * M) // (B + 1), "(M*N)//(B + 1)"),
        (symbol("p2o.DynamicDimension.0"), "p2o.DynamicDimension.0"),
        (symbol("p2o.DynamicDimension.0") * 2, "2*{p2o.DynamicDimension.0}"),
        (symbol("s0.a") + 1, "s0.a + 1"),
        (symbol("?") + symbol("a}b"), "{?} + {a}}b}"),
        (symbol("min") + 1, "{min} + 1"),
    ],
)
def test_printing(dim, text):
    assert str(dim) == f"{dim}" == text
    assert parse(unparse(dim)) == dim


def test_repr_and_format():
    assert repr(2 * N) == "Dim('2*N')"
    assert repr(symbol("?")) == "Dim('{?}')"
    assert f"{N:>3}" == "  N"


def test_parse_reads_python_syntax():
    assert parse(" -N*2 +ceildiv(N, 4) % 3") == -2 * N + ceil_div(N, 4) % 3
    assert parse("max(N, min(M, 3), -4) - -1") == maximum(N, minimum(M, 3)) + 1
    assert parse("-N//2") == (-N) // 2
    assert parse("7 // -2 % 3") == 7 // -2 % 3
    assert parse("{}") == symbol("")
    assert parse("p", {"p": (1, None)}) == P


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "N +", "N M", "(N", "N)", "N / 2", "1.5", "min()", "foo(N)", "ceildiv(N)",
        "ceildiv(N, 2, 3)", "{N", "N ** 2", "N//0", "N % (M - M)", "é", "N,", "\x00", "}",
        "(" * 5000, "(" * 200 + "N" + ")" * 200, "-" * 50_000 + "N", "9" * 5000,
        "+".join("N" * 40_000), "+".join(f"a{i}" for i in range(4000)),
        "*".join(["N"] * 5000), "min(" * 300, "{" * 5000,
        "//M//".join(["(N"] * 90), "9" * 100 + "0*",
        "*".join(["9" * 100] * 300) + "*N",  "N//(" + "*".join(["9" * 100] * 300) + ")",
    ],
)  # fmt: skip
def test_parse_refuses(text):
    with pytest.raises(ValueError, match="position"):
        parse(text)


@settings(max_examples=120, deadline=None)
@given(st.text(alphabet="NM10+-*/%(){},. minaxceildv", max_size=40))
def test_parse_only_raises_value_error(text):
    try:
        dim = parse(text)
    except ValueError:
        return
    assert parse(unparse(dim)) == dim


def test_products_do_not_explode():
    total = sum(symbol(f"a{i}") for i in range(40))
    other = sum(symbol(f"b{i}") for i in range(40))
    product = (2 * total) * (-other)
    assert product == -2 * (other * total)
    assert parse(unparse(product)) == product
    values = {name: i for i, name in enumerate(sorted(symbols(product)))}
    assert evaluate(product, values) == evaluate(2 * total, values) * evaluate(-other, values)
    assert bounds(product) == (None, 0)


def test_size_is_limited():
    def repeat(step):
        dim = N
        for _ in range(200):
            dim = step(dim)

    with pytest.raises(OverflowError, match="degree"):
        repeat(lambda dim: dim * dim)
    with pytest.raises(OverflowError, match="nested"):
        repeat(lambda dim: (dim * M + 1) // 3)
    with pytest.raises(OverflowError, match="nodes"):
        repeat(lambda dim: maximum(dim * (dim + M) // 3, 7))


def test_the_deepest_expression_is_usable():
    dim = N
    for i in range(24):
        dim = maximum(M * (dim // (P + i)), 3)
    values = {"N": 10**9, "M": 9, "p": 1}
    wanted = values["N"]
    for i in range(24):
        wanted = max(9 * (wanted // (1 + i)), 3)
    assert evaluate(dim, values) == substitute(dim, values) == wanted
    assert parse(unparse(dim), RANGES) == dim
    assert bounds(dim, {"N": (0, 8)})[0] == 3
    with pytest.raises(OverflowError):
        maximum(M * (dim // P), 3)


def test_values_are_checked():
    with pytest.raises(KeyError, match="N"):
        evaluate(N + M, {"M": 1})
    with pytest.raises(ValueError, match="range"):
        evaluate(N, {"N": -1})
    with pytest.raises(ValueError, match="range"):
        substitute(N, {"N": -1})
    with pytest.raises(ZeroDivisionError):
        evaluate(N // M, {"N": 1, "M": 0})
    with pytest.raises(ZeroDivisionError):
        substitute(N // M, {"M": 0})
    with pytest.raises(ValueError, match="empty"):
        symbol("N", 3, 2)
    with pytest.raises(ValueError, match="empty"):
        symbol("N", 5) + symbol("N", 0, 2)
    with pytest.raises(TypeError):
        symbol(3)
    assert (N + 1).evaluate({"N": 2, "unused": 0}) == 3
    assert (N - M).substitute({"N": M, "M": N}) == M - N
    assert substitute(4, {"N": 1}) == evaluate(4, {}) == 4
    assert symbols(N * (M // 2) + 1) == {"N", "M"}
    assert symbols(3) == frozenset()


@pytest.mark.parametrize("operation", [lambda: N // 0, lambda: N % 0, lambda: ceil_div(N, 0)])
def test_division_by_zero(operation):
    with pytest.raises(ZeroDivisionError):
        operation()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: N < 3, lambda: N <= M, lambda: N > 3, lambda: N >= 0, lambda: min(N, 3),
        lambda: bool(N), lambda: int(N), lambda: range(N), lambda: N / 2, lambda: N + 1.5,
        lambda: "a" + N, minimum, lambda: minimum(N, 1.0), lambda: float(N),
    ],
)  # fmt: skip
def test_type_errors(misuse):
    with pytest.raises(TypeError):
        misuse()


def test_order_names_the_alternative():
    with pytest.raises(TypeError, match="known_less"):
        sorted([N, M])


def test_immutable_copyable_picklable():
    dim = (N + 1) // 2 * minimum(M, 3)
    with pytest.raises(AttributeError):
        dim.anything = 1
    with pytest.raises(AttributeError):
        del dim._terms
    assert copy.deepcopy(dim) is dim
    assert copy.copy(dim) is dim
    build_, fields = dim.__reduce__()
    assert build_(*fields) == dim
    build_, fields = dim._terms[0][0][0].__reduce__()
    assert build_(*fields) == dim._terms[0][0][0]


def test_bounds():
    assert bounds(5) == (5, 5)
    assert bounds(N) == (0, None)
    assert bounds(N % 8) == (0, 7)
    assert bounds(N % (M + 1)) == (0, None)
    assert bounds(N - 8 * ((N + 7) // 8)) == (-7, 0)
    assert bounds(minimum(N, 10) - N) == (None, 0)
    assert bounds(N // symbol("z", 0, 0)) == (None, None)
    assert bounds(symbol("z", 0, 0) * X + symbol("w", -2, 0) * symbol("v", None, 0)) == (0, None)
    assert bounds(symbol("w", -2, 0) * N) == (None, 0)
    assert bounds(X * X) == (0, None)
    assert bounds(X * X * X, {"x": (-2, 1)}) == (-8, 4)
    assert bounds(2 * N + M, {"N": (1, 3), "M": (0, 5)}) == (2, 11)
    assert bounds(N * M - N, {"M": (1, None)}) == (0, None)
    with pytest.raises(ValueError, match="empty"):
        bounds(N, {"N": (None, -1)})


def test_guards():
    assert known_equal(N // 2 + (N + 1) // 2, N) is True
    assert known_equal(minimum(N, M) + maximum(N, M), N + M) is True
    assert known_equal(maximum(3, N) - 3, maximum(0, N - 3)) is True
    assert known_equal(N, N + 1) is False
    assert known_equal(N, M) is None
    assert known_equal(N, 4, {"N": (4, 4)}) is True
    assert known_equal(symbol("N", 1), N) is True
    assert known_less_equal(2 * (N // 2), N) is True
    assert known_less_equal(N, M) is None
    assert known_less(N, N + 1) is True
    assert known_less(N, 0) is False
    assert known_less(N % P, P) is True
    assert known_less(N, 10, {"N": (0, 9)}) is True
    assert known_less_equal(1, 2) is True


def test_numpy_object_arrays():
    array = np.array([N, M, 2], dtype=object)
    assert (array + 1).tolist() == [N + 1, M + 1, 3]
    assert (N * array).tolist() == [N * N, N * M, 2 * N]
    assert (array - N).tolist() == [0, M - N, 2 - N]
    assert (array // 2).tolist() == [N // 2, M // 2, 1]
    assert (array == N).tolist() == [True, False, False]
    assert (N == array).tolist() == [True, False, False]  # noqa: SIM300
    assert N + np.int64(3) == N + 3
    assert np.int32(3) * N == 3 * N
    assert type((N + np.int64(3)) - N) is int
    shape = np.array([N, M, 4], dtype=object)
    assert np.prod(shape) == prod([N, M, 4])


def test_broadcast():
    assert broadcast(N, 1) == N
    assert broadcast(N, 1, 4, 4) == 4
    assert broadcast(1, 1) == 1
    assert broadcast(N, M) == broadcast(M, N) == broadcast(N, broadcast(M, N, 1))
    assert parse(str(2 * broadcast(N, M) + 1)) == 2 * broadcast(N, M) + 1
    for n, m in [(1, 5), (5, 1), (5, 5), (1, 1), (0, 1), (1, 0), (0, 0)]:
        assert evaluate(broadcast(N, M), {"N": n, "M": m}) == np.broadcast_shapes((n,), (m,))[0]
        assert broadcast(N, M).substitute({"N": n}).__class__ in (int, Dim)
    assert bounds(broadcast(symbol("A", 2, 5), symbol("B", 1, 9))) == (1, 9)
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast(2, 3)
    with pytest.raises(TypeError):
        broadcast()


def test_importing_is_light():
    code = (
        "import sys; before = set(sys.modules); import sardonyx.dims;"
        "print(','.join(m for m in set(sys.modules) - before if m.split('.')[0] in "
        "('numpy', 'llvmlite', 'ml_dtypes', 'rich')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert found.stdout.strip() == ""
