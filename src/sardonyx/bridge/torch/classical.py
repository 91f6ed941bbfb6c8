"""Classical models of ai.onnx.ml that tensors of numbers can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DOMAIN = "ai.onnx.ml"


@implementation("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(x: Tensor, places: Tensor) -> Tensor:
    return torch.atleast_2d(x).index_select(-1, places.reshape(-1))


@implementation("Binarizer", domain=_DOMAIN)
def binarizer(x: Tensor, *, threshold: float = 0.0) -> Tensor:
    return (x > threshold).to(x.dtype)


@implementation("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(*parts: Tensor, inputdimensions: Sequence[int] | None = None) -> Tensor:
    rows = [torch.atleast_2d(part).float() for part in parts]
    widths = [row.shape[1] for row in rows] if inputdimensions is None else inputdimensions
    fitted = [
        torch.nn.functional.pad(row, [0, width - row.shape[1]])
        for row, width in zip(rows, widths, strict=True)
    ]
    return torch.cat(fitted, 1)


@implementation("Imputer", domain=_DOMAIN)
def imputer(
    x: Tensor,
    *,
    imputed_value_floats: Sequence[float] | None = None,
    imputed_value_int64s: Sequence[int] | None = None,
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    is_float = x.dtype.is_floating_point
    given: Any = imputed_value_floats if is_float else imputed_value_int64s
    values = torch.tensor(given, dtype=x.dtype, device=x.device)
    if not is_float:
        chosen = x == replaced_value_int64
    elif replaced_value_float != replaced_value_float:
        chosen = torch.isnan(x)
    else:
        chosen = x == replaced_value_float
    return torch.where(chosen, values.reshape(()) if values.numel() == 1 else values, x)


@implementation("Normalizer", domain=_DOMAIN)
def normalizer(x: Tensor, *, norm: str = "MAX") -> Tensor:
    values = x.double()
    if norm == "MAX":
        divisor = values.amax(-1, keepdim=True)
    else:
        divisor = torch.linalg.vector_norm(values, 1 if norm == "L1" else 2, -1, keepdim=True)
    is_zero = divisor == 0
    return torch.where(is_zero, values, values / torch.where(is_zero, 1.0, divisor)).float()


@implementation("Scaler", domain=_DOMAIN)
def scaler(
    x: Tensor, *, offset: Sequence[float] | None = None, scale: Sequence[float] | None = None
) -> Tensor:
    shift, factor = (
        torch.tensor(given, dtype=torch.float64, device=x.device).reshape(
            () if x.dim() == 0 else -1
        )
        for given in (offset or (0.0,), scale or (1.0,))
    )
    return ((x.double() - shift) * factor).float()


@implementation("LinearRegressor", domain=_DOMAIN)
def linear_regressor(
    x: Tensor,
    *,
    coefficients: Sequence[float] | None = None,
    intercepts: Sequence[float] | None = None,
    targets: int = 1,
    post_transform: str = "NONE",
) -> Tensor:
    return _transformed(_scores(x, coefficients or (), intercepts, targets), post_transform)


def _scores(
    x: Tensor, coefficients: Sequence[float], intercepts: Sequence[float] | None, count: int
) -> Tensor:
    rows = torch.atleast_2d(x).double()
    weights = torch.tensor(coefficients, dtype=torch.float64, device=x.device).reshape(count, -1)
    scores = rows @ weights.t()
    if not intercepts:
        return scores
    return scores + torch.tensor(intercepts, dtype=torch.float64, device=x.device)


def _transformed(scores: Tensor, transform: str) -> Tensor:
    if transform == "LOGISTIC":
        scores = torch.sigmoid(scores)
    elif transform == "SOFTMAX":
        scores = torch.softmax(scores, -1)
    elif transform == "SOFTMAX_ZERO":
        shares = torch.softmax(scores.masked_fill(scores == 0, -torch.inf), -1)
        scores = shares.nan_to_num(0.0)
    elif transform == "PROBIT":
        scores = torch.special.ndtri(scores)
    return scores.float()


def _labelled(operator: Any, _inputs: Any, _outputs: Any) -> Mapping[str, Any]:
    if operator.classlabels_strings:
        raise UnsupportedError("LinearClassifier with labels that are strings has no counterpart")
    names = ("coefficients", "intercepts", "post_transform")
    keywords = {name: getattr(operator, name) for name in names}
    return {**keywords, "labels": operator.classlabels_ints}


@implementation("LinearClassifier", domain=_DOMAIN, several=True, attributes=_labelled)
def linear_classifier(
    x: Tensor,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    labels: Sequence[int],
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    count, given = len(labels), len(intercepts or ())
    features = x.shape[-1]
    is_single = count == 2 and (given == 1 or (not given and len(coefficients) == features))
    scores = _scores(x, coefficients, intercepts, 1 if is_single else count)
    if is_single:
        best = (scores[:, 0] > 0).long()
        is_chance = post_transform in {"NONE", "PROBIT"}
        scores = torch.cat([1 - scores if is_chance else -scores, scores], 1)
    else:
        best = scores.argmax(1)
    return torch.tensor(labels, device=x.device)[best], _transformed(scores, post_transform)
