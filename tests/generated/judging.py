"""What a session makes of a case, held against the reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from tests.generated.running import Noise, finfo, is_float
from tests.generated.spec import Case

import sardonyx as sx
from sardonyx.dtypes import from_numpy
from sardonyx.errors import SardonyxError
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import SizesDiffer, compile_model

NOISES = 5
SAFETY = 4
"""How many times as far off as the noisy runs a result may be."""


class AsWritten:
    """The model compiled as it is, without the optimizer's passes."""

    def __init__(self, model: Any) -> None:
        self.evaluator = Evaluator(model)
        self.names = [value.name for value in model.graph.outputs]
        self.compiled = compile_model(model, self.evaluator, DEFAULT, threads=1)

    def run(self, _: None, feeds: dict[str, Any]) -> list[Any]:
        try:
            found = self.compiled.run(feeds)
        except SizesDiffer:
            found = self.evaluator.run(feeds)
        return [found[name] for name in self.names]


WAYS: dict[str, Any] = {
    "fast": lambda model: sx.Session(model, threads=1),
    "strict": lambda model: sx.Session(model, threads=2, precision="strict"),
    "as written": AsWritten,
}


def problems(case: Case, ways: tuple[str, ...] = tuple(WAYS)) -> list[str]:
    """What is wrong with how sessions of `case` end, in words; nothing where all holds."""
    evaluator = Evaluator(case.model())
    truths: list[Any] = []
    for feeds in case.runs:
        try:
            found = evaluator.run(feeds)
            truths.append([found[name] for name in case.outputs])
        except SardonyxError as error:
            truths.append(error)
    noisy = [[Noise(case, seed).run(feeds) for seed in range(NOISES)] for feeds in case.runs]
    problems: list[str] = []
    for way in ways:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                session = WAYS[way](case.model())
            except Exception as error:  # noqa: BLE001 - any of them is what is looked for
                if not _must_fail(error, truths):
                    problems.append(f"{way}: not made: {type(error).__name__}: {error}"[:500])
                continue
        for turn, feeds in enumerate(case.runs):
            for found_now in _again(session, feeds):
                text = _judge(case, found_now, truths[turn], noisy[turn])
                if text:
                    problems.append(f"{way}, run {turn}: {text}")
                    break
    return problems


def _must_fail(error: Exception, truths: list[Any]) -> bool:
    return isinstance(error, SardonyxError) and all(isinstance(t, SardonyxError) for t in truths)


def _again(session: Any, feeds: dict[str, Any]) -> list[Any]:
    """The outputs of two runs, or what they raise: the second one may enter natively at once."""
    found: list[Any] = []
    for _ in range(2):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found.append(session.run(None, feeds))
        except Exception as error:  # noqa: BLE001
            found.append(error)
    return found


def _judge(case: Case, found: Any, truth: Any, noisy: list[dict[str, Any]]) -> str:
    if isinstance(found, Exception) and not isinstance(found, SardonyxError):
        return f"raises {type(found).__name__}: {found}"[:500]
    if isinstance(truth, SardonyxError):
        return "" if isinstance(found, SardonyxError) else f"no error, though {truth}"[:500]
    if isinstance(found, SardonyxError):
        if any(name not in run for run in noisy for name in case.outputs):
            return ""
        return f"an error: {found}"[:500]
    for name, actual, expected in zip(case.outputs, found, truth, strict=True):
        text = _differs(actual, expected, [run.get(name) for run in noisy])
        if text:
            return f"{name}: {text}"
    return ""


def _differs(actual: Any, expected: Any, noisy: list[Any]) -> str:
    if any(each is None or each.shape != expected.shape for each in noisy):
        return ""
    if from_numpy(actual.dtype) is not from_numpy(expected.dtype):
        return f"{actual.dtype} instead of {expected.dtype}"
    if actual.shape != expected.shape:
        return f"shape {actual.shape} instead of {expected.shape}"
    if not is_float(expected):
        known = np.logical_and.reduce([each == expected for each in noisy])
        wrong = known & (actual != expected)
        return _shown(wrong, actual, expected)
    wide, theirs = actual.astype(np.float64), expected.astype(np.float64)
    runs = [each.astype(np.float64) for each in noisy]
    info = finfo(expected.dtype)
    with np.errstate(all="ignore"):
        finite = np.logical_and.reduce([np.isfinite(each) for each in (theirs, *runs)])
        special = np.logical_and.reduce(
            [(each == theirs) | (np.isnan(each) & np.isnan(theirs)) for each in runs]
        )
        spread = np.max([np.abs(each - theirs) for each in runs], axis=0, initial=0)
        bound = SAFETY * spread + 4 * float(info.eps) * np.abs(theirs)
        bound += 2 * float(info.smallest_subnormal)
        off = ~(np.abs(wide - theirs) <= bound)
        alike = (wide == theirs) | (np.isnan(wide) & np.isnan(theirs))
    wrong = np.where(finite, off, special & ~np.isfinite(theirs) & ~alike)
    return _shown(wrong, actual, expected)


def _shown(wrong: Any, actual: Any, expected: Any) -> str:
    if not wrong.any():
        return ""
    first = tuple(int(place[0]) for place in np.nonzero(np.atleast_1d(wrong)))
    ours, theirs = np.atleast_1d(actual)[first], np.atleast_1d(expected)[first]
    return f"{wrong.sum()} of {wrong.size} differ, at {first}: {ours!r}, expected {theirs!r}"
