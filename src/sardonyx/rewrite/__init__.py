"""Rewriting graphs: rules by example, what applies them, and what was done.

A `Rule` says what is replaced by what; a `Scene` is the model that is worked on, with what is known
of its values; `apply_rules` is the driver.
"""

from sardonyx.rewrite.driver import apply_rules, explain_rule
from sardonyx.rewrite.matcher import Match
from sardonyx.rewrite.rule import NodeRule, Refused, Rule
from sardonyx.rewrite.scene import Patch, Scene

__all__ = [
    "Match",
    "NodeRule",
    "Patch",
    "Refused",
    "Rule",
    "Scene",
    "apply_rules",
    "explain_rule",
]
