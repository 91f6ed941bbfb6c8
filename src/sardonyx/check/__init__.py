"""The checker: every rule of the standard that a file can break, in one report."""

from sardonyx._modules import make_callable
from sardonyx.check.driver import check, examine, validate
from sardonyx.check.report import Place, Problem, Report
from sardonyx.check.rules import RULES, Rule
from sardonyx.check.saving import save

__all__ = ["RULES", "Place", "Problem", "Report", "Rule", "check", "examine", "save", "validate"]

make_callable(__name__)
