"""Rules: by example (`Rule`), or as a function of a node (`NodeRule`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from sardonyx.rewrite.matcher import Match, find_match
from sardonyx.rewrite.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value
    from sardonyx.rewrite.scene import Scene
    from sardonyx.rewrite.writing import RewriteBuilder

    Made: TypeAlias = Value | Sequence[Value | None] | None

__all__ = ["NodeRule", "Refused", "Rule"]


class Refused(Exception):  # noqa: N818 - a reason, no failure
    """A rewrite that finds, while it writes, that it does not apply: the reason."""


@dataclass(frozen=True, eq=False)
class Rule:
    """Replaces what `pattern` describes by what `rewrite` writes.

    `pattern(op, x, ...)` is written with `op` as nodes are; its parameters are the variables.
    `check(match)` gives the reason why a match is not to be rewritten, or None.
    `rewrite(op, match)` writes nodes before the match's last one, and gives the value (or a
    sequence, one for each output) that takes its place. It may raise `Refused`. `opset` is the
    version of the default domain that the replacement needs. With `shared`, what inner nodes make
    may be used elsewhere too; they then stay.
    """

    name: str
    pattern: Callable[..., Any]
    rewrite: Callable[[RewriteBuilder, Match], Made]
    check: Callable[[Match], str | None] | None = None
    opset: int = 1
    shared: bool = False

    @cached_property
    def compiled(self) -> Pattern:
        """The pattern as terms."""
        return Pattern(self.pattern)

    @property
    def operators(self) -> frozenset[tuple[str, str]]:
        """Domain and name of the operators that a match may end with."""
        return self.compiled.operators

    def may_match(self, node: Node) -> bool:
        """Whether a look at what makes the node's inputs does not rule a match out."""
        before = self.compiled.before
        if before is None:
            return True
        producers = [value.producer for value in node.inputs if value is not None]
        return any(each is not None and each.op_type in before for each in producers)

    def find(self, scene: Scene, node: Node) -> tuple[Match | None, object, int]:
        """A match that ends with `node`; or None, why not, and how many nodes did match."""
        match, miss = find_match(self.compiled, scene, node, shared=self.shared)
        if match is None:
            return None, miss, miss.matched
        reason = None if self.check is None else self.check(match)
        if reason is not None:
            return None, reason, len(match.nodes)
        return match, "", len(match.nodes)

    def write(self, op: RewriteBuilder, match: Match) -> Made:
        """Write the replacement."""
        return self.rewrite(op, match)


@dataclass(frozen=True, eq=False)
class NodeRule:
    """A rule for single nodes: `rewrite(op, match)` looks at ``match.root`` and its `scene`.

    It gives what takes the place of the node's outputs, or raises `Refused` with the reason.
    """

    name: str
    op_types: tuple[str, ...]
    rewrite: Callable[[RewriteBuilder, Match], Made]
    domain: str = ""
    opset: int = 1

    @property
    def operators(self) -> frozenset[tuple[str, str]]:
        """Domain and name of the operators that it looks at."""
        return frozenset([(self.domain, op_type) for op_type in self.op_types])

    def may_match(self, node: Node) -> bool:
        """Whether the node has inputs: one without them has nothing to be made of."""
        return bool(node.inputs)

    def find(self, scene: Scene, node: Node) -> tuple[Match | None, object, int]:
        """The node as a match."""
        if scene.operator(node) is None:
            return None, "the operator is unknown", 0
        match = Match(scene, node)
        match.nodes.append(node)
        return match, "", 1

    def write(self, op: RewriteBuilder, match: Match) -> Made:
        """Write the replacement."""
        return self.rewrite(op, match)
