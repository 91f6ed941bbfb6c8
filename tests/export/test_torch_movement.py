"""Movement, windows, padding and creation of tensors: torch, sardonyx and onnxruntime agree."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from torch.nn import functional  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.peers import agrees  # noqa: E402
from sardonyx.errors import ExportError  # noqa: E402


def numbers(*shape, dtype=torch.float32):
    count = torch.Size(shape).numel()
    return torch.arange(1, count + 1).reshape(shape).to(dtype)


MOVES = {
    "diagonals": lambda x: (x.diagonal(1, 1, 2), torch.diag_embed(x[0], 1), torch.diagflat(x[0, 0])),
    "rolls": lambda x: (x.roll(2, 1), x.roll((1, -1), (0, 2)), x.roll(3), x[0, 0, 0].roll(1)),
    "flips": lambda x: (x.flip(0, -1), x[0].fliplr(), x[0].flipud(), x.rot90(1, (1, 2)), x[0, 0, 0].flip(())),
    "tiles": lambda x: (x.tile(2), x.repeat(2, 1, 1, 3), x.repeat_interleave(2, 1), x.repeat_interleave(3)),
    "joins": lambda x: (torch.hstack([x, x]), torch.column_stack([x[0], x[1]]), torch.stack([x, x], -1),
                        torch.dstack([x, x]), torch.cat([torch.zeros(0), x], 0), torch.block_diag(x[0], x[1]),
                        torch.cat([x.long(), x.double()], 1)),
    "grids": lambda x: (*torch.meshgrid(x[0, 0], x[0, :, 0], indexing="xy"), torch.cartesian_prod(x[0, 0], x[0, 0]),
                        torch.vander(x[0, 0], 3)),
    "splits": lambda x: (*x.hsplit(2), *x.tensor_split((1, 2), 1), *x.chunk(2, 1), *x.dsplit([1, 3]), *x.unbind(1),
                         *torch.unsafe_chunk(x, 2, 1), *torch.ops.aten.split_copy(x, 2, 1)),
    "orders": lambda x: (x.movedim(0, -1), x.swapaxes(0, 2), x.mT, x.permute(2, 0, 1), x[0].t(), x.narrow(1, 1, 2),
                         torch.ops.aten.narrow_copy(x, 2, 1, 3)),
    "views": lambda x: (x.view(-1, 4), x.ravel(), x.unflatten(1, (2, 2)), x.squeeze(), x.reshape(2, 4, 2, 2)),
    "windows": lambda x: (x.unfold(1, 2, 1), x.unfold(2, 3, 1), x[0, 0, 0].unfold(0, 1, 1)),
    "strided": lambda x: (x.as_strided((3, 2), (4, 2), 1), x.as_strided((2, 2, 2), (1, 1, 4)),
                          x.as_strided_scatter(x[0, :2, :2] * 0, (2, 2), (5, 2), 1)),
    "triangles": lambda x: (x.tril(1), x.triu(-1), x[0].tril(), torch.tril_indices(3, 4, 1), torch.triu_indices(3, 3)),
    "shuffles": lambda x: (functional.channel_shuffle(x[None], 2), functional.pixel_shuffle(x.view(1, 4, 2, 4), 2),
                           functional.pixel_unshuffle(x.view(1, 2, 4, 4), 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_moves(name, dtype):
    agrees(MOVES[name], (numbers(2, 4, 4, dtype=dtype),))


@pytest.mark.parametrize("name", ["rolls", "flips", "tiles", "orders", "windows", "triangles"])
def test_moves_of_dynamic_sizes(name):
    agrees(
        MOVES[name], (numbers(2, 4, 4),), dynamic=[{0: "n", 2: "m"}],
        others=[(numbers(5, 4, 6),), (numbers(1, 4, 7),)],
    )  # fmt: skip


def test_windows_of_dynamic_length():
    agrees(
        lambda x: (x.unfold(1, 3, 2), functional.unfold(x[None, None], 3, 2, 1, 2)),
        (numbers(6, 9),), dynamic=[{0: "n", 1: "m"}], others=[(numbers(7, 12),)],
    )  # fmt: skip


@pytest.mark.parametrize("batch", [True, False])
def test_columns(batch):
    def columns(x):
        made = functional.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1))
        return made, functional.fold(made, (6, 7), (3, 2), (1, 2), (1, 0), (2, 1))

    x = numbers(2, 3, 6, 7)
    agrees(columns, (x if batch else x[0],), terms=6)


PADS = {
    "constant": ({"mode": "constant", "value": 2}, [(1, 2), (0, -1, 2, 0), (-1, 0, 0, 0, 1, 1)]),
    "reflect": ({"mode": "reflect"}, [(1, 2, 0, 0), (3, 0, 0, 2)]),
    "replicate": (
        {"mode": "replicate"},
        [(1, 2, 0, 0), (3, 0, 0, 5), (-1, 2, 1, -2), (-4, 6, 0, 0)],
    ),
    "circular": ({"mode": "circular"}, [(1, 2, 0, 0), (3, 0, 2, 1), (-1, 1, 2, 0)]),
}


@pytest.mark.parametrize("mode", PADS)
@pytest.mark.parametrize("opset", [20, 11])
def test_pads(mode, opset):
    keywords, amounts = PADS[mode]
    agrees(
        lambda x: [functional.pad(x, each, **keywords) for each in amounts],
        (numbers(2, 3, 4, 4),), dynamic=[{0: "n", 2: "h"}], others=[(numbers(1, 3, 6, 4),)],
        opset=opset,
    )  # fmt: skip


def test_replicated_pads_of_what_a_crop_leaves_nothing_of():
    agrees(
        lambda x: functional.pad(x, (-1, 2, 3, -4), mode="replicate"), (numbers(1, 2, 5, 6),),
        dynamic=[{2: "h", 3: "w"}], others=[(numbers(1, 2, 4, 9),), (numbers(1, 2, 2, 2),)],
    )  # fmt: skip


def test_pads_of_integers():
    agrees(
        lambda x: (functional.pad(x, (1, 2), value=3), functional.pad(x > 4, (0, 1), value=True)),
        (numbers(3, 4, dtype=torch.int64),),
    )


DTYPES = [torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
def test_creation(dtype):
    def make(x):
        n = x.shape[0]
        return (
            torch.arange(n, dtype=dtype), torch.arange(2, 3 * n, 2, dtype=dtype), torch.eye(n, dtype=dtype),
            torch.full((n, 2), 3, dtype=dtype), torch.zeros(n, dtype=dtype), torch.ones_like(x, dtype=dtype),
            x.new_full((n,), 2, dtype=dtype), torch.arange(5, dtype=dtype), torch.eye(2, 3, dtype=dtype),
            torch.linspace(0, 7, 5, dtype=dtype), torch.arange(20000, dtype=torch.int64).sum().to(dtype),
            torch.scalar_tensor(2, dtype=dtype), torch.logspace(0, 2, 4, dtype=dtype), x.new_zeros(0, n),
            torch.full((2,), x.shape[0], dtype=dtype),
        )  # fmt: skip

    agrees(make, (numbers(3),), dynamic=[{0: "n"}], others=[(numbers(7),)], terms=2)


def test_windows_are_constants():
    def make(x):
        return (
            x * torch.hann_window(8), x * torch.hamming_window(8, False), x * torch.blackman_window(8),
            x * torch.bartlett_window(8), x * torch.kaiser_window(8, True, 5.0),
            x * torch.hamming_window(8, True, 0.6, 0.4), x * torch.linspace(0.1, 0.7, 8),
        )  # fmt: skip

    model = agrees(make, (numbers(8),), terms=2)
    assert {node.op_type for node in model.graph.nodes} == {"Mul"}


def test_long_ranges_are_not_stored():
    model = agrees(lambda x: x + torch.arange(100_000), (torch.tensor(1),))
    assert len(sx.dumps(model)) < 5000


FEWEST = {
    "a mask of one axis": (lambda x: x[:, torch.tensor([True, False, True])], 1),
    "several flips": (lambda x: x.flip(0, 1, 2), 1),
    "adding at rows": (lambda x: x.index_add(0, torch.tensor([1, 0]), x), 2),
    "a constant mask": (lambda x: x.index_put((x > 2,), torch.tensor(0.0)), 2),
    "two constant indices": (lambda x: x[torch.tensor([1, 0]), torch.tensor([2, 1])], 1),
    "a diagonal": (lambda x: x.diagonal(0, 1, 2), 2),
    "a padded tensor": (lambda x: functional.pad(x, (1, 1, 0, 2)), 1),
}


@pytest.mark.parametrize("name", FEWEST)
def test_few_nodes(name):
    function, count = FEWEST[name]
    model = agrees(function, (numbers(2, 3, 3),), terms=2)
    assert len(model.graph.nodes) <= count


def test_bits_as_another_type():
    model = sx.export(
        lambda x: x.view(torch.int32) + 1, (numbers(2, 3),), opset_version=26, verify=True
    )
    onnx.load_from_string(sx.dumps(model))
    assert "BitCast" in {node.op_type for node in model.graph.nodes}
    with pytest.raises(ExportError, match="needs opset 26"):
        sx.export(lambda x: x.view(torch.int32), (numbers(2, 3),))
    with pytest.raises(ExportError, match="different widths"):
        sx.export(lambda x: x.view(torch.int16), (numbers(2, 3),), opset_version=26)


def test_strides_of_what_is_not_contiguous_are_refused():
    with pytest.raises(ExportError, match="not contiguous"):
        sx.export(lambda x: x.t().as_strided((2,), (1,)) + 1, (numbers(2, 3),))
