"""The rules of constants that the decoder does not see to: sparse, 6-bit, and of inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import SardonyxError, quote
from sardonyx.infer.merge import conflict
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.wire.tensors import FieldTensor

if TYPE_CHECKING:
    from sardonyx.check.context import Context
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Array, Tensor
    from sardonyx.ir.value import Value

__all__ = ["check_constant", "check_sparse", "check_tensor"]

_BLOCK = 1 << 18
_CODES = 0x3F
_LARGEST = (1 << 63) - 1


def check_constant(value: Value, graph: Graph, context: Context, *, is_input: bool) -> None:
    """Report what is wrong with an initializer of `graph`."""
    const = value.const
    if const is None:
        return
    if value.lazy_type is not None or is_input:
        declared = context.type_of(value)
        dtype = const.values.dtype if isinstance(const, SparseTensor) else const.dtype
        # a sparse initializer may be declared by the dense type that it stands for
        make = SparseTensorType if isinstance(declared, SparseTensorType) else TensorType
        difference = conflict(declared, make(dtype, const.shape))
        if difference:
            what = "an input and its initializer" if is_input else "an initializer"
            context.report.error(
                "default",
                f"{what} {quote(value.name)} differ: {difference.replace('inferred', 'data is')}",
                context.at(graph=graph, value=value.name),
            )
    if isinstance(const, SparseTensor):
        context.feature(6, "sparse initializers", None, graph, value.name)
        check_sparse(const, context, None, value.name, graph)
    else:
        check_tensor(const, context, None, value.name, graph)


def check_tensor(
    tensor: Tensor, context: Context, node: Node | None, name: str, graph: Graph | None = None
) -> None:
    """Report what is wrong with a tensor of `node` or `graph`, an attribute or initializer."""
    if tensor.dtype.since_ir > context.model.ir_version:
        context.check_dtype(tensor.dtype, node, graph, name)
    if context.model.ir_version < 10 and tensor.metadata:
        context.metadata("tensors", node, graph, name)
    if tensor.dtype.bits != 6 or not tensor.size:
        return
    try:
        has_extra = _has_extra_bits(tensor)
    except SardonyxError:
        return
    if has_extra:
        message = f"{tensor.dtype.name} tensor {quote(name)} has bits set that no element uses"
        context.report.error("tensor", message, context.at(node, graph, tensor=name))


def _has_extra_bits(tensor: Tensor) -> bool:
    if isinstance(tensor, FieldTensor):
        codes = tensor.values()
        return bool(((codes < 0) | (codes > _CODES)).any())
    used = tensor.size * 6 % 8
    data = tensor.raw()
    return bool(used and data[len(data) - 1] >> used)


def check_sparse(
    sparse: SparseTensor,
    context: Context,
    node: Node | None,
    name: str,
    graph: Graph | None = None,
) -> None:
    """Report what is wrong with a sparse tensor (onnx.proto, SparseTensorProto)."""
    context.check_dtype(sparse.values.dtype, node, graph, name)
    problem = _sparse_problem(sparse)
    if problem is None:
        try:
            problem = _indices_problem(sparse)
        except SardonyxError as error:
            context.report.unreadable(error, context.path(graph if node is None else node.graph))
    if problem is not None:
        place = context.at(node, graph, tensor=name)
        context.report.error("sparse-tensor", f"sparse tensor {quote(name)} {problem}", place)


def _sparse_problem(sparse: SparseTensor) -> str | None:
    values, indices = sparse.values.shape, sparse.indices.shape
    if not sparse.shape:
        return "has no dims: its rank must be above 0"
    if any(dim <= 0 for dim in sparse.shape):
        return f"has dims {list(sparse.shape)}: all must be above 0"
    if math.prod(sparse.shape) > _LARGEST:
        return f"has dims {list(sparse.shape)}: more than 2^63 elements"
    if len(values) != 1:
        return f"has values of rank {len(values)}, it must be 1"
    if sparse.indices.dtype is not dtypes.INT64:
        return f"has {sparse.indices.dtype.name} indices, they must be INT64"
    if len(indices) not in {1, 2}:
        return f"has indices of rank {len(indices)}, it must be 1 or 2"
    if indices[0] != values[0]:
        return f"has {indices[0]} indices for {values[0]} values"
    if len(indices) == 2 and indices[1] != len(sparse.shape):
        return f"has indices of {indices[1]} axes, its rank is {len(sparse.shape)}"
    return None


def _indices_problem(sparse: SparseTensor) -> str | None:
    """What is wrong with the contents of the indices, which are read block by block."""
    indices = sparse.indices.numpy()
    last = -1
    for start in range(0, len(indices), _BLOCK):
        block = indices[start : start + _BLOCK]
        bounds = np.array(sparse.shape if block.ndim == 2 else [math.prod(sparse.shape)])
        rows = block.reshape(len(block), -1)
        outside = ((rows < 0) | (rows >= bounds)).any(axis=1)
        if outside.any():
            row = int(outside.argmax())
            found = block[row].tolist()
            return f"has index {found} at position {start + row}, outside of {bounds.tolist()}"
        linear = _linear(rows, sparse.shape) if block.ndim == 2 else block
        steps = np.diff(linear, prepend=last)
        if (steps <= 0).any():
            row = int((steps <= 0).argmax())
            found = block[row].tolist()
            return f"has index {found} at position {start + row}, which is not above the one before"
        last = int(linear[-1])
    return None


def _linear(rows: Array, shape: tuple[int, ...]) -> Array:
    found = np.zeros(len(rows), np.int64)
    for axis, dim in enumerate(shape):
        found = found * dim + rows[:, axis]
    return found
