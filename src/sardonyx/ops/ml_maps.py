"""Maps and labels (ai.onnx.ml): a map is a dict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT16, INT32, INT64, STRING, DType
from sardonyx.errors import ExecutionError, InferenceError, ModelError, quote
from sardonyx.ir.tensor import Tensor  # noqa: TC001 - annotations are read at run time
from sardonyx.ir.types import MapType, SequenceType, TensorType, shape_text
from sardonyx.ops.fact import Fact
from sardonyx.ops.forest import choice
from sardonyx.ops.numeric import to_integer
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike


def map_of(key: DType, value: DType) -> MapType:
    """The type of maps from `key` to a single `value`."""
    return MapType(key, TensorType(value))


def _filled(items: Sequence[Any], dtype: DType) -> Array:
    result = np.empty(len(items), dtype.numpy)
    result[:] = items
    return result


_CASTS = {"TO_FLOAT": FLOAT, "TO_STRING": STRING, "TO_INT64": INT64}


class CastMap(Operator, since=1, domain="ai.onnx.ml"):
    """The values of a map in ascending order of their keys, [1, n], as type `cast_to`.

    With `map_form` SPARSE a value's key is its place in [1, max_map], 0 or "" stand elsewhere.
    Floats become text with 6 decimals; what INT64 cannot hold saturates, NaN gives 0.
    """

    X, Y = Input("T1"), Output("T2")
    T1, T2 = (map_of(INT64, STRING), map_of(INT64, FLOAT)), (STRING, FLOAT, INT64)
    cast_to: str = "TO_FLOAT"
    map_form: str = "DENSE"
    max_map: int = 1

    def _parsed(self) -> tuple[DType, bool]:
        cast = choice(self.op_type, "cast_to", self.cast_to, tuple(_CASTS))
        form = choice(self.op_type, "map_form", self.map_form, ("DENSE", "SPARSE"))
        if form == "SPARSE" and self.max_map < 0:
            raise ModelError(f"CastMap: max_map is {self.max_map}, a size is 0 or more")
        return _CASTS[cast], form == "SPARSE"

    def infer(self, X: Fact) -> Fact:
        dtype, is_sparse = self._parsed()
        return Fact.tensor(dtype, (1, self.max_map if is_sparse else None))

    def reference(self, X: Mapping[int, Any]) -> Array:
        dtype, is_sparse = self._parsed()
        keys = sorted(X)
        values = _filled([_cast(X[key], dtype) for key in keys], dtype)
        if not is_sparse:
            return values.reshape(1, -1)
        if keys and not 0 <= keys[0] <= keys[-1] < self.max_map:
            raise ExecutionError(
                f"CastMap: keys from {keys[0]} to {keys[-1]}, max_map is {self.max_map}"
            )
        check_size(self.op_type, (1, self.max_map), 8)
        result = np.full((1, self.max_map), "" if dtype is STRING else 0, dtype.numpy)
        result[0, np.array(keys, np.int64)] = values
        return result


def _cast(value: Any, dtype: DType) -> Any:
    if dtype is STRING:
        return value if isinstance(value, str) else f"{float(np.float32(value)):f}"
    try:
        number = float(value)
    except ValueError:
        raise ExecutionError(f"CastMap: {quote(value)} is not a number") from None
    if dtype is FLOAT:
        with np.errstate(over="ignore"):
            return np.float32(number)
    if isinstance(value, str) and abs(number) >= 2**53 and math.isfinite(number):
        digits = value.strip()
        if digits.lstrip("+-").isdecimal() and len(digits) < 20:
            number = int(digits)
            return min(max(number, -(2**63)), 2**63 - 1)
    return to_integer(np.array([number]), np.dtype(np.int64))[0]


class CategoryMapper(Operator, since=1, domain="ai.onnx.ml"):
    """Strings to integers, or integers to strings, by two lists of the same length."""

    X, Y = Input("T1"), Output("T2")
    T1 = T2 = (STRING, INT64)
    cats_int64s: tuple[int, ...] | None = None
    cats_strings: tuple[str, ...] | None = None
    default_int64: int = -1
    default_string: str = "_Unused"

    def infer(self, X: Fact) -> Fact:
        return Fact.tensor(_other(X.dtype), X.shape)

    def reference(self, X: Array) -> Array:
        integers, strings = self.cats_int64s or (), self.cats_strings or ()
        if len(integers) != len(strings):
            raise ModelError(
                f"CategoryMapper: {len(integers)} cats_int64s for {len(strings)} cats_strings"
            )
        if X.dtype == object:
            return _mapped(X, dict(zip(strings, integers, strict=True)), self.default_int64, INT64)
        return _mapped(X, dict(zip(integers, strings, strict=True)), self.default_string, STRING)


def _other(dtype: DType | None) -> DType | None:
    return INT64 if dtype is STRING else STRING if dtype is INT64 else None


def _mapped(X: Array, table: Mapping[Any, Any], default: Any, dtype: DType) -> Array:
    """`table` of each element, or `default`; NaN finds the key NaN."""
    if X.dtype.kind == "f":
        other = table.get("NaN", default)
        flat = X.reshape(-1).tolist()
        items = [other if math.isnan(item) else table.get(item, default) for item in flat]
    else:
        items = [table.get(item, default) for item in X.reshape(-1).tolist()]
    return _filled(items, dtype).reshape(X.shape)


class DictVectorizer(Operator, since=1, domain="ai.onnx.ml"):
    """The values of a map at the places of their keys in the vocabulary, [1, n]; 0 or "" else.

    Keys that the vocabulary does not have are passed over.
    """

    X, Y = Input("T1"), Output("T2")
    T1 = (
        map_of(STRING, INT64),
        map_of(INT64, STRING),
        map_of(INT64, FLOAT),
        map_of(INT64, DOUBLE),
        map_of(STRING, FLOAT),
        map_of(STRING, DOUBLE),
    )
    T2 = (INT64, FLOAT, DOUBLE, STRING)
    int64_vocabulary: tuple[int, ...] | None = None
    string_vocabulary: tuple[str, ...] | None = None

    @property
    def _vocabulary(self) -> Sequence[int] | Sequence[str]:
        if bool(self.int64_vocabulary) == bool(self.string_vocabulary):
            raise ModelError("DictVectorizer requires one of int64_vocabulary, string_vocabulary")
        return self.int64_vocabulary or self.string_vocabulary or ()

    def infer(self, X: Fact) -> Fact:
        dtype = None
        if isinstance(X.type, MapType) and isinstance(X.type.value, TensorType):
            dtype = X.type.value.dtype
        return Fact.tensor(dtype, (1, len(self._vocabulary)))

    def reference(self, X: Mapping[Any, Any]) -> Array:
        dtype = _value_dtype(X)
        absent = "" if dtype is STRING else 0
        items = [X.get(key, absent) for key in self._vocabulary]
        return _filled(items, dtype).reshape(1, -1)


def _value_dtype(values: Mapping[Any, Any]) -> DType:
    """The element type of a map's values; FLOAT for Python's float and for an empty map."""
    first = next(iter(values.values()), 0.0)
    if isinstance(first, np.float64):
        return DOUBLE
    if isinstance(first, (int, np.integer)):
        return INT64
    return STRING if isinstance(first, str) else FLOAT


class LabelEncoder(Operator, since=4, domain="ai.onnx.ml"):
    """The value of each element's key; a default for an element that is no key.

    The last of equal keys counts. In version 1 the class names and their places map to each
    other.
    """

    X, Y = Input("T1"), Output("T2")
    T1 = T2 = (STRING, INT64, FLOAT, INT32, INT16, DOUBLE)
    default_float: float = attribute(-0.0, since=2)
    default_int64: int = -1
    default_string: str = "_Unused"
    default_tensor: Tensor | None = attribute(None, since=4)
    keys_floats: tuple[float, ...] | None = attribute(None, since=2)
    keys_int64s: tuple[int, ...] | None = attribute(None, since=2)
    keys_strings: tuple[str, ...] | None = attribute(None, since=2)
    keys_tensor: Tensor | None = attribute(None, since=4)
    values_floats: tuple[float, ...] | None = attribute(None, since=2)
    values_int64s: tuple[int, ...] | None = attribute(None, since=2)
    values_strings: tuple[str, ...] | None = attribute(None, since=2)
    values_tensor: Tensor | None = attribute(None, since=4)
    classes_strings: tuple[str, ...] | None = attribute(None, before=2)
    history = (
        past(2, T1=(STRING, INT64, FLOAT), T2=(STRING, INT64, FLOAT)),
        past(1, T1=(STRING, INT64), T2=(STRING, INT64)),
    )

    def _list(self, name: str) -> tuple[DType, Array]:
        """Element type and elements of the one attribute of `name` that is given."""
        tensor: Tensor | None = getattr(self, f"{name}_tensor")
        lists = ((FLOAT, "floats"), (INT64, "int64s"), (STRING, "strings"))
        given = [
            (dtype, _filled(values, dtype))
            for dtype, suffix in lists
            if (values := getattr(self, f"{name}_{suffix}"))
        ]
        if tensor is not None:
            given.append((tensor.dtype, tensor.numpy().reshape(-1)))
        if len(given) != 1:
            raise ModelError(f"LabelEncoder requires one {name}_* attribute, got {len(given)}")
        return given[0]

    def infer(self, X: Fact) -> Fact:
        if self.version == 1:
            return Fact.tensor(_other(X.dtype), X.shape)
        keys = self._list("keys")[0]
        if X.dtype is not None and X.dtype is not keys:
            raise InferenceError(f"LabelEncoder of {X.dtype.text} has keys of {keys.text}")
        return Fact.tensor(self._list("values")[0], X.shape)

    def reference(self, X: Array) -> Array:
        if self.version == 1:
            places = enumerate(self.classes_strings or ())
            if X.dtype == object:
                table = {name: place for place, name in places}
                return _mapped(X, table, self.default_int64, INT64)
            return _mapped(X, dict(places), self.default_string, STRING)
        (key_dtype, keys), (dtype, values) = self._list("keys"), self._list("values")
        if len(keys) != len(values):
            raise ModelError(f"LabelEncoder: {len(keys)} keys for {len(values)} values")
        if X.dtype != key_dtype.numpy:
            raise ExecutionError(f"LabelEncoder of {X.dtype} has keys of {key_dtype.text}")
        if keys.dtype.kind == "f":
            names = ["NaN" if math.isnan(key) else key for key in keys.tolist()]
        else:
            names = keys.tolist()
        table = dict(zip(names, values.tolist(), strict=True))
        return _mapped(X, table, self._default(dtype), dtype)

    def _default(self, dtype: DType) -> Any:
        if self.default_tensor is not None and self.default_tensor.size:
            if self.default_tensor.dtype is not dtype:
                raise ModelError(
                    f"LabelEncoder: default_tensor is {self.default_tensor.dtype.text}, the "
                    f"values are {dtype.text}"
                )
            return self.default_tensor.numpy().reshape(-1)[0]
        given = {FLOAT: self.default_float, INT64: self.default_int64, STRING: self.default_string}
        return given.get(dtype, -0.0 if dtype.is_floating else -1)


_LABELS = (SequenceType(map_of(STRING, FLOAT)), SequenceType(map_of(INT64, FLOAT)))


class ZipMap(Operator, since=1, domain="ai.onnx.ml"):
    """A map from the class labels to each row of X [N, C]; [C] is one row."""

    X, Z = Input((FLOAT,)), Output("T")
    T = _LABELS
    classlabels_int64s: tuple[int, ...] | None = None
    classlabels_strings: tuple[str, ...] | None = None

    @property
    def _labels(self) -> Sequence[int] | Sequence[str]:
        if bool(self.classlabels_int64s) == bool(self.classlabels_strings):
            raise ModelError("ZipMap requires one of classlabels_int64s and classlabels_strings")
        return self.classlabels_int64s or self.classlabels_strings or ()

    def infer(self, X: Fact) -> Fact:
        labels = self._labels
        columns: DimLike = X.shape[-1] if X.shape else None
        if X.rank not in {None, 1, 2} or (isinstance(columns, int) and columns != len(labels)):
            raise InferenceError(
                f"ZipMap requires [N, {len(labels)}] for its labels, got {shape_text(X.shape)}"
            )
        return Fact(_LABELS[0] if self.classlabels_strings else _LABELS[1])

    def reference(self, X: Array) -> list[dict[Any, float]]:
        labels = self._labels
        if X.ndim not in {1, 2} or X.shape[-1] != len(labels):
            raise ExecutionError(
                f"ZipMap requires [N, {len(labels)}] for its labels, got {list(X.shape)}"
            )
        return [dict(zip(labels, row, strict=True)) for row in np.atleast_2d(X).tolist()]
