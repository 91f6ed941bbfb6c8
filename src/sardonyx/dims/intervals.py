"""Intervals of integers: (lower, upper), inclusive, None being infinite."""

from __future__ import annotations

from typing import Final, TypeAlias

Bounds: TypeAlias = "tuple[int | None, int | None]"

ANY: Final[Bounds] = (None, None)


def intersect(left: Bounds, right: Bounds) -> Bounds:
    """Return what both contain; lower > upper if that is nothing."""
    lower = left[0] if right[0] is None else right[0]
    upper = left[1] if right[1] is None else right[1]
    if left[0] is not None and lower is not None:
        lower = max(left[0], lower)
    if left[1] is not None and upper is not None:
        upper = min(left[1], upper)
    return lower, upper


def nonempty(name: str, limits: Bounds) -> Bounds:
    """Return *limits*, the range of the symbol *name*; ValueError if it has no value."""
    lower, upper = limits
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"symbol {name!r} has the empty range [{lower}, {upper}]")
    return limits


def interval_sum(left: Bounds, right: Bounds) -> Bounds:
    """Bound x + y."""
    return (
        None if left[0] is None or right[0] is None else left[0] + right[0],
        None if left[1] is None or right[1] is None else left[1] + right[1],
    )


def interval_scale(interval: Bounds, factor: int) -> Bounds:
    """Bound x*factor, the factor not being 0."""
    lower, upper = interval if factor > 0 else interval[::-1]
    return (
        None if lower is None else lower * factor,
        None if upper is None else upper * factor,
    )


def interval_product(left: Bounds, right: Bounds) -> Bounds:
    """Bound x*y."""
    (a, b), (c, d) = left, right
    if a is not None and c is not None and a > 0 and c > 0:
        return a * c, None if b is None or d is None else b * d
    finite: list[int] = []
    infinite: set[bool] = set()  # whether a positive, or a negative, corner is infinite
    for x, x_sign in ((a, -1), (b, 1)):
        for y, y_sign in ((c, -1), (d, 1)):
            if (x is not None and y is not None) or x == 0 or y == 0:
                finite.append((x or 0) * (y or 0))
            else:
                infinite.add((x_sign if x is None else x) * (y_sign if y is None else y) > 0)
    return (
        None if False in infinite else min(finite, default=None),
        None if True in infinite else max(finite, default=None),
    )


def interval_quotient(left: Bounds, right: Bounds) -> Bounds:
    """Bound x//y, y not being 0."""
    (a, b), (c, d) = left, right
    if c == d == 0:
        return ANY
    if d is not None and d <= 0:
        # a // b -> (-a) // (-b)
        return interval_quotient(interval_scale(left, -1), interval_scale(right, -1))
    if c is None or c < 0:
        if a is None or b is None:
            return ANY
        most = max(abs(a), abs(b))
        return -most, most
    c = max(c, 1)
    lower = upper = None
    if a is not None:
        lower = a // c if a < 0 else (0 if d is None else a // d)
    if b is not None:
        upper = b // c if b >= 0 else (-1 if d is None else b // d)
    return lower, upper


def interval_extreme(cases: list[Bounds], *, below: bool, above: bool) -> Bounds:
    """Bound a value that is one of *cases*, and never above (below) any of them if so told."""
    lowers = [case[0] for case in cases if case[0] is not None]
    uppers = [case[1] for case in cases if case[1] is not None]
    lower = upper = None
    if lowers and (above or len(lowers) == len(cases)):
        lower = max(lowers) if above else min(lowers)
    if uppers and (below or len(uppers) == len(cases)):
        upper = min(uppers) if below else max(uppers)
    return lower, upper
