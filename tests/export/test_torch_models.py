"""Well-known networks: exported, verified, dynamic, and equal on sardonyx and onnxruntime."""

import logging

import numpy as np
import onnx
import pytest

pytestmark = [
    pytest.mark.torch,
    # transformers and torch warn of their own plans
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
]
torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

import sardonyx as sx  # noqa: E402
from export import networks, networks_media, networks_text  # noqa: E402
from sardonyx.export.torch.tensors import as_array  # noqa: E402

SLOW = {
    "bart", "bert_eager", "clip", "convnext", "detr", "diffusion_unet", "diffusion_vae", "gemma",
    "gemma2", "layoutlmv3", "llama_eager", "mamba", "mobilenet_v2", "mobilevit", "qwen2",
    "qwen2_moe", "sam", "segformer", "swin", "t5_decoder", "wav2vec2", "whisper_decoder",
}  # fmt: skip
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in networks.NETWORKS
]
LATER = (networks_media.__name__, networks_text.__name__)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def leaves(found):
    return [leaf for leaf in pytree.tree_leaves(found) if leaf is not None]


def close(expected, found, title):
    assert expected.shape == found.shape, title
    assert expected.dtype == found.dtype, title
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(expected, found, title)
        return
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=1e-3)
    # sums of up to 600 terms, up to 40 of them one after the other
    tolerance = 4 * np.finfo(expected.dtype).eps * np.sqrt(600 * 40) * scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=title)


def exported(network):
    return sx.export(
        network.module,
        kwargs=network.call(),
        dynamic_shapes=network.dynamic_shapes if network.is_dynamic else None,
        verify=True,
    )


def check_names(network, model):
    """Each parameter that an output depends on is one initializer, by one of its names.

    The weights of recurrent layers are packed, as the standard's operators have them.
    """
    module = network.module
    outputs = leaves(module(**network.call()))
    total = sum(part.sum() for part in outputs if part.requires_grad)
    total.backward()
    initializers = {value.name: value for value in model.graph.initializers}
    recurrent = (torch.nn.RNNBase, torch.nn.RNNCellBase)
    packed = {
        weight
        for layer in module.modules()
        if isinstance(layer, recurrent)
        for weight in layer.parameters()
    }
    names = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for parameter, aliases in names.items():
        if parameter.grad is None or parameter in packed:
            continue
        (name,) = [alias for alias in aliases if alias in initializers]
        array = initializers[name].const.numpy()
        np.testing.assert_array_equal(array, as_array(parameter.detach()), name)


def check_shapes(network, model):
    """The dims of the inputs have the names that were asked for."""
    found = {value.name: [str(dim) for dim in value.type.shape] for value in model.graph.inputs}
    wanted = {name: [str(dim) for dim in given.shape] for name, given in network.inputs.items()}
    assert found == wanted


def check_round_trip(network, model):
    """`sx.to_torch` gives a module of the same weights and numbers."""
    back = sx.to_torch(model).eval()
    weights = back.state_dict()
    for value in model.graph.initializers:
        if value.name in network.module.state_dict():
            np.testing.assert_array_equal(
                as_array(weights[value.name]), value.const.numpy(), value.name
            )
    for which in (0, 1) if network.is_dynamic else (0,):
        call = network.call(which)
        with torch.no_grad():
            expected = leaves(network.module(**call))
            found = leaves(back(**call))
        for index, (right, got) in enumerate(zip(expected, found, strict=True)):
            close(as_array(right), as_array(got), f"to_torch, output {index}, call {which}")


@pytest.mark.parametrize("name", NAMES)
def test_network(name):
    if networks.NETWORKS[name].__module__ in LATER:
        pytest.importorskip("transformers")
    network = networks.build(name)
    model = exported(network)
    check_shapes(network, model)
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    peer = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    session = sx.Session(model)
    for which in (0, 1) if network.is_dynamic else (0,):
        call = network.call(which)
        with torch.no_grad():
            expected = leaves(network.module(**call))
        feeds = {key: as_array(tensor) for key, tensor in call.items()}
        for title, runner in (("onnxruntime", peer), ("sardonyx", session)):
            found = runner.run(None, feeds)
            for value, right, got in zip(model.graph.outputs, expected, found, strict=True):
                close(as_array(right), got, f"{title}, {value.name}, call {which}")
    check_names(network, model)
    if hasattr(sx, "to_torch"):
        check_round_trip(network, model)
