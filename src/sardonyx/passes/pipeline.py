"""The stages, in order, and what applies them to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sardonyx.errors import InputError, quote
from sardonyx.lowering import is_lowered
from sardonyx.passes.activations import ACTIVATIONS
from sardonyx.passes.attentions import ATTENTIONS
from sardonyx.passes.common import common_subexpressions, dead_code
from sardonyx.passes.control import inline_branches
from sardonyx.passes.convolutions import CONVOLUTIONS, PADDED
from sardonyx.passes.folding import fold_constants
from sardonyx.passes.identities import IDENTITIES
from sardonyx.passes.movement import MOVEMENT
from sardonyx.passes.normalizations import (
    NORMALIZATIONS,
    PLAIN_NORMALIZATIONS,
    SCALED_NORMALIZATIONS,
)
from sardonyx.passes.softmaxes import SOFTMAXES
from sardonyx.rewrite import NodeRule, Rule, Scene, apply_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import TypeAlias

    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.fact import Fact

    AnyRule: TypeAlias = Rule | NodeRule

__all__ = ["STAGES", "Stage", "apply_stages", "find_rule", "for_compiler", "names"]


@dataclass(frozen=True, eq=False)
class Stage:
    """A pass over the whole model, or rules that are applied together until none matches.

    A `basic` stage keeps numbers as they are, but for the sign of zeros; another one may round
    differently.
    """

    name: str
    basic: bool
    run: Callable[[Scene], None] | None = None
    rules: tuple[AnyRule, ...] = ()


_FOLD: Final = Stage("fold-constants", basic=True, run=fold_constants)
_CLEAN: Final = Stage("clean", basic=True, rules=(*IDENTITIES, *MOVEMENT, *PADDED))
_COMMON: Final = Stage("common-subexpressions", basic=True, run=common_subexpressions)
_DEAD: Final = Stage("dead-code", basic=True, run=dead_code)

STAGES: Final = (
    _DEAD,
    _FOLD,
    Stage("inline-branches", basic=True, run=inline_branches),
    _FOLD,
    _CLEAN,
    _FOLD,
    _COMMON,
    Stage("normalizations", basic=False, rules=NORMALIZATIONS),
    Stage("scaled-normalizations", basic=False, rules=SCALED_NORMALIZATIONS),
    Stage("plain-normalizations", basic=False, rules=PLAIN_NORMALIZATIONS),
    Stage("attentions", basic=False, rules=ATTENTIONS),
    Stage("activations", basic=False, rules=(*ACTIVATIONS, *SOFTMAXES)),
    Stage("convolutions", basic=False, rules=CONVOLUTIONS),
    _CLEAN,
    _FOLD,
    _COMMON,
    _DEAD,
)

_NEEDS_LOWERING: Final = {
    "attentions": "Attention",
    **{rule.name: "Attention" for rule in ATTENTIONS},
}
"""Stages and rules that the compiler is better off without where it has no rule for the result."""


def names() -> list[str]:
    """The names of all stages and rules, each once."""
    found: dict[str, None] = {}
    for stage in STAGES:
        found[stage.name] = None
        for rule in stage.rules:
            found[rule.name] = None
    return list(found)


def find_rule(name: str) -> AnyRule:
    """The rule called `name`; raises `InputError` where there is none."""
    for stage in STAGES:
        for rule in stage.rules:
            if rule.name == name:
                return rule
    rules = [rule.name for stage in STAGES for rule in stage.rules]
    raise InputError(
        f"there is no rule {quote(name)}", hint=f"rules are {', '.join(dict.fromkeys(rules))}"
    )


def apply_stages(scene: Scene, *, only: Collection[str] | None = None, basic: bool = False) -> None:
    """Apply the stages to `scene`; with `only`, those stages and rules; with `basic`, exact ones.

    Raises `InputError` for a name in `only` that is neither a stage's nor a rule's.
    """
    for name in only or ():
        if name not in names():
            raise InputError(
                f"there is no pass {quote(name)}", hint=f"passes are {', '.join(names())}"
            )
    for stage in STAGES:
        if scene.is_done or (basic and not stage.basic):
            continue
        if stage.run is not None and (only is None or stage.name in only):
            stage.run(scene)
        rules = tuple(_chosen(stage, only))
        if rules:
            apply_rules(scene, rules)


def _chosen(stage: Stage, only: Collection[str] | None) -> Iterator[AnyRule]:
    for rule in stage.rules:
        if only is None or rule.name in only or stage.name in only:
            yield rule


def for_compiler(model: Model, limits: Limits, facts: dict[Value, Fact] | None = None) -> Model:
    """`model`, a private copy without functions, rewritten in place for the compiler; returned.

    `facts` are what is known of its values already.

    Operators that are newer than the model's opset are written where they fit (`Node.version`), so
    the result is not for saving.
    """
    scene = Scene(model, limits=limits, mixed=True, facts=facts)
    only = {
        name
        for name in names()
        if name not in _NEEDS_LOWERING or is_lowered("", _NEEDS_LOWERING[name])
    }
    apply_stages(scene, only=only)
    return model
