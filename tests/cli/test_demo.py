from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from sardonyx.cli import demo


def test_demo_walks_the_whole_way_in_ten_seconds() -> None:
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "sardonyx", "demo"],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8", "COLUMNS": "80"},
    )
    assert time.perf_counter() - start < 10
    assert (result.returncode, result.stderr) == (0, "")
    for number in range(1, 7):
        assert any(line.startswith(f"{number}  ") for line in result.stdout.splitlines())
    assert "10 of 10 pictures" in result.stdout
    assert result.stdout.count("reads ") == 11


def test_json(sardonyx: Any) -> None:
    document = sardonyx("demo", "--json").json
    assert document["right"] == len(document["pictures"]) == 10
    assert document["agrees"] is True
    assert document["largest_difference"] <= document["allowed_difference"] < 1e-4
    assert document["check"]["sound"] is True
    assert 0 < document["median_seconds"] < document["seconds"]


def test_saved_copy_works_as_the_demo_says(sardonyx: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    commands = sardonyx("demo", "--save", folder, "--json").json["next"]
    assert len(commands) > 2
    for command in commands:
        assert str(folder) in command
        subprocess.run(shlex.split(command), check=True, stdout=subprocess.DEVNULL)


def test_next_commands_install_what_pictures_need(
    sardonyx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    *_, install, picture = sardonyx("demo", "--json").json["next"]
    assert install.endswith("-m pip install pillow")
    assert picture.endswith(".png")


def test_unwritable_folder(sardonyx: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = sardonyx("demo", "--save", tmp_path / "file" / "inside")
    assert result.code == 2
    assert "cannot write" in result.err


def test_recorded_probabilities_are_those_of_onnxruntime(data: Path) -> None:
    recorded = np.load(data / "digits.npz")
    onnx.checker.check_model(str(data / "digits.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(
        str(data / "digits.onnx"), providers=["CPUExecutionProvider"]
    )
    images = recorded["images"].astype(np.float32) / 255
    (found,) = session.run(None, {"image": images})
    # one rounding for each of 512 terms of the longest sum
    np.testing.assert_allclose(found, recorded["probabilities"], atol=512 * 2**-23)
    assert found.argmax(1).tolist() == recorded["labels"].tolist() == list(range(10))


def test_pictures_are_those_of_the_archive(data: Path) -> None:
    recorded = np.load(data / "digits.npz")
    files = sorted(data.glob("*.png"))
    assert len(files) == 3
    for file in files:
        digit = int(file.stem.rpartition("-")[2])
        np.testing.assert_array_equal(np.asarray(Image.open(file)), recorded["images"][digit, 0])


def test_shipped_files_are_small(data: Path) -> None:
    assert sum(file.stat().st_size for file in data.iterdir()) < 64_000
