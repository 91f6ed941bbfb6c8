"""Branches, loops, regions, state and symbolic numbers of PyTorch."""

import math
import warnings

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch._higher_order_ops.associative_scan import associative_scan  # noqa: E402
from torch._higher_order_ops.map import map as torch_map  # noqa: E402
from torch._higher_order_ops.scan import scan  # noqa: E402
from torch._higher_order_ops.while_loop import while_loop  # noqa: E402
from torch.export import Dim  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.agreement import agrees, as_arrays, operators, peer_session  # noqa: E402

ROWS = {0: Dim.DYNAMIC}


def rand(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


class Branch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        def left(x):
            return self.linear(x), x.shape[0] * x

        return torch.cond(x.sum() > 0, left, lambda x: (x - 1, x + 2), (x,))


class Nested(torch.nn.Module):
    def forward(self, x, y):
        def inner(x, y):
            return torch.cond(y.sum() > 1, lambda x, y: x * y, lambda x, y: x - y, (x, y))

        return torch.cond(x.sum() > 0, inner, lambda x, y: x + y + 1, (x, y))


def nested(x, y):
    if x.sum() > 0:
        return x * y if y.sum() > 1 else x - y
    return x + y + 1


class BySize(torch.nn.Module):
    def forward(self, x):
        return torch.cond(x.shape[0] > 5, lambda x: x * x.shape[0], lambda x: x - 1, (x,))


@pytest.mark.parametrize("opset", [20, 11])
def test_a_branch_takes_the_side_that_torch_takes(opset):
    x = rand(4, 3).abs()
    others = [(-x,), (rand(5, 3),)]
    model = agrees(Branch(), (x,), others, dynamic=(ROWS,), opset=opset)
    assert operators(model)[-1] == "If"
    assert {"linear.weight", "linear.bias"} <= {each.name for each in model.graph.initializers}


def test_the_nodes_of_a_branch_say_where_they_come_from():
    model = sx.export(Branch(), (rand(4, 3),))
    (branch,) = [node for node in model.graph.nodes if node.op_type == "If"]
    inner = [node for body in branch.subgraphs() for node in body.nodes]
    assert {node.metadata["sardonyx.target"] for node in inner} >= {"aten.linear.default"}
    assert all(
        node.metadata["sardonyx.source"].startswith("test_torch_control.py:") for node in inner
    )


def test_branches_within_branches():
    x = rand(4, 3).abs()
    sides = [(x, -x), (-x, x)]
    agrees(Nested(), (x, x.clone()), sides, dynamic=(ROWS, ROWS), reference=nested)


def test_a_branch_on_a_size():
    agrees(BySize(), (rand(4, 3),), [(rand(8, 3),)], dynamic=(ROWS,))


def counted(x):
    return while_loop(lambda i, x: i < x.shape[0], lambda i, x: (i + 1, x * 0.5 + i), (0, x))


def repeated(x, n):
    return while_loop(
        lambda i, x: i < n, lambda i, x: (i + 1, x @ x.T @ x * 0.1), (torch.tensor(0), x)
    )


class BranchInLoop(torch.nn.Module):
    def forward(self, x):
        def body(i, x):
            return i + 1, torch.cond(x.sum() > 3, lambda x: x * 0.3, lambda x: x + 1.0, (x,))

        return while_loop(lambda i, x: i < 6, body, (torch.tensor(0), x))


def branch_in_loop(x):
    for _ in range(6):
        x = x * 0.3 if x.sum() > 3 else x + 1.0
    return torch.tensor(6), x


@pytest.mark.parametrize("opset", [20, 9])
def test_a_loop_runs_as_often_as_the_data_says(opset):
    x = rand(4, 3)
    others = [(rand(2, 3), torch.tensor(0)), (x, torch.tensor(1)), (x, torch.tensor(7))]
    model = agrees(repeated, (x, torch.tensor(3)), others, dynamic=(ROWS, None), opset=opset)
    assert "Loop" in operators(model)


def test_a_loop_that_carries_a_number():
    agrees(counted, (rand(4, 3),), [(rand(1, 3),), (rand(7, 3),)], dynamic=(ROWS,))


def test_a_branch_within_a_loop():
    x = rand(4, 3)
    agrees(BranchInLoop(), (x,), [(x.abs() * 9,)], reference=branch_in_loop)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(rand(3, 3, seed=1))

    def forward(self, x, h):
        def step(carried, y):
            state = torch.tanh(carried["state"] @ self.weight + y)
            return {"state": state, "count": carried["count"] + 1}, carried["state"].clone()

        start = {"state": h, "count": torch.zeros(1)}
        return scan(step, start, x, dim=1, reverse=True)


def test_scans():
    model = agrees(
        Recurrent(),
        (rand(2, 4, 3), rand(2, 3)),
        [(rand(3, 6, 3), rand(3, 3)), (rand(1, 2, 3), rand(1, 3))],
        dynamic=({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC}),
    )
    assert "Scan" in operators(model)


class Mapped(torch.nn.Module):
    def forward(self, x, y):
        return torch_map(lambda a, b: a * b + 1.0, x, y)


def test_map_and_associative_scan():
    model = agrees(Mapped(), (rand(4, 3), rand(3)), [(rand(6, 3), rand(3))], dynamic=(ROWS, None))
    assert operators(model) == ["Scan"]
    agrees(
        lambda x: associative_scan(lambda a, b: a + b, x, dim=0, combine_mode="generic"),
        (rand(4, 3),),
    )


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient


region = torch.compiler.nested_compile_region(lambda a: a.sin() + 1)


def regions(x):
    with torch.no_grad():
        y = torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=False)
    with torch.enable_grad():
        return Doubled.apply(y) + region(x) + region(y)


