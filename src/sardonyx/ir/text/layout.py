"""How lists are laid out: on one line where they fit, or an item a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STEP", "last_line", "listed"]

STEP: Final = "   "
"""One level of indentation."""

_WIDTH: Final = 100


def last_line(text: str) -> int:
    """The length of the last line of `text`."""
    return len(text) - text.rfind("\n") - 1


def listed(
    opening: str, items: Sequence[str], closing: str, indent: str, used: int, *, inline: bool = True
) -> str:
    """`items` between brackets: on one line where they fit after `used` columns, or else apart.

    `indent` is that of the line which the list begins on.
    """
    if inline or not items:
        length = used + sum(map(len, items)) + 2 * len(items)
        if length <= _WIDTH and not any("\n" in item for item in items):
            return f"{opening}{', '.join(items)}{closing}"
    between = "\n" + indent + STEP
    return f"{opening}{between}{(',' + between).join(items)}\n{indent}{closing}"
