"""Each limit can be set for each call and on the command line, and the documentation lists it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node as node

import sardonyx as sx
from hostile import graphs, values, wire
from sardonyx.errors import LimitError, SardonyxError
from sardonyx.infer import infer
from sardonyx.limits import DEFAULT, Limits

DOCUMENT = Path(__file__).parents[2] / "docs" / "limits.md"


def run(data: bytes, limits: Limits) -> None:
    session = sx.Session(data, limits=limits)
    session.run(None, {a.name: np.ones([1], np.float32) for a in session.get_inputs()})


def load(data: bytes, limits: Limits) -> None:
    model = sx.loads(data, limits=limits)
    for graph in model.graphs():
        _ = [value.type for value in graph.inputs]
        _ = list(graph.all_nodes())


def check(data: bytes, limits: Limits) -> None:
    sx.check(data, limits=limits).raise_errors()


Call = Callable[[bytes, Limits], None]
BOUNDS: dict[str, tuple[Call, bytes, Any, Any]] = {
    "depth": (load, graphs.nested_ifs(3, 1), 10, 40),
    "nodes": (load, graphs.relus(20), 19, 20),
    "graphs": (load, graphs.bomb(5), 5, 6),
    "name_bytes": (load, wire.renamed("s", "s" * 100), 99, 100),
    "rank": (
        load,
        wire.in_graph(wire.field(11, graphs.info("x", [1] * 9).SerializeToString())),
        8,
        9,
    ),
    "tensor_bytes": (run, graphs.one("Expand", np.float32([1]), np.int64([10])), 39, 40),
    "memory_bytes": (run, values.doubling(3), 4, 1000),
    "loop_iterations": (
        run,
        graphs.loop([node("Neg", ["s"], ["t"])], graphs.info("s"), np.int64(50)),
        49,
        50,
    ),
    "seconds": (run, graphs.bomb(8), 1e-9, 60),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_met_and_raised(name: str) -> None:
    call, data, low, high = BOUNDS[name]
    with pytest.raises(SardonyxError, match=rf"{name.replace('_', ' ')} limit") as caught:
        call(data, Limits(**{name: low}))
    assert name in str(caught.value)
    call(data, Limits(**{name: high}))


def test_contents_past_the_folding_limit_stay_unknown() -> None:
    text = sx.loads(values.text_doubling(20))
    carried = [fact for fact in infer(text).facts.values() if fact.value is not None]
    fewer = infer(text, limits=Limits(folding_bytes=1024)).facts.values()
    assert 0 < sum(fact.value is not None for fact in fewer) < len(carried)


def test_inference_and_check_have_deadlines() -> None:
    data = graphs.relus(2000)
    with pytest.raises(LimitError, match="seconds limit"):
        infer(sx.loads(data), limits=Limits(seconds=1e-9))
    with pytest.raises(LimitError, match="seconds limit"):
        sx.infer_shapes(sx.loads(data), limits=Limits(seconds=1e-9))
    with pytest.raises(SardonyxError, match="seconds limit"):
        check(data, Limits(seconds=1e-9))


def test_more_functions_than_inference_follows_are_a_warning() -> None:
    found = infer(sx.loads(graphs.attribute_bomb(16)))
    assert any("inference stops after" in problem.message for problem in found.problems)


def test_a_feed_counts_as_memory_of_the_run() -> None:
    session = sx.Session(graphs.relus(2), limits=Limits(memory_bytes=1 << 20))
    session.run(None, {"v0": np.zeros(2, np.float32)})
    wide = sx.Session(
        graphs.model([node("Neg", ["x"], ["y"])], [graphs.info("x", ["N"])]),
        limits=Limits(memory_bytes=1 << 20),
    )
    with pytest.raises(LimitError, match="memory bytes limit"):
        wide.run(None, {"x": np.zeros(1 << 20, np.float32)})


def test_the_documentation_lists_all_limits_and_their_defaults() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert list(rows) == [field.name for field in fields(Limits)]
    units = {"": 1, "MiB": 1 << 20, "GiB": 1 << 30}
    for name, shown in rows.items():
        number, _, unit = shown.strip().partition(" ")
        expected = None if number == "none" else int(number.replace(",", "")) * units[unit]
        assert getattr(DEFAULT, name) == expected, name


@pytest.mark.parametrize(
    ("command", "limit", "data"),
    [
        ("check", "nodes=19", graphs.relus(20)),
        ("check", "graphs=5", graphs.bomb(5)),
        ("run", "tensor_bytes=39", BOUNDS["tensor_bytes"][1]),
        ("run", "memory_bytes=4", values.doubling(3)),
        ("run", "seconds=1e-9", graphs.relus(4)),
        ("run", "loop_iterations=49", BOUNDS["loop_iterations"][1]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_command_line_sets_limits(
    command: str, limit: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sardonyx.cli import main

    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    arguments = [command, str(path), "--limit", limit, *(["--random"] if command == "run" else [])]
    shown = io.StringIO()
    monkeypatch.setattr("sys.argv", ["sardonyx", *arguments])
    with (
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(shown),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert ended.value.code == 1
    assert f"{limit.split('=', maxsplit=1)[0].replace('_', ' ')} limit" in re.sub(
        r"\s+", " ", shown.getvalue()
    )
