from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

NET = """
import torch
from torch import nn
from helper import WIDTH

print("imported")


class Net(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.fc = nn.Linear(3, width)

    def forward(self, x):
        return torch.relu(self.fc(x))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 2)

    def forward(self, ids):
        return self.embedding(ids)


@torch.library.custom_op("strange::zeta", mutates_args=())
def zeta(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@zeta.register_fake
def _(x):
    return torch.empty_like(x)


class Strange(nn.Module):
    def forward(self, x):
        return zeta(x)


class Sized(nn.Module):
    def __init__(self, size):
        super().__init__()


def make():
    return Net(4), (torch.ones(5, 3),)


def broken():
    return 1 / 0


model = Net()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("WIDTH = 2\n")
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("net", "_exported", "helper", "plain"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestTorch:
    def test_class_and_dynamic_batch(self, sardonyx: Any, net: Path, tmp_path: Path) -> None:
        out = tmp_path / "net.onnx"
        words = ("--input-shape", "1,3", "--dynamic", "x:0=batch", "--output-names", "y")
        result = sardonyx("export", f"{net}:Net", out, *words)
        assert result.code == 0, result.err
        assert "verified" in result.out
        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape == ["batch", 3]
        (found,) = session.run(["y"], {"x": np.ones((7, 3), np.float32)})
        assert found.shape == (7, 2)

    def test_function_gives_model_and_example(
        self, sardonyx: Any, net: Path, tmp_path: Path
    ) -> None:
        result = sardonyx("export", f"{net}:make", tmp_path / "o.onnx", "--opset", 17, "--json")
        assert result.json["inputs"][0]["shape"] == [5, 3]
        assert result.json["opsets"] == {"ai.onnx": 17}
        assert result.json["verified"] is True
        assert result.json["parameters"] == 16
        assert "imported" in result.err

    def test_integer_example(self, sardonyx: Any, net: Path, tmp_path: Path) -> None:
        words = ("--input-shape", "2,7:int64", "--no-verify", "--json")
        result = sardonyx("export", f"{net}:Tagger", tmp_path / "o.onnx", *words)
        assert result.json["inputs"] == [{"name": "ids", "type": "tensor(int64)", "shape": [2, 7]}]
        assert result.json["verified"] is False

    @pytest.mark.parametrize(
        ("name", "words", "code", "fragment"),
        [
            ("model", [], 2, "--input-shape"),
            ("modl", [], 2, "did you mean model"),
            ("Sized", ["--input-shape", "1"], 2, "takes arguments"),
            ("broken", ["--input-shape", "1"], 1, "net.py:"),
            ("Net", ["--input-shape", "1,4"], 1, "cannot trace"),
            ("Net", ["--input-shape", "1;3"], 2, "no shape"),
            ("Net", ["--input-shape", "1,3:float99"], 2, "float99"),
            ("Net", ["--input-shape", "1,3", "--dynamic", "batch"], 2, "x:0=batch"),
            ("Net", ["--input-shape", "1,3", "--opset", "99"], 1, "99"),
            ("Strange", ["--input-shape", "1,3"], 1, "zeta"),
            ("nn", ["--input-shape", "1"], 1, "framework"),
        ],
    )
    def test_errors(
        self,
        sardonyx: Any,
        net: Path,
        tmp_path: Path,
        name: str,
        words: list[str],
        code: int,
        fragment: str,
    ) -> None:
        out = tmp_path / "o.onnx"
        result = sardonyx("export", f"{net}:{name}", out, *words)
        assert result.code == code, result.err
        assert fragment in result.err
        assert "Traceback" not in result.err
        assert not out.exists()


@pytest.mark.parametrize(
    ("source", "target", "code", "fragment"),
    [
        ("plain.py", "o.onnx", 2, "it defines value"),
        ("plain.py:none", "o.onnx", 2, "has no 'none'"),
        ("plan.py:value", "o.onnx", 2, "did you mean"),
        ("data.txt:value", "o.onnx", 2, "no Python file"),
        ("plain.py:value", "none/o.onnx", 2, "folder"),
        ("wrong.py:value", "o.onnx", 1, "SyntaxError"),
        ("fails.py:value", "o.onnx", 1, "fails.py:2"),
        ("plain.py:value", "o.onnx", 1, "no framework"),
    ],
)
def test_errors_before_any_framework(
    sardonyx: Any, tmp_path: Path, source: str, target: str, code: int, fragment: str
) -> None:
    (tmp_path / "plain.py").write_text("value = 3\n")
    (tmp_path / "data.txt").write_text("value = 3\n")
    (tmp_path / "wrong.py").write_text("value = = 3\n")
    (tmp_path / "fails.py").write_text("value = 3\nraise OSError('no')\n")
    words = ("--input-shape", "1,3")
    result = sardonyx("export", tmp_path / source, tmp_path / target, *words)
    assert result.code == code, result.err
    assert fragment in result.err
    assert "Traceback" not in result.err
    as_json = sardonyx("export", tmp_path / source, tmp_path / target, *words, "--json")
    assert as_json.json["error"]["message"]
