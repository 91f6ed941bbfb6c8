"""From a model to a module: a `torch.fx` graph whose nodes call implementations."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from sardonyx import autodiff
from sardonyx.bridge.torch.module import OnnxModule
from sardonyx.bridge.torch.registry import find
from sardonyx.bridge.torch.scope import Scope
from sardonyx.bridge.torch.weights import Weights
from sardonyx.compose import inline
from sardonyx.compose.copying import copy
from sardonyx.errors import InputError, SardonyxError, UnsupportedError, quote
from sardonyx.infer import infer, infer_shapes
from sardonyx.ir.model import Model
from sardonyx.limits import DEFAULT, enforced
from sardonyx.ops import bodies, registry
from sardonyx.ops.bind import operator_of
from sardonyx.ops.operator import ControlFlow
from sardonyx.wire import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.ir.node import Node

__all__ = ["build", "missing_operators"]

_MODULES = {"If", "Loop", "Scan", "SequenceMap"}
_WRITTEN = {"Constant", "Identity", "Shape", "Size", "CastLike"}


def build(model: Model | str | os.PathLike[str], *, trainable: bool = True) -> OnnxModule:
    """The module that computes `model`; see `sardonyx.to_torch`."""
    if isinstance(model, (str, os.PathLike)):
        model = load(model)
    if not isinstance(model, Model):
        raise InputError(
            f"to_torch takes a model or a path, got {type(model).__name__}",
            hint="sx.load(path) and sx.export(module, args) give models",
        )
    model = _prepared(model)
    facts = infer(model).facts
    missing = missing_operators(model)
    if missing:
        raise _report(missing)
    weights = Weights(model, trainable=trainable)
    with enforced(DEFAULT):
        scope = Scope(model, facts, weights)
        graph = scope.translate(model.graph)
    weights.drop_literals()
    return OnnxModule.of(weights, graph, model)


def _prepared(model: Model) -> Model:
    """A copy without calls of functions, and without operators that only a body computes."""
    expanded = autodiff.expand(model)
    made = inline(expanded) if expanded.functions else copy(expanded)

    def is_wanted(node: Node) -> bool:
        return not _is_implemented(node, made.opset_imports)

    if any(
        is_wanted(node) and bodies.has_body(node, made.opset_imports) for node in made.all_nodes()
    ):
        infer_shapes(made)
        bodies.expand_all(made, only=is_wanted)
    return made


def _is_implemented(node: Node, opset_imports: Mapping[str, int]) -> bool:
    operator = registry.find(node.domain, node.op_type)
    if operator is None:
        return False
    if issubclass(operator, ControlFlow):
        return node.op_type in _MODULES
    if not operator.domain and operator.op_type in _WRITTEN:
        return True
    try:
        version = operator_of(node, opset_imports).version
    except SardonyxError:
        return False
    return find(operator.domain, operator.op_type, version) is not None


def missing_operators(model: Model) -> Counter[str]:
    """How many nodes there are of each operator that has no implementation."""
    return Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.all_nodes()
        if not _is_implemented(node, model.opset_imports)
    )


def _report(missing: Counter[str]) -> UnsupportedError:
    listed = ", ".join(f"{quote(name)[1:-1]} ({count})" for name, count in missing.most_common())
    return UnsupportedError(
        f"PyTorch has no counterpart of {listed}",
        hint="cut them off (sardonyx extract), or add functions with "
        "@sardonyx.bridge.torch.implementation(NAME)",
    )
