"""Operator-set versions: whether nodes mean the same under another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compose.copying import copy
from sardonyx.compose.results import checked
from sardonyx.errors import InputError, ModelError, SardonyxError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node

__all__ = ["adopt", "import_version", "set_opset", "version_of"]


def version_of(imports: Mapping[str, int], domain: str) -> int | None:
    """The version of `domain` in `imports`, whichever way the default domain is written."""
    wanted = canonical_domain(domain)
    found = (v for imported, v in imports.items() if canonical_domain(imported) == wanted)
    return next(found, None)


def import_version(imports: MutableMapping[str, int], domain: str, version: int) -> None:
    """Import `version` of `domain`, in place of the version imported so far."""
    wanted = canonical_domain(domain)
    for imported in imports:
        if canonical_domain(imported) == wanted:
            imports[imported] = version
            return
    imports[domain] = version


def _changes(node: Node, old: int, new: int) -> bool:
    """Whether `node` may mean something else under version `new` of its domain than under `old`."""
    try:
        operator = registry.get(node.domain, node.op_type)
        return operator.schema(old).since_version != operator.schema(new).since_version
    except SardonyxError:
        return True


def changed_nodes(nodes: Iterable[Node], domain: str, old: int, new: int) -> list[Node]:
    """Those of `nodes` that are of `domain` and may change from version `old` to `new`."""
    wanted = canonical_domain(domain)
    return [
        node
        for node in nodes
        if canonical_domain(node.domain) == wanted and _changes(node, old, new)
    ]


def adopt(
    imports: MutableMapping[str, int],
    nodes: Iterable[Node],
    own: Mapping[str, int],
    place: str,
) -> None:
    """Extend `imports` so that `nodes`, written under the imports `own`, mean the same there.

    Raises `ModelError` for a node that does not, where the versions differ.
    """
    by_domain: dict[str, list[Node]] = {}
    for node in nodes:
        by_domain.setdefault(canonical_domain(node.domain), []).append(node)
    for domain, members in by_domain.items():
        version, present = version_of(own, domain), version_of(imports, domain)
        if version is None or version == present:
            continue
        if present is None:
            import_version(imports, domain, version)
            continue
        changed = changed_nodes(members, domain, version, present)
        if changed:
            raise conflict(domain, present, version, changed[0], place)


def conflict(domain: str, present: int, version: int, node: Node, place: str) -> ModelError:
    """The error for two versions of `domain` that `node` tells apart."""
    shown = quote(canonical_domain(domain) or "ai.onnx")
    error = ModelError(
        f"version {present} of domain {shown} is imported, and {node.op_type} of version "
        f"{version} may mean something else there",
        place=node.label,
        hint=f"bring both to one version of {shown} first",
    )
    error.at(place)
    return error


def set_opset(model: Model, version: int, domain: str = "") -> Model:
    """A copy of `model` that imports `version` of `domain`, each node meaning what it did.

    This rewrites no node: it is for versions between which none of the model's operators
    changed. Functions keep the imports of their own. Raises `ModelError` naming the first node
    whose operator changed, `InputError` for a version that does not exist.
    """
    newest = registry.NEWEST_OPSET.get(canonical_domain(domain))
    if version < 1 or (newest is not None and version > newest):
        raise InputError(
            f"version {version} of domain {quote(domain or 'ai.onnx')} does not exist",
            hint=f"versions are 1 to {newest}" if newest else "versions begin at 1",
        )
    result = copy(model)
    present = version_of(result.opset_imports, domain)
    if present is not None and present != version:
        graphs = [graph for graph in result.graphs() if graph not in _bodies(result)]
        nodes = [
            node
            for graph in graphs
            for node in graph.all_nodes()
            if result.function_of(node) is None
        ]
        for function in result.functions.values():
            if version_of(function.opset_imports, domain) is None:
                nodes.extend(function.graph.all_nodes())
        changed = changed_nodes(nodes, domain, present, version)
        if changed:
            node = changed[0]
            raise ModelError(
                f"{node.op_type} is not the same in versions {present} and {version} of domain "
                f"{quote(domain or 'ai.onnx')}",
                place=node.label,
                hint=f"{len(changed)} of the model's nodes would change",
            )
    import_version(result.opset_imports, domain, version)
    return checked(result, model)


def _bodies(model: Model) -> set[object]:
    return {function.graph for function in model.functions.values()}