def test_regions_are_written_in_place():
    model = agrees(regions, (rand(4, 3),))
    assert not any(node.op_type in {"If", "Loop", "Scan"} for node in model.graph.nodes)


def whole(x):
    n = x.shape[0]
    return (
        torch.ones(math.floor(n * 0.7)), torch.ones(round(n * 0.4) + 1), math.trunc(n * 1.5),
        (n - 7) // 2, torch.sym_max(n, 6), torch.sym_min(n, 6), -n // 3, n > 5, abs(n - 7),
        torch.sym_ite(n > 5, n, 2 * n), torch.sym_not(n > 5), x + (n - 7) // 2, n << 1, n >> 1,
        torch.sym_sum([n, n + 1]), x.new_ones(n * n // 2),
    )  # fmt: skip


def fractions(x):
    n = x.shape[0]
    return x * (n * 0.3), x * n**-0.5, n / 2, x * n**0.5 + 0.5**n


@pytest.mark.parametrize("function", [whole, fractions])
def test_numbers_computed_from_sizes(function):
    agrees(function, (rand(4, 3),), [(rand(9, 3),), (rand(5, 3),)], dynamic=(ROWS,))


def items(x, n):
    k = n.item()
    torch._check(k >= 0)
    torch._check(k < 10)
    return torch.zeros(k, 3), x * k, k - 7, (k - 7) // 2


def test_numbers_read_from_data():
    x = rand(4, 3)
    agrees(items, (x, torch.tensor(3)), [(x, torch.tensor(0)), (x, torch.tensor(9))])
    agrees(lambda x, n: x * n.item(), (x, torch.tensor(3.5)), [(x, torch.tensor(-0.25))])


class Stepped(torch.nn.Module):
    def forward(self, x, steps):
        return x * steps, torch.arange(steps), steps + 1


def test_an_integer_that_may_change_is_an_input():
    x = rand(4, 3)
    model = agrees(Stepped(), (x, 4), [(x, 7)], dynamic=(ROWS, Dim.DYNAMIC))
    steps = model.graph.inputs[1]
    assert (steps.name, steps.shape, steps.dtype.text) == ("steps", (), "int64")


class Cache(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 8, 3))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x, position):
        self.keys.index_copy_(1, position, x)
        self.count += x.shape[1]
        return self.keys.sum(1) + self.count


@pytest.mark.parametrize("opset", [20, 13])
def test_state_goes_in_and_out(opset):
    module, x, position = Cache(), rand(1, 2, 3), torch.tensor([0, 1])
    model = sx.export(module, (x, position), state="inputs_outputs", opset_version=opset)
    assert [each.name for each in model.graph.inputs] == ["x", "position", "keys", "count"]
    names = [each.name for each in model.graph.outputs]
    assert names == ["output", "keys.next", "count.next"]
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    for session in (sx.Session(model), sx.Session(data), peer_session(data)):
        twin, state = Cache(), {}
        for step in range(3):
            x, position = rand(1, 2, 3, seed=step), torch.tensor([2 * step, 2 * step + 1])
            expected = twin(x, position)
            feeds = {"x": x.numpy(), "position": position.numpy(), **state}
            found, keys, count = session.run(None, feeds)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(keys, twin.keys)
            np.testing.assert_array_equal(count, twin.count)
            state = {"keys": keys, "count": count}


def test_changed_arguments_are_outputs_and_changes_are_told_of():
    class Adds(torch.nn.Module):
        def forward(self, x, y):
            y.add_(x)
            return x * 2

    args = (rand(2, 3), rand(2, 3, seed=1))
    model = sx.export(Adds(), args, state="inputs_outputs")
    assert [each.name for each in model.graph.outputs] == ["output", "y.next"]
    found = sx.Session(model).run(["y.next"], dict(zip("xy", as_arrays(args), strict=True)))
    np.testing.assert_allclose(found[0], (args[0] + args[1]).numpy(), rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match=r"changes .*inputs_outputs"):
        sx.export(Cache(), (rand(1, 2, 3), torch.tensor([0, 1])))
    with warnings.catch_warnings(), pytest.raises(sx.errors.ExportError, match="state is 'kept'"):
        sx.export(Adds(), args, state="kept")


@torch.library.custom_op("sardonyx_test::unknown", mutates_args=())
def unknown(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@unknown.register_fake
def _unknown(x):
    return torch.empty_like(x)


def test_what_is_missing_in_a_branch_is_told_of():
    class Missing(torch.nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, unknown, torch.sin, (x,))

    with pytest.raises(sx.errors.ExportError, match=r"sardonyx_test\.unknown"):
        sx.export(Missing(), (rand(2),), verify=False)
