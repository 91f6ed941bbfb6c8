"""The loop IR: expressions, statements and definitions, and what they mean."""

from __future__ import annotations
