"""`gradients`: the derivatives of a value, added to a model's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.autodiff.reverse import Reverse
from sardonyx.errors import InputError, quote
from sardonyx.infer import infer
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.ops.inferring import without_anonymous
from sardonyx.ops.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.model import Model

__all__ = ["gradients"]


def gradients(
    model: Model,
    y: Value | str,
    xs: Sequence[Value | str],
    *,
    zs: Sequence[Value | str] = (),
    seed: Value | None = None,
) -> list[Value]:
    """Add nodes to the end of the main graph of `model` that compute the gradients of `y` by `xs`.

    Returns one value for each of `xs`, of its type and shape; append those that are wanted to
    ``model.graph.outputs``. `y` stands for the sum of its elements, each weighted by `seed`
    (a value of the shape of `y`, by default ones). `xs` and `zs` are independent variables:
    what they were computed from does not count.

    Raises `InputError` for a name that the graph does not have and for an x or y that is not a
    floating-point tensor, `UnsupportedError` listing all nodes between xs and y that have no
    gradient rule, or where a rule needs a rank or an operator set that the model does not have;
    then nothing is added.
    """
    named = model.graph.values()
    target, independent = _value(named, y), [_value(named, x) for x in xs]
    stops = [_value(named, z) for z in zs]
    facts = infer(model).facts
    op = Writer(model.graph, model.opset_imports, facts=facts)
    for value in (target, *independent):
        known = op.fact(value).type
        if not isinstance(known, TensorType) or known.dtype is None or not known.dtype.is_floating:
            raise InputError(
                f"{quote(value.name)} is {known or 'of unknown type'}; only floating-point "
                "tensors have gradients"
            )
    try:
        with op.metadata({}, prefix="gradient."):
            start = op.ones_like(target) if seed is None else seed
            found = Reverse(model, op).run([target], [start], independent, stops)
            results = [
                op.Identity(op.zeros_like(x) if grad is None else grad)
                for x, grad in zip(independent, found, strict=True)
            ]
    except BaseException:
        op.sweep()
        raise
    for x, result in zip(independent, results, strict=True):
        op.rename(result, op.free(f"gradient.{x.name}"))
        result.type = without_anonymous(op.fact(x).type)
    op.sweep(results)
    return results


def _value(named: dict[str, Value], wanted: Value | str) -> Value:
    if isinstance(wanted, Value):
        return wanted
    if wanted not in named:
        raise InputError(f"the graph has no value {quote(wanted)}")
    return named[wanted]
