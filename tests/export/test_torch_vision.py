"""Operators of torchvision, by operators of the same names and schemas that plain Python computes.

torchvision itself is not needed: its operators are known by their names.
"""

import importlib.util
import math

import numpy as np
import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torchvision") is not None, reason="torchvision defines these"
    ),
]
torch = pytest.importorskip("torch")

from export.agree import agree  # noqa: E402

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    "ps_roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio) -> (Tensor, Tensor)",
    "ps_roi_pool": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    "deform_conv2d": "(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, "
    "SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor",
}


def nms(boxes, scores, threshold):
    kept = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in torch.argsort(scores, descending=True).tolist():
        overlaps = []
        for j in kept:
            low = torch.maximum(boxes[i, :2], boxes[j, :2])
            high = torch.minimum(boxes[i, 2:], boxes[j, 2:])
            inside = (high - low).clamp(min=0).prod()
            overlaps.append(inside / (area[i] + area[j] - inside))
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def bilinear(plane, y, x):
    height, width = plane.shape[-2:]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(plane.shape[:-2])
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down = y - top if top < height - 1 else 0.0
    along = x - left if left < width - 1 else 0.0
    return (
        plane[..., top, left] * (1 - down) * (1 - along)
        + plane[..., top, right] * (1 - down) * along
        + plane[..., bottom, left] * down * (1 - along)
        + plane[..., bottom, right] * down * along
    )


def roi_align(x, rois, scale, height, width, samples, aligned):
    out = torch.zeros(len(rois), x.shape[1], height, width)
    shift = 0.5 if aligned else 0.0
    for k, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        left, top = x1 * scale - shift, y1 * scale - shift
        wide, tall = (x2 - x1) * scale, (y2 - y1) * scale
        if not aligned:
            wide, tall = max(wide, 1.0), max(tall, 1.0)
        rows = samples if samples > 0 else math.ceil(tall / height)
        columns = samples if samples > 0 else math.ceil(wide / width)
        for i in range(height):
            for j in range(width):
                for a in range(rows):
                    for b in range(columns):
                        y = top + (i + (a + 0.5) / rows) * tall / height
                        at = left + (j + (b + 0.5) / columns) * wide / width
                        out[k, :, i, j] += bilinear(x[int(image)], y, at) / (rows * columns)
    return out


def ps_roi_align(x, rois, scale, height, width, samples):
    whole = roi_align(x, rois, scale, height, width, samples, True)
    split = whole.view(len(rois), -1, height, width, height, width)
    out = torch.stack([
        torch.stack([split[:, :, i, j, i, j] for j in range(width)], -1) for i in range(height)
    ], -2)  # fmt: skip
    return out, torch.zeros(1)


def half_up(value):
    return math.floor(value + 0.5)


def roi_pool(x, rois, scale, height, width):
    out = torch.zeros(len(rois), x.shape[1], height, width)
    for k, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (half_up(corner * scale) for corner in corners)
        tall, wide = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for i in range(height):
            for j in range(width):
                rows = slice(max(math.floor(i * tall / height) + top, 0),
                             math.ceil((i + 1) * tall / height) + top)  # fmt: skip
                columns = slice(max(math.floor(j * wide / width) + left, 0),
                                math.ceil((j + 1) * wide / width) + left)  # fmt: skip
                cell = x[int(image), :, rows, columns]
                if cell.numel():
                    out[k, :, i, j] = cell.amax((1, 2))
    return out, torch.zeros(1)


def ps_roi_pool(x, rois, scale, height, width):
    depth = x.shape[1] // (height * width)
    planes = x.view(len(x), depth, height, width, *x.shape[2:])
    out = torch.zeros(len(rois), depth, height, width)
    for k, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        left, top = half_up(x1) * scale, half_up(y1) * scale
        wide = max((half_up(x2) + 1) * scale - left, 0.1) / width
        tall = max((half_up(y2) + 1) * scale - top, 0.1) / height
        for i in range(height):
            for j in range(width):
                rows = slice(max(math.floor(i * tall + top), 0), math.ceil((i + 1) * tall + top))
                columns = slice(max(math.floor(j * wide + left), 0),
                                math.ceil((j + 1) * wide + left))  # fmt: skip
                cell = planes[int(image), :, i, j, rows, columns]
                if cell.numel():
                    out[k, :, i, j] = cell.mean((1, 2))
    return out, torch.zeros(1)


