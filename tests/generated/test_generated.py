"""Random typed graphs, compiled, beside the reference: see `maker`, `judging` and `running`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.generated.judging import WAYS, problems
from tests.generated.maker import make
from tests.generated.running import Runner
from tests.generated.shrinking import described, shrunk
from tests.generated.spec import Case

import sardonyx as sx
from sardonyx.lowering import is_lowered
from sardonyx.ops import registry
from sardonyx.reference import Evaluator

QUICK = range(8)
MANY = range(1000, 1400)


def check(seed: int, ways: tuple[str, ...]) -> None:
    case = make(seed)
    found = problems(case, ways) if case.calls else []
    if not found:
        return
    kinds = {text.split(":")[0].split(",")[0] for text in found}
    is_made = not any("not made" in text for text in found)

    def fails(smaller: Case) -> bool:
        texts = problems(smaller, tuple(way for way in ways if way in kinds))
        return any(("not made" in text) != is_made for text in texts)

    small = shrunk(case, fails)
    texts = problems(small, ways) or found
    pytest.fail(f"seed {seed}:\n" + "\n".join([*texts, described(small)]), pytrace=False)


@pytest.mark.parametrize("seed", QUICK)
def test_compiled_agrees_with_reference(seed: int) -> None:
    check(seed, (list(WAYS)[seed % len(WAYS)],))


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_compiled_agrees_with_reference_in_every_way(seed: int) -> None:
    check(seed, tuple(WAYS))


def test_a_seed_makes_one_case() -> None:
    texts = {described(make(7)) for _ in range(2)}
    assert len(texts) == 1


def test_graphs_are_varied() -> None:
    cases = [make(seed) for seed in range(60)]
    found = Counter(call.op_type for case in cases for call in case.calls)
    assert len(found) > 90
    assert sum(count for name, count in found.items() if not is_lowered("", name)) > 5
    assert any(call.bodies() for case in cases for call in case.calls)
    assert any(0 in array.shape for case in cases for array in case.runs[-1].values())
    assert any(len(case.outputs) > 2 for case in cases)
    kinds = {array.dtype for case in cases for array in case.runs[0].values()}
    assert len(kinds) > 10
    known = {name for domain, name in registry.names() if not domain}
    assert set(found) <= known


def test_the_model_is_the_case() -> None:
    case = make(3)
    values = Runner(case).run(case.runs[0])
    found = Evaluator(case.model()).run(case.runs[0])
    for name in case.outputs:
        np.testing.assert_array_equal(values[name], found[name])


def test_a_wrong_result_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        """Every Tanh is off by a thousandth."""

        def __init__(self, case_model: object) -> None:
            self.evaluator = Evaluator(sx.parse(sx.to_text(case_model).replace("Tanh", "Erf")))

        def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            return list(self.evaluator.run(feeds).values())

    monkeypatch.setitem(WAYS, "fast", Wrong)
    seeds = (seed for seed in range(200) if any(c.op_type == "Tanh" for c in make(seed).calls))
    for seed in seeds:
        case = make(seed)
        if problems(case, ("fast",)):
            break
    small = shrunk(case, lambda smaller: bool(problems(smaller, ("fast",))))
    assert [call.op_type for call in small.calls] == ["Tanh"]
    assert len(small.runs) == 1
    assert "Tanh" in described(small)
