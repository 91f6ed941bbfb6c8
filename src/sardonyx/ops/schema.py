"""The parts of an operator's declaration, and the schema of each version made of them."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from sardonyx.ir.node import AttributeType
from sardonyx.ops.types import as_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.ir.types import Type
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.types import Types

__all__ = [
    "ABSENT",
    "REQUIRED",
    "AttributeSpec",
    "Input",
    "Output",
    "Param",
    "Past",
    "Schema",
    "attribute",
    "past",
    "was_attribute",
]


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = _Marker("ABSENT")
"""In a `past`: that version does not have this parameter or attribute."""
REQUIRED: Final = _Marker("REQUIRED")
"""The default of an attribute that must be given."""


@dataclass(frozen=True, slots=True)
class Param:
    """An input or output: `type` names a type constraint of the class or is a set of types.

    `variadic` takes any number of values from `min_arity` on; they need one type only when
    `homogeneous`. `name` overrides the attribute name (a parameter renamed over time). The
    parameter exists from version `since` up to, not including, `before`.
    """

    type: str | Types
    doc: str = ""
    optional: bool = False
    variadic: bool = False
    min_arity: int = 1
    homogeneous: bool = True
    name: str = ""
    since: int = 1
    before: int | None = None


class Input(Param):
    """An input of an operator."""

    __slots__ = ()


class Output(Param):
    """An output of an operator."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """An attribute of one version: its type and default (`REQUIRED`, or None: absent)."""

    type: AttributeType
    default: Any = None

    @property
    def is_required(self) -> bool:
        """Whether a node must give it."""
        return self.default is REQUIRED


@dataclass(frozen=True, slots=True)
class _WasAttribute:
    spec: AttributeSpec


def was_attribute(type: AttributeType, default: Any = None) -> Any:
    """In a `past`: the input of this name was an attribute then; methods see it as the input."""
    return _WasAttribute(AttributeSpec(type, default))


@dataclass(frozen=True, slots=True)
class _Lifetime:
    since: int
    before: int | None
    type: AttributeType | None


def attribute(
    default: Any = REQUIRED,
    *,
    since: int = 1,
    before: int | None = None,
    type: AttributeType | None = None,
) -> Any:
    """An attribute field that exists from version `since` up to, not including, `before`.

    `type` overrides what the annotation says.
    """
    options: dict[str, Any] = {"metadata": {"lifetime": _Lifetime(since, before, type)}}
    options["default"] = None if default is REQUIRED else default
    if default is REQUIRED:
        options["metadata"]["required"] = True
    return field(**options)


@dataclass(frozen=True, slots=True)
class Past:
    """What was different in version `version` from the next newer one."""

    version: int
    changes: Mapping[str, Any]
    deprecated: bool | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def past(
    version: int,
    *,
    deprecated: bool | None = None,
    inputs: tuple[str, ...] | None = None,
    outputs: tuple[str, ...] | None = None,
    **changes: Any,
) -> Past:
    """One step back in an operator's history; newest first in `history`.

    A change's name is a type constraint (its value: the types then), a parameter (an `Input`
    or `Output`, `ABSENT`, or `was_attribute(...)`), or an attribute (an `AttributeSpec`, a new
    default, or `ABSENT`). `inputs` and `outputs` give another order of parameters.
    """
    return Past(version, changes, deprecated, inputs, outputs)


@dataclass(frozen=True)
class Schema:
    """One version of an operator, as the standard's schema has it.

    `slots` says for each parameter of the class, in the order in which its methods take them,
    where the argument comes from: an index of the node's inputs, the name of an attribute that
    later became an input, or None. `fields` names the class's field for each attribute that its
    methods see as one.
    """

    name: str
    domain: str
    since_version: int
    inputs: dict[str, Param]
    outputs: dict[str, Param]
    attributes: dict[str, AttributeSpec]
    type_constraints: dict[str, frozenset[Type]]
    deprecated: bool
    slots: tuple[int | str | None, ...]
    fields: dict[str, str]

    @property
    def min_inputs(self) -> int:
        """Fewest inputs a node may have."""
        return _fewest(tuple(self.inputs.values()))

    @property
    def max_inputs(self) -> int | None:
        """Most inputs a node may have; None is any number."""
        return _most(tuple(self.inputs.values()))

    @property
    def min_outputs(self) -> int:
        """Fewest outputs a node may have."""
        return _fewest(tuple(self.outputs.values()))

    @property
    def max_outputs(self) -> int | None:
        """Most outputs a node may have; None is any number."""
        return _most(tuple(self.outputs.values()))

    def takes_plainly(self, count: int) -> bool:
        """Whether `count` inputs are, as they are, what the operator's methods take."""
        if count == len(self.slots):
            return self._are_slots_inputs
        return count > len(self.slots) and self._are_slots_inputs and self.max_inputs is None

    @cached_property
    def _are_slots_inputs(self) -> bool:
        return self.slots == tuple(range(len(self.inputs)))

    def allowed(self, param: Param) -> frozenset[Type]:
        """The types that `param` may have."""
        if isinstance(param.type, str):
            return self.type_constraints[param.type]
        return frozenset(as_type(entry) for entry in param.type)

    def param_of(self, params: dict[str, Param], index: int) -> Param | None:
        """The parameter that position `index` belongs to: the last may be variadic."""
        listed = tuple(params.values())
        if index < len(listed):
            return listed[index]
        return listed[-1] if listed and listed[-1].variadic else None


