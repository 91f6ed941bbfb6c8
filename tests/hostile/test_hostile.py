"""Hostile files get the verdict that they must get, quickly, in little memory, without a crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hostile.corpus import CLASSES, MIB, Case, cases
from hostile.judge import STAGES, Judge, verdict_of

KNOWN = cases()
MOST_SECONDS = 2.0
MOST_COMPILING = 10.0
"""Twice the second that a file of a mebibyte may take, and what a run's deadline allows."""
LONGEST_MESSAGE = 4000


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    made.close()


def check(case: Case, found: dict[str, Any]) -> None:
    assert "signal" not in found, found
    for stage in STAGES:
        answer = found[stage]
        assert not answer["verdict"].startswith("!"), f"{stage}: {answer['message']}"
        assert answer["printable"], answer["message"]
        assert answer["length"] <= LONGEST_MESSAGE, answer["length"]
        assert answer["cpu"] <= MOST_SECONDS * found["slowness"], (stage, answer["cpu"])
        assert answer["compiling"] <= MOST_COMPILING * found["slowness"], (stage, answer)
    assert found["memory"] <= 64 * MIB + 5 * found["bytes"], found["memory"] / MIB
    checked, built = found["check"]["verdict"], found["session"]["verdict"]
    assert (checked == "ok") == (built == "ok") or built == "LimitError", (checked, built)
    if found["load"]["verdict"] != "ok":
        assert checked != "ok"
    assert verdict_of(found) == case.verdict, found


@pytest.mark.parametrize("name", [name for name, case in KNOWN.items() if case.quick])
def test_some(judge: Judge, name: str) -> None:
    check(KNOWN[name], judge.ask(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in KNOWN.items() if not case.quick])
def test_every(judge: Judge, name: str) -> None:
    check(KNOWN[name], judge.ask(name))


def test_the_corpus_is_large_and_covers_its_classes() -> None:
    assert len(KNOWN) >= 300
    in_tests_of_their_own = {10, 11}
    assert {case.number for case in KNOWN.values()} == set(CLASSES) - in_tests_of_their_own


def test_the_corpus_is_deterministic() -> None:
    again = cases()
    for name in list(KNOWN)[::40]:
        assert KNOWN[name].make() == again[name].make()
