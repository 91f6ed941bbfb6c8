"""Values: the edges of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.ir.tensor import SparseTensor, Tensor
from sardonyx.ir.types import SparseTensorType, TensorType, shape_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Shape, Type

__all__ = ["LazyType", "Value"]


class LazyType:
    """A type still in its wire form; `encoded` is written back as it came."""

    __slots__ = ("_decode", "_type", "encoded")

    def __init__(self, encoded: bytes, decode: Callable[[bytes], Type | None]) -> None:
        self.encoded = encoded
        self._decode = decode
        self._type: Type | None = None

    def get(self) -> Type | None:
        """The decoded type."""
        if self._type is None:
            self._type = self._decode(self.encoded)
        return self._type


class Value:
    """What an input, an initializer or a node's output holds.

    `producer` and `index` say which node's which output it is (None: an input or initializer);
    `users` maps each node that reads it, in this graph and in subgraphs, to how many of the
    node's inputs it feeds; `const` is its data when it is an initializer. An unnamed value is
    an output that its node does not compute.
    """

    __slots__ = (
        "_metadata",
        "_type",
        "const",
        "doc",
        "index",
        "name",
        "producer",
        "unknown",
        "users",
    )

    def __init__(
        self,
        name: str = "",
        type: Type | LazyType | None = None,
        const: Tensor | SparseTensor | None = None,
    ) -> None:
        self.name = name
        self._type = type
        self.const = const
        self.producer: Node | None = None
        self.index = 0
        self.users: dict[Node, int] = {}
        self.doc = ""
        self.unknown = b""
        self._metadata: dict[str, str] | None = None

    @property
    def type(self) -> Type | None:
        """The declared or inferred type, of a constant its tensor's; None is unknown."""
        if isinstance(self._type, LazyType):
            return self._type.get()
        if self._type is None and self.const is not None:
            if isinstance(self.const, SparseTensor):
                return SparseTensorType(self.const.values.dtype, self.const.shape)
            return TensorType(self.const.dtype, self.const.shape)
        return self._type

    @type.setter
    def type(self, new: Type | None) -> None:
        self._type = new

    @property
    def lazy_type(self) -> LazyType | None:
        """The type's wire form, while no one has assigned another type."""
        return self._type if isinstance(self._type, LazyType) else None

    @property
    def dtype(self) -> DType | None:
        """Element type, where the value is known to be a tensor."""
        known = self.type
        return known.dtype if isinstance(known, (TensorType, SparseTensorType)) else None

    @property
    def shape(self) -> Shape | None:
        """Shape, where the value is known to be a tensor of known rank."""
        known = self.type
        return known.shape if isinstance(known, (TensorType, SparseTensorType)) else None

    @property
    def metadata(self) -> dict[str, str]:
        """Keys and values attached to the value (IR 10)."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def has_details(self) -> bool:
        """Whether more than a name and a type is to be written."""
        return bool(self.doc or self.unknown or self._metadata)

    def replace_uses(self, new: Value) -> None:
        """Make every node that reads this value read `new` instead (graph outputs stay)."""
        for node in list(self.users):
            for position, value in enumerate(node.inputs):
                if value is self:
                    node.set_input(position, new)

    def __repr__(self) -> str:
        known = self.type
        shape = shape_text(self.shape) if isinstance(known, TensorType) else ""
        return f"<Value %{self.name}: {known or '?'}{shape}>"
