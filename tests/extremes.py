"""One operator in a model of one node, on the ends of its types, and what must hold of the result.

`extreme_cases` says how each operator is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from extreme_cases import CASES, Case, filled, tensor
from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.dtypes import DType
from sardonyx.errors import SardonyxError
from sardonyx.infer import infer
from sardonyx.ir import Graph, Model, Node, Value
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.types import MapType, OptionalType, SequenceType, TensorType
from sardonyx.limits import Limits
from sardonyx.ops import registry
from sardonyx.ops.schema import Schema
from sardonyx.reference import Evaluator

KINDS = ("extreme", "empty", "scalar", "constant")
LIMITS = Limits(tensor_bytes=1 << 20, folding_bytes=1 << 20, loop_iterations=100, seconds=20)


@dataclass(frozen=True)
class Trial:
    """One call: an operator, the types of its constraints, a kind of data, extra attributes."""

    domain: str
    name: str
    version: int
    types: tuple[tuple[str, Any], ...]
    kind: str
    variant: int
    change: tuple[Any, ...] = ()
    """An input's position or an attribute's name, and the extreme that replaces its value."""

    def __str__(self) -> str:
        types = " ".join(f"{name}={known}" for name, known in self.types)
        change = "".join(f" {self.change[0]}:={self.change[1]!r}" for _ in self.change[:1])
        return f"{self.name}-{self.version} {types} {self.kind} {self.variant}{change}"


def of_operator(
    domain: str,
    name: str,
    kinds: tuple[str, ...] = KINDS,
    *,
    version: int | None = None,
    every_combination: bool = False,
) -> Iterator[Trial]:
    """Every type that each constraint allows, the other constraints held at one; all kinds.

    `every_combination` is of types; `version` is a since_version, the newest where omitted.
    """
    operator = registry.get(domain, name)
    version = operator.since if version is None else version
    schema = operator.schema(version)
    entry = case_of(name, version)
    used = constraints_used(schema, entry)
    allowed = {key: sorted(schema.type_constraints[key], key=str) for key in used}
    fixed = {key: preferred(schema.type_constraints[key]) for key in used}
    assignments: dict[tuple[Any, ...], None] = {tuple(fixed.items()): None}
    if every_combination:
        for chosen in product(*allowed.values()):
            assignments[tuple(zip(allowed, chosen, strict=True))] = None
    for key, listed in allowed.items():
        for known in listed:
            assignments[tuple((fixed | {key: known}).items())] = None
    for assigned in assignments:
        for variant in range(len(entry.variants)):
            for kind in kinds:
                yield Trial(domain, name, version, assigned, kind, variant)


def case_of(name: str, version: int) -> Case:
    """The case of operator `name` in the form of its `version`.

    An input that was an attribute then becomes one, and what it did not have is left out.
    """
    domain = next(domain for domain, known in registry.names() if known == name)
    operator = registry.get(domain, name)
    newest, schema = operator.schema(operator.since), operator.schema(version)
    entry = CASES.get(name, Case())
    if entry.inputs is None:
        required = [param for param in newest.inputs.values() if not param.optional]
        shapes = ("N 3",) * (len(required) + sum(param.variadic for param in required))
        entry = replace(entry, inputs=shapes)
    assert entry.inputs is not None
    if version == operator.since:
        return entry
    inputs: dict[int, Any] = {}
    attributes: dict[str, Any] = {}
    for slot, then in zip(newest.slots, schema.slots, strict=True):
        if not isinstance(slot, int) or slot >= len(entry.inputs) or entry.inputs[slot] is None:
            continue
        if isinstance(then, int):
            inputs[then] = entry.inputs[slot]
        elif isinstance(then, str):
            attributes[then] = as_attribute(entry.inputs[slot], schema.attributes[then].type)
    if newest.max_inputs is None:
        inputs.update(enumerate(entry.inputs))
    count = max(inputs, default=-1) + 1
    variants = []
    for options in entry.variants:
        known = {
            key: as_attribute(value, schema.attributes[key].type)
            for key, value in (attributes | entry.attributes | options).items()
            if key in schema.attributes
        }
        if known not in variants and is_permitted(schema, known):
            variants.append(known)
    found = tuple(inputs.get(index) for index in range(count))
    outputs = entry.outputs
    if schema.max_outputs is not None and outputs is not None:
        outputs = min(outputs, schema.max_outputs)
    return replace(entry, inputs=found, attributes={}, variants=tuple(variants), outputs=outputs)


def is_permitted(schema: Schema, options: dict[str, Any]) -> bool:
    """Whether the version's outputs may have the type that an attribute names."""
    value = options.get("value")
    codes = [options[key] for key in ("to", "dtype", "output_dtype") if key in options]
    named = [dtypes.from_name(c) if isinstance(c, str) else dtypes.from_code(c) for c in codes]
    named += [value.dtype] if value is not None else []
    (param, *_) = schema.outputs.values()
    return all(
        any(
            known in (TensorType(d), SequenceType(TensorType(d))) for known in schema.allowed(param)
        )
        for d in named
    )


