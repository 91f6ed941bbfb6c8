"""How definitions become kernels: fusing, ordering, vectorizing, and where values lie in memory."""

from __future__ import annotations
