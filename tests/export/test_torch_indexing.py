"""Indexing, assignment, scattering, sorting and searching: torch, sardonyx, onnxruntime agree."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from export.peers import agrees  # noqa: E402
from sardonyx.errors import ExportError  # noqa: E402


def floats(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def places(size, *shape, seed=0):
    return torch.randint(-size, size, shape, generator=torch.Generator().manual_seed(seed))


X = floats(3, 4, 5)
ROWS, MORE = torch.tensor([2, -1, 0]), torch.tensor([[1], [-2]])
MASK = X > 0.2
LINE = torch.tensor([True, False, True])

READS = {
    "one axis": lambda x, i, j, m: x[:, i],
    "a number in an index": lambda x, i, j, m: (x[1, i], x[i, ..., 1], x[torch.tensor(1)]),
    "two axes": lambda x, i, j, m: x[i, j],
    "two inner axes": lambda x, i, j, m: (x[:, i, j], x[:, j, i]),
    "all axes": lambda x, i, j, m: x[i, j, i],
    "axes apart": lambda x, i, j, m: (x[i, :, j], x[j, :, i]),
    "a new axis": lambda x, i, j, m: x[:, None, i, j],
    "a mask": lambda x, i, j, m: x[m],
    "a mask of the first axes": lambda x, i, j, m: x[m[..., 0]],
    "a mask of the last axes": lambda x, i, j, m: x[:, m[0]],
    "a mask of one axis": lambda x, i, j, m: (x[m[:, 0, 0]], x[:, m[0, :, 0]], x[..., m[0, 0]]),
    "a mask beside an index": lambda x, i, j, m: x[m[:, 0, 0], :, 1],
    "a mask beside a broadcast index": lambda x, i, j, m: x[:, m[0, :, 0], j],
    "one argument of where": lambda x, i, j, m: torch.where(m),
    "places": lambda x, i, j, m: (x.nonzero(), (i > 0).nonzero(), m.argwhere()),
    "places of a number": lambda x, i, j, m: (x[0, 0, 0].nonzero(), torch.tensor(0.0).argwhere()),
    "selected by mask": lambda x, i, j, m: (x.masked_select(m), x.masked_select(m[:, :1])),
    "from the flat tensor": lambda x, i, j, m: x.take(j * 7),
    "along an axis": lambda x, i, j, m: torch.take_along_dim(x, x.argsort(1), 1),
    "gather of fewer": lambda x, i, j, m: x.gather(2, i.abs()[:, None, None].expand(3, 2, 2)),
    "index_select": lambda x, i, j, m: (x.index_select(-1, i.abs()), x[0, 0, 0].index_select(0, i[:1] * 0)),
    "nothing": lambda x, i, j, m: (x[i[:0]], x[:, i[:0], j[:, :0]], x[..., :0][m[..., :0]]),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_reads(name):
    agrees(READS[name], (X, ROWS, MORE, MASK), peer=name != "nothing")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.int64,
                                   torch.uint8, torch.bool])  # fmt: skip
def test_reads_of_each_type(dtype):
    x = (X * 3).to(dtype)
    agrees(lambda x, i, m: (x[m], x[:, i], x[i, i], x.take(i), x.nonzero()), (x, ROWS, MASK))


def test_reads_of_bfloat16():
    x = X.bfloat16()
    agrees(lambda x, i, m: (x[m], x[:, i], x.masked_select(m)), (x, ROWS, MASK), peer=False)


def assigned(index, accumulate, x, i, j):
    given = [{"i": i, "j": j}.get(each) for each in index]
    shape = x[tuple(slice(None) if each is None else each for each in given)].shape
    source = torch.arange(float(shape.numel())).reshape(shape) + 0.5
    return [
        torch.ops.aten.index_put(x, given, each, accumulate)
        for each in (source, torch.tensor(7.0), source[:1], source[..., :1], source[0])
    ]


ASSIGNMENTS = ["i", "ii", "iii", ":i", ":ii", "::i", ":i:", "i:i", ":ij", "i:j", "jii"]


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_assignment(part, accumulate):
    unique = (torch.tensor([2, 0, 1]), torch.tensor([[0], [2]]))
    i, j = (ROWS, MORE) if accumulate else unique

    def write(x, i, j):
        return [assigned(index, accumulate, x, i, j) for index in ASSIGNMENTS[part::3]]

    agrees(write, (X, i, j), terms=6)


def test_assignment_under_a_mask():
    def write(x, m, rows):
        a, b, c, d, e = (x.clone() for _ in range(5))
        a[m] = 1.0
        b[m[:, 0, 0]] = rows[:1]
        c[:, m[0]] = x[:, :1, 0] * 2
        d[m[:, 0, 0]] = rows[: x[m[:, 0, 0]].shape[0]]
        e[:, m[0, :, 0]] = x[:, :1]
        return (
            a,
            b,
            c,
            d,
            e,
            torch.index_put(x, (m,), x[m] * 3),
            x.index_put((m[..., 0],), x[m[..., 0]] + 1),
        )

    agrees(write, (X, MASK, floats(3, 4, 5, seed=1)))


def test_assignment_under_a_mask_adds():
    agrees(
        lambda x, m: (
            x.index_put((m,), torch.tensor(2.0), accumulate=True),
            x.index_put((m[:, 0, 0], torch.tensor(1)), torch.tensor(2.0), accumulate=True),
        ),
        (X, MASK),
    )


def test_assignment_to_parts():
    def write(x):
        a, b, c, d, e = (x.clone() for _ in range(5))
        a[:, 1] = 0.0
        b[:, 1:3] = x[:, :2]
        c[..., ::2] = 1.0
        d[:, -1] = x[:, 0]
        e[:, -3:-1, 1] = 2.0
        return a, b, c, d, e, x.diagonal_scatter(x[:, :, 0] * 2, 1, 1, 2)

    agrees(write, (X,), dynamic=[{0: "n"}], others=[(floats(5, 4, 5),)])


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2), (2, 1), (-1, -2)])
def test_diagonals(axes):
    def both(x):
        lines = [x.diagonal(offset, *axes) for offset in (0, 1, -1, 2, -2)]
        changed = [
            x.diagonal_scatter(line * 2 + 1, offset, *axes)
            for line, offset in zip(lines, (0, 1, -1, 2, -2), strict=True)
        ]
        return lines, changed

    agrees(both, (X,))


def test_diagonals_of_dynamic_matrices():
    agrees(
        lambda x: (x.diagonal(), x.diagonal(1), torch.trace(x), torch.diag(x, -1)),
        (floats(3, 3),),
        dynamic=[{0: "n", 1: "n"}],
        others=[(floats(6, 6),)],
        terms=6,
    )


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float64])
def test_scatter_reduce(include, dtype):
    x, source = (X * 4).to(dtype), (floats(3, 4, 5, seed=3) * 4).to(dtype)
    index = places(4, 3, 3, 5).abs().clamp(0, 3)

    def write(x, index, source):
        line, found = index[0, 0], []
        for reduce in ("sum", "prod", "mean", "amax", "amin"):
            found.append(x.scatter_reduce(1, index, source, reduce, include_self=include))
            if reduce != "sum":
                rows, columns = x[:1].expand(5, 4, 5) * 2, x[:, :1].expand(3, 5, 5) * 2
                found += [
                    x.index_reduce(0, line.clamp(0, 2), rows, reduce, include_self=include),
                    x.index_reduce(1, line, columns, reduce, include_self=include),
                ]
        return found

    agrees(write, (x, index, source), terms=8)


def test_scatter_forms():
    index = torch.tensor([[0, 2, 1], [1, 0, 2]])
    source = floats(2, 4, seed=2)

    def write(x, index, source):
        return (
            x.scatter(0, index, source), x.scatter(1, index, 2.5), x.scatter_add(1, index, source),
            x.scatter(1, index, source, reduce="add"), x.scatter(1, index, 3.0, reduce="multiply"),
            x[0, 0].scatter(0, index[0, 0], 2.0), x[0].scatter(0, index[0, 0], 5.0),
        )  # fmt: skip

    agrees(write, (floats(3, 4), index, source), terms=4)


def test_along_an_axis():
    index = torch.tensor([2, 0])

    def write(x, index, y):
        return (
            x.index_add(0, index, y[:2], alpha=2), x.index_add(1, index, x[:, :2]),
            x.index_copy(0, index, y[:2]), x.index_copy(2, index, x[..., :2] + 1),
            x.index_fill(1, index, 3.5), x.index_fill(0, index, y[0, 0, 0]),
            x[0, 0, 0].index_add(0, index[1], y[0, 0, 0]), x.put(index, y[0, 0, :2]),
            x.put(index * 0 + 1, y[0, 0, :2], accumulate=True),
        )  # fmt: skip

    agrees(
        write, (X, index, floats(3, 4, 5, seed=4)), terms=4,
        dynamic=[{1: "n"}, {}, {1: "n"}],
        others=[(floats(3, 6, 5), index, floats(3, 6, 5, seed=5))],
    )  # fmt: skip


def test_masked_scatter():
    agrees(
        lambda x, m, y: (
            x.masked_scatter(m, y),
            x.masked_scatter(m[:, :1], y),
            x.masked_fill(m, 2.0),
        ),
        (X, MASK, floats(60)),
    )


SORTS = {
    "sort": lambda x: (
        *x.sort(stable=True, dim=1),
        *x.sort(stable=True, dim=0, descending=True),
        x.msort(),
    ),
    "argsort": lambda x: (x.argsort(stable=True, dim=1), x.argsort(stable=True, descending=True)),
    "topk": lambda x: (*x.topk(2, 1), *x.topk(3, 0, largest=False)),
    "rank 0": lambda x: (*x[0, 0].sort(), *x[0, 0].topk(1)),
}


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64,
                                   torch.int32, torch.int16, torch.uint8, torch.bool])  # fmt: skip
def test_sorts(name, dtype):
    if dtype is torch.bool:
        x = torch.tensor([[True, False, True], [False, True, False], [True, True, False]])
        if name in {"topk", "rank 0"}:
            pytest.skip("torch has no topk of booleans")
    else:
        x = (torch.randperm(15, generator=torch.Generator().manual_seed(1)).reshape(3, 5)).to(dtype)
    agrees(SORTS[name], (x,), dynamic=[{1: "n"}] if dtype is torch.float32 else None)


@pytest.mark.parametrize("right", [False, True])
def test_search(right):
    edges = torch.tensor([-1.0, 0.0, 0.0, 1.0])

    def search(edges, x, rows):
        order = torch.tensor([3, 0, 2, 1])
        shuffled = edges[torch.argsort(order)]
        return (
            torch.searchsorted(edges, x, right=right), torch.bucketize(x, edges, right=right),
            torch.searchsorted(rows, x[:, 0, :], right=right, out_int32=True),
            torch.searchsorted(edges, 0.0, right=right),
            torch.searchsorted(shuffled, x, right=right, sorter=order),
        )  # fmt: skip

    agrees(search, (edges, X.round(), X[:, 0].sort(1)[0]))


COUNTS = {
    "bincount": lambda x, w: (x.bincount(), x.bincount(minlength=20), x.bincount(w)),
    "histc": lambda x, w: (w.histc(4), w.histc(5, -1, 1), w.histc(3, -0.5, 2)),
    "histogram": lambda x, w: (*w.histogram(4), *w.histogram(3, range=(-1, 1), density=True)),
    "histogram of edges": lambda x, w: w.histogram(torch.tensor([-1, 0, 0.5, 3.0]), weight=w),
    "unique": lambda x, w: (*x.unique(return_inverse=True, return_counts=True), w.unique()),
    "unique along": lambda x, w: torch.stack([x % 3, x % 2]).unique(dim=1, return_inverse=True),
    "unique_consecutive": lambda x, w: (
        *(x // 3).unique_consecutive(return_inverse=True, return_counts=True),
        *torch.stack([x // 3, x // 4]).unique_consecutive(
            return_inverse=True, return_counts=True, dim=1
        ),
    ),
    "isin": lambda x, w: (torch.isin(x, x[:3]), torch.isin(x, 3), torch.isin(x, x[:2], invert=True)),
    "repeat_interleave": lambda x, w: (
        torch.repeat_interleave(x), torch.repeat_interleave(w, x), w.repeat_interleave(2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    x = torch.tensor([3, 3, 0, 4, 9, 9, 2, 0])
    agrees(COUNTS[name], (x, floats(8)), terms=8)


def test_assignments_to_booleans():
    def write(x, m):
        a, b = x.clone(), x.clone()
        a[m] = True
        b[:, 1] = False
        return a, b, x.diagonal_scatter(~x.diagonal(), 0, 0, 1), x.index_put((m,), m[m], True)

    agrees(write, (X > 0, MASK))


def test_sizes_that_data_decides():
    def data(x, n, limit):
        count = n.item()
        torch._check(count >= 1)
        torch._check(count <= x.shape[0])
        found = x[x > limit.item()]
        pairs = (x > 0).nonzero()
        return (
            x[:count] * 2, torch.arange(count), found + 1, found.sum(), pairs * found.shape[0],
            torch.zeros(pairs.shape[0] * 2, count), torch.nonzero_static(x > 0, size=4),
            x.sum().item() * 2.0, torch.cat([found, x]), torch.ones(found.shape[0])[:, None] + x,
        )  # fmt: skip

    x = torch.tensor([0.5, -1.0, 2.0, 0.25, -0.5])
    others = [
        (x[:4] * -1, torch.tensor(1), torch.tensor(-3.0)),
        (x[2:], torch.tensor(3), torch.tensor(0.3)),
    ]
    agrees(
        data,
        (x, torch.tensor(2), torch.tensor(0.1)),
        dynamic=[{0: "n"}, {}, {}],
        others=others,
        terms=8,
    )


@pytest.mark.parametrize("opset", [11, 13, 16, 18, 21])
def test_older_opsets(opset):
    def old(x, i, m):
        found = (x[m], x[:, i], x[i, i], x.nonzero(), x.sort(1)[0], x.take(i), x.flip(0, 2),
                 x.index_fill(1, i, 2.0), x.diagonal(0, 1, 2), x.tril(), x.unfold(1, 2, 1))  # fmt: skip
        return found if opset < 16 else (*found, x.index_add(1, i, x[:, :3]))

    agrees(old, (X, ROWS.abs(), MASK), opset=opset, terms=3)


def test_an_older_opset_is_refused():
    with pytest.raises(ExportError, match="needs opset 16"):
        agrees(lambda x, i: x.scatter_add(0, i, x), (X, torch.zeros_like(X).long()), opset=13)


@pytest.mark.parametrize("initial", [None, 2.0])
def test_segments(initial):
    def reduced(x, lengths, offsets):
        many = [
            torch.segment_reduce(x, each, lengths=lengths, unsafe=True, initial=initial)
            for each in ("sum", "mean", "max", "min", "prod")
        ]
        return (*many, torch.segment_reduce(x, "sum", offsets=offsets, unsafe=True))

    args = floats(9, 3), torch.tensor([2, 0, 4, 3]), torch.tensor([0, 2, 2, 9])
    others = floats(12, 3), torch.tensor([3, 4, 0, 2, 3]), torch.tensor([0, 5, 12])
    agrees(reduced, args, dynamic=[{0: "n"}, {0: "m"}, {0: "k"}], others=[others])
    rows = torch.tensor([[2, 0, 4, 3], [3, 3, 3, 0]])
    agrees(
        lambda x, n: torch.segment_reduce(x, "max", lengths=n, axis=1, unsafe=True),
        (floats(2, 9, 3), rows),
    )
