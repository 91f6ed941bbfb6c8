"""Branches that are always taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.ir.model import canonical_domain
from sardonyx.rewrite.scene import Patch

if TYPE_CHECKING:
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Node
    from sardonyx.rewrite import Scene

__all__ = ["inline_branches"]


def inline_branches(scene: Scene) -> None:
    """Put the branch of an If whose condition is constant in its place."""
    for graph in list(scene.graphs):
        for node in graph.nodes:
            if scene.is_done:
                return
            if node.op_type == "If" and not canonical_domain(node.domain):
                _inline(scene, node)


def _inline(scene: Scene, node: Node) -> None:
    condition = scene.constant(node.inputs[0]) if node.inputs else None
    if condition is None or condition.size != 1:
        return
    branch: Graph | None = node.attribute(
        "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    )
    if branch is None or len(branch.outputs) != len(node.outputs):
        return
    label = node.label
    results = scene.take_branch(node, branch)
    for index, value in enumerate(results):
        scene.redirect(node, index, value)
    scene.builder(scene.model.graph).written.clear()
    scene.sweep(node)
    scene.record(Patch("inline-branches", label, (node.op_type,)))
