"""The driver: applies rules until none applies, in worklist order."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from sardonyx.errors import SardonyxError, UnsupportedError
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.value import Value
from sardonyx.ops import registry
from sardonyx.rewrite.rule import Refused, Rule
from sardonyx.rewrite.scene import Patch, same_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from sardonyx.ir.node import Node
    from sardonyx.rewrite.matcher import Match
    from sardonyx.rewrite.rule import NodeRule
    from sardonyx.rewrite.scene import Scene
    from sardonyx.rewrite.writing import RewriteBuilder

    AnyRule: TypeAlias = Rule | NodeRule

__all__ = ["apply_rules", "explain_rule"]

_FAILURES: Final = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RuntimeError,
)
_LEAST_PATCHES: Final = 1000
_PATCHES_PER_NODE: Final = 8


def apply_rules(scene: Scene, rules: Iterable[AnyRule]) -> int:
    """Apply `rules` wherever they match, until none does; returns how many patches were made.

    Rules for one operator are tried in their order. A rule whose replacement the model's opset
    lacks is passed over, and so is a replacement whose type or shape is not that of what it
    replaces. An error in a rule is raised with the rule's name and the node.
    """
    by_operator = _index(scene, rules)
    queue = deque([node for graph in scene.graphs for node in graph.nodes])
    waiting = set(queue)
    before = len(scene.patches)
    most = before + _LEAST_PATCHES + _PATCHES_PER_NODE * len(queue)
    while queue and not scene.is_done and len(scene.patches) < most:
        node = queue.popleft()
        waiting.discard(node)
        if node.graph is None:
            continue
        for rule in by_operator.get((canonical_domain(node.domain), node.op_type), ()):
            if not rule.may_match(node):
                continue
            changed = _attempt(scene, rule, node)
            if changed is not None:
                for each in changed:
                    if each not in waiting and each.graph is not None:
                        waiting.add(each)
                        queue.append(each)
                break
    return len(scene.patches) - before


def explain_rule(scene: Scene, rule: AnyRule, most: int = 5) -> list[tuple[str, str]]:
    """Nodes where `rule` nearly applies, nearest first, each with the reason why it does not.

    Where it does apply, the reason is empty. Nothing is changed.
    """
    found: list[tuple[int, str, str]] = []
    for graph in scene.graphs:
        for node in graph.nodes:
            if (canonical_domain(node.domain), node.op_type) not in rule.operators:
                continue
            match, reason, matched = rule.find(scene, node)
            if match is not None and rule.opset > _opset(scene) and not scene.mixed:
                reason = f"needs opset {rule.opset}, the model is of opset {_opset(scene)}"
            found.append((-matched, node.label, str(reason)))
    found.sort(key=lambda each: each[0])
    return [(label, reason) for _, label, reason in found[:most]]


def _index(scene: Scene, rules: Iterable[AnyRule]) -> dict[tuple[str, str], list[AnyRule]]:
    by_operator: defaultdict[tuple[str, str], list[AnyRule]] = defaultdict(list)
    for rule in rules:
        if scene.mixed or rule.opset <= _opset(scene):
            for key in rule.operators:
                by_operator[key].append(rule)
    return by_operator


def _opset(scene: Scene) -> int:
    return scene.model.opset() or registry.NEWEST_OPSET[""]


def _attempt(scene: Scene, rule: AnyRule, node: Node) -> list[Node] | None:
    """Apply `rule` at `node`; the nodes to look at again, or None where it does not apply."""
    graph = node.graph
    assert graph is not None
    try:
        match, _, _ = rule.find(scene, node)
        if match is None:
            return None
        op = scene.builder(graph)
        op.written.clear()
        op.constants.clear()
        heading = node.name or next((v.name for v in node.outputs if v.name), node.op_type)
        with op.at(node), op.metadata(node.metadata, prefix=f"{heading}/"):
            made = rule.write(op, match)
    except (Refused, UnsupportedError):
        _undo(scene, node)
        return None
    except SardonyxError as error:
        raise error.at(f"rule {rule.name}").at(node.label)  # noqa: B904
    except _FAILURES as error:
        raise SardonyxError(
            f"rule {rule.name} failed: {type(error).__name__}: {error}", place=node.label
        ) from error
    if made is None:
        _undo(scene, node)
        return None
    results = [made] if isinstance(made, Value) else list(made)
    if not _fits(scene, node, results):
        _undo(scene, node)
        return None
    return _replace(scene, rule, match, results, op)


def _fits(scene: Scene, node: Node, results: Sequence[Value | None]) -> bool:
    for index, old in enumerate(node.outputs):
        new = results[index] if index < len(results) else None
        if new is None:
            if old.users or scene.is_given_out(old):
                return False
        elif same_type(scene.fact(old), scene.fact(new)) is not None:
            return False
    return True


def _undo(scene: Scene, node: Node) -> None:
    assert node.graph is not None
    op = scene.builder(node.graph)
    for each in reversed(op.written):
        if each.graph is not None:
            each.graph.nodes.remove(each)
    _drop_constants(op)
    op.written.clear()


def _drop_constants(op: RewriteBuilder) -> None:
    """Take out constants that were written and are not read."""
    if any(not value.users for value in op.constants):
        unused = {value for value in op.constants if not value.users}
        initializers = op.graph.initializers
        while initializers and initializers[-1] in unused:
            unused.discard(initializers.pop())
        if unused:
            initializers[:] = [value for value in initializers if value not in unused]
        op.forget_constants()
    op.constants.clear()


def _replace(
    scene: Scene,
    rule: AnyRule,
    match: Match,
    results: Sequence[Value | None],
    op: RewriteBuilder,
) -> list[Node]:
    node = match.root
    written = [each for each in op.written if each.graph is not None]
    label, removed = node.label, tuple([each.op_type for each in match.nodes])
    changed: list[Node] = []
    for index, new in enumerate(results[: len(node.outputs)]):
        old = node.outputs[index]
        if new is not None and new is not old and (old.users or scene.is_given_out(old)):
            changed += scene.redirect(node, index, new, written)
    changed += scene.sweep(node)
    for each in reversed(written):
        scene.sweep(each)
    _drop_constants(op)
    op.written.clear()
    left = [each for each in written if each.graph is not None]
    scene.record(Patch(rule.name, label, removed, tuple([each.op_type for each in left])))
    readers = [user for each in left for value in each.outputs for user in value.users]
    return [*left, *changed, *readers]
