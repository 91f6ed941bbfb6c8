"""The command line: ``sardonyx run | show | check | export | demo``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and end the process with its exit code.

    0 is success, 1 a model or data that is bad, 2 a command that does not fit (unknown files,
    inputs, options), 130 an interrupt.
    """
    from sardonyx.cli.entry import run_process

    run_process()
