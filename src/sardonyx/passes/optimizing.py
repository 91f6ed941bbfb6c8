"""`optimize`: a model that computes the same with fewer nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.compose import copy, inline, set_opset
from sardonyx.compose.results import checked, tidy
from sardonyx.errors import InputError, VerificationError, quote
from sardonyx.limits import DEFAULT, Limits
from sardonyx.passes.pipeline import apply_stages, find_rule
from sardonyx.passes.verification import bisect as bisect_patches
from sardonyx.passes.verification import difference, given_feeds, outputs_at
from sardonyx.rewrite import Scene, explain_rule

if TYPE_CHECKING:
    from collections.abc import Collection

    from sardonyx.ir.model import Model
    from sardonyx.passes.verification import Difference, Feeds
    from sardonyx.rewrite import Patch

__all__ = ["Optimized", "bisect", "explain", "optimize", "rewrite"]

_LEVELS = ("basic", "full")


@dataclass(frozen=True)
class Optimized:
    """The new model, and what was done to the old one, in order."""

    model: Model
    patches: tuple[Patch, ...]


def optimize(
    model: Model,
    *,
    level: str = "full",
    passes: Collection[str] | None = None,
    opset: int | None = None,
    verify: bool | Feeds = False,
    limits: Limits = DEFAULT,
) -> Model:
    """A model that computes what `model` does, with fewer and larger nodes.

    `level` "basic" keeps every number as it is; "full" also fuses what exporters wrote out, which
    may round differently. `passes` names the only stages and rules to apply (see
    `sardonyx.passes.names`). Functions of the model are inlined. Rules that need a newer opset than
    the model's are passed over; `opset` sets it first, where no operator of the model changed.

    With `verify` both are run on the feeds that it holds, or if it is True on generated inputs, at
    two sizes where dimensions are open, and `VerificationError` names the rule and the node after
    which numbers differ. Raises `InputError` for unknown options.
    """
    return rewrite(
        model, level=level, passes=passes, opset=opset, verify=verify, limits=limits
    ).model


def rewrite(
    model: Model,
    *,
    level: str = "full",
    passes: Collection[str] | None = None,
    opset: int | None = None,
    verify: bool | Feeds = False,
    limits: Limits = DEFAULT,
    most_patches: int | None = None,
) -> Optimized:
    """What `optimize` does, with the list of patches; `most_patches` ends it early."""
    if level not in _LEVELS:
        raise InputError(f"there is no level {quote(level)}", hint=f"levels are {_LEVELS}")
    source = model if opset is None else set_opset(model, opset)
    result = inline(source, limits=limits) if source.functions else copy(source)
    scene = Scene(result, limits=limits, most_patches=most_patches)
    apply_stages(scene, only=passes, basic=level == "basic")
    tidy(result.graph)
    checked(result, model, types=False)
    done = Optimized(result, tuple(scene.patches))
    if verify:
        feeds = None if isinstance(verify, bool) else verify
        _verify(model, done, feeds, level, passes, opset, limits)
    return done


def explain(
    model: Model, rule: str, *, most: int = 5, limits: Limits = DEFAULT
) -> list[tuple[str, str]]:
    """Where `rule` nearly applies to `model`, nearest first: the node, and the reason why not.

    The reason is empty where the rule does apply. The model is first brought into the form that
    the rule would meet. Raises `InputError` for an unknown rule.
    """
    wanted = find_rule(rule)
    private = inline(model, limits=limits) if model.functions else copy(model)
    scene = Scene(private, limits=limits)
    stages = ("dead-code", "fold-constants", "inline-branches", "common-subexpressions", "clean")
    apply_stages(scene, only=stages)
    return explain_rule(scene, wanted, most)


def bisect(
    model: Model,
    feeds: Feeds | None = None,
    *,
    level: str = "full",
    passes: Collection[str] | None = None,
    opset: int | None = None,
    limits: Limits = DEFAULT,
) -> tuple[Patch, Difference] | None:
    """The first patch of `optimize` after which the outputs differ, and how; or None.

    `feeds` are arrays by the names of the model's inputs, or several of such; by default made up.
    """
    given, before = given_feeds(model, feeds, limits)

    def attempt(count: int | None) -> Optimized:
        return rewrite(
            model, level=level, passes=passes, opset=opset, limits=limits, most_patches=count
        )

    def differs(done: Model) -> Difference | None:
        after = outputs_at(done, given, limits)
        found = [difference(old, new) for old, new in zip(before, after, strict=True)]
        return next((each for each in found if each is not None), None)

    done = attempt(None)
    found = differs(done.model)
    if found is None:
        return None
    count = bisect_patches(
        lambda n: attempt(n).model, len(done.patches), lambda each: differs(each) is not None
    )
    return done.patches[count - 1], found


def _verify(
    model: Model,
    done: Optimized,
    feeds: Feeds | None,
    level: str,
    passes: Collection[str] | None,
    opset: int | None,
    limits: Limits,
) -> None:
    given, before = given_feeds(model, feeds, limits)
    after = outputs_at(done.model, given, limits)
    found = [difference(old, new) for old, new in zip(before, after, strict=True)]
    first = next((each for each in found if each is not None), None)
    if first is None:
        return
    culprit = bisect(model, given, level=level, passes=passes, opset=opset, limits=limits)
    patch = None if culprit is None else culprit[0]
    raise VerificationError(
        f"the optimized model computes something else: {first}",
        place=None if patch is None else f"rule {patch}",
        hint="leave the rule out with passes=, and please report it",
    )
