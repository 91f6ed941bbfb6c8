"""The table of element types equals the standard's, and packing equals the onnx package's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sardonyx import dtypes
from sardonyx.errors import UnsupportedError

every_type = pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda dtype: dtype.name)


def test_the_28_types_of_the_standard() -> None:
    theirs = {name: code for name, code in onnx.TensorProto.DataType.items() if name != "UNDEFINED"}
    assert {dtype.name: dtype.code for dtype in dtypes.ALL} == theirs


@every_type
def test_numpy_type_and_field(dtype: dtypes.DType) -> None:
    assert onnx.helper.tensor_dtype_to_np_dtype(dtype.code) == dtype.numpy
    assert onnx.helper.tensor_dtype_to_field(dtype.code) == dtype.field


@every_type
def test_found_by_code_name_and_array(dtype: dtypes.DType) -> None:
    assert dtypes.from_code(dtype.code) is dtype
    assert dtypes.from_name(dtype.name) is dtype
    assert dtypes.from_name(dtype.text) is dtype
    assert dtypes.from_numpy(dtype.numpy) is dtype


@every_type
def test_type_strings_are_the_schemas(dtype: dtypes.DType) -> None:
    known = {
        text
        for schema in onnx.defs.get_all_schemas_with_history()
        for constraint in schema.type_constraints
        for text in constraint.allowed_type_strs
    }
    assert f"tensor({dtype.text})" in known


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 65])
@pytest.mark.parametrize(
    "dtype", [dtype for dtype in dtypes.ALL if dtype.is_packed], ids=lambda dtype: dtype.name
)
def test_packing(dtype: dtypes.DType, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 1 << dtype.bits, count).astype(np.uint8)
    if dtype.kind == "int":
        sign = np.uint8(1 << (dtype.bits - 1))
        codes = (codes ^ sign) - sign
    array = codes.view(dtype.numpy)
    packed = dtypes.pack(array, dtype)
    assert len(packed) == dtype.nbytes(count)
    assert packed == onnx.numpy_helper.from_array(array).raw_data
    again = dtypes.unpack(packed, dtype, count)
    np.testing.assert_array_equal(again.view(np.uint8), codes)


def test_unknown_types_are_typed_errors() -> None:
    for wrong in (lambda: dtypes.from_code(99), lambda: dtypes.from_name("float7")):
        with pytest.raises(UnsupportedError):
            wrong()
    with pytest.raises(UnsupportedError, match="astype"):
        dtypes.from_numpy("datetime64[s]")


def test_big_endian_arrays_are_known() -> None:
    assert dtypes.from_numpy(">f4") is dtypes.FLOAT
