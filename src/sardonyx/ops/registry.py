"""Which family module defines which operator; a module is imported when one is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from sardonyx.errors import UnsupportedError, quote
from sardonyx.ir.model import canonical_domain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.ops.operator import Operator

__all__ = ["NEWEST_OPSET", "find", "get", "names", "operators"]

NEWEST_OPSET: Final = {
    "": 28,
    "ai.onnx.ml": 5,
    "ai.onnx.preview": 1,
    "ai.onnx.preview.training": 1,
}
"""The newest released version of each domain of the standard."""

_LONGEST_NAME: Final = 64
"""Characters of the longest name that similar ones are looked for."""

_FAMILIES: Final[dict[str, dict[str, str]]] = {
    "": {
        "attention": "Attention RotaryEmbedding SwiGLU TensorScatter",
        "linear_attention": "CausalConvWithState LinearAttention",
        "signal": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
        "qlinear": "QLinearConv QLinearMatMul",
        "random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform "
        "RandomUniformLike",
        "loss": "Det NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
        "deform": "Col2Im DeformConv MaxUnpool",
        "vision": "AffineGrid GridSample MaxRoiPool RoiAlign",
        "conv": "Conv ConvInteger ConvTranspose",
        "einsum": "Einsum",
        "matmul": "Gemm MatMul MatMulInteger",
        "dropout": "Dropout",
        "normalization": "BatchNormalization GroupNormalization InstanceNormalization LRN "
        "LayerNormalization LpNormalization MeanVarianceNormalization RMSNormalization",
        "pool": "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool",
        "quantization": "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
        "recurrent": "GRU LSTM RNN",
        "resize": "Resize Upsample",
        "control": "If Loop Scan",
        "data": "Concat DepthToSpace Slice SpaceToDepth Split Tile",
        "generate": "Constant ConstantOfShape EyeLike Range",
        "image": "ImageDecoder",
        "indexing": "Compress Gather GatherElements GatherND NonZero OneHot ReverseSequence Trilu",
        "scatter": "Scatter ScatterElements ScatterND",
        "padding": "CenterCropPad Pad",
        "sequence": "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt "
        "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
        "SplitToSequence",
        "shape": "Expand Flatten Identity Reshape Shape Size Squeeze Transpose Unsqueeze",
        "sorting": "NonMaxSuppression TopK Unique",
        "text": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
        "activation": "Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu "
        "Relu Selu Shrink Sigmoid Softmax Softplus Softsign Swish ThresholdedRelu",
        "cast": "BitCast Cast CastLike",
        "elementwise": "Abs Acos Acosh Add Asin Asinh Atan Atanh Ceil Clip Cos Cosh Div Erf Exp "
        "Floor Log Max Mean Min Mod Mul Neg Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan "
        "Tanh",
        "logic": "And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Equal Greater "
        "GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Where Xor",
        "reduction": "ArgMax ArgMin CumProd CumSum ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare",
    },
    "ai.onnx.preview": {"flex_attention": "FlexAttention"},
    "ai.onnx.preview.training": {"gradient": "Gradient", "optimizer": "Adagrad Adam Momentum"},
    "ai.onnx.ml": {
        "ml_features": "ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer Normalizer "
        "OneHotEncoder Scaler",
        "ml_linear": "LinearClassifier LinearRegressor",
        "ml_maps": "CastMap CategoryMapper DictVectorizer LabelEncoder ZipMap",
        "ml_svm": "SVMClassifier SVMRegressor",
        "tree": "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor",
    },
}
"""Domain -> family module -> the names of the operators that it defines."""


@cache
def _module_of() -> dict[tuple[str, str], str]:
    return {
        (domain, name): module
        for domain, families in _FAMILIES.items()
        for module, listed in families.items()
        for name in listed.split()
    }


def find(domain: str, name: str) -> type[Operator] | None:
    """The class of operator `name` of `domain` (``""`` is ai.onnx), or None."""
    domain = canonical_domain(domain)
    module = _module_of().get((domain, name))
    return None if module is None else _load(module, name)


@cache
def _load(module: str, name: str) -> type[Operator]:
    loaded = import_module(f"sardonyx.ops.{module}")
    operator: type[Operator] = getattr(loaded, name)
    return operator


def get(domain: str, name: str) -> type[Operator]:
    """The class of operator `name` of `domain`; raises `UnsupportedError` where there is none."""
    found = find(domain, name)
    if found is None:
        close = _similar(canonical_domain(domain), name)
        raise UnsupportedError(
            f"no operator {quote(name)} in domain {quote(domain or 'ai.onnx')}",
            hint=f"did you mean {' or '.join(close)}?" if close else None,
        )
    return found


@lru_cache(maxsize=256)
def _similar(domain: str, name: str) -> list[str]:
    """Names like a misspelt one; only those with its first letter, since files may misspell all."""
    if len(name) > _LONGEST_NAME:
        return []
    first = name[:1].upper()
    known = [other for where, other in _module_of() if where == domain and other[0] == first]
    return get_close_matches(name, known, 3)


def names() -> list[tuple[str, str]]:
    """Domain and name of every operator, sorted."""
    return sorted(_module_of())


def operators() -> Iterator[type[Operator]]:
    """Every operator class; imports all families."""
    for domain, name in names():
        yield get(domain, name)
