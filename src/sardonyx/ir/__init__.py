"""The intermediate representation: a model as objects that can be walked and changed."""

from sardonyx.ir.devices import (
    DeviceConfiguration,
    NodeDeviceConfiguration,
    ShardedDim,
    ShardingSpec,
    SimpleShardedDim,
)
from sardonyx.ir.equality import difference, equal
from sardonyx.ir.graph import Graph, NodeList, QuantizationAnnotation
from sardonyx.ir.model import IR_VERSION, Function, Model, TrainingInfo, canonical_domain
from sardonyx.ir.node import Attribute, AttributeType, Node
from sardonyx.ir.tensor import ArrayTensor, RawTensor, SparseTensor, Tensor, as_tensor
from sardonyx.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from sardonyx.ir.value import Value

__all__ = [
    "IR_VERSION",
    "ArrayTensor",
    "Attribute",
    "AttributeType",
    "DeviceConfiguration",
    "Function",
    "Graph",
    "MapType",
    "Model",
    "Node",
    "NodeDeviceConfiguration",
    "NodeList",
    "OpaqueType",
    "OptionalType",
    "QuantizationAnnotation",
    "RawTensor",
    "SequenceType",
    "ShardedDim",
    "ShardingSpec",
    "SimpleShardedDim",
    "SparseTensor",
    "SparseTensorType",
    "Tensor",
    "TensorType",
    "TrainingInfo",
    "Type",
    "Value",
    "as_tensor",
    "canonical_domain",
    "difference",
    "equal",
]
