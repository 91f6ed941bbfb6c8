"""The standard backend interface (onnx.backend.base): `prepare`, `run_model`, `run_node`."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any

from sardonyx.errors import InputError, UnsupportedError
from sardonyx.infer import infer_shapes
from sardonyx.ir import IR_VERSION, Graph, Model, TensorType, Value
from sardonyx.ops.registry import NEWEST_OPSET
from sardonyx.runtime import Session
from sardonyx.wire import loads
from sardonyx.wire.varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir import Node

__all__ = ["BackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class BackendRep:
    """A prepared model."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, inputs: Sequence[Any] | Mapping[str, Any], **_options: Any) -> tuple[Any, ...]:
        """Outputs for `inputs`, given by position or by name; a named tuple where names allow."""
        arguments = self._session.get_inputs() + self._session.get_overridable_initializers()
        if hasattr(inputs, "items"):
            feeds = dict(inputs.items())
        else:
            if not isinstance(inputs, (list, tuple)):
                inputs = [inputs]
            if len(inputs) > len(arguments):
                raise InputError(f"the model has {len(arguments)} inputs, got {len(inputs)}")
            feeds = {
                argument.name: value for argument, value in zip(arguments, inputs, strict=False)
            }
        results = self._session.run(None, feeds)
        names = [output.name for output in self._session.get_outputs()]
        return namedtuple("Outputs", names, rename=True)(*results)  # noqa: PYI024


def supports_device(device: str) -> bool:
    """Whether `device` (``CPU``, ``CUDA``, with an optional ``:index``) can run models."""
    return device.partition(":")[0].upper() == "CPU"


def is_compatible(model: Any, device: str = "CPU", **_options: Any) -> bool:
    """Whether `prepare` takes `model` on `device`."""
    try:
        prepare(model, device)
    except (UnsupportedError, InputError):
        return False
    return True


def prepare(model: Any, device: str = "CPU", **options: Any) -> BackendRep:
    """Make `model` ready: a path, bytes, a `Model`, or a protobuf ``ModelProto``.

    `options` are those of `Session`.
    """
    if not supports_device(device):
        raise UnsupportedError(f"no device {device!r}", hint="use device='CPU'")
    known = {name: options[name] for name in ("threads", "limits") if name in options}
    return BackendRep(Session(_as_source(model), **known))


def run_model(model: Any, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
    """`prepare` and run once."""
    return prepare(model, device, **options).run(inputs)


def run_node(
    node: Any,
    inputs: Sequence[Any],
    device: str = "CPU",
    outputs_info: Any = None,
    **options: Any,
) -> tuple[Any, ...]:
    """Run one node, a protobuf ``NodeProto``, on `inputs` in the newest operator set.

    `opset_version` among `options` chooses another. `outputs_info` is not needed.
    """
    import numpy as np

    from sardonyx import dtypes
    from sardonyx.ir import Node

    del outputs_info
    given = _only_node(node.SerializeToString())
    arrays = [np.asarray(value) for value in inputs]
    values = [
        Value(value.name, TensorType(dtypes.from_numpy(array.dtype), array.shape))
        for value, array in zip((v for v in given.inputs if v is not None), arrays, strict=False)
    ]
    feeds = iter(values)
    made = Node(
        given.op_type,
        [None if value is None else next(feeds) for value in given.inputs],
        [Value(value.name) for value in given.outputs],
        given.attributes.values(),
        domain=given.domain,
    )
    graph = Graph("node", values, [value for value in made.outputs if value.name], [made])
    opsets = {"": NEWEST_OPSET[""], **NEWEST_OPSET}
    opsets[given.domain] = options.get("opset_version", opsets.get(given.domain, 1))
    model = infer_shapes(Model(graph, opsets, IR_VERSION))
    return prepare(model, device).run(arrays)


def _only_node(encoded: bytes) -> Node:
    """The node of a NodeProto, read as a model that has just this node (ModelProto.graph is 7)."""
    graph = b"\x0a" + encode_varint(len(encoded)) + encoded
    (node,) = loads(b"\x08\x0a\x3a" + encode_varint(len(graph)) + graph).graph.nodes
    return node


def _as_source(model: Any) -> Any:
    if hasattr(model, "SerializeToString"):
        return loads(model.SerializeToString())
    return model
