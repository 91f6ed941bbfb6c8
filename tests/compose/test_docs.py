"""docs/editing.md: its examples run, and its tables are complete."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import sardonyx as sx
from sardonyx.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "editing.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(files("sardonyx") / "data" / "digits.onnx"), tmp_path)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run() -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "editing.md", "exec"), names)  # noqa: S102
    assert sx.load("four.onnx").graph.inputs[0].shape == (4, 1, 8, 8)


def test_the_commands_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line


def test_every_function_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    assert listed == set(sx.compose.__all__)


def test_every_option_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sardonyx", "edit", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main()
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    general = {"--output", "--external-data", "--limit", "--json", "--help"}
    section = PAGE[PAGE.index("## The command line") :]
    assert options - general == set(re.findall(r"--[a-z][a-z-]+", section)) - {
        "--from",
        "--to",
        "--help",
        "--connect",
        "--prefix-second",
        "--json",
        "--external-data",
    }
