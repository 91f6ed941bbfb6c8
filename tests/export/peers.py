"""Whether an exported function gives what torch gives, on sardonyx and on onnxruntime."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch.utils import _pytree as pytree

import sardonyx as sx
from sardonyx.export.torch.tensors import as_array


def agrees(function, args, *, dynamic=None, others=(), opset=20, terms=1, peer=True):
    """Assert that `function` exports, and agrees on `args` and on each of `others`.

    `dynamic` says which axes of each argument are dynamic, `terms` how long the longest sum is.
    Returns the model.
    """
    names = [f"input{index}" for index in range(len(args))]
    axes = dict(zip(names, dynamic, strict=True)) if dynamic is not None else None
    model = sx.export(
        function, args, opset_version=opset, input_names=names, dynamic_axes=axes, verify=False
    )
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    runs = [sx.Session(model)]
    if peer:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        runs.append(onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"]))
    for values in (args, *others):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of beta and deprecated operators
            expected = pytree.tree_leaves(function(*(value.clone() for value in values)))
        feeds = {
            value.name: as_array(values[names.index(value.name)]) for value in model.graph.inputs
        }
        for run in runs:
            found = run.run(None, feeds)
            assert len(found) == len(expected)
            for right, got in zip(expected, found, strict=True):
                _same(as_array(torch.as_tensor(right)), np.asarray(got), terms)
    return model


def _same(expected, found, terms):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype.kind not in "fV":
        np.testing.assert_array_equal(found, expected)
        return
    wide = expected.astype(np.float64)
    eps = float(np.finfo(expected.dtype).eps) if expected.dtype.kind == "f" else 2.0**-7
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=0)
    np.testing.assert_allclose(found.astype(np.float64), wide, rtol=0, atol=4 * eps * terms * scale)
