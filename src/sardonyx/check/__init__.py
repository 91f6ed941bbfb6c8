"""The checker: every rule of the standard that a file can break, in one report."""

from sardonyx._modules import make_callable
from sardonyx.check.driver import check, validate
from sardonyx.check.report import Problem, Report

__all__ = ["Problem", "Report", "check", "validate"]

make_callable(__name__)
