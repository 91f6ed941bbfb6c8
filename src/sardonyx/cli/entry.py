"""The process around a command: streams, signals, exit codes."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import NoReturn

__all__ = ["run_process"]

_BROKEN_PIPE = 141
_INTERRUPTED = 130


def run_process() -> NoReturn:
    """Run `sys.argv` and exit; no usage error, interrupt or closed pipe shows a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = 1
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        _silence()
        code = _BROKEN_PIPE
    sys.exit(code)


def _run() -> int:
    if sys.argv[1:] == ["--version"]:
        from sardonyx._version import __version__

        print(f"sardonyx {__version__}")  # noqa: T201
        return 0
    from sardonyx.cli.app import app
    from sardonyx.cli.console import usage_error

    try:
        result = app(prog_name="sardonyx", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ == "Abort":
            return _INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        return usage_error(error, as_json="--json" in sys.argv)
    return result if isinstance(result, int) else 0


def _silence() -> None:
    """Keep the interpreter from writing to the closed pipe once more when it ends."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
