"""Passes over the written graph after which every number, weight and name in use is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.passes import optimize

if TYPE_CHECKING:
    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value

__all__ = ["is_weight", "tidied"]

_PASSES: Final = (
    "dead-code", "clean", "identity", "no-op-cast", "no-op-transpose", "no-op-slice", "no-op-pad",
    "no-op-shape", "single-input", "neutral-element", "twice", "constant-where", "merge-views",
    "known-reshape", "merge-transposes", "merge-slices", "joined-again", "merge-concats",
    "pad-into-conv",
    "common-subexpressions",
)  # fmt: skip


def tidied(model: Model) -> Model:
    """`model` with what layers compute alike computed once, and without steps that do nothing.

    Constants are not folded, so weights stay as they are, those too that are all zeros or ones
    before training; functions are not inlined, so a model that has some comes back as it is.
    """
    if model.functions:
        return model
    weights = [value for value in model.graph.initializers if is_weight(value, model)]
    # an input's default may become anything: nothing is concluded from what it holds
    model.graph.inputs.extend(weights)
    made = optimize(model, level="basic", passes=_PASSES)
    names = {value.name for value in weights}
    for graph in (model.graph, made.graph):
        graph.inputs[:] = [value for value in graph.inputs if value.name not in names]
    used = set(made.graph.outputs)
    made.graph.initializers[:] = [
        value for value in made.graph.initializers if value.users or value in used
    ]
    return made


def is_weight(value: Value, model: Model) -> bool:
    """Whether `value` is a parameter: no number that a translation wrote."""
    dtype = value.dtype
    if dtype is None or not dtype.is_floating or value in model.graph.inputs:
        return False
    return not value.name.startswith(f"{dtype.text}_")
