"""`Builder`: the `op` of exporters, rewrites, function bodies and gradients.

::

    op = Builder(graph, opset_imports={"": 20})
    y = op.Add(op.Gather(x, indices, axis=1), 1.0)
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.errors import InputError
from sardonyx.ir.node import Attribute, AttributeType, Node, attribute_type_of
from sardonyx.ir.tensor import as_tensor
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    import numpy.typing as npt

    from sardonyx.dtypes import DType
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.tensor import Tensor

    Operand: TypeAlias = Value | Tensor | npt.ArrayLike | None
    AttributeTyper: TypeAlias = Callable[[str, str, str], AttributeType | None]

__all__ = ["Builder"]

_SHARED_BYTES: Final = 256
_NAMED_ELEMENTS: Final = 4
_UNREADABLE: Final = re.compile(r"[^A-Za-z0-9_.+-]+")


class Builder:
    """Adds nodes to `graph`: ``op.Conv(x, w, strides=[2, 2])`` is a Conv node, and its output.

    An operator's name as an attribute gives a function of the operator's inputs: a `Value`, None
    for one that is omitted, or a constant (whatever `as_tensor` takes), which becomes an
    initializer; small equal constants share one. Keywords are attributes; None leaves one out.
    Keywords that begin with an underscore are about the node:

    - ``_outputs``: how many outputs; other than 1, a tuple is returned
    - ``_output_names``, ``_name``: exact names, which must be free
    - ``_domain``: the operator's domain
    - ``_metadata``: further metadata of the node

    Names that are made up are unique in the graph. Nodes go to the end of the graph, or to the
    place that `at` says. An attribute's type follows its Python value unless `attribute_type`,
    asked with domain, operator and attribute, knows better (an int for a FLOAT attribute).
    Errors: `InputError` for a name that is taken.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        opset_imports: Mapping[str, int] | None = None,
        attribute_type: AttributeTyper | None = None,
    ) -> None:
        self.graph = graph
        self.opset_imports: dict[str, int] = dict(opset_imports or {})
        self._attribute_type = attribute_type
        self._value_names = set(graph.values())
        self._node_names = {node.name for node in graph.nodes if node.name}
        self._counts: dict[str, int] = {}
        self._constants: dict[tuple[object, ...], Value] = {}
        self._place: Node | None = None
        self._prefix = ""
        self._metadata: dict[str, str] = {}

    @property
    def opset(self) -> int:
        """The imported version of the default domain."""
        return self.opset_imports[""]

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[:1].isupper():
            raise AttributeError(f"{type(self).__name__} has no attribute {op_type!r}")

        def apply(*inputs: Operand, **keywords: Any) -> Any:
            return self.apply(op_type, inputs, **keywords)

        return apply

    def apply(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        *,
        _outputs: int = 1,
        _output_names: Sequence[str] | None = None,
        _name: str | None = None,
        _domain: str = "",
        _metadata: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> Value | tuple[Value, ...]:
        """What ``op.<op_type>(*inputs, ...)`` does; for names that are not Python identifiers."""
        values = [value if value is None else self.value(value) for value in inputs]
        while values and values[-1] is None:
            values.pop()
        name = self._claim_node(_name, f"{self._prefix}{op_type}")
        if _output_names is None:
            made = [name] if _outputs == 1 else [f"{name}.{index}" for index in range(_outputs)]
            outputs = [Value(self.unique(each)) for each in made]
        else:
            outputs = [Value(self.claim(each)) for each in _output_names]
        node = Node(
            op_type,
            values,
            outputs,
            [
                self._attribute(_domain, op_type, key.rstrip("_"), value)
                for key, value in attributes.items()
                if value is not None
            ],
            domain=_domain,
            name=name,
        )
        if self._metadata or _metadata:
            node.metadata.update(self._metadata)
            node.metadata.update(_metadata or {})
        self._insert(node)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def value(self, data: Value | Tensor | npt.ArrayLike, dtype: DType | None = None) -> Value:
        """`data` as a value: a constant of `dtype` (by default its own) becomes an initializer."""
        if isinstance(data, Value):
            return data
        return self._share(as_tensor(data, dtype))

    def initializer(self, name: str, data: Tensor | npt.ArrayLike) -> Value:
        """A new initializer called exactly `name`."""
        tensor = as_tensor(data)
        value = Value(self.claim(name), TensorType(tensor.dtype, tensor.shape), tensor)
        if not tensor.name:
            tensor.name = name
        self.graph.initializers.append(value)
        return value

    def unique(self, wanted: str) -> str:
        """`wanted`, or it with a number where a value is called so already; the name is taken."""
        return self._unique(wanted, self._value_names)

    def free(self, wanted: str) -> str:
        """`wanted`, or it with a number where a value is called so already; not taken by this."""
        return self._free(wanted, self._value_names)

    def claim(self, name: str) -> str:
        """Take `name` for a value."""
        if name in self._value_names:
            raise InputError(f"two values would be called {name!r}")
        self._value_names.add(name)
        return name

    def rename(self, value: Value, name: str) -> None:
        """Call `value` exactly `name`."""
        if value.name != name:
            self._value_names.discard(value.name)
            value.name = self.claim(name)

    @contextmanager
    def at(self, node: Node | None) -> Iterator[Builder]:
        """Within the block, new nodes go just before `node` (None: to the end)."""
        before, self._place = self._place, node
        try:
            yield self
        finally:
            self._place = before

    @contextmanager
    def metadata(
        self, entries: Mapping[str, str] | Iterable[tuple[str, str]], *, prefix: str | None = None
    ) -> Iterator[Builder]:
        """Within the block, new nodes carry `entries`, and made-up names begin with `prefix`."""
        before = self._metadata, self._prefix
        self._metadata = {**self._metadata, **dict(entries)}
        if prefix is not None:
            self._prefix = prefix
        try:
            yield self
        finally:
            self._metadata, self._prefix = before

    def _insert(self, node: Node) -> None:
        if self._place is None:
            self.graph.nodes.append(node)
        else:
            self.graph.nodes.insert_before(self._place, node)

    def _attribute(self, domain: str, op_type: str, name: str, value: Any) -> Attribute:
        if isinstance(value, list):
            value = tuple(value)
        kind = self._attribute_type(domain, op_type, name) if self._attribute_type else None
        if kind is None:
            kind = attribute_type_of(value)
        if kind == AttributeType.FLOAT:
            value = float(value)
        elif kind == AttributeType.FLOATS:
            value = tuple(float(item) for item in value)
        elif kind == AttributeType.INT:
            value = int(value)
        elif kind == AttributeType.INTS:
            value = tuple(int(item) for item in value)
        elif kind == AttributeType.TENSOR:
            value = as_tensor(value)
        return Attribute(name, kind, value)

    def _claim_node(self, exact: str | None, wanted: str) -> str:
        if exact is None:
            return self._unique(wanted, self._node_names)
        if exact in self._node_names:
            raise InputError(f"two nodes would be called {exact!r}")
        self._node_names.add(exact)
        return exact

    def _unique(self, wanted: str, taken: set[str]) -> str:
        name = self._free(wanted, taken)
        taken.add(name)
        return name

    def _free(self, wanted: str, taken: set[str]) -> str:
        name = wanted
        while name in taken:
            count = self._counts[wanted] = self._counts.get(wanted, 0) + 1
            name = f"{wanted}_{count}"
        return name

    def _share(self, tensor: Tensor) -> Value:
        if tensor.name or tensor.nbytes > _SHARED_BYTES or not tensor.dtype.bits:
            return self.initializer(self._constant_name(tensor), tensor)
        key = (tensor.dtype, tensor.shape, bytes(tensor.raw()))
        value = self._constants.get(key)
        if value is None:
            value = self._constants[key] = self.initializer(self._constant_name(tensor), tensor)
        return value

    def _constant_name(self, tensor: Tensor) -> str:
        """A free name that tells what a constant holds: ``int64_0_-1``."""
        text = "constant"
        if 0 < tensor.size <= _NAMED_ELEMENTS and tensor.dtype.bits:
            items = np.asarray(tensor.numpy()).reshape(-1).tolist()
            text = _UNREADABLE.sub("", "_".join(f"{_number(item):.9g}" for item in items))
        return self.free(tensor.name or f"{tensor.dtype.text}_{text}")


def _number(item: Any) -> Any:
    return item if isinstance(item, (int, complex)) else float(item)
