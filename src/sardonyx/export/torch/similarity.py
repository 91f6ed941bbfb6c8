"""Products and distances of two inputs: bilinear layers, cosines, distances of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.export.torch.registry import TorchBuilder, positive, translation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.value import Value

__all__: list[str] = []

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@translation("aten.bilinear.default")
def bilinear(op: TorchBuilder, a: Value, b: Value, weight: Value, bias: Value | None = None) -> Any:
    if op.rank_of(a) == 1:
        made = op.Einsum(a, weight, b, equation="i,oij,j->o")
    else:
        made = op.Einsum(a, weight, b, equation="...i,oij,...j->...o")
    return made if bias is None else op.Add(made, bias)


@translation("aten._trilinear.default")
def trilinear(op: TorchBuilder, a: Value, b: Value, c: Value, expand_a: Sequence[int],
              expand_b: Sequence[int], expand_c: Sequence[int], summed: Sequence[int],
              _unroll: int = 1) -> Any:  # fmt: skip
    rank = op.rank_of(a) + len(expand_a)
    terms = [
        "".join(_LETTERS[axis] for axis in range(rank) if axis not in expanded)
        for expanded in (expand_a, expand_b, expand_c)
    ]
    kept = "".join(_LETTERS[axis] for axis in range(rank) if axis not in summed)
    return op.Einsum(a, b, c, equation=f"{','.join(terms)}->{kept}")


@translation("aten.cosine_similarity.default")
def cosine_similarity(op: TorchBuilder, a: Value, b: Value, dim: int = 1, eps: float = 1e-8) -> Any:
    dtype = op.result()
    a, b = op.cast(a, dtype), op.cast(b, dtype)
    rank = max(op.rank_of(a), op.rank_of(b))
    product = op.typed(op.Mul(a, b), dtype, [None] * rank)
    (axis,) = positive(dim, rank)
    least = op.constant(eps, dtype)
    norms = []
    for each in (a, b):
        missing = rank - op.rank_of(each)
        wide = op.unsqueeze(each, list(range(missing)))
        norms.append(op.Max(op.reduce("L2", wide, [axis], False), least))
    return op.Div(op.reduce("Sum", product, [axis], False), op.Mul(norms[0], norms[1]))
