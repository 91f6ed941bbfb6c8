"""The module that a model becomes."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.fx.graph_module import reduce_graph_module

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.bridge.torch.weights import Weights
    from sardonyx.ir.model import Model

__all__ = ["LeafTracer", "OnnxModule", "frozen", "transient_buffers"]


_HOME: Final = "sardonyx.bridge.torch."


class LeafTracer(torch.fx.Tracer):  # type: ignore[misc]
    """Reads a module's source back: implementations are calls, nothing to look into."""

    def __init__(self) -> None:
        functions = {
            value
            for name, module in list(sys.modules.items())
            if name.startswith(_HOME)
            for value in vars(module).values()
            if inspect.isfunction(value) and value.__module__.startswith(_HOME)
        }
        super().__init__(autowrap_functions=tuple(functions))


class OnnxModule(torch.fx.GraphModule):  # type: ignore[misc]
    """A `torch.fx.GraphModule` that keeps its constants out of `state_dict` in copies too."""

    @staticmethod
    def of(weights: Weights, graph: torch.fx.Graph, model: Model) -> OnnxModule:
        """The module with the tensors of `weights` that runs `graph`."""
        made = OnnxModule(weights.root, graph, _class_name(model.graph.name))
        for name, tensor in (*weights.root.named_parameters(), *weights.root.named_buffers()):
            _complete(made, name, tensor)
        frozen(made, weights.transient)
        made.meta.update(
            input_names=[value.name for value in model.graph.inputs],
            output_names=[value.name for value in model.graph.outputs],
            renamed=dict(weights.renamed),
        )
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (body, imports) = super().__reduce__()
        return _rebuilt, (rebuild, body, imports, transient_buffers(self), dict(self.meta))

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModule:
        made: OnnxModule = super().__deepcopy__(memo)
        frozen(made, transient_buffers(self))
        return made


def _rebuilt(
    _rebuild: Any, body: Any, imports: str, transient: Sequence[str], meta: Mapping[str, Any]
) -> OnnxModule:
    read = reduce_graph_module(body, imports)
    made = OnnxModule(read, read.graph, body.get("_graphmodule_cls_name", "GraphModule"))
    for name, tensor in (*read.named_parameters(), *read.named_buffers()):
        _complete(made, name, tensor)
    made.meta.update(meta)
    made.train(body.get("training", True))
    frozen(made, transient)
    return made


def _complete(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put in what no node reads."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in module._modules:  # noqa: SLF001
            module.add_module(part, torch.nn.Module())
        module = module.get_submodule(part)
    if not hasattr(module, leaf):
        if isinstance(tensor, torch.nn.Parameter):
            module.register_parameter(leaf, tensor)
        else:
            module.register_buffer(leaf, tensor)


def frozen(module: torch.nn.Module, names: Sequence[str]) -> None:
    """Leave the buffers `names` of `module` out of `state_dict`."""
    for name in names:
        parent, _, leaf = name.rpartition(".")
        module.get_submodule(parent)._non_persistent_buffers_set.add(leaf)  # noqa: SLF001


def transient_buffers(module: torch.nn.Module) -> list[str]:
    """The names of the buffers that `state_dict` leaves out."""
    return [
        f"{prefix}.{leaf}" if prefix else leaf
        for prefix, part in module.named_modules()
        for leaf in sorted(part._non_persistent_buffers_set)  # noqa: SLF001
    ]


def _class_name(name: str) -> str:
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).strip("_")
    return text if text[:1].isalpha() else "OnnxModule"
