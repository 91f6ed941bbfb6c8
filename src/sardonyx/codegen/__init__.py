"""Machine code from loop IR, through LLVM: the only package that imports llvmlite."""

from __future__ import annotations
