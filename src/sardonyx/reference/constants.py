"""The arrays of a model's constants, read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sardonyx.errors import ExecutionError, quote
from sardonyx.ir.tensor import SparseTensor
from sardonyx.limits import enforced
from sardonyx.ops.symbolic import check_size
from sardonyx.reference.sharing import SHARED_FROM, find, share

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits

__all__ = ["Constants"]


class Constants(Mapping["Value", Any]):
    """Read-only arrays by initializer, in memory that sessions share. For several threads.

    One that was released is read again where it is needed after all, from a file that must not
    have changed since.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tensors: dict[Value, Tensor | SparseTensor] = {}
        self._arrays: dict[Value, Any] = {}
        self._states: dict[Value, Hashable] = {}
        self._identities: dict[Value, Hashable] = {}
        self._released: set[Value] = set()

    def add(self, value: Value) -> None:
        """Take in an initializer."""
        if value.const is not None:
            self._tensors[value] = value.const

    def __getitem__(self, value: Value) -> Any:
        found = self._arrays.get(value)
        if found is None:
            found = self._arrays[value] = self._read(value, self._tensors[value])
        return found

    def __contains__(self, value: object) -> bool:
        return value in self._tensors

    def __iter__(self) -> Iterator[Value]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def identity(self, value: Value) -> Hashable:
        """What no other content has than that of `value`, without reading it; None if unknown."""
        tensor = self._tensors[value]
        if isinstance(tensor, SparseTensor) or tensor.nbytes < SHARED_FROM:
            return None
        if value not in self._identities:
            self._states.setdefault(value, tensor.state())
            found = tensor.identity()
            known = None if found is None else (tensor.dtype.text, tensor.shape, found)
            self._identities[value] = known
        return self._identities[value]

    def release(self, value: Value) -> None:
        """Give up the array of `value`, if it can be read again."""
        if self._states.get(value) is not None:
            self._released.add(value)
            self._arrays.pop(value, None)

    def is_released(self, value: Value) -> bool:
        """Whether the array of `value` was given up."""
        return value in self._released

    def read(self) -> None:
        """Read all that were not yet, but those that were released."""
        for value in self._tensors:
            if value not in self._released:
                self[value]

    def _read(self, value: Value, tensor: Tensor | SparseTensor) -> Any:
        with enforced(self._limits):
            if isinstance(tensor, SparseTensor):
                check_size("sparse initializer", tensor.shape, tensor.values.dtype.itemsize)
                return share(tensor.to_dense())
            state = tensor.state()
            if self._states.setdefault(value, state) != state:
                raise ExecutionError(
                    f"the file with the data of {quote(value.name)} was changed",
                    hint="this run needs data that only the file has; make the session again",
                )
            key = self.identity(value)
            found = None if key is None else find(key)
            if found is not None:
                return found
            array = tensor.read()
            if key is not None and tensor.identity() != key[2]:  # type: ignore[index]
                key = self._identities[value] = None
            return share(array, key)
