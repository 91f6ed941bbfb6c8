"""Trained models, optimized: the numbers stay, and there are no more nodes than before."""

from __future__ import annotations

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.passes.verification import difference
from sardonyx.reference import Evaluator
from zoo.models import MODELS, ZooModel, fetch


@pytest.mark.zoo
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_same_numbers(model: ZooModel) -> None:
    before = sx.load(fetch(model))
    after = sx.optimize(before)
    assert len(list(after.graph.all_nodes())) <= len(list(before.graph.all_nodes()))
    feeds = model.feeds(np.random.default_rng(0), 0)
    results = [Evaluator(each).run(feeds) for each in (before, after)]
    found = difference(*results, steps=model.reduction * model.depth)
    assert found is None, found
