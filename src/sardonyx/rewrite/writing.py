"""`RewriteBuilder`: the `op` that rewrites write nodes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.errors import UnsupportedError
from sardonyx.ir.node import Attribute, Node
from sardonyx.ir.value import Value
from sardonyx.ops import registry
from sardonyx.ops.body_builder import BodyBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.graph import Graph

__all__ = ["RewriteBuilder"]


class RewriteBuilder(BodyBuilder):
    """A `BodyBuilder` for the place of a match.

    With `mixed`, an operator that is newer than the model's opset is written in its newest
    version (`Node.version`); otherwise it is an `UnsupportedError`. Constants that are in no graph,
    such as an attribute in the form of an input, become initializers when they are used.
    """

    mixed = False

    def beside(self, graph: Graph) -> RewriteBuilder:
        """A builder of another graph of the same model: names and what is known are shared."""
        made = RewriteBuilder(graph, self.opset_imports, outer=self)
        made.mixed = self.mixed
        return made

    def apply(self, op_type: str, inputs: Sequence[Any], **keywords: Any) -> Any:
        """What ``op.<op_type>(*inputs, ...)`` does: see the class."""
        inputs = [self._placed(value) for value in inputs]
        domain = keywords.get("_domain", "")
        if domain or not self.mixed:
            return super().apply(op_type, inputs, **keywords)
        try:
            registry.get(domain, op_type).schema(self.opset_imports.get("", 1))
        except UnsupportedError:
            return self._apply_newest(op_type, inputs, keywords)
        return super().apply(op_type, inputs, **keywords)

    def repeat(self, node: Node, inputs: Sequence[Value | None], *changed: Attribute) -> Value:
        """The first output of a node like `node` on other inputs, with some attributes changed."""
        name = self._claim_node(None, f"{self._prefix}{node.op_type}")
        outputs = [Value(self.unique(name)) for _ in node.outputs]
        attributes = list({**node.attributes, **{each.name: each for each in changed}}.values())
        made = Node(node.op_type, inputs, outputs, attributes, domain=node.domain, name=name)
        made.version = node.version
        made.metadata.update(self._metadata)
        self._insert(made)
        self._infer(made)
        return outputs[0]

    def _apply_newest(self, op_type: str, inputs: Sequence[Any], keywords: dict[str, Any]) -> Any:
        imports = self.opset_imports
        version = registry.NEWEST_OPSET[""]
        self.opset_imports = {**imports, "": version}
        try:
            made = super().apply(op_type, inputs, **keywords)
        finally:
            self.opset_imports = imports
        first = made[0] if isinstance(made, tuple) else made
        first.producer.version = version
        return made

    def _placed(self, value: Any) -> Any:
        is_loose = isinstance(value, Value) and value.const is not None and not value.name
        return value.const if is_loose else value

    def forget_constants(self) -> None:
        """Share no constants with what was written before."""
        self._constants.clear()
