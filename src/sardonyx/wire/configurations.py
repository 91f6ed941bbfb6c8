"""Device configurations to and from their messages (IR 11)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from sardonyx.ir.devices import (
    DeviceConfiguration,
    NodeDeviceConfiguration,
    ShardedDim,
    ShardingSpec,
    SimpleShardedDim,
)
from sardonyx.wire.fields import collect, numbers, texts, triples, unknown_bytes
from sardonyx.wire.schema import message
from sardonyx.wire.typeproto import encode_dim, read_dim
from sardonyx.wire.writing import bytes_field, int_field, text_field

if TYPE_CHECKING:
    from sardonyx.wire.fields import Reader, Spans

__all__ = [
    "encode_configuration",
    "encode_node_configuration",
    "read_configuration",
    "read_node_configuration",
]


class _Key(int):
    """A device group's number from an entry with unknown fields, which it keeps."""

    unknown: bytes


def read_configuration(reader: Reader, start: int, end: int) -> DeviceConfiguration:
    """The DeviceConfigurationProto from `start` to `end`."""
    found = collect(reader, start, end, message("DeviceConfigurationProto"))
    count = found.get("num_devices")
    return DeviceConfiguration(
        _name(reader, found, "name"),
        reader.int32(count[-2], count[-1]) if count else 0,
        tuple(texts(reader, found.get("device", array("q")))),
        unknown_bytes(reader, found),
    )


def read_node_configuration(reader: Reader, start: int, end: int) -> NodeDeviceConfiguration:
    """The NodeDeviceConfigurationProto from `start` to `end`."""
    found = collect(reader, start, end, message("NodeDeviceConfigurationProto"))
    stage = found.get("pipeline_stage")
    return NodeDeviceConfiguration(
        _name(reader, found, "configuration_id"),
        tuple([_read_spec(reader, a, b) for a, b in _messages(found, "sharding_spec")]),
        reader.int32(stage[-2], stage[-1]) if stage else None,
        unknown_bytes(reader, found),
    )


def _read_spec(reader: Reader, start: int, end: int) -> ShardingSpec:
    found = collect(reader, start, end, message("ShardingSpecProto"))
    return ShardingSpec(
        _name(reader, found, "tensor_name"),
        tuple(numbers(reader, found.get("device", array("q")), "int64").tolist()),
        tuple([_read_group(reader, *s) for s in _messages(found, "index_to_device_group_map")]),
        tuple([_read_sharded(reader, a, b) for a, b in _messages(found, "sharded_dim")]),
        unknown_bytes(reader, found),
    )


def _read_group(reader: Reader, start: int, end: int) -> tuple[int, tuple[int, ...]]:
    found = collect(reader, start, end, message("IntIntListEntryProto"))
    key = reader.integer(*found["key"][-2:]) if "key" in found else 0
    unknown = unknown_bytes(reader, found)
    if unknown:
        key = _Key(key)
        key.unknown = unknown
    return key, tuple(numbers(reader, found.get("value", array("q")), "int64").tolist())


def _read_sharded(reader: Reader, start: int, end: int) -> ShardedDim:
    found = collect(reader, start, end, message("ShardedDimProto"))
    return ShardedDim(
        reader.integer(*found["axis"][-2:]) if "axis" in found else 0,
        tuple([_read_simple(reader, a, b) for a, b in _messages(found, "simple_sharding")]),
        unknown_bytes(reader, found),
    )


def _read_simple(reader: Reader, start: int, end: int) -> SimpleShardedDim:
    found = collect(reader, start, end, message("SimpleShardedDimProto"))
    return SimpleShardedDim(
        read_dim(reader, found, start),
        reader.integer(*found["num_shards"][-2:]) if "num_shards" in found else 0,
        unknown_bytes(reader, found),
    )


def _messages(found: dict[str, Spans[int]], name: str) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end in triples(found.get(name, array("q")))]


def _name(reader: Reader, found: dict[str, Spans[int]], field: str) -> str:
    return reader.text(*found[field][-2:]) if field in found else ""


def encode_configuration(configuration: DeviceConfiguration) -> bytes:
    """`configuration` as a DeviceConfigurationProto."""
    devices = [bytes_field(3, device.encode()) for device in configuration.devices]
    start = text_field(1, configuration.name) + int_field(2, configuration.num_devices)
    return start + b"".join(devices) + configuration.unknown


def encode_node_configuration(configuration: NodeDeviceConfiguration) -> bytes:
    """`configuration` as a NodeDeviceConfigurationProto."""
    parts = [text_field(1, configuration.configuration_id)]
    parts += [bytes_field(2, _encode_spec(spec)) for spec in configuration.sharding_specs]
    if configuration.pipeline_stage is not None:
        parts.append(int_field(3, configuration.pipeline_stage))
    return b"".join(parts) + configuration.unknown


def _encode_spec(spec: ShardingSpec) -> bytes:
    parts = [text_field(1, spec.tensor_name)]
    parts += [int_field(2, device) for device in spec.devices]
    for key, group in spec.device_groups:
        entry = int_field(1, key) + b"".join([int_field(2, device) for device in group])
        parts.append(bytes_field(3, entry + (key.unknown if isinstance(key, _Key) else b"")))
    for sharded in spec.sharded_dims:
        inner = [int_field(1, sharded.axis)]
        for simple in sharded.simple_sharding:
            shards = encode_dim(simple.dim) + int_field(3, simple.num_shards)
            inner.append(bytes_field(2, shards + simple.unknown))
        parts.append(bytes_field(4, b"".join(inner) + sharded.unknown))
    return b"".join(parts) + spec.unknown
