"""Bars, pictures and numbers as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

__all__ = ["bar", "bytes_text", "duration_text", "picture"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SHADES = " ░▒▓█"
_ASCII_SHADES = " .:*#"


def _has_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def bar(console: Console, fraction: float, width: int, style: str = "cyan") -> Text:
    """A bar of `width` columns, filled to `fraction` (0 to 1)."""
    fraction = min(max(fraction, 0.0), 1.0) if fraction == fraction else 0.0
    if not _has_blocks(console):
        return Text(("#" * round(fraction * width)).ljust(width), style=style)
    eighths = round(fraction * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text(text.ljust(width), style=style)


def picture(console: Console, pixels: npt.NDArray[np.uint8]) -> list[str]:
    """Lines that draw `pixels`, [height, width] of 0 to 255, two columns each."""
    shades = _SHADES if _has_blocks(console) else _ASCII_SHADES
    steps = len(shades) - 1
    return ["".join(shades[(int(p) * steps + 127) // 255] * 2 for p in row) for row in pixels]


def bytes_text(count: int) -> str:
    """A number of bytes to read: ``44.5 kB``."""
    size = float(count)
    if size < 1000:
        return f"{count} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def duration_text(seconds: float) -> str:
    """A time to read: ``1.24 ms``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"
