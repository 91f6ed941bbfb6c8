"""The processor that this process runs on."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sardonyx.codegen.processor import remembered
from sardonyx.loops.machine import Machine

if TYPE_CHECKING:
    from llvmlite.binding import FeatureMap

__all__ = ["described", "host"]


@lru_cache(maxsize=1)
def host() -> Machine:
    """The processor that this process runs on."""
    return remembered(_detected)


def _detected() -> Machine:
    """What LLVM says of the processor."""
    import llvmlite.binding as llvm

    return described(
        llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    )


def described(triple: str, cpu: str, features: FeatureMap) -> Machine:
    """The processor that LLVM describes so.

    AArch64 has its vectors always, and not all systems name them among the `features`.
    """

    def has(*names: str) -> bool:
        return all(features.get(name) for name in names)

    architecture = triple.split("-", 1)[0]
    is_arm = architecture in {"aarch64", "arm64"}
    is_x86 = architecture == "x86_64"
    if is_x86 and has("avx512f", "avx512vl", "avx512dq", "avx512bw"):
        bits, registers = 512, 32
    elif is_x86 and has("avx2", "fma"):
        bits, registers = 256, 16
    else:
        bits, registers = 128, 32 if is_arm else 16
    return Machine(
        triple,
        cpu,
        features.flatten(),
        bits,
        registers,
        converts_halves=is_arm or (is_x86 and has("f16c")),
        rounds=is_arm or (is_x86 and has("sse4.1")),
        pairs=bits if is_x86 else 0,
    )
