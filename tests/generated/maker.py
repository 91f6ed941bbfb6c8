"""Grows a random typed graph: operators of the registry on values that are there already.

A value is known by what the reference makes of it in each run of the case, so its type and its
shapes are never guessed. A call is kept if its reference takes it in every run, and now and then
if it does in the first one only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from tests.generated.running import Runner, Unusable
from tests.generated.spec import Body, Call, Case

from extreme_values import extremes
from sardonyx import dtypes
from sardonyx.dtypes import DType, from_numpy
from sardonyx.errors import SardonyxError
from sardonyx.ir.types import TensorType
from sardonyx.ops import registry

MOST_ELEMENTS = 6000
RUNS = (
    ({"N": 3, "M": 5}, {"N": 1, "M": 4}, {"N": 0, "M": 2}),
    ({"N": 5, "M": 2}, {"N": 0, "M": 0}, {"N": 1, "M": 1}),
    ({"N": 9, "M": 4}, {"N": 2, "M": 7}, {"N": 17, "M": 1}),
    ({"N": 33, "M": 18}, {"N": 4, "M": 16}, {"N": 1, "M": 37}),
)
COMMON = (dtypes.FLOAT,) * 10 + (
    dtypes.DOUBLE, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.INT64,
    dtypes.INT64, dtypes.INT32, dtypes.INT32, dtypes.INT8, dtypes.INT16, dtypes.UINT8,
    dtypes.UINT8, dtypes.UINT16, dtypes.UINT32, dtypes.UINT64, dtypes.BOOL, dtypes.BOOL,
)  # fmt: skip
OPSETS = (18, 21, 24, 25, registry.NEWEST_OPSET[""])


class Refused(Exception):
    """What was drawn does not fit."""


@dataclass(frozen=True, eq=False)
class Known:
    """A value: what it is in each run. `dims` are the sizes of each axis, run by run."""

    name: str
    arrays: tuple[Any, ...]

    @property
    def dtype(self) -> DType:
        return from_numpy(self.arrays[0].dtype)

    @property
    def rank(self) -> int:
        return int(self.arrays[0].ndim)

    @property
    def dims(self) -> tuple[tuple[int, ...], ...]:
        return tuple(zip(*(array.shape for array in self.arrays))) if self.rank else ()

    def dim(self, axis: int) -> tuple[int, ...]:
        return self.dims[axis]

    @property
    def is_fixed(self) -> bool:
        return all(len(set(sizes)) == 1 for sizes in self.dims)


class Maker:
    """Makes one case from a seed."""

    def __init__(self, seed: int, *, extreme: bool | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.extreme = self.chance(0.35) if extreme is None else extreme
        self.sizes = self.pick(RUNS)
        self.opset = self.pick(OPSETS)
        self.known: list[Known] = []
        self.calls: list[Call] = []
        self.constants: dict[str, Any] = {}
        self.types: dict[str, Any] = {}
        self.runs: tuple[dict[str, Any], ...] = tuple({} for _ in self.sizes)
        self.runner = Runner(self.case(()))
        self.counter = count(1)

    # -- drawing ---------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, items: Any) -> Any:
        if not len(items):
            raise Refused
        return items[int(self.rng.integers(len(items)))]

    def integer(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def sign(self, axis: int, rank: int) -> int:
        """`axis`, or the negative number that means the same."""
        return axis - rank if self.chance(0.3) else axis

    def axis(self, x: Known) -> int:
        if not x.rank:
            raise Refused
        return self.integer(0, x.rank - 1)

    def numbers(self, dtype: DType, shape: tuple[int, ...]) -> Any:
        """Elements of `dtype`: tame ones, among them extreme ones where the case has them."""
        kind = dtype.numpy
        if dtype is dtypes.BOOL:
            return self.rng.random(shape) < 0.5
        if dtype.is_integer:
            low = 0 if dtype.kind == "uint" else -4
            x = self.rng.integers(low, 9, shape).astype(kind)
        else:
            x = (self.rng.standard_normal(shape) * self.pick([0.5, 1, 1, 2])).astype(kind)
            if self.chance(0.2):
                x = np.round(x.astype(np.float64) * 2).astype(kind)
        if self.extreme and self.chance(0.7):
            some = self.rng.random(shape) < self.pick([0.05, 0.3, 0.8])
            x = np.where(some, self.rng.choice(extremes(dtype), shape), x).astype(kind)
        return x

    # -- values ----------------------------------------------------------------------------------

    def name(self) -> str:
        return f"v{next(self.counter)}"

    def add_input(self) -> Known:
        dtype = self.pick(COMMON)
        pool = ["N", "M", "N", 1, 2, 3, 4, 4, 6, 8]
        shape = [self.pick(pool) for _ in range(self.pick([0, 1, 2, 2, 2, 3, 3, 4, 4]))]
        shapes = [tuple(run.get(dim, dim) for dim in shape) for run in self.sizes]
        arrays = [self.numbers(dtype, each) for each in shapes]
        if max(array.size for array in arrays) > MOST_ELEMENTS:
            return self.add_input()
        value = Known(f"x{len(self.runs[0])}", tuple(arrays))
        for run, array in zip(self.runs, arrays):
            run[value.name] = array
        self.known.append(value)
        return value

    def constant(self, array: Any) -> Known:
        """An initializer."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return Known(name, (self.constants[name],) * len(self.sizes))

    def ints(self, *numbers: int, dtype: Any = np.int64) -> Known:
        return self.constant(np.array(numbers, dtype))

    def of(self, allowed: Callable[[Known], bool]) -> Known:
        """One of the values that fit; recent ones are likelier."""
        fitting = [value for value in self.known if allowed(value)]
        if len(fitting) > 2 and self.chance(0.5):
            fitting = fitting[-3:]
        return self.pick(fitting)

    def like(self, x: Known, shape: tuple[Any, ...] | None = None) -> Known:
        """A value of the type of `x` that can be broadcast with it: one of the graph, or new."""
        shapes = [array.shape for array in x.arrays]
        if shape is None and self.chance(0.7):
            fitting = [v for v in self.known if v.dtype is x.dtype and _broadcasts(v, shapes)]
            if fitting:
                return self.pick(fitting)
        if shape is None:
            sizes = [d[0] if len(set(d)) == 1 and self.chance(0.8) else 1 for d in x.dims]
            shape = tuple(sizes[self.integer(0, len(sizes)) :]) if sizes else ()
        return self.constant(self.numbers(x.dtype, shape))

    # -- calls -----------------------------------------------------------------------------------

    def call(
        self, op_type: str, *inputs: Known | None, n_outputs: int = 1, **attributes: Any
    ) -> list[Known]:
        """Add a call if the reference takes it. Raises `Refused`."""
        names = [value.name if value is not None else "" for value in inputs]
        while names and not names[-1]:
            names.pop()
        if any(value not in self.known for value in inputs if value and value.name[0] != "c"):
            raise Refused
        try:
            schema = registry.get("", op_type).schema(self.opset)
        except SardonyxError as error:
            raise Refused from error
        if schema.deprecated:
            raise Refused
        _fit(schema, inputs)
        known = {key: value for key, value in attributes.items() if key in schema.attributes}
        outputs = tuple(self.name() for _ in range(n_outputs))
        call = Call(op_type, tuple(names), outputs, known)
        found = []
        for turn in range(len(self.sizes)):
            values = {value.name: value.arrays[turn] for value in self.known}
            found.append(self.checked(call, {**values, **self.constants}))
        made = [Known(name, tuple(each)) for name, each in zip(outputs, zip(*found))]
        if any(len({array.ndim for array in value.arrays}) > 1 for value in made):
            raise Refused
        for position, value in enumerate(made):
            param = schema.param_of(schema.outputs, position)
            if param is None or TensorType(value.dtype) not in schema.allowed(param):
                raise Refused
        self.calls.append(call)
        self.known += made
        self.types.update((value.name, value.dtype.numpy) for value in made)
        return made

    def checked(self, call: Call, values: dict[str, Any]) -> list[Any]:
        try:
            outputs = self.runner.apply(call, values)
        except (Unusable, SardonyxError) as error:
            raise Refused from error
        for array in outputs:
            if array.size > MOST_ELEMENTS or array.dtype.kind in "OUSc" or array.ndim > 6:
                raise Refused
        return outputs

    def body(self, inputs: list[Known], write: Callable[[Maker, list[Known]], list[Known]]) -> Body:
        """A graph of what `write` does with new values like `inputs`; it sees this maker's too."""
        inner = object.__new__(Maker)
        inner.__dict__.update(self.__dict__)
        own = [Known(self.name(), value.arrays) for value in inputs]
        self.types.update((value.name, value.dtype.numpy) for value in own)
        inner.known, inner.calls = [*self.known, *own], []
        results = write(inner, own)
        return Body(
            tuple(value.name for value in own),
            tuple(inner.calls),
            tuple(value.name for value in results),
        )

    def grow(self, n_calls: int) -> None:
        from tests.generated.strategies import draw

        for _ in range(30 * n_calls):
            if len(self.calls) >= n_calls:
                break
            before = dict(self.constants)
            mark = len(self.calls), len(self.known)
            try:
                draw(self)
            except Refused:
                self.constants = before
                del self.calls[mark[0] :], self.known[mark[1] :]

    def case(self, outputs: tuple[str, ...]) -> Case:
        constants = dict(self.constants)
        return Case(self.opset, tuple(self.calls), outputs, constants, self.runs, self.types)


