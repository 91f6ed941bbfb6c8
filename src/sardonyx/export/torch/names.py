"""Names of nested inputs and outputs, and the torch targets by name."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch.utils import _pytree as pytree

from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

__all__ = [
    "by_target",
    "child_names",
    "joined",
    "key_text",
    "leaf_paths",
    "output_names",
    "plain_spec",
    "register_caches",
    "target_of",
]

_CACHES: Final = {"key_cache": "key", "value_cache": "value"}


def key_text(key: Any) -> str:
    """One step of a pytree path: a mapping's key, a position, or a field."""
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def joined(path: Sequence[str]) -> str:
    """A path as a name: ``past_key_values_0_key``; the empty path is empty."""
    parts = list(path)
    for place, part in enumerate(parts[:-1]):
        if part in _CACHES and parts[place + 1].isdigit():
            parts[place : place + 2] = [parts[place + 1], _CACHES[part]]
    return re.sub(r"\W+", "_", "_".join(parts)).strip("_")


def leaf_paths(spec: Any) -> list[list[str]]:
    """The path of each leaf of a torch `TreeSpec`, in order."""
    if spec.is_leaf():
        return [[]]
    children = _children(spec)
    names = child_names(spec.type, spec.context, len(children))
    return [
        [name, *path]
        for name, child in zip(names, children, strict=True)
        for path in leaf_paths(child)
    ]


def output_names(spec: Any, taken: Container[str]) -> list[str | None]:
    """What the leaves of an output structure are called; None where only a position tells.

    Names are keys and fields. One that is `taken` by an input gets ``present`` for the
    ``past_key_values`` of a cache, or ``_out`` at its end.
    """
    names: list[str | None] = []
    for path in leaf_paths(spec):
        if all(part.isdigit() for part in path):
            names.append(None)
            continue
        if path[0].isdigit():
            path = ["output" if path[0] == "0" else f"output_{path[0]}", *path[1:]]
        name = joined(path)
        if name in taken:
            past = "past_key_values_"
            name = f"present_{name[len(past) :]}" if name.startswith(past) else f"{name}_out"
        names.append(name)
    return names


def _children(spec: Any) -> list[Any]:
    children = spec.children
    return list(children() if callable(children) else children)


def child_names(kind: Any, context: Any, count: int) -> list[str]:
    """What the children of a pytree container are called: keys, fields, or positions.

    `context` is what flattening it kept: the keys of a mapping, of a dataclass or of a class that
    was registered, alone or before other things.
    """
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return [str(name) for name in kind._fields]
    fields = getattr(context, "_fields", None)
    if fields is not None and len(fields) == count:
        return [str(name) for name in fields]
    for keys in (context, context[0] if isinstance(context, (list, tuple)) and context else None):
        if not isinstance(keys, (list, tuple)) or len(keys) != count:
            continue
        if all(isinstance(key, (str, int)) for key in keys):
            return [str(key) for key in keys]
    return [str(place) for place in range(count)]


def plain_spec(spec: Any) -> Any:
    """`spec` with lists for the containers that torch was taught of."""
    if spec.is_leaf():
        return spec
    parts = [plain_spec(child) for child in _children(spec)]
    builtin = {dict, list, tuple}
    kind, context = (spec.type, spec.context) if spec.type in builtin else (list, None)
    return pytree.TreeSpec(kind, context, parts)


def register_caches() -> None:
    """Let torch flatten the caches of transformers, where that package is in use."""
    import sys

    if "transformers.cache_utils" not in sys.modules:
        return
    caches = sys.modules["transformers.cache_utils"]
    with suppress(ImportError):
        from transformers.integrations.executorch import register_dynamic_cache_export_support

        register: Any = register_dynamic_cache_export_support
        register()
    both = getattr(caches, "EncoderDecoderCache", None)
    if both is not None and both not in pytree.SUPPORTED_NODES:
        names = ("self_attention_cache", "cross_attention_cache")
        pytree.register_pytree_node(
            both,
            lambda cache: ([getattr(cache, name) for name in names], list(names)),
            lambda parts, _: both(*parts),
            flatten_with_keys_fn=lambda cache: (
                [(pytree.MappingKey(name), getattr(cache, name)) for name in names],
                list(names),
            ),
            serialized_type_name=f"{both.__module__}.{both.__name__}",
        )


def target_of(key: Any) -> list[str]:
    """The targets that a key of ``custom_translations`` means.

    A key is a name (``aten.relu.default``), an operator of torch with or without its overload, or
    what ``torch.library.custom_op`` returns.
    """
    if isinstance(key, str):
        return [key.replace("::", ".") if "::" in key else key]
    if isinstance(key, OpOverload):
        return [str(key)]
    if isinstance(key, OpOverloadPacket):
        return [str(getattr(key, name)) for name in key.overloads()]
    overload = getattr(key, "_opoverload", None)
    if isinstance(overload, OpOverload):
        return [str(overload)]
    if isinstance(key, HigherOrderOperator):
        return [key.name() if callable(getattr(key, "name", None)) else str(key)]
    raise ExportError(
        f"custom_translations has the key {key!r}",
        hint='give a name such as "mylib.foo.default", or the operator torch.ops.mylib.foo',
    )


def by_target(translations: Mapping[Any, Any]) -> dict[str, Any]:
    """`translations` with names of targets for keys."""
    return {target: made for key, made in translations.items() for target in target_of(key)}
