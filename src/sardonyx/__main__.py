"""``python -m sardonyx``: the command line."""

from __future__ import annotations

from sardonyx.cli import main

if __name__ == "__main__":
    main()