def _fewest(params: tuple[Param, ...]) -> int:
    fewest = 0
    for index, param in enumerate(params):
        if param.variadic:
            fewest = max(fewest, index + param.min_arity)
        elif not param.optional:
            fewest = index + 1
    return fewest


def _most(params: tuple[Param, ...]) -> int | None:
    return None if params and params[-1].variadic else len(params)


_ANNOTATED: Final = {
    "int": AttributeType.INT,
    "float": AttributeType.FLOAT,
    "str": AttributeType.STRING,
    "Tensor": AttributeType.TENSOR,
    "Graph": AttributeType.GRAPH,
    "SparseTensor": AttributeType.SPARSE_TENSOR,
    "Type": AttributeType.TYPE_PROTO,
}
_LIST: Final = re.compile(r"tuple\[(\w+), \.\.\.\]")


def _annotated_type(annotation: str) -> AttributeType:
    """The attribute type for a field's annotation as it is written, ``tuple[int, ...] | None``."""
    required = annotation.removesuffix(" | None")
    listed = _LIST.fullmatch(required)
    if listed:
        return AttributeType[f"{_ANNOTATED[listed[1]].name}S"]
    return _ANNOTATED[required]


def _declared_attributes(cls: type[Operator]) -> dict[str, tuple[AttributeSpec, _Lifetime]]:
    found = {}
    for entry in fields(cls):
        if entry.name in _BASE_FIELDS:
            continue
        lifetime = entry.metadata.get("lifetime", _Lifetime(1, None, None))
        is_required = entry.default is MISSING or entry.metadata.get("required", False)
        kind = lifetime.type or _annotated_type(_annotation(cls, entry.name))
        spec = AttributeSpec(kind, REQUIRED if is_required else entry.default)
        found[entry.name.rstrip("_")] = (spec, lifetime)
    return found


def _field_names(cls: type[Operator]) -> dict[str, str]:
    """The field of each attribute: a name that was taken has a trailing underscore."""
    names = [entry.name for entry in fields(cls) if entry.name not in _BASE_FIELDS]
    return {name.rstrip("_"): name for name in names}


def _annotation(cls: type[Operator], name: str) -> str:
    for base in cls.__mro__:
        annotation = inspect.get_annotations(base).get(name)
        if annotation is not None:
            return str(annotation)
    raise KeyError(name)


_BASE_FIELDS: Final = frozenset({"version", "n_outputs"})


@dataclass
class _State:
    """What is true of the version that `build_schemas` has walked back to."""

    params: dict[str, Param]
    lifted: dict[str, AttributeSpec]
    attributes: dict[str, Any]
    constraints: dict[str, frozenset[Type]]
    deprecated: bool
    order: dict[type[Param], tuple[str, ...] | None]


