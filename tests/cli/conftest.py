from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx
import pytest

from sardonyx.cli import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=pytest.fail)


Run = Callable[..., Result]


@pytest.fixture
def sardonyx(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["sardonyx", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        captured = capsys.readouterr()
        code = exit_info.value.code
        assert isinstance(code, int)
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the demo's model and pictures."""
    return Path(str(files("sardonyx") / "data"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the model that a text in the standard's syntax describes."""

    def save(text: str, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        header = '<ir_version: 9, opset_import: ["" : 20]>'
        onnx.save(onnx.parser.parse_model(header + text), path)
        return path

    return save
