"""What compiling a graph gives: its steps, what is known when they run, what became of nodes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sardonyx.runtime.program import SizesDiffer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from sardonyx.dims import DimLike
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.value import Value
    from sardonyx.ops.fact import Fact
    from sardonyx.reference.plan import Step
    from sardonyx.runtime.conditions import Condition
    from sardonyx.runtime.folding import Folded
    from sardonyx.runtime.program import Stretch
    from sardonyx.schedule.launch import Launch

__all__ = ["Call", "Compilation", "Explanation", "Fork", "captured_by"]


@dataclass(slots=True)
class Call:
    """A node whose operator's `reference` runs, or a function or control flow node.

    `bodies` are the programs of the subgraphs of a control flow node, where they are compiled.
    With a `count` nothing is called: the last element of that buffer is what the symbol stands for.
    """

    step: Step
    reason: str
    bodies: dict[Graph, Compilation] = field(default_factory=dict)
    count: tuple[Hashable, str] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one node or group.

    `kind` is ``kernel``, ``view``, ``sizes``, ``control`` or ``reference``; `reason` says why a
    node is left to the reference. What became of the nodes in the bodies of a ``control`` node
    follows it.
    """

    kind: str
    nodes: tuple[str, ...]
    reason: str = ""
    launches: tuple[Launch, ...] = ()


@dataclass(slots=True)
class Compilation:
    """The steps of the main graph or of a body, with what is known when they run.

    `own` are the values that belong to `graph`; others that it reads it captures. `renamed` are
    outputs of an If whose branch was put in its place, and that are the same as the branch's.
    `required` are expressions that must not be negative in a run, each with the names of its
    symbols. `folded` is what was run to make constants. Where there is a `fork`, there are no
    steps, and one of its programs runs. What `is_decided` has symbols of its own, which stand for
    sizes of graph inputs and captured values.
    """

    graph: Graph
    own: frozenset[Value]
    facts: dict[Value, Fact]
    constants: Mapping[Any, Any]
    run_address: int = 0
    steps: list[Stretch | Call] = field(default_factory=list)
    aliases: dict[Hashable, Hashable] = field(default_factory=dict)
    renamed: frozenset[Value] = frozenset()
    required: tuple[tuple[DimLike, frozenset[str]], ...] = ()
    explained: list[Explanation | Compilation] = field(default_factory=list)
    fork: Fork | None = None
    is_decided: bool = False
    folded: Folded | None = None

    @property
    def explanations(self) -> list[Explanation]:
        """What became of the nodes, those of bodies and of the programs of forks included."""
        return list(self._explanations())

    def _explanations(self) -> Iterator[Explanation]:
        for item in self.explained:
            if isinstance(item, Explanation):
                yield item
            else:
                yield from item.explanations
        if self.fork is not None:
            for program in list(self.fork.programs.values()):
                yield from () if program is None else program.explanations


@dataclass(slots=True, eq=False)
class Fork:
    """A graph with an If whose condition follows from the sizes of a run.

    For each outcome there is a program with that branch in the place of the If, compiled when a
    run first needs it; None where the compiler itself fails. `captured` are the values whose sizes
    such a program learns.
    """

    condition: Condition
    captured: tuple[Value, ...]
    make: Callable[[bool], Compilation | None]
    programs: dict[bool, Compilation | None] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def take(self, env: Mapping[str, int]) -> Compilation:
        """The program for the sizes `env`. Raises `SizesDiffer` where it cannot be compiled."""
        outcome = self.condition.holds(env)
        if outcome not in self.programs:
            with self.lock:
                if outcome not in self.programs:
                    self.programs[outcome] = self.make(outcome)
        found = self.programs[outcome]
        if found is None:
            raise SizesDiffer
        return found


def captured_by(graph: Graph) -> tuple[Value, ...]:
    """The values that `graph` reads, or that graphs in it do, and that are not made in it."""
    inside: set[Value] = set()
    read: dict[Value, None] = {}
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        inside.update(current.inputs)
        inside.update(current.initializers)
        read.update(dict.fromkeys(current.outputs))
        for node in current.nodes:
            inside.update(node.outputs)
            read.update(dict.fromkeys(value for value in node.inputs if value is not None))
            waiting.extend(node.subgraphs())
    return tuple(value for value in read if value not in inside)
