"""What every composed model goes through: tidied, checked, types written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sardonyx.check import validate
from sardonyx.compose.copying import copy
from sardonyx.compose.scopes import all_graphs, defined_in
from sardonyx.errors import CheckError, InferenceError
from sardonyx.infer import infer, infer_shapes
from sardonyx.ir.types import TensorType
from sardonyx.wire.external import ExternalTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.check import Report
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value

__all__ = ["checked", "tidy", "typed", "unread"]

_FIRST_WITH_FREE_INITIALIZERS = 4
_MOST_LISTED = 5
_UNKNOWN = frozenset({"custom-operator", "unknown-operator"})


def tidy(graph: Graph) -> None:
    """Forget what `graph` and the graphs within it say of values that are gone."""
    names: set[str] = set()
    for each in all_graphs(graph):
        own = set(defined_in(each))
        names.update([value.name for value in own])
        each.value_info[:] = [value for value in each.value_info if value in own]
    for each in all_graphs(graph):
        each.quantization[:] = [note for note in each.quantization if note.tensor_name in names]


def checked(result: Model, *sources: Model, types: bool = True) -> Model:
    """`result`, once no rule of the standard is broken that its sources do not break.

    Raises `CheckError`, or
    `InferenceError` with the node that no longer fits.
    """
    inputs = set(result.graph.inputs)
    if result.ir_version < _FIRST_WITH_FREE_INITIALIZERS and not inputs.issuperset(
        result.graph.initializers
    ):
        result.ir_version = _FIRST_WITH_FREE_INITIALIZERS
    with unread(result.graph):
        report = validate(result, types=types)
        errors = report.errors
        unknown = any(problem.kind in _UNKNOWN for problem in report.problems)
        if errors:
            before = {
                (problem.kind, problem.message)
                for source in sources
                for problem in _report(source, types=types).errors
            }
            errors = [each for each in errors if (each.kind, each.message) not in before]
        if errors:
            listed = "\n".join(map(str, errors[:_MOST_LISTED]))
            raise CheckError(f"the result is not sound:\n{listed}", [str(each) for each in errors])
        if types and unknown:
            _check_inference(result, sources)
    return result


def _report(source: Model, *, types: bool) -> Report:
    private = copy(source)
    with unread(private.graph):
        return validate(private, types=types)


def _check_inference(result: Model, sources: tuple[Model, ...]) -> None:
    """What the checker leaves out where it meets unknown operators."""
    before = {problem.message for source in sources for problem in infer(source).problems}
    for problem in infer(result).problems:
        if isinstance(problem, InferenceError) and problem.message not in before:
            raise problem


@contextmanager
def unread(graph: Graph) -> Iterator[None]:
    """Within the block, external weights with a checksum are inputs: they have no contents.

    Reading a single one of them means hashing the whole data file.
    """
    inputs, initializers = list(graph.inputs), list(graph.initializers)
    hidden: list[tuple[Value, ExternalTensor, Any]] = []
    for value in initializers:
        const = value.const
        if isinstance(const, ExternalTensor) and (const.checksum or const.is_detached):
            hidden.append((value, const, value._type))  # noqa: SLF001
            value.type = TensorType(const.dtype, const.shape)
            value.const = None
    gone = {value for value, _, _ in hidden}
    graph.initializers[:] = [value for value in initializers if value not in gone]
    graph.inputs.extend([value for value in initializers if value in gone - set(inputs)])
    try:
        yield
    finally:
        for value, const, declared in hidden:
            value.const = const
            value.type = declared
        graph.inputs[:] = inputs
        graph.initializers[:] = initializers


def typed(model: Model, *, everywhere: bool = False) -> Model:
    """`model` with inferred types written: to its outputs and to values that had a type.

    With `everywhere` to all values.
    """
    bare = []
    if not everywhere:
        outputs = set(model.graph.outputs)
        bare = [
            value
            for graph in all_graphs(model.graph)
            for value in defined_in(graph)
            if value.type is None and value not in outputs
        ]
    with unread(model.graph):
        infer_shapes(model)
    for value in bare:
        value.type = None
    return model
