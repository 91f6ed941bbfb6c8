"""Makes a failing case small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from tests.generated.running import Runner
from tests.generated.spec import Call, Case

import sardonyx as sx

MOST_TRIALS = 250


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A small case that fails as well, found by taking parts away while it still does."""
    trials = 0
    found = True
    while found:
        found = False
        for smaller in candidates(case):
            trials += 1
            if trials > MOST_TRIALS:
                return case
            if fails_still(smaller, fails):
                case, found = smaller, True
                break
    return case


def fails_still(case: Case, fails: Callable[[Case], bool]) -> bool:
    try:
        return bool(case.calls) and fails(case)
    except Exception:  # noqa: BLE001 - what was cut does not hold together
        return False


def candidates(case: Case) -> Iterator[Case]:
    """Smaller cases, the smallest first: fewer outputs, calls fed from outside, fewer runs."""
    if len(case.outputs) > 1:
        for name in case.outputs:
            yield replace(case, outputs=(name,)).without_dead()
    values = [Runner(case).run(feeds) for feeds in case.runs]
    for place in range(len(case.calls) - 1, -1, -1):
        call = case.calls[place]
        names = [name for name in call.outputs if name]
        if not set(names) & set(case.outputs) and all(set(names) <= set(each) for each in values):
            yield fed(case, call, values)
        inner = [name for name in call.inputs if name and name not in case.outputs]
        if set(call.outputs) & set(case.outputs) and len(case.calls) > 1:
            made = {name for each in case.calls for name in each.outputs}
            for name in inner:
                if name in made:
                    yield replace(case, outputs=(name,)).without_dead()
    if len(case.runs) > 1:
        for turn in range(len(case.runs)):
            yield replace(case, runs=(case.runs[turn],))
            yield replace(case, runs=case.runs[:turn] + case.runs[turn + 1 :])


def fed(case: Case, call: Call, values: list[dict[str, Any]]) -> Case:
    """`case` with the outputs of `call` as inputs."""
    calls = tuple(each for each in case.calls if each is not call)
    runs = tuple(
        {**run, **{name: found[name] for name in call.outputs if name}}
        for run, found in zip(case.runs, values)
    )
    types = {**case.types, **{name: array.dtype for name, array in runs[0].items()}}
    return replace(case, calls=calls, runs=runs, types=types).without_dead()


def described(case: Case) -> str:
    """The model as text, and what it is fed."""
    lines = [sx.to_text(case.model())]
    for turn, run in enumerate(case.runs):
        for name, array in run.items():
            shown = np.array2string(array, threshold=24, edgeitems=2, separator=", ")
            lines.append(f"run {turn}: {name} {array.dtype}{list(array.shape)} = {shown}")
    return "\n".join(lines)
