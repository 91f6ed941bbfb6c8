"""The names that a Gradient node refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import quote

if TYPE_CHECKING:
    from sardonyx.check.context import Context
    from sardonyx.check.graph import Scope
    from sardonyx.ir.node import Node

__all__ = ["check_gradient"]


def check_gradient(node: Node, scope: Scope, context: Context) -> None:
    """Report each of `xs`, `zs` and `y` that is no value of the graphs around the node."""
    if node.op_type != "Gradient" or node.domain != "ai.onnx.preview.training":
        return
    lists = [(node.attribute("y"),), node.attribute("xs"), node.attribute("zs")]
    names = [name for names in lists if isinstance(names, tuple) for name in names]
    for name in names:
        if not isinstance(name, str):
            continue
        if scope.find(name) is None and not scope.defines_later(name):
            context.report.error(
                "undefined-name",
                f"Gradient names {quote(name)}, which the graph does not have",
                context.at(node),
                scope.similar(name),
            )
