"""docs/checking.md lists the rules as they are."""

from __future__ import annotations

from pathlib import Path

from sardonyx.check import RULES

PAGE = Path(__file__).parents[2] / "docs" / "checking.md"


def table() -> list[str]:
    return [
        f"| `{name}` | {rule.severity} | {rule.meaning} | {rule.fix} |"
        for name, rule in RULES.items()
    ]


def test_the_page_lists_the_rules() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith("| `") and line.count("|") == 5] == table()


def test_cells_hold_no_bars() -> None:
    assert all(line.count("|") == 5 for line in table())
