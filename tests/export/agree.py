"""Whether an exported module says what PyTorch says, on Sardonyx and on onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from torch.utils import _pytree as pytree

import sardonyx as sx
from sardonyx.export.torch.tensors import as_array


def agree(module, *args, sizes=(), dynamic=None, opset=20, peer=True, terms=64):
    """Export, run on `args` and on each of `sizes`, compare; the operators of the file.

    `terms`: how many products are summed up in one element of the result, through all layers.
    """
    if isinstance(module, torch.nn.Module):
        module.eval()
    model = sx.export(module, args, dynamic_shapes=dynamic, opset_version=opset, verify=False)
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    runners = [("sardonyx", sx.Session(model).run)]
    if peer:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        runners.append(("onnxruntime", session.run))
    for values in (args, *sizes):
        with torch.no_grad():
            right = [leaf for leaf in pytree.tree_leaves(module(*values)) if leaf is not None]
        leaves = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
        feeds = {
            value.name: as_array(leaf)
            for value, leaf in zip(model.graph.inputs, leaves, strict=True)
        }
        for name, run in runners:
            found = run(None, feeds)
            assert len(found) == len(right), name
            for expected, got in zip(right, found, strict=True):
                _close(as_array(expected), np.asarray(got), name, terms)
    return [node.op_type for node in model.graph.nodes]


def _close(expected, found, name, terms):
    assert expected.shape == found.shape, name
    assert expected.dtype == found.dtype, name
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, name)
        return
    scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=1.0)
    eps = np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=eps * terms * scale, err_msg=name)
