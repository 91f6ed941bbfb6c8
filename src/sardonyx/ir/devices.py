"""Multi-device configurations (IR 11): which device computes which part of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.dims import Dim

__all__ = [
    "DeviceConfiguration",
    "NodeDeviceConfiguration",
    "ShardedDim",
    "ShardingSpec",
    "SimpleShardedDim",
]


@dataclass(frozen=True, slots=True)
class DeviceConfiguration:
    """A named set of devices (DeviceConfigurationProto)."""

    name: str
    num_devices: int
    devices: tuple[str, ...] = ()
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class SimpleShardedDim:
    """One factor of a sharded axis: `dim` elements in `num_shards` equal shards."""

    dim: int | Dim | None
    num_shards: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class ShardedDim:
    """How one `axis` is split (ShardedDimProto)."""

    axis: int
    simple_sharding: tuple[SimpleShardedDim, ...] = ()
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class ShardingSpec:
    """How one tensor is split over devices (ShardingSpecProto).

    `device_groups` is index_to_device_group_map: group number to device numbers.
    """

    tensor_name: str
    devices: tuple[int, ...] = ()
    device_groups: tuple[tuple[int, tuple[int, ...]], ...] = ()
    sharded_dims: tuple[ShardedDim, ...] = ()
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class NodeDeviceConfiguration:
    """How one node runs under the configuration `configuration_id`."""

    configuration_id: str
    sharding_specs: tuple[ShardingSpec, ...] = ()
    pipeline_stage: int | None = None
    unknown: bytes = b""
