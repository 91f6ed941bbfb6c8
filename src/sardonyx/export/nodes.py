"""Translations that write one node of a custom domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["custom_node"]


def custom_node(
    domain: str, op_type: str, attributes: Sequence[str] = (), **constants: Any
) -> Callable[..., Any]:
    """A translation that writes one node `op_type` of `domain`.

    Tensors of the call become inputs, in order. Its other positional arguments become the
    attributes that `attributes` names, keyword arguments those of their own names; None leaves one
    out. `constants` are attributes that are always the same. As many outputs as the framework's
    operator has.
    """

    def translate(op: Any, *args: Any, **kwargs: Any) -> Any:
        inputs: list[Any] = []
        plain: list[Any] = []
        for arg in args:
            if isinstance(arg, Value):
                inputs.append(arg)
            elif isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], Value):
                inputs.extend(arg)
            else:
                plain.append(arg)
        named = dict(zip(attributes, plain, strict=False))
        if len(plain) > len(attributes):
            raise ValueError(
                f"{op_type} has {len(plain)} arguments that are no tensors: name them with "
                "custom_node(domain, op_type, attributes=[...])"
            )
        for key, value in kwargs.items():
            if isinstance(value, Value):
                inputs.append(value)
            else:
                named[key] = value
        count = max(1, len(op.result_shapes))
        return op.apply(op_type, inputs, _domain=domain, _outputs=count, **{**named, **constants})

    return translate