def as_attribute(value: Any, kind: AttributeType) -> Any:
    """`value` in the form of an attribute of `kind`."""
    if isinstance(value, str) and value.startswith("="):
        value = float(value[1:])
    if kind is AttributeType.STRING and isinstance(value, int):
        return dtypes.from_code(value).name
    if kind.is_list and not isinstance(value, (list, tuple)):
        return [value]
    return value


def constraints_used(schema: Schema, entry: Case) -> list[str]:
    """The type constraints of the inputs that are given."""
    assert entry.inputs is not None
    found = [schema.param_of(schema.inputs, index) for index in range(len(entry.inputs))]
    given = [param for param, item in zip(found, entry.inputs) if item is not None]
    return [param.type for param in given if param is not None and isinstance(param.type, str)]


INTEGERS = (0, -1, 1, 2, 7, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
NUMBERS = (0.0, -0.0, -1.0, 0.5, 1e-45, 3.4e38, -3.4e38, float("nan"), float("inf"), -float("inf"))


def of_settings(
    domain: str, name: str, kind: str = "extreme", *, version: int | None = None
) -> Iterator[Trial]:
    """Every literal input and every number among the attributes at its ends, one at a time."""
    operator = registry.get(domain, name)
    version = operator.since if version is None else version
    schema = operator.schema(version)
    entry = case_of(name, version)
    first = next(of_operator(domain, name, (kind,), version=version), None)
    if first is None:
        return
    for index, given in enumerate(entry.inputs or ()):
        if given is None or (isinstance(given, str) and not given.startswith("=")):
            continue
        if isinstance(given, (bool, str)) or np.asarray(given).dtype.kind == "f":
            ends: tuple[Any, ...] = NUMBERS
        else:
            ends = INTEGERS
        for end in ends:
            for shape in ((), (1,), (2,), (3,)) if not isinstance(given, str) else ((),):
                yield replace(first, change=(index, np.full(shape, end)))
            if not isinstance(given, (int, float, str)):
                for place in range(np.asarray(given).size):
                    changed = np.array(given).astype(object)
                    changed.reshape(-1)[place] = end
                    yield replace(first, change=(index, changed))
    for key, spec in schema.attributes.items():
        options = {**entry.attributes, **entry.variants[0]}
        kind = spec.type.name
        if kind.rstrip("S") not in {"INT", "FLOAT", "STRING"}:
            continue
        ends = {"INT": INTEGERS, "FLOAT": NUMBERS, "STRING": ("", "\x00", "x" * 300)}[
            kind.rstrip("S")
        ]
        given = options.get(key)
        for end in ends:
            if not spec.type.is_list:
                yield replace(first, change=(key, end))
                continue
            for length in (0, 1, 2, 4):
                yield replace(first, change=(key, (end,) * length))
            for place in range(len(given) if isinstance(given, (list, tuple)) else 0):
                changed_list = list(given)
                changed_list[place] = end
                yield replace(first, change=(key, tuple(changed_list)))


def preferred(allowed: frozenset[Any]) -> Any:
    for dtype in (dtypes.FLOAT, dtypes.INT64, dtypes.UINT8):
        if TensorType(dtype) in allowed:
            return TensorType(dtype)
    return min(allowed, key=str)


class Built:
    """A model of one node, and what to feed it."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        operator = registry.get(trial.domain, trial.name)
        self.schema = operator.schema(trial.version)
        entry = case_of(trial.name, trial.version)
        self.feeds: dict[str, Any] = {}
        self.types = dict(trial.types)
        for key, other in entry.linked.items():
            if key in self.types:
                self.types[other] = self.types[key].element
        values, self.constants = [], []
        assert entry.inputs is not None
        for index, given in enumerate(entry.inputs):
            if trial.change and trial.change[0] == index:
                given = trial.change[1]
            values.append(None if given is None else self.value(index, given))
        attributes = {**entry.attributes, **entry.variants[trial.variant]}
        if trial.change and isinstance(trial.change[0], str):
            attributes[trial.change[0]] = trial.change[1]
        if trial.name == "TreeEnsemble":
            dtype = self.types["T"].dtype
            attributes["nodes_splits"] = tensor(dtype, [0.5])
            attributes["leaf_weights"] = tensor(dtype, [0.5, -1.0])
        made = [
            Attribute(name, self.schema.attributes[name].type, settled(value))
            for name, value in attributes.items()
            if name in self.schema.attributes
        ]
        count = entry.outputs
        if count is None:
            count = sum(not param.variadic for param in self.schema.outputs.values()) or 1
        outputs = [Value(f"y{index}") for index in range(count)]
        self.node = Node(trial.name, values, outputs, made, domain=trial.domain)
        for value in outputs:
            value.type = TensorType(None)
        self.outputs = outputs
        fed = [value for value in values if value is not None and value.const is None]
        graph = Graph("extremes", fed, outputs, [self.node], self.constants)
        imports = {"": registry.NEWEST_OPSET[""], trial.domain: trial.version}
        self.model = Model(graph, imports, 14)

    def value(self, index: int, given: Any) -> Value:
        param = self.schema.param_of(self.schema.inputs, index)
        assert param is not None
        known = self.types[param.type] if isinstance(param.type, str) else None
        if known is None:
            known = preferred(self.schema.allowed(param))
            if not isinstance(given, str):
                known = literal_type(given, self.schema.allowed(param), known)
        array = self.contents(known, given, index)
        value = Value(f"x{index}", described(known, array))
        is_literal = not isinstance(given, str)
        if isinstance(known, TensorType) and (is_literal or self.trial.kind == "constant"):
            value.const = ArrayTensor(array, known.dtype)
            self.constants.append(value)
        else:
            self.feeds[value.name] = array
        return value

    def contents(self, known: Any, given: Any, index: int) -> Any:
        if isinstance(known, SequenceType):
            return [self.contents(known.element, given, index + turn) for turn in range(2)]
        if isinstance(known, OptionalType):
            if self.trial.kind == "empty":
                return None
            return self.contents(known.element, given, index)
        if isinstance(known, MapType):
            keys = filled(known.key, (3,), 0).tolist()
            values = filled(known.value.dtype, (3,), index)
            return dict(zip(keys, values, strict=True))
        dtype = known.dtype
        if isinstance(given, str) and given.startswith("=N"):
            size = 0 if self.trial.kind == "empty" else 2
            return np.zeros(size, dtype.numpy)
        if isinstance(given, str) and given.startswith("="):
            return cast(float(given[1:]), dtype)
        if not isinstance(given, str):
            return cast(given, dtype)
        if self.trial.kind == "scalar":
            return filled(dtype, (), index)
        size = "0" if self.trial.kind == "empty" else "2"
        return filled(dtype, tuple(int(part) for part in given.replace("N", size).split()), index)


def literal_type(given: Any, allowed: frozenset[Any], known: Any) -> Any:
    wanted = dtypes.from_numpy(np.asarray(given).dtype)
    wanted = dtypes.FLOAT if wanted is dtypes.DOUBLE else wanted
    return TensorType(wanted) if TensorType(wanted) in allowed else known


def settled(value: Any) -> Any:
    if callable(value):
        return value()
    return tuple(value) if isinstance(value, list) else value


def cast(value: Any, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        array = np.asarray(value)
        if dtype.kind == "string":
            return np.vectorize(str, otypes=[object])(array)
        if array.dtype == object and dtype.is_integer:
            array = np.asarray([item % 2**64 for item in array.flat], np.uint64).reshape(
                array.shape
            )
        return array.astype(dtype.numpy)


def described(known: Any, array: Any) -> Any:
    return TensorType(known.dtype, array.shape) if isinstance(known, TensorType) else known


def run(trial: Trial) -> tuple[Built, list[Any] | SardonyxError]:
    """The model of `trial` and its outputs, or the typed error that it ends in."""
    built = Built(trial)
    try:
        found = Evaluator(built.model, limits=LIMITS).run(dict(built.feeds))
    except SardonyxError as error:
        return built, error
    return built, [found[value.name] for value in built.outputs]


def problems(trial: Trial) -> list[str]:
    """What is wrong with how `trial` ends, in words; nothing where all holds."""
    built, results = run(trial)
    inference = infer(built.model, limits=LIMITS)
    if isinstance(results, SardonyxError):
        again = run(trial)[1]
        found = [] if isinstance(again, type(results)) else ["fails once, not twice"]
        if results.__cause__ is not None:
            found.append(f"untyped inside: {type(results.__cause__).__name__}: {results.message}")
        return found
    found = [f"inference refuses: {error.message}" for error in inference.problems]
    for position, (value, result) in enumerate(zip(built.outputs, results, strict=True)):
        param = built.schema.param_of(built.schema.outputs, position)
        assert param is not None
        fact = inference.facts.get(value)
        found += held(built, param, fact, result)
    again = run(trial)[1]
    draws = not registry.get(trial.domain, trial.name).deterministic
    if draws and "seed" not in built.schema.attributes:
        return found
    if isinstance(again, SardonyxError) or not same(results, again):
        found.append("a second run differs")
    return found


def held(built: Built, param: Any, fact: Any, result: Any) -> list[str]:
    allowed = built.schema.allowed(param)
    if isinstance(param.type, str) and param.type in built.types:
        allowed = frozenset({built.types[param.type]})
    if result is None:
        ok = any(isinstance(known, OptionalType) for known in allowed)
        return [] if ok else ["gives nothing"]
    if isinstance(result, (list, dict)):
        return [] if any(fits(known, result) for known in allowed) else [f"gives {result!r:.60}"]
    if not isinstance(result, np.ndarray):
        return [f"gives a {type(result).__name__}"]
    dtype = dtypes.from_numpy(result.dtype)
    found = []
    if not any(fits(known, result) for known in allowed):
        found.append(f"gives {dtype}, allowed {' '.join(sorted(map(str, allowed)))}"[:200])
    if dtype.kind == "string" and not all(isinstance(item, str) for item in result.flat):
        found.append("gives objects that are no strings")
    if fact is None or not isinstance(fact.type, TensorType):
        return found
    if fact.dtype is not None and fact.dtype is not dtype:
        found.append(f"inferred {fact.dtype}, gives {dtype}")
    if fact.shape is not None:
        fit = len(fact.shape) == result.ndim and all(
            dim is None or isinstance(dim, Dim) or dim == size
            for dim, size in zip(fact.shape, result.shape)
        )
        if not fit:
            found.append(f"inferred {list(fact.shape)}, gives {list(result.shape)}")
    value = fact.constant_value()
    if value is not None and not same([value], [result]):
        found.append(f"inferred contents {value!r:.80}, gives {result!r:.80}")
    return found


def fits(known: Any, result: Any) -> bool:
    if isinstance(known, OptionalType):
        return result is None or fits(known.element, result)
    if isinstance(known, SequenceType):
        return isinstance(result, list) and all(fits(known.element, item) for item in result)
    if isinstance(known, MapType):
        return isinstance(result, dict)
    return isinstance(result, np.ndarray) and known.dtype is dtypes.from_numpy(result.dtype)


def same(a: Any, b: Any) -> bool:
    """Whether two lists of results are equal bit by bit."""
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(map(repr, a.items())) == list(map(repr, b.items()))
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return bool(a.tolist() == b.tolist())
    return bool(np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes())
