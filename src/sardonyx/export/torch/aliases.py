"""Composite operators that are others under another name, so that nothing must be decomposed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx.export.torch.registry import TRANSLATIONS, translation

if TYPE_CHECKING:
    from sardonyx.export.torch.registry import TorchBuilder
    from sardonyx.ir.value import Value

_SAME: Final = {
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__and__.Scalar": "aten.bitwise_and.Scalar",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    "aten.__or__.Scalar": "aten.bitwise_or.Scalar",
    "aten.__xor__.Tensor": "aten.bitwise_xor.Tensor",
    "aten.__xor__.Scalar": "aten.bitwise_xor.Scalar",
    "aten.min.other": "aten.minimum.default",
    "aten.max.other": "aten.maximum.default",
    "aten.dropout_.default": "aten.dropout.default",
}


def _register(alias: str, target: str) -> None:
    @translation(alias)
    def same(op: TorchBuilder, *args: Any, **kwargs: Any) -> Any:
        return TRANSLATIONS[target](op, *args, **kwargs)


for _alias, _target in _SAME.items():
    _register(_alias, _target)


@translation("aten.view_as.default", "aten.reshape_as.default")
def view_as(op: TorchBuilder, x: Value, other: Value) -> Any:
    """`x` in the shape of `other`."""
    return op.reshape(x, op.shape_of(other))


@translation("aten.diff.default")
def diff(
    op: TorchBuilder,
    x: Value,
    n: int = 1,
    dim: int = -1,
    prepend: Value | None = None,
    append: Value | None = None,
) -> Any:
    """Differences of neighbours along `dim`, taken `n` times."""
    parts = [op.cast(part, op.dtype_of(x)) for part in (prepend, x, append) if part is not None]
    axis = dim % op.rank_of(x)
    made: Value = x if len(parts) == 1 else op.Concat(*parts, axis=axis)
    for _ in range(n):
        later = op.slice(made, axis, 1, (1 << 63) - 1)
        earlier = op.slice(made, axis, 0, -1)
        boolean = op.dtype_of(x).kind == "bool"
        made = op.Xor(later, earlier) if boolean else op.Sub(later, earlier)
    return made