def _broadcasts(value: Known, shapes: list[tuple[int, ...]]) -> bool:
    try:
        for array, shape in zip(value.arrays, shapes):
            np.broadcast_shapes(array.shape, shape)
    except ValueError:
        return False
    return True


def _fit(schema: Any, inputs: tuple[Known | None, ...]) -> None:
    bound: dict[str, Any] = {}
    for position, value in enumerate(inputs):
        param = schema.param_of(schema.inputs, position)
        if param is None:
            raise Refused
        if value is None:
            continue
        if TensorType(value.dtype) not in schema.allowed(param):
            raise Refused
        if not isinstance(param.type, str) or not param.homogeneous:
            continue
        if bound.setdefault(param.type, value.dtype) is not value.dtype:
            raise Refused


def allows(op_type: str, opset: int, position: int, dtype: DType) -> bool:
    """Whether the schema allows `dtype` at input `position`; no where there is none yet."""
    operator = registry.get("", op_type)
    if opset < min(operator.schemas()):
        return False
    schema = operator.schema(opset)
    param = schema.param_of(schema.inputs, position)
    return param is not None and TensorType(dtype) in schema.allowed(param)


def make(seed: int, n_calls: int | None = None, *, extreme: bool | None = None) -> Case:
    """The case of `seed`; the same one on each call."""
    maker = Maker(seed, extreme=extreme)
    for _ in range(maker.integer(1, 4)):
        maker.add_input()
    maker.grow(maker.integer(1, 14) if n_calls is None else n_calls)
    made = [name for call in maker.calls for name in call.outputs]
    used = set().union(*(call.reads() for call in maker.calls)) if maker.calls else set()
    outputs = [name for name in made if name not in used or maker.chance(0.15)]
    case = maker.case(tuple(dict.fromkeys(outputs)))
    return case.without_dead()
