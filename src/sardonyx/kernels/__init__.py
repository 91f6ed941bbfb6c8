"""Loop nests that are shaped by hand: matrix products and what stands on them."""

from __future__ import annotations
