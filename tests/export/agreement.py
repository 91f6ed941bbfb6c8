"""Exports a function or module and compares it with PyTorch on Sardonyx and onnxruntime."""

import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch.utils import _pytree as pytree

import sardonyx as sx


class Wrapped(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def as_arrays(leaves):
    arrays = []
    for leaf in leaves:
        tensor = leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf)
        tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        arrays.append(tensor.detach().resolve_neg().numpy())
    return arrays


def tolerance(expected):
    """What rounding of at most 100 steps, each of sums of 100 terms, explains."""
    finite = np.abs(expected[np.isfinite(expected)])
    return np.finfo(expected.dtype).eps * 16 * np.sqrt(100 * 100) * finite.max(initial=1)


def assert_close(expected, found, message):
    found = np.asarray(found)
    assert found.shape == expected.shape, message
    if expected.dtype == np.float64 and found.dtype == np.float32 and not expected.shape:
        expected = expected.astype(np.float32)
    assert found.dtype == expected.dtype, message
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=tolerance(expected), err_msg=message
        )
    else:
        np.testing.assert_array_equal(found, expected, message)


def peer_session(data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def feeds_of(model, args):
    """Tensors, and numbers where the model has an input for each leaf."""
    leaves = pytree.tree_leaves(args)
    names = [value.name for value in model.graph.inputs if value.const is None]
    if len(leaves) != len(names):
        leaves = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return dict(zip(names, as_arrays(leaves), strict=True))


def agrees(module, args, others=(), *, dynamic=None, opset=20, reference=None):
    """The exported model, after the outputs agreed on `args` and `others`.

    `reference` is called in the module's place where that is given.
    """
    if not isinstance(module, torch.nn.Module):
        module = Wrapped(module)
        dynamic = None if dynamic is None else (tuple(dynamic),)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = [
            as_arrays(pytree.tree_leaves((reference or module)(*given)))
            for given in (args, *others)
        ]
        program = torch.export.export(module, args, dynamic_shapes=dynamic, strict=False)
        model = sx.export(program, opset_version=opset)
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    runners = {"sardonyx": sx.Session(model), "onnxruntime": peer_session(data)}
    for given, wanted in zip((args, *others), expected, strict=True):
        feeds = feeds_of(model, given)
        for name, runner in runners.items():
            found = runner.run(None, feeds)
            for index, (right, got) in enumerate(zip(wanted, found, strict=True)):
                assert_close(right, got, f"{name}, output {index}")
    return model


def operators(model):
    return [node.op_type for node in model.graph.nodes]
