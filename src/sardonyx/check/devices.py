"""The rules of multi-device configurations (onnx.proto, IR 11)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sardonyx.check.report import Place
from sardonyx.errors import SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.check.context import Context
    from sardonyx.ir.devices import (
        DeviceConfiguration,
        NodeDeviceConfiguration,
        ShardedDim,
        ShardingSpec,
    )
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Shape

    Add = Callable[[str], None]

__all__ = ["check_configurations", "check_node_devices"]

_KIND = "device-configuration"


def check_configurations(context: Context) -> None:
    """Report what is wrong with the model's configurations, and remember them for its nodes."""
    report = context.report
    configurations = context.model.configurations
    if configurations:
        context.feature(11, "device configurations")
    counts = Counter(configuration.name for configuration in configurations)
    for name, count in counts.items():
        if count > 1:
            report.error(_KIND, f"{count} device configurations are called {quote(name)}")
    for configuration in configurations:
        context.configurations.setdefault(configuration.name, configuration)
        place = Place(lines=(f"configuration {quote(configuration.name)}",))
        if not configuration.name:
            report.error(_KIND, "a device configuration without a name", place)
        if configuration.num_devices < 1:
            report.error(_KIND, f"num_devices is {configuration.num_devices}", place)
        named = len(configuration.devices)
        if named and named != configuration.num_devices:
            message = f"{named} devices are named, num_devices is {configuration.num_devices}"
            report.error(_KIND, message, place)


def check_node_devices(node: Node, context: Context) -> None:
    """Report what is wrong with the device configurations of `node`."""

    def add(message: str) -> None:
        context.report.error(_KIND, message, context.at(node))

    seen: set[str] = set()
    for device in node.devices:
        identity = device.configuration_id
        if identity in seen:
            add(f"the node has configuration {quote(identity)} twice")
        seen.add(identity)
        configuration = context.configurations.get(identity)
        if configuration is None:
            known = ", ".join(map(quote, context.configurations)) or "none"
            add(f"the model has no configuration {quote(identity)}, it has {known}")
        if device.pipeline_stage is not None and device.pipeline_stage < 0:
            add(f"pipeline_stage is {device.pipeline_stage}, it must not be negative")
        _check_specs(node, device, configuration, context, add)


def _check_specs(
    node: Node,
    device: NodeDeviceConfiguration,
    configuration: DeviceConfiguration | None,
    context: Context,
    add: Add,
) -> None:
    values = {value.name: value for value in (*node.inputs, *node.outputs) if value is not None}
    seen: set[str] = set()
    for spec in device.sharding_specs:
        name = spec.tensor_name
        if name in seen:
            add(f"{quote(name)} has two sharding specs in one configuration")
        seen.add(name)
        value = values.get(name)
        shape = None
        if value is None or not name:
            add(f"a sharding spec is for {quote(name)}, which is no input or output of the node")
        else:
            try:
                shape = value.shape
            except SardonyxError:
                shape = None
        if configuration is not None:
            _check_devices(spec, configuration, add)
        _check_axes(spec, shape, add)


def _check_devices(spec: ShardingSpec, configuration: DeviceConfiguration, add: Add) -> None:
    name, count = quote(spec.tensor_name), configuration.num_devices
    keys = [key for key, _ in spec.device_groups]
    for key, times in Counter(keys).items():
        if times > 1:
            add(f"index_to_device_group_map of {name} has key {key} twice")
    for key, group in spec.device_groups:
        if key not in spec.devices:
            add(f"index_to_device_group_map of {name} has key {key}, which is not in device")
        if not group:
            add(f"device group {key} of {name} is empty")
        for number in group:
            if not 0 <= number < count:
                add(f"device group {key} of {name} has device {number}, there are {count}")
    groups = set(keys)
    for number in spec.devices:
        if number not in groups and not 0 <= number < count:
            add(f"{name} is on device {number}, there are {count}")


def _check_axes(spec: ShardingSpec, shape: Shape | None, add: Add) -> None:
    name = quote(spec.tensor_name)
    seen: set[int] = set()
    for sharded in spec.sharded_dims:
        axis = sharded.axis
        if shape is not None:
            rank = len(shape)
            if not -rank <= axis < rank:
                add(f"axis {axis} of {name} is sharded, its rank is {rank}")
                continue
            axis %= rank
        if axis in seen:
            add(f"axis {axis} of {name} is sharded twice")
        seen.add(axis)
        _check_shards(sharded, axis, shape, name, add)


def _check_shards(sharded: ShardedDim, axis: int, shape: Shape | None, name: str, add: Add) -> None:
    size: int | None = 1
    for simple in sharded.simple_sharding:
        if simple.num_shards < 1:
            add(f"axis {axis} of {name} is split into {simple.num_shards} shards")
        if isinstance(simple.dim, int) and size is not None:
            size *= simple.dim
        else:
            size = None
    actual = shape[axis] if shape is not None else None
    if sharded.simple_sharding and isinstance(actual, int) and size not in {None, actual}:
        add(f"axis {axis} of {name} has {actual} elements, its sharding says {size}")
