"""What does not depend on the inputs is computed now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.errors import SardonyxError
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.tensor import ArrayTensor, Tensor
from sardonyx.ir.types import TensorType
from sardonyx.limits import enforced
from sardonyx.ops.bind import attribute_values, lift
from sardonyx.ops.operator import ControlFlow
from sardonyx.rewrite.scene import Patch

if TYPE_CHECKING:
    from sardonyx.ir.node import Node
    from sardonyx.ops.operator import Operator
    from sardonyx.rewrite.scene import Scene

__all__ = ["fold_constants"]

_FREE_BYTES: Final = 1 << 16
_FAILURES: Final = (
    SardonyxError,
    ValueError,
    TypeError,
    IndexError,
    ArithmeticError,
    AttributeError,
    KeyError,
    RuntimeError,
    MemoryError,
)


def fold_constants(scene: Scene) -> None:
    """Make constants of the outputs of nodes whose inputs are constants, and of known sizes.

    Left alone are random operators, and constants that would be larger than what they are made of
    (beyond 64 KiB), or than ``limits.folding_bytes``. A node that fails on its constants stays, so
    that running it says why.
    """
    with enforced(scene.limits), np.errstate(all="ignore"):
        for graph in scene.graphs:
            for node in graph.nodes:
                if scene.is_done:
                    return
                _fold(scene, node)


def _fold(scene: Scene, node: Node) -> None:
    operator = scene.operator(node)
    if operator is None or not operator.deterministic or isinstance(operator, ControlFlow):
        return
    if canonical_domain(node.domain) or _is_only_name(scene, node):
        return
    found = _known(scene, node) or _computed(scene, node, operator)
    if found is None:
        return
    graph = node.graph
    assert graph is not None
    op = scene.builder(graph)
    label, changed = node.label, False
    for index, tensor in enumerate(found):
        old = node.outputs[index]
        if tensor is None or not (old.users or scene.is_given_out(old)):
            continue
        wanted = op.free(f"{old.name}/constant" if scene.is_given_out(old) else old.name)
        new = op.initializer(wanted, ArrayTensor(tensor.numpy(), tensor.dtype, wanted))
        scene.facts[new] = scene.fact(old)
        scene.redirect(node, index, new)
        changed = True
    op.constants.clear()
    op.written.clear()
    if changed:
        scene.sweep(node)
        scene.record(Patch("fold-constants", label, (node.op_type,)))


def _is_only_name(scene: Scene, node: Node) -> bool:
    """Whether it is the Identity that gives a constant out."""
    return node.op_type == "Identity" and scene.is_given_out(node.outputs[0])


def _known(scene: Scene, node: Node) -> list[Tensor | None] | None:
    """What inference knows of all outputs, where it does."""
    found: list[Tensor | None] = []
    for value in node.outputs:
        fact = scene.fact(value)
        if not value.name and not value.users:
            found.append(None)
            continue
        array = fact.constant_value()
        if array is None or not isinstance(fact.type, TensorType) or fact.dtype is None:
            return None
        if fact.shape != array.shape:
            return None
        found.append(ArrayTensor(array, fact.dtype))
    return found


def _computed(scene: Scene, node: Node, operator: Operator) -> list[Tensor | None] | None:
    if node.op_type == "Constant":
        tensor = scene.constant(node.output)
        known = node.attribute("value")
        return None if tensor is None or not isinstance(known, Tensor) else [known]
    if not node.inputs or not all(v is None or scene.is_constant(v) for v in node.inputs):
        return None
    allowed = max(_FREE_BYTES, sum(_size(scene, value) for value in node.inputs))
    allowed = min(allowed, scene.limits.folding_bytes)
    expected = sum(_size(scene, value) for value in node.outputs)
    if expected > allowed or (expected > _FREE_BYTES and _is_packed_through(scene, node)):
        return None
    schema = operator.schema(operator.version)
    arrays = [None if value is None else scene.constant(value) for value in node.inputs]
    try:
        arguments = operator.arrange(schema, arrays, lift, attribute_values(node, {}))
        results: Any = operator.reference(*arguments)
    except _FAILURES:
        return None
    results = results if isinstance(results, tuple) else (results,)
    if len(results) < len(node.outputs):
        return None
    found: list[Tensor | None] = []
    for value, result in zip(node.outputs, results, strict=False):
        dtype = scene.dtype(value)
        if not isinstance(result, (np.ndarray, np.generic)) or dtype is None:
            return None
        found.append(ArrayTensor(np.asarray(result), dtype))
    is_small = sum(each.nbytes for each in found if each is not None) <= allowed
    return found if is_small else None


def _is_packed_through(scene: Scene, node: Node) -> bool:
    """Whether it transposes the right operand of matrix products only, for the compiler."""
    if not scene.mixed or node.op_type != "Transpose" or scene.is_given_out(node.outputs[0]):
        return False
    return all(
        user.op_type == "MatMul" and user.inputs[0] is not node.outputs[0]
        for user in node.outputs[0].users
    )


def _size(scene: Scene, value: Any) -> int:
    """Bytes of a value whose sizes are numbers; 0 where they are not known."""
    fact = scene.fact(value)
    if fact.dtype is None or fact.shape is None:
        return 0
    size = 1
    for dim in fact.shape:
        if not isinstance(dim, int):
            return 0
        size *= dim
    return fact.dtype.nbytes(size)