def build_schemas(cls: type[Operator]) -> dict[int, Schema]:
    """Every version's schema of the operator `cls`, by since_version."""
    params = {name: value for name, value in _members(cls) if isinstance(value, Param)}
    lifetimes = _declared_attributes(cls)
    used = {param.type for param in params.values() if isinstance(param.type, str)}
    for step in cls.history:
        used |= {
            change.type
            for change in step.changes.values()
            if isinstance(change, Param) and isinstance(change.type, str)
        }
    constraints = {
        name: frozenset(as_type(entry) for entry in getattr(cls, name))
        for name in sorted(used)
        if hasattr(cls, name)
    }
    state = _State(
        dict(params),
        {},
        {name: spec for name, (spec, _) in lifetimes.items()},
        constraints,
        cls.deprecated,
        {Input: None, Output: None},
    )
    schemas = {cls.since: _snapshot(cls, cls.since, state, params, lifetimes)}
    for step in cls.history:
        _step_back(state, step, lifetimes)
        schemas[step.version] = _snapshot(cls, step.version, state, params, lifetimes)
    return schemas


def _members(cls: type[Operator]) -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    return list(found.items())


def _step_back(state: _State, step: Past, lifetimes: Mapping[str, Any]) -> None:
    if step.deprecated is not None:
        state.deprecated = step.deprecated
    if step.inputs is not None:
        state.order[Input] = step.inputs
    if step.outputs is not None:
        state.order[Output] = step.outputs
    for key, change in step.changes.items():
        if isinstance(change, _WasAttribute):
            state.params.pop(key, None)
            state.lifted[key] = change.spec
        elif isinstance(change, Param):
            state.params[key] = change
            state.lifted.pop(key, None)
        elif key in state.params and change is ABSENT:
            del state.params[key]
        elif key in state.lifted and change is ABSENT:
            del state.lifted[key]
        elif key in lifetimes:
            old = state.attributes.get(key) or lifetimes[key][0]
            if change is ABSENT:
                state.attributes[key] = None
            elif isinstance(change, AttributeSpec):
                state.attributes[key] = change
            else:
                state.attributes[key] = replace(old, default=change)
        elif key in state.lifted:
            state.lifted[key] = replace(state.lifted[key], default=change)
        elif isinstance(change, tuple):
            state.constraints[key] = frozenset(as_type(entry) for entry in change)
        else:
            raise TypeError(f"past({step.version}): {key} names nothing that can change")


def _alive(since: int, before: int | None, version: int) -> bool:
    return since <= version and (before is None or version < before)


def _snapshot(
    cls: type[Operator],
    version: int,
    state: _State,
    declared: Mapping[str, Param],
    lifetimes: Mapping[str, tuple[AttributeSpec, _Lifetime]],
) -> Schema:
    kinds: dict[type[Param], dict[str, Param]] = {Input: {}, Output: {}}
    keys: dict[tuple[type[Param], str], str] = {}
    for kind, chosen in kinds.items():
        for key in state.order[kind] or tuple(state.params):
            param = state.params.get(key)
            if isinstance(param, kind) and _alive(param.since, param.before, version):
                chosen[param.name or key] = param
                keys[kind, param.name or key] = key
    attributes = {
        name: spec
        for name, spec in state.attributes.items()
        if spec is not None and _alive(lifetimes[name][1].since, lifetimes[name][1].before, version)
    }
    attributes.update(state.lifted)
    positions = {keys[Input, name]: index for index, name in enumerate(kinds[Input])}
    slots = tuple(
        positions.get(name, name if name in state.lifted else None)
        for name, param in declared.items()
        if isinstance(param, Input)
    )
    used = {
        param.type
        for params in kinds.values()
        for param in params.values()
        if isinstance(param.type, str)
    }
    return Schema(
        name=cls.op_type,
        domain=cls.domain,
        since_version=version,
        inputs=kinds[Input],
        outputs=kinds[Output],
        attributes=attributes,
        type_constraints={name: state.constraints[name] for name in sorted(used)},
        deprecated=state.deprecated,
        slots=slots,
        fields={name: field for name, field in _field_names(cls).items() if name in attributes},
    )
