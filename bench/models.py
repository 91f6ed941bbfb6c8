"""The models of `bench/runtime.py`, with random weights, as files of opset 20.

`sardonyx.export` writes them where it can and torch's own exporter where not; a line in
`exported.json` beside the files says which, and why.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

OPSET = 20
MIB = 1 << 20
TOKENS = 128
CACHED = 128


@dataclass(frozen=True)
class Made:
    """A module, what it is called with, and the names of both ends in the file."""

    module: Any
    args: tuple[Any, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("output",)


# -- transformers -----------------------------------------------------------------------------


def wrapped(model: Any, call: Callable[..., Any]) -> Any:
    """A module of plain tensors: `call(model, *tensors)`."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return call(self.model, *tensors)

    return Wrapped().eval()


def tokens(count: int, vocabulary: int) -> Any:
    import torch

    return torch.randint(0, vocabulary, (1, count))


def mlp() -> Made:
    import torch
    from torch import nn

    layers = (nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    return Made(nn.Sequential(*layers).eval(), (torch.randn(1, 16),), ("x",))


def bert(**sizes: int) -> Made:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(**sizes)
    model = BertModel(config, add_pooling_layer=False)

    def call(model: Any, ids: Any, mask: Any) -> Any:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = tokens(TOKENS, config.vocab_size)
    args = (ids, torch.ones(1, TOKENS, dtype=torch.int64))
    return Made(wrapped(model, call), args, ("input_ids", "attention_mask"))


def vit() -> Made:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(num_labels=1000))

    def call(model: Any, pixels: Any) -> Any:
        return model(pixel_values=pixels).logits

    return Made(wrapped(model, call), (torch.randn(1, 3, 224, 224),), ("pixel_values",))


def gpt2() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config()
    model = GPT2LMHeadModel(config)

    def call(model: Any, ids: Any) -> Any:
        return model(input_ids=ids, use_cache=False).logits

    return Made(wrapped(model, call), (tokens(TOKENS, config.vocab_size),), ("input_ids",))


def llama(*, decode: bool) -> Made:
    """A decoder of 100 M parameters; `decode`: one token after a cache of `CACHED`."""
    import torch
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads

    def call(model: Any, ids: Any, positions: Any, *past: Any) -> Any:
        cache = DynamicCache()
        for layer in range(layers if past else 0):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        found = model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        present = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return (found.logits, *present)

    count, first = (1, CACHED) if decode else (TOKENS, 0)
    past = [torch.randn(1, heads, CACHED, width) for _ in range(2 * layers)] if decode else []
    positions = torch.arange(first, first + count)[None]
    each = [f"{part}.{layer}" for layer in range(layers) for part in ("key", "value")]
    return Made(
        wrapped(model, call),
        (tokens(count, config.vocab_size), positions, *past),
        ("input_ids", "position_ids", *(f"past.{name}" for name in each[: len(past)])),
        ("logits", *(f"present.{name}" for name in each)),
    )


MODULES: dict[str, Callable[[], Made]] = {
    "mlp": mlp,
    "minilm": partial(
        bert, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
    "bert-base": bert,
    "vit-b16": vit,
    "gpt2": gpt2,
    "llama-prefill": partial(llama, decode=False),
    "llama-decode": partial(llama, decode=True),
}


# -- single operators -------------------------------------------------------------------------

OPERATORS = ("layernorm", "softmax", "gelu", "silu", "exp", "sum", "add")
SIZES = {"1MiB": (512, 512), "64MiB": (16384, 1024)}


def operator(name: str, shape: tuple[int, int]) -> onnx.ModelProto:
    """One operation on a matrix `x`, along its rows where it has a direction."""
    width = shape[1]
    random = np.random.default_rng(0)
    row = [
        numpy_helper.from_array(random.random(width, np.float32), weight) for weight in ("w", "b")
    ]
    node = helper.make_node
    axes = numpy_helper.from_array(np.array([-1], np.int64), "axes")
    nodes, weights = {
        "layernorm": ([node("LayerNormalization", ["x", "w", "b"], ["y"])], row),
        "softmax": ([node("Softmax", ["x"], ["y"])], []),
        "gelu": ([node("Gelu", ["x"], ["y"])], []),
        "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], []),
        "exp": ([node("Exp", ["x"], ["y"])], []),
        "sum": ([node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)], [axes]),
        "add": ([node("Add", ["x", "w"], ["y"])], row[:1]),
    }[name]
    return graph(nodes, shape, (shape[0], 1) if name == "sum" else shape, weights)


