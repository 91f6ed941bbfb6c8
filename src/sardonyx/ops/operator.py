"""`Operator`: everything that one operator means, in one class."""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sardonyx.errors import ModelError, UnsupportedError, quote
from sardonyx.ops.fact import Fact
from sardonyx.ops.schema import REQUIRED, Past, Schema, attribute, build_schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self, dataclass_transform

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.writer import Writer

    Values: TypeAlias = Sequence[Any]
    GraphInfer: TypeAlias = Callable[[Graph, Sequence[Fact]], list[Fact]]
    GraphRun: TypeAlias = Callable[[Graph, Sequence[Array]], list[Array]]
else:

    def dataclass_transform(**_options: object) -> Callable[[type], type]:
        return lambda cls: cls


__all__ = ["ControlFlow", "Operator", "same_as"]


_FIELDS = "__dataclass_fields__"
_LOCK = threading.RLock()


class _Pending:
    """The fields of an operator, until someone asks for them or makes an instance.

    Writing what a dataclass has takes longer than all else of importing a family, and a model
    uses few of its operators.
    """

    def __init__(self, owner: type, complete: Callable[[], None]) -> None:
        self.owner = owner
        self.complete = complete

    def __get__(self, instance: object, cls: type | None = None) -> Any:
        with _LOCK:
            if vars(self.owner)[_FIELDS] is self:
                self.complete()
        return vars(self.owner)[_FIELDS]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attribute,))
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Operator:
    """Base of all operators; an instance is one node's parsed attributes.

    A subclass declares the newest version in full: parameters as `Input` and `Output`,
    attributes as annotated fields (a name that Python reserves takes a trailing underscore),
    type constraints as plain class attributes, and `history` as what was different before. Its
    methods are written for the newest form and see older nodes in it: an attribute that
    became an input arrives as that input. What differs otherwise is asked of `self.version`.

    Mandatory: `infer` and `reference`. Inputs are passed in order, None for those omitted,
    variadic ones last. `n_outputs` is how many outputs the node has.
    """

    op_type: ClassVar[str]
    domain: ClassVar[str] = ""
    since: ClassVar[int]
    history: ClassVar[tuple[Past, ...]] = ()
    deprecated: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True
    moves_data: ClassVar[bool] = False
    """Whether `reference` only moves, compares or does integer arithmetic on elements, so that
    it also works on object arrays of symbolic dims and carries shape values through."""
    body_since: ClassVar[int] = 1
    """The first version whose schema comes with a function body, where `body` is defined."""

    _schemas: ClassVar[dict[int, Schema]]
    _names: ClassVar[tuple[str, ...]] = ("version", "n_outputs")
    _is_complete: ClassVar[bool] = True
    """Whether the class, and those that it is made of, are dataclasses of their own fields."""
    _in_force: ClassVar[dict[tuple[type[Operator], int], Schema]] = {}

    version: int = 0
    n_outputs: int = 1

    def __init_subclass__(
        cls,
        *,
        since: int | None = None,
        domain: str | None = None,
        name: str | None = None,
        history: tuple[Past, ...] | None = None,
    ) -> None:
        cls.op_type = name or cls.__name__
        if since is not None:
            cls.since = since
        if domain is not None:
            cls.domain = domain
        if history is not None:
            cls.history = history
        # what was made for the base fits where there are no other fields
        several = len(cls.__bases__) > 1 and sum(map(is_dataclass, cls.__bases__)) > 1
        if inspect.get_annotations(cls) or several:
            cls._is_complete = False
            setattr(cls, _FIELDS, _Pending(cls, cls._complete))

    @classmethod
    def _complete(cls) -> None:
        dataclass(frozen=True, kw_only=True, repr=False, eq=False)(cls)
        cls._names = tuple(entry.name for entry in fields(cls))
        cls._is_complete = True

    if not TYPE_CHECKING:

        def __new__(cls, *_values: object, **_named: object) -> Self:
            if not cls._is_complete:
                with _LOCK:
                    fields(cls)
            return object.__new__(cls)

    def __repr__(self) -> str:
        pairs = zip(self._names, self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{name}={v!r}' for name, v in pairs)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._names])

    def infer(self, *inputs: Any) -> Fact | tuple[Fact, ...]:
        """Types and shapes of the outputs, and contents where they follow from the inputs'.

        Inputs are `Fact`s. Raises `InferenceError` where they cannot fit together. The driver
        computes constants and data movement itself, so shapes are enough here.
        """
        raise NotImplementedError

    def reference(self, *inputs: Any) -> Any:
        """The outputs in NumPy: the operator's meaning. An array, or a tuple of them.

        Tensors are arrays of `dtype.numpy`, sequences lists, an absent optional None, maps
        dicts, strings `str` in object arrays.
        """
        raise NotImplementedError

    def body(self, op: BodyBuilder, *inputs: Any) -> Any:
        """The operator as nodes of smaller ones, where the standard defines it by a function.

        Writes nodes in their newest form with `op` and returns the output value, or a tuple of
        them. Inputs are `Value`s, in the form in which `reference` takes arrays. Raises
        `UnsupportedError` where a body needs more than is known of an input, its rank say.
        `sardonyx.ops.bodies` calls it.
        """
        raise UnsupportedError(f"{self.op_type} has no function body")

    @classmethod
    def has_body(cls, version: int) -> bool:
        """Whether the schema in force in opset `version` comes with a function body."""
        return cls.body is not Operator.body and cls.schema(version).since_version >= cls.body_since

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        """The gradients of the inputs, from those of the outputs: one reverse-mode step.

        Writes nodes in their newest form with `op`. `Values` holds `Value`s, None where there is
        none. `grads` has one entry per output, None where nothing depends on it (one at least is
        given); `inputs` are in the form in which `reference` takes arrays. Returns one entry per
        input, of the input's shape and type: None where the derivative is zero everywhere.
        What is returned for an input that is not floating point is passed over. Raises
        `UnsupportedError` where a rule needs more than is known, a rank say.
        `sardonyx.autodiff` calls it.
        """
        raise UnsupportedError(f"{self.op_type} has no gradient rule")

    @property
    def has_gradient(self) -> bool:
        """Whether `gradient` is defined."""
        return type(self).gradient is not Operator.gradient

    @classmethod
    def schemas(cls) -> dict[int, Schema]:
        """Every version's schema, by the opset version that brought it."""
        if "_schemas" not in vars(cls):
            cls._schemas = build_schemas(cls)
        return cls._schemas

    @classmethod
    def schema(cls, version: int) -> Schema:
        """The schema in force in opset `version` of the domain."""
        found = cls._in_force.get((cls, version))
        if found is not None:
            return found
        known = [since for since in cls.schemas() if since <= version]
        if not known:
            first = min(cls.schemas())
            raise UnsupportedError(
                f"{cls.op_type} came with version {first} of domain '{cls.domain or 'ai.onnx'}', "
                f"the model imports version {version}"
            )
        found = cls._in_force[cls, version] = cls.schemas()[max(known)]
        return found

    @classmethod
    def parse(cls, version: int, attributes: Mapping[str, Any], n_outputs: int = 1) -> Operator:
        """An instance for opset `version` with attribute values by name.

        Attributes whose names begin with two underscores are tools' own, and are passed over.
        Raises `ModelError` for another attribute that is unknown, and for one that is missing.
        """
        schema = cls.schema(version)
        for name in attributes:
            if name not in schema.attributes and not name.startswith("__"):
                raise ModelError(
                    f"{cls.op_type}-{schema.since_version} has no attribute {quote(name)}",
                    hint=f"its attributes are {', '.join(schema.attributes) or 'none'}",
                )
        values = {}
        for name, spec in schema.attributes.items():
            value = attributes.get(name, spec.default)
            if value is REQUIRED:
                raise ModelError(f"{cls.op_type}-{schema.since_version} needs attribute {name!r}")
            if name in schema.fields:
                values[schema.fields[name]] = value
        return cls(version=schema.since_version, n_outputs=n_outputs, **values)

    @classmethod
    def arrange(
        cls, schema: Schema, inputs: Sequence[Any], lift: Callable[[str, Any], Any], given: Any
    ) -> list[Any]:
        """A node's `inputs` in the order and form of the newest version.

        `given` maps attribute names to values; `lift(name, value)` makes an input of one.
        """
        arranged: list[Any] = []
        for slot in schema.slots:
            if isinstance(slot, str):
                value = given.get(slot, schema.attributes[slot].default)
                arranged.append(None if value is None else lift(slot, value))
            elif slot is None or slot >= len(inputs):
                arranged.append(None)
            else:
                arranged.append(inputs[slot])
        if schema.max_inputs is None:
            arranged[-1:] = inputs[len(schema.inputs) - 1 :]
        return arranged


class ControlFlow(Operator):
    """An operator whose attributes are graphs; its methods get a callback to run or infer one.

    `infer(infer_graph, *facts)` and `reference(run_graph, *arrays)`: both callbacks take a
    `Graph` and the list of its inputs and return the list of its outputs. `GraphInfer` and
    `GraphRun` are their types.
    """


def same_as(fact: Fact) -> Fact:
    """The fact of an output with the type and shape of input `fact` and unknown contents."""
    return Fact(fact.type)
