"""Each module of the zoo: sardonyx, onnxruntime and PyTorch agree, at two batch sizes."""

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.zoo import CASES  # noqa: E402
from sardonyx.export.torch.tensors import as_array  # noqa: E402

OLDER = {
    "lenet": 7,
    "residual": 11,
    "mobile": 9,
    "unet": 11,
    "activations": 11,
    "convolutions": 13,
    "pools": 11,
    "norms": 13,
    "arithmetic": 14,
    "reductions": 13,
    "movement": 14,
    "indexing": 16,
    "resizes": 11,
    "transformer": 14,
}
RUNS = [(name, opset) for name, old in OLDER.items() for opset in (20, old)]
RUNS += [("norms", 23), ("norms", 17), ("transformer", 17), ("residual", 14)]


def close(expected, found, name):
    assert expected.shape == found.shape
    assert expected.dtype == found.dtype
    if expected.dtype.kind == "f":
        eps = np.finfo(expected.dtype).eps
        scale = np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=1e-3)
        # up to 400 terms are summed in one output, through at most about 30 layers
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=eps * np.sqrt(400 * 30) * 4 * scale, err_msg=name
        )
    else:
        np.testing.assert_array_equal(expected, found, name)


@pytest.mark.parametrize(("name", "opset"), RUNS)
def test_agrees(name, opset):
    make, args, axes = CASES[name]
    torch.manual_seed(0)
    module = make().eval()
    names = [f"input{index}" for index in range(len(args))]
    model = sx.export(
        module, args, opset_version=opset, input_names=names,
        dynamic_axes=dict(zip(names, axes, strict=True)),
    )  # fmt: skip
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    peer = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for copies in (1, 3) if any(axes) else (1,):
        sized = [arg.repeat_interleave(copies, 0) for arg in args]
        with torch.no_grad():
            outputs = module(*(arg.clone() for arg in sized))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        feeds = {name: as_array(arg) for name, arg in zip(names, sized, strict=True)}
        found = peer.run(None, feeds)
        ours = sx.Session(model).run(None, feeds)
        for value, expected, got, own in zip(
            model.graph.outputs, outputs, found, ours, strict=True
        ):
            close(as_array(expected), got, f"onnxruntime {value.producer}")
            close(as_array(expected), own, f"sardonyx {value.producer}")