def sgemm(size: int) -> onnx.ModelProto:
    """The product with a constant square matrix."""
    weight = np.random.default_rng(0).random((size, size), np.float32) - 0.5
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return graph(nodes, (size, size), (size, size), [numpy_helper.from_array(weight, "w")])


def graph(
    nodes: list[Any], shape: tuple[int, ...], result: tuple[int, ...], weights: list[Any]
) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name, sizes in (("x", shape), ("y", result))
    ]
    made = helper.make_graph(nodes, "operator", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


PROTOS: dict[str, Callable[[], onnx.ModelProto]] = {
    f"{name}-{size}": partial(operator, name, shape)
    for size, shape in SIZES.items()
    for name in OPERATORS
} | {f"sgemm-{size}": partial(sgemm, size) for size in (512, 1024)}

NAMES = (*MODULES, *PROTOS)


# -- files ------------------------------------------------------------------------------------


def build(name: str, folder: Path) -> Path:
    """The file of model `name` in `folder`, made if it is not there."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if name in PROTOS:
        onnx.save(PROTOS[name](), str(path))
        return path
    notes = folder / "exported.json"
    known = json.loads(notes.read_text()) if notes.exists() else {}
    known[name] = export(name, path)
    notes.write_text(json.dumps(known, indent=2) + "\n")
    return path


def export(name: str, path: Path) -> dict[str, str]:
    """Write model `name` to `path`; by whom, and why not by us."""
    import torch

    torch.manual_seed(0)
    made = MODULES[name]()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            by_sardonyx(made, path)
        except Exception as error:  # noqa: BLE001 - whatever fails, the other exporter is asked
            reason = f"{type(error).__name__}: {error}"
            return {"by": by_torch(made, path), "because": reason}
    return {"by": "sardonyx.export"}


def by_sardonyx(made: Made, path: Path) -> None:
    import sardonyx as sx

    sx.export(
        made.module,
        made.args,
        path,
        input_names=made.inputs,
        output_names=made.outputs,
        opset_version=OPSET,
        verify=False,
    )


def by_torch(made: Made, path: Path) -> str:
    """Through torch.onnx: the new way where it goes, else the old one."""
    import torch

    options = {
        "input_names": list(made.inputs),
        "output_names": list(made.outputs),
        "opset_version": OPSET,
        "external_data": False,
        "verbose": False,
    }
    try:
        torch.onnx.export(made.module, made.args, str(path), dynamo=True, **options)
    except Exception:  # noqa: BLE001 - whatever fails, the older exporter is asked
        torch.onnx.export(made.module, made.args, str(path), dynamo=False, **options)
        return "torch.onnx.export(dynamo=False)"
    return "torch.onnx.export(dynamo=True)"


def feeds_of(path: Path, seed: int = 0) -> dict[str, Any]:
    """Random inputs: indices below a thousand, ones as masks, positions in order."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in onnx.load(str(path), load_external_data=False).graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        if kind.elem_type == TensorProto.FLOAT:
            array = random.standard_normal(shape, np.float32)
        elif "mask" in value.name:
            array = np.ones(shape, np.int64)
        elif "position" in value.name:
            first = CACHED if shape[-1] == 1 else 0
            array = np.broadcast_to(np.arange(first, first + shape[-1]), shape).copy()
        else:
            array = random.integers(0, 1000, shape)
        feeds[value.name] = array
    return feeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--folder", type=Path, help="where files go and are found again")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir()) / "sardonyx-bench"
    for name in options.names:
        path = build(name, folder)
        print(f"{name}: {path} ({path.stat().st_size / MIB:.1f} MiB)")


if __name__ == "__main__":
    main()
