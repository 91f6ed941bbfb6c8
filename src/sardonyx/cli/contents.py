"""What is inside a model, as one document of plain data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sardonyx.cli.modules import module_tree
from sardonyx.ir.tensor import SparseTensor, Tensor
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.wire.external import ExternalTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.cli.modules import Module
    from sardonyx.ir.model import Model
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["contents", "nodes_of", "value_json", "weights_of"]

_BIGGEST = 5
_PAGE = 32


def value_json(name: str, known: Type | None) -> dict[str, Any]:
    """Name, type string and shape of a value; an unknown rank is null."""
    shape = None
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = [dim if dim is None or isinstance(dim, int) else str(dim) for dim in known.shape]
    return {"name": name, "type": "?" if known is None else str(known), "shape": shape}


def contents(model: Model, path: str, depth: int | None = None) -> dict[str, Any]:
    """Everything that `sardonyx show` tells of `model`; no weight's data is read.

    `depth` is how many levels of modules to list, by default what fits on a page.
    """
    graph = model.graph
    operators = Counter((node.domain, node.op_type) for node in model.all_nodes())
    tree = module_tree(graph)
    return {
        "file": path,
        "bytes": Path(path).stat().st_size,
        "ir_version": model.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        "producer": " ".join(
            part for part in (model.producer_name, model.producer_version) if part
        ),
        "graph": graph.name,
        "description": model.doc,
        "model_version": model.model_version,
        "inputs": [value_json(value.name, value.type) for value in graph.required_inputs],
        "defaults": [value_json(v.name, v.type) for v in graph.inputs if v.const is not None],
        "outputs": [value_json(value.name, value.type) for value in graph.outputs],
        "nodes": len(graph.nodes),
        "operators": [
            {"domain": domain or "ai.onnx", "name": name, "count": count}
            for (domain, name), count in operators.most_common()
        ],
        "weights": _weights_summary(model),
        "functions": [
            {
                "domain": f.domain,
                "name": f.name,
                "overload": f.overload,
                "nodes": len(f.graph.nodes),
            }
            for f in model.functions.values()
        ],
        "training": len(model.training),
        "metadata": dict(model.metadata),
        "external_files": _external_files(model),
        "modules": None if tree is None else tree.to_json(_depth(tree, depth)),
    }


def _depth(tree: Module, depth: int | None) -> int:
    return tree.depth_of(_PAGE) if depth is None else depth


def _constants(model: Model) -> Iterator[Value]:
    """Every initializer: of the main graph, functions, training and all subgraphs."""
    for graph in model.graphs():
        yield from graph.initializers
        for node in graph.all_nodes():
            for subgraph in node.subgraphs():
                yield from subgraph.initializers


def _dense(value: Value) -> Tensor | None:
    const = value.const
    return const.values if isinstance(const, SparseTensor) else const


def _weight_json(value: Value, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": value.name,
        "type": tensor.dtype.text,
        "shape": list(value.const.shape if value.const is not None else tensor.shape),
        "parameters": tensor.size,
        "bytes": tensor.nbytes,
        "external": isinstance(tensor, ExternalTensor),
    }


def weights_of(model: Model) -> list[dict[str, Any]]:
    """Every initializer, in the file's order."""
    pairs = ((value, _dense(value)) for value in _constants(model))
    return [_weight_json(value, tensor) for value, tensor in pairs if tensor is not None]


def _weights_summary(model: Model) -> dict[str, Any]:
    weights = weights_of(model)
    by_type: Counter[str] = Counter()
    for weight in weights:
        by_type[weight["type"]] += weight["bytes"]
    return {
        "count": len(weights),
        "parameters": sum(weight["parameters"] for weight in weights),
        "bytes": sum(weight["bytes"] for weight in weights),
        "bytes_by_type": dict(by_type.most_common()),
        "biggest": sorted(weights, key=lambda weight: -weight["bytes"])[:_BIGGEST],
    }


def _external_files(model: Model) -> list[str]:
    found = {
        tensor.location: None
        for tensor in map(_dense, _constants(model))
        if isinstance(tensor, ExternalTensor)
    }
    return list(found)


def nodes_of(model: Model) -> list[dict[str, Any]]:
    """Every node of the main graph, with the types and shapes that inference finds."""
    from sardonyx.infer import infer_shapes

    infer_shapes(model)
    return [
        {
            "name": node.name,
            "operator": node.op_type,
            "domain": node.domain or "ai.onnx",
            "inputs": ["" if value is None else value.name for value in node.inputs],
            "outputs": [value_json(value.name, value.type) for value in node.outputs],
        }
        for node in model.graph.nodes
    ]