def deform_conv2d(x, weight, offset, mask, bias, sh, sw, ph, pw, dh, dw, groups, og, use_mask):
    count, _, kh, kw = weight.shape
    n, _, oh, ow = offset.shape
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    columns = torch.zeros(n, x.shape[1], kh, kw, oh, ow)
    per = x.shape[1] // og
    for b, c, i, j, y, z in np.ndindex(n, x.shape[1], kh, kw, oh, ow):
        at = 2 * ((c // per) * kh * kw + i * kw + j)
        row = y * sh - ph + i * dh + offset[b, at, y, z].item()
        column = z * sw - pw + j * dw + offset[b, at + 1, y, z].item()
        if -1 < row < x.shape[2] and -1 < column < x.shape[3]:
            # zeros around the plane are interpolated with
            found = bilinear(padded[b, c], row + 1, column + 1)
            columns[b, c, i, j, y, z] = found * (mask[b, at // 2, y, z] if use_mask else 1)
    split = columns.view(n, groups, -1, kh, kw, oh, ow)
    weights = weight.view(groups, count // groups, -1, kh, kw)
    out = torch.einsum("ngcijyx,gocij->ngoyx", split, weights).reshape(n, count, oh, ow)
    return out + bias.view(1, -1, 1, 1)


def pooled_shape(depth):
    def shapes(x, rois, scale, height, width, *rest):
        channels = x.shape[1] if depth else x.shape[1] // (height * width)
        out = x.new_empty(rois.shape[0], channels, height, width)
        return out, x.new_empty(1)

    return shapes


def nms_shape(boxes, scores, threshold):
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


FAKES = {
    "nms": nms_shape,
    "roi_align": lambda *args: pooled_shape(True)(*args)[0],
    "roi_pool": pooled_shape(True),
    "ps_roi_align": pooled_shape(False),
    "ps_roi_pool": pooled_shape(False),
    "deform_conv2d": lambda x, weight, offset, *rest: x.new_empty(
        x.shape[0], weight.shape[0], *offset.shape[2:]
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _operators():
    for name, schema in SCHEMAS.items():
        LIBRARY.define(name + schema)
        LIBRARY.impl(name, globals()[name], "CPU")
        torch.library.register_fake(f"torchvision::{name}", FAKES[name], lib=LIBRARY)


def function(name, *rest, first=False):
    def call(*tensors):
        found = getattr(torch.ops.torchvision, name)(*tensors, *rest)
        return found[0] if first else found

    class Module(torch.nn.Module):
        def forward(self, a, b):
            return call(a, b)

    return Module()


def rois():
    return torch.tensor([[0, 1.0, 1.3, 7.0, 6.2], [1, 0.2, 0.1, 3.0, 8.0], [0, 4.0, 4.0, 9.0, 9.0]])


def test_nms():
    torch.manual_seed(0)
    corner = torch.rand(12, 2) * 5
    boxes = torch.cat([corner, corner + 1 + torch.rand(12, 2) * 4], 1)
    more = torch.cat([boxes, boxes + 3])
    module = function("nms", 0.3)
    operators = agree(
        module, boxes, torch.rand(12), dynamic={"a": {0: "n"}, "b": {0: "n"}},
        sizes=[(more, torch.rand(24))],
    )  # fmt: skip
    assert operators.count("NonMaxSuppression") == 1


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [2, -1])
def test_roi_align(aligned, samples):
    torch.manual_seed(0)
    module = function("roi_align", 0.5, 3, 2, samples, aligned)
    agree(module, torch.randn(2, 3, 6, 7), rois())
    agree(
        module, torch.randn(2, 3, 6, 7), rois(), opset=16,
        dynamic={"a": {2: "h"}, "b": {0: "k"}}, sizes=[(torch.randn(2, 3, 9, 7), rois()[:2])],
    )  # fmt: skip


def test_position_sensitive_pools():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 8, 9)
    agree(function("ps_roi_align", 0.5, 3, 2, 2, first=True), x, rois())
    agree(function("ps_roi_pool", 0.5, 3, 2, first=True), x, rois(), terms=256)


def test_roi_pool():
    torch.manual_seed(0)
    agree(function("roi_pool", 0.5, 2, 2, first=True), torch.randn(2, 3, 8, 9), rois())


@pytest.mark.parametrize("use_mask", [True, False])
def test_deform_conv2d(use_mask):
    torch.manual_seed(0)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 2, 3, 3))
            self.bias = torch.nn.Parameter(torch.randn(4))

        def forward(self, x, offset, mask):
            return torch.ops.torchvision.deform_conv2d(
                x, self.weight, offset, mask, self.bias, 2, 1, 1, 1, 1, 1, 2, 2, use_mask
            )

    x = torch.randn(1, 4, 5, 6)
    offset, mask = torch.randn(1, 36, 3, 6), torch.rand(1, 18, 3, 6)
    args = (x, offset, mask)
    assert "DeformConv" in agree(Module(), *args, terms=512)
