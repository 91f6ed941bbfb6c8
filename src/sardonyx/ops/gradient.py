"""`Gradient`: the derivatives of one value of the graph by others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import InferenceError, UnsupportedError, quote
from sardonyx.ops import types
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.fact import Fact


class Gradient(Operator, since=1, domain="ai.onnx.preview.training"):
    """The derivatives of the value called `y` by those called `xs`, which `Inputs` replace.

    The inputs are taken for `xs`, then for `zs`: together they are the independent variables, and
    what they in turn were computed from does not count. A `y` of more than one element stands
    for the sum of its elements. What the node computes follows from the graph around it:
    `sardonyx.autodiff.expand` writes it out as nodes, before a model runs.
    """

    Inputs = Input("T1", variadic=True, homogeneous=False)
    Outputs = Output("T2", variadic=True, homogeneous=False)
    T1, T2 = types.ALL_BEFORE_BFLOAT16, types.FLOATS
    xs: tuple[str, ...]
    y: str
    zs: tuple[str, ...] | None = None

    def infer(self, *Inputs: Fact) -> tuple[Fact, ...]:
        count = len(self.xs) + len(self.zs or ())
        if len(Inputs) != count:
            raise InferenceError(
                f"Gradient takes one input for each of {len(self.xs)} xs and "
                f"{len(self.zs or ())} zs, got {len(Inputs)}"
            )
        if self.n_outputs > len(self.xs):
            raise InferenceError(
                f"Gradient by {len(self.xs)} xs has as many outputs, the node names "
                f"{self.n_outputs}"
            )
        for name, fact in zip(self.xs, Inputs, strict=False):
            if fact.dtype is not None and not fact.dtype.is_floating:
                raise InferenceError(
                    f"Gradient by {quote(name)} of type {fact.type}",
                    hint="only floating-point tensors have gradients: list it in zs",
                )
        return tuple(same_as(fact) for fact in Inputs[: len(self.xs)])

    def reference(self, *Inputs: Array) -> tuple[Array, ...]:
        raise UnsupportedError(
            "Gradient has no meaning outside its graph",
            hint="write it out with sardonyx.autodiff.expand",
        )
