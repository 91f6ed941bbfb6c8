"""Initializers and constants as the parameters and buffers of a module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.bridge.torch.tensors import as_torch
from sardonyx.errors import SardonyxError
from sardonyx.ir.tensor import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value

__all__ = ["Weights", "literal"]

_LARGEST_KNOWN: Final = 64
_TRAINABLE: Final = {dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16}
_STATISTICS: Final = {
    "BatchNormalization": {3, 4},
    "QuantizeLinear": {1, 2},
    "DequantizeLinear": {1, 2},
    "QLinearConv": {1, 4, 6},
    "QLinearMatMul": {1, 4, 6},
    "Clip": {1, 2},
    "Pad": {2},
    "Resize": {1, 2},
    "Upsample": {1},
    "Dropout": {1},
    "Range": {0, 1, 2},
    "OneHot": {2},
}
"""Inputs of operators that are not learned."""
_MADE_UP: Final = re.compile(
    r"(val|const|constant|scalar_tensor\w*|_tensor_constant|c)_?\d*(_\d+)*"
)
"""Names that exporters give constants that no module holds."""
_CONSTANTS_KEY: Final = "sardonyx.constants"
_BUFFERS_KEY: Final = "sardonyx.buffers"


class Weights:
    """The tensors of the module that is being made, in `root`, under their names.

    `known` holds the contents of small values that no training changes, and no loading of a state
    unless they are integers, which shapes may follow from.
    """

    def __init__(self, model: Model, *, trainable: bool) -> None:
        self.root = torch.nn.Module()
        self.known: dict[Value, Array] = {}
        self.transient: list[str] = []
        self.renamed: dict[str, str] = {}
        self.trainable = trainable
        self._places: dict[Value, str] = {}
        self._read: set[str] = set()
        self._constants: dict[Value | int, str] = {}
        self._names = _listed(model, _CONSTANTS_KEY)
        self._buffers = _listed(model, _BUFFERS_KEY)
        self._inputs = set(model.graph.inputs) if model.ir_version >= 4 else set()
        for graph in _all_graphs(model.graph):
            for value in graph.initializers:
                self._register(value)

    def place(self, value: Value) -> str | None:
        """Where the tensor of an initializer is, which is to be read; None for another value."""
        found = self._places.get(value)
        if found is not None:
            self._read.add(found)
        return found

    def drop_literals(self) -> None:
        """Take out what stands in the code as numbers: no node reads it as a tensor.

        What the exported module held as a buffer stays one.
        """
        for value in self.known:
            place = self._places.get(value)
            if place is not None and place not in self._read and value.name not in self._buffers:
                parent, _, leaf = place.rpartition(".")
                delattr(self.root.get_submodule(parent), leaf)
                if place in self.transient:
                    self.transient.remove(place)

    def constant(self, value: Value | None, array: Array) -> str:
        """Where the constant `array`, the contents of `value`, is: a buffer of no state."""
        key: Value | int = id(array) if value is None else value
        found = self._constants.get(key)
        if found is None:
            wanted = "constant" if value is None or not value.name else value.name
            found = self._put(f"constants.{_identifier(wanted)}", as_torch(array))
            self._constants[key] = found
            self.transient.append(found)
        return found

    def _register(self, value: Value) -> None:
        const = value.const
        assert const is not None
        try:
            array = const.to_dense() if isinstance(const, SparseTensor) else const.read()
            tensor = as_torch(array)
        except SardonyxError as error:
            raise error.at(f"initializer {value.name!r}")  # noqa: B904
        dtype = dtypes.from_numpy(array.dtype)
        is_constant = self._is_constant(value, array)
        is_parameter = dtype in _TRAINABLE and not is_constant and not self._is_statistic(value)
        is_state = value in self._inputs or (value.name in self._buffers and dtype in _TRAINABLE)
        if not is_parameter and not is_state and array.size <= _LARGEST_KNOWN:
            self.known[value] = array
        if is_constant:
            self._places[value] = self._put(f"constants.{_identifier(value.name)}", tensor)
            self.transient.append(self._places[value])
        elif is_parameter:
            parameter = torch.nn.Parameter(tensor, requires_grad=self.trainable)
            self._places[value] = self._put(value.name, parameter)
        else:
            self._places[value] = self._put(value.name, tensor)

    def _is_constant(self, value: Value, array: Array) -> bool:
        if value.name in self._names:
            return True
        dtype = dtypes.from_numpy(array.dtype)
        return value.name.startswith(f"{dtype.text}_") or bool(_MADE_UP.fullmatch(value.name))

    def _is_statistic(self, value: Value) -> bool:
        if value.name in self._buffers:
            return True
        places = [
            (node, index)
            for node in value.users
            for index, each in enumerate(node.inputs)
            if each is value
        ]
        return bool(places) and all(
            index in _STATISTICS.get(node.op_type, ()) for node, index in places
        )

    def _put(self, name: str, tensor: torch.Tensor) -> str:
        """Put `tensor` at the dotted `name`, or one like it that is free."""
        wanted, count = name, 0
        while not self._try(wanted, tensor):
            count += 1
            wanted = f"{name.replace('.', '_') if count > 9 else name}_{count}"
        if wanted != name and not name.startswith("constants."):
            self.renamed[name] = wanted
        return wanted

    def _try(self, name: str, tensor: torch.Tensor) -> bool:
        *path, leaf = name.split(".")
        module = self.root
        if not leaf or not all(path):
            return False
        for part in path:
            if part not in module._modules:  # noqa: SLF001
                if hasattr(module, part):
                    return False
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        if hasattr(module, leaf):
            return False
        if isinstance(tensor, torch.nn.Parameter):
            module.register_parameter(leaf, tensor)
        else:
            module.register_buffer(leaf, tensor)
        return True


def _listed(model: Model, key: str) -> set[str]:
    return set(filter(None, model.metadata.get(key, "").split("\n")))


def _identifier(name: str) -> str:
    text = re.sub(r"\W+", "_", name).strip("_")
    return text if text and not text[0].isdigit() else f"c_{text}"


def _all_graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for inner in node.subgraphs():
            yield from _all_graphs(inner)


def literal(array: Array) -> Any:
    """A constant scalar or vector as a host value."""
    found: Any = np.asarray(array)
    if found.dtype.kind not in "biuf":
        found = found.astype(np.float64)
    return tuple(found.tolist()) if found.ndim else found.item()
