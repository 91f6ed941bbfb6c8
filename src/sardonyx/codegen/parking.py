"""How a thread waits for another: a pause while it spins, and sleep by futex or condition.

``park(pool, word, value)`` sleeps while a word of memory has a value, or wakes for nothing;
``wake(pool, word)`` wakes one that sleeps on it. What they call is in words of the pool's block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sardonyx.loops.machine import Machine

__all__ = ["CONDITION", "FUTEX", "futex_number", "pause_of"]

_PAUSE: Final = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.isb(i32)", "call void @llvm.aarch64.isb(i32 15)"),
}
_PAUSE["arm64"] = _PAUSE["aarch64"]
_FUTEX_NUMBER: Final = {"x86_64": 202, "aarch64": 98}

FUTEX: Final = """
define internal void @park(ptr %pool, ptr %word, i32 %value) nounwind {
  %p = getelementptr i64, ptr %pool, i64 $FUTEX
  %call = load ptr, ptr %p, align 8
  %r = call i64 (i64, ...) %call(i64 $number, ptr %word, i32 128, i32 %value, ptr null)
  ret void
}

define internal void @wake(ptr %pool, ptr %word) nounwind {
  %p = getelementptr i64, ptr %pool, i64 $FUTEX
  %call = load ptr, ptr %p, align 8
  %r = call i64 (i64, ...) %call(i64 $number, ptr %word, i32 129, i32 1)
  ret void
}
"""

CONDITION: Final = """
define internal void @hold(ptr %pool, i64 %which) nounwind {
  %p = getelementptr i64, ptr %pool, i64 %which
  %call = load ptr, ptr %p, align 8
  %q = getelementptr i64, ptr %pool, i64 $MUTEX
  %mutex = load ptr, ptr %q, align 8
  %r = call i32 %call(ptr %mutex)
  ret void
}

define internal void @park(ptr %pool, ptr %word, i32 %value) nounwind {
entry:
  call void @hold(ptr %pool, i64 $LOCK)
  br label %look
look:
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %value
  br i1 %same, label %sleep, label %done
sleep:
  %p = getelementptr i64, ptr %pool, i64 $WAIT
  %call = load ptr, ptr %p, align 8
  %q = getelementptr i64, ptr %pool, i64 $CONDITION
  %condition = load ptr, ptr %q, align 8
  %m = getelementptr i64, ptr %pool, i64 $MUTEX
  %mutex = load ptr, ptr %m, align 8
  %r = call i32 %call(ptr %condition, ptr %mutex)
  br label %look
done:
  call void @hold(ptr %pool, i64 $UNLOCK)
  ret void
}

define internal void @wake(ptr %pool, ptr %word) nounwind {
  call void @hold(ptr %pool, i64 $LOCK)
  %p = getelementptr i64, ptr %pool, i64 $BROADCAST
  %call = load ptr, ptr %p, align 8
  %q = getelementptr i64, ptr %pool, i64 $CONDITION
  %condition = load ptr, ptr %q, align 8
  %r = call i32 %call(ptr %condition)
  call void @hold(ptr %pool, i64 $UNLOCK)
  ret void
}
"""


def futex_number(machine: Machine) -> int | None:
    """The number of Linux's futex call; None where helpers sleep on a POSIX condition."""
    architecture, *system = machine.triple.split("-")
    return _FUTEX_NUMBER.get(architecture) if "linux" in system else None


def pause_of(machine: Machine) -> tuple[str, str]:
    """The declaration and the call of what a thread does between two looks at a word."""
    return _PAUSE.get(machine.triple.split("-")[0], ("", "fence seq_cst"))
