"""Operators as loop IR: how each is computed by generated code, apart from where and in what order.

These rules lie beside `sardonyx.ops` rather than in its classes so that opening, checking and
converting a model load nothing of the compiler.
"""

from __future__ import annotations

from sardonyx.lowering.registry import count, is_counted, is_lowered, lower, rule

__all__ = ["count", "is_counted", "is_lowered", "lower", "rule"]
