"""Every schema version of the operators present, compared with the onnx package's."""

from __future__ import annotations

import onnx.defs
import pytest
from onnx.defs import OpSchema

from sardonyx.dtypes import from_code
from sardonyx.ir import Tensor
from sardonyx.ops import registry
from sardonyx.ops.schema import REQUIRED, Param, Schema

WITNESS = {
    (schema.domain, schema.name, schema.since_version): schema
    for schema in onnx.defs.get_all_schemas_with_history()
}


def ours() -> list[tuple[str, str, int]]:
    return [
        (operator.domain, operator.op_type, version)
        for operator in registry.operators()
        for version in operator.schemas()
    ]


def theirs_of_present() -> list[tuple[str, str, int]]:
    present = set(registry.names())
    return [key for key in WITNESS if key[:2] in present]


def test_no_version_is_missing_or_invented() -> None:
    assert sorted(ours()) == sorted(theirs_of_present())


@pytest.mark.parametrize("domain,name", registry.names(), ids=lambda text: text or "ai.onnx")
def test_schemas_equal_the_standard(domain: str, name: str) -> None:
    for version, schema in registry.get(domain, name).schemas().items():
        witness = WITNESS[domain, name, version]
        where = f"{name}-{version}"
        assert describe(schema) == describe_witness(witness), where


@pytest.mark.parametrize("domain,name", registry.names(), ids=lambda text: text or "ai.onnx")
def test_versions_with_a_function_body_equal_the_standard(domain: str, name: str) -> None:
    operator = registry.get(domain, name)
    for version in operator.schemas():
        witness = WITNESS[domain, name, version]
        expected = witness.has_function or witness.has_context_dependent_function
        assert operator.has_body(version) == expected, f"{name}-{version}"


def describe(schema: Schema) -> dict[str, object]:
    return {
        "inputs": [_param(schema, n, p) for n, p in schema.inputs.items()],
        "outputs": [_param(schema, n, p) for n, p in schema.outputs.items()],
        "counts": (schema.min_inputs, schema.max_inputs, schema.min_outputs, schema.max_outputs),
        "attributes": {
            name: (
                spec.type.name,
                "required" if spec.default is REQUIRED else _default(spec.default),
            )
            for name, spec in sorted(schema.attributes.items())
        },
        "deprecated": schema.deprecated,
    }


def describe_witness(schema: OpSchema) -> dict[str, object]:
    most = 2**31 - 1
    return {
        "inputs": [_witness_param(p) for p in schema.inputs],
        "outputs": [_witness_param(p) for p in schema.outputs],
        "counts": (
            schema.min_input,
            None if schema.max_input == most else schema.max_input,
            schema.min_output,
            None if schema.max_output == most else schema.max_output,
        ),
        "attributes": {
            name: (
                attribute.type.name,
                "required" if attribute.required else _witness_default(attribute),
            )
            for name, attribute in sorted(schema.attributes.items())
        },
        "deprecated": schema.deprecated,
    }


def _param(schema: Schema, name: str, param: Param) -> tuple[object, ...]:
    kind = "Variadic" if param.variadic else "Optional" if param.optional else "Single"
    homogeneous = param.homogeneous if param.variadic else True
    return (
        name,
        kind,
        homogeneous,
        param.min_arity if param.variadic else None,
        _spell(schema.allowed(param)),
    )


def _spell(allowed: object) -> tuple[str, ...]:
    return tuple(sorted(str(entry).replace(" ", "") for entry in allowed))  # type: ignore[attr-defined]


def _witness_param(param: OpSchema.FormalParameter) -> tuple[object, ...]:
    kind = param.option.name
    return (
        param.name,
        kind,
        param.is_homogeneous if kind == "Variadic" else True,
        param.min_arity if kind == "Variadic" else None,
        tuple(sorted(text.replace(" ", "") for text in param.types)),
    )


def _default(value: object) -> object:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Tensor):
        return (value.dtype, value.shape)
    return list(value) if isinstance(value, tuple) else value


def _witness_default(attribute: OpSchema.Attribute) -> object:
    proto = attribute.default_value
    if not proto.name:
        return None
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, onnx.TensorProto):
        return (from_code(value.data_type), tuple(value.dims))
    if isinstance(value, (list, tuple)):
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    return value
