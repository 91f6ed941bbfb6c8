from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sardonyx

Write = Callable[..., Path]
PROGRAM = [sys.executable, "-m", "sardonyx"]


def start(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **env},
    )


def test_version() -> None:
    result = start("--version")
    assert result.returncode == 0
    assert result.stdout == f"sardonyx {sardonyx.__version__}\n"


def test_help_loads_no_arrays_and_no_model_code() -> None:
    code = (
        "import sys; sys.argv = ['sardonyx', '--help']\n"
        "from sardonyx.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as error:\n    assert error.code == 0\n"
        "heavy = {'numpy', 'sardonyx.wire', 'sardonyx.ops', 'torch', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ("run", "show", "check", "export", "demo"):
        assert command in result.stdout


@pytest.mark.parametrize("command", ["run", "show", "check", "export", "demo"])
def test_help_of_each_command(sardonyx: Any, command: str) -> None:
    result = sardonyx(command, "--help")
    assert result.code == 0
    assert "--json" in result.out


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["shw"], "show"),
        (["run"], "MODEL"),
        (["show", "a", "b"], "unexpected"),
        (["run", "m.onnx", "--top", "many"], "--top"),
    ],
)
def test_misuse_is_2_and_suggests(sardonyx: Any, words: list[str], fragment: str) -> None:
    result = sardonyx(*words)
    assert result.code == 2
    assert result.out == ""
    assert fragment in result.err
    assert sardonyx(*words, "--json").json["error"]["class"] == "UsageError"


def test_closed_pipe_is_quiet(data: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "show", str(data / "digits.onnx"), "--nodes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, b"")


def _interruptible() -> None:
    """Take signals as a program that a terminal started: a shell's background jobs ignore some."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt_is_130_and_quiet(write: Write) -> None:
    path = write(
        "agraph (float[1] x) => (float[1] y) {"
        " n = Constant<value_int=9000000>() c = Constant<value=bool {1}>()"
        " y = Loop(n, c, x) <body = b (int64 i, bool k, float[1] v) => (bool q, float[1] w)"
        " { q = Identity(k) w = Neg(v) }> }"
    )
    process = subprocess.Popen(
        [*PROGRAM, "run", str(path), "--input", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_interruptible,
    )
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    try:
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (130, b"", b"")


def test_any_encoding_of_the_terminal_will_do(data: Path) -> None:
    for command in (["show"], ["run", "--random"]):
        result = start(*command, data / "digits.onnx", PYTHONIOENCODING="ascii")
        assert result.returncode == 0, result.stderr
        assert result.stdout.isascii()


def test_colours_only_where_wanted(data: Path) -> None:
    coloured = start("check", data / "digits.onnx", FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[" in coloured.stdout
    plain = start("check", data / "digits.onnx")
    assert "\x1b[" not in plain.stdout
    wanted = start("check", data / "digits.onnx", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm")
    assert "\x1b[3" not in wanted.stdout
