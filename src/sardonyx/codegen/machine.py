"""The processor that this process runs on."""

from __future__ import annotations

from functools import lru_cache

from sardonyx.loops.machine import Machine

__all__ = ["host"]


@lru_cache(maxsize=1)
def host() -> Machine:
    """The processor that this process runs on."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq"):
        bits, registers = 512, 32
    elif features.get("avx2") and features.get("fma"):
        bits, registers = 256, 16
    elif features.get("neon"):
        bits, registers = 128, 32
    else:
        bits, registers = 128, 16
    return Machine(
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        features.flatten(),
        bits,
        registers,
    )
