"""The native side of a run: one call that executes a program.

A program is an array of records of `RECORD_WORDS` words, one for each launch. `sardonyx_run`
takes the address of a control block (`Control`) and gives the number of the next launch (as many
as there are when all are done), or a negative number: -1 if an array is not what the control block
says, -2 - i if launch i found an index outside of its dimension. It returns early, between two
launches, when the work done exceeds the budget in the control block.

Launches whose record says so are shared among threads: `sardonyx.codegen.sharing`.
"""

from __future__ import annotations

from enum import IntEnum
from string import Template
from typing import TYPE_CHECKING

from sardonyx.codegen.parking import CONDITION, FUTEX, futex_number, pause_of
from sardonyx.codegen.sharing import HELPER_BYTES, MOST_CHUNKS, POOL_BYTES, SHARING, Pool

if TYPE_CHECKING:
    from sardonyx.loops.machine import Machine

__all__ = [
    "ARRAY_WORDS",
    "RECORD_WORDS",
    "STATUS_BYTES",
    "Control",
    "runner_text",
]

RECORD_WORDS = 6
"""Of a launch: code, arguments, extent, least steps of a chunk, mode, nanoseconds. The bits of the
mode: 1, it is shared; 2, helpers that sleep are woken before it."""

ARRAY_WORDS = 5
"""Of an array to look into: the object, its place in the table, its dtype object, its rank with
the mask of its alignment above 32 bits, where the sizes that it must have lie."""

STATUS_BYTES = 64
"""Apart from one another lie the status bytes of the threads of a run."""


class Control(IntEnum):
    """The words of a run's control block."""

    PROGRAM = 0
    COUNT = 1
    FIRST = 2
    TABLE = 3
    SCRATCH = 4
    STRIDE = 5
    STATUS = 6
    POOL = 7
    THREADS = 8
    BUDGET = 9
    ARRAYS = 10
    ROWS = 11
    WORDS = 12


_RUNNER = """
; Look into the arrays of a run and put their addresses into the table; false if one differs.
define internal i1 @open(ptr %control) nounwind {
entry:
  %c0 = getelementptr i64, ptr %control, i64 $ARRAYS
  %count = load i64, ptr %c0, align 8
  %c1 = getelementptr i64, ptr %control, i64 $ROWS
  %rows = load ptr, ptr %c1, align 8
  %c2 = getelementptr i64, ptr %control, i64 $TABLE
  %table = load ptr, ptr %c2, align 8
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %put ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %good
look:
  %row = getelementptr [$ARRAY_WORDS x i64], ptr %rows, i64 %i
  %object = load ptr, ptr %row, align 8
  %fields = getelementptr i8, ptr %object, i64 $object_bytes
  %r1 = getelementptr i64, ptr %row, i64 1
  %slot = load i64, ptr %r1, align 8
  %r2 = getelementptr i64, ptr %row, i64 2
  %dtype = load i64, ptr %r2, align 8
  %r3 = getelementptr i64, ptr %row, i64 3
  %shapes = load i64, ptr %r3, align 8
  %r4 = getelementptr i64, ptr %row, i64 4
  %wanted = load ptr, ptr %r4, align 8
  %data = load i64, ptr %fields, align 8
  %f1 = getelementptr i64, ptr %fields, i64 1
  %rank = load i32, ptr %f1, align 4
  %f2 = getelementptr i64, ptr %fields, i64 2
  %sizes = load ptr, ptr %f2, align 8
  %f5 = getelementptr i64, ptr %fields, i64 5
  %its.dtype = load i64, ptr %f5, align 8
  %f6 = getelementptr i64, ptr %fields, i64 6
  %flags = load i32, ptr %f6, align 4
  %mask = lshr i64 %shapes, 32
  %low = and i64 %data, %mask
  %is.aligned = icmp eq i64 %low, 0
  %contiguous = and i32 %flags, 1
  %is.contiguous = icmp ne i32 %contiguous, 0
  %wanted.rank = trunc i64 %shapes to i32
  %is.rank = icmp eq i32 %rank, %wanted.rank
  %is.dtype = icmp eq i64 %its.dtype, %dtype
  %a = and i1 %is.aligned, %is.contiguous
  %b = and i1 %is.rank, %is.dtype
  %fits = and i1 %a, %b
  br i1 %fits, label %shape, label %bad
shape:
  %axis = phi i64 [ 0, %look ], [ %axis.next, %same ]
  %wide = zext i32 %rank to i64
  %inside = icmp slt i64 %axis, %wide
  br i1 %inside, label %size, label %put
size:
  %s = getelementptr i64, ptr %sizes, i64 %axis
  %got = load i64, ptr %s, align 8
  %w = getelementptr i64, ptr %wanted, i64 %axis
  %must = load i64, ptr %w, align 8
  %is.size = icmp eq i64 %got, %must
  br i1 %is.size, label %same, label %bad
same:
  %axis.next = add i64 %axis, 1
  br label %shape
put:
  %place = getelementptr i64, ptr %table, i64 %slot
  store i64 %data, ptr %place, align 8
  %next = add i64 %i, 1
  br label %head
good:
  ret i1 true
bad:
  ret i1 false
}

; Whether any of the threads of a run noted a fault.
define internal i1 @failed(ptr %status, i64 %threads) nounwind {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %head ]
  %seen = phi i8 [ 0, %entry ], [ %sum, %head ]
  %away = mul i64 %i, $STATUS_BYTES
  %byte = getelementptr i8, ptr %status, i64 %away
  %value = load i8, ptr %byte, align 1
  %sum = or i8 %seen, %value
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %threads
  br i1 %more, label %head, label %done
done:
  %fault = icmp ne i8 %sum, 0
  ret i1 %fault
}

; Take the pool for this run, if it is free; null, if there is none or another run has it.
define internal ptr @own(ptr %control) nounwind {
entry:
  %c0 = getelementptr i64, ptr %control, i64 $POOL
  %pool = load ptr, ptr %c0, align 8
  %none = icmp eq ptr %pool, null
  br i1 %none, label %alone, label %try
try:
  %pair = cmpxchg ptr %pool, i32 0, i32 1 acq_rel monotonic
  %mine = extractvalue { i32, i1 } %pair, 1
  br i1 %mine, label %begin, label %alone
begin:
  %c1 = getelementptr i64, ptr %control, i64 $THREADS
  %threads = load i64, ptr %c1, align 8
  %active = getelementptr i64, ptr %pool, i64 $ACTIVE
  %limit = getelementptr i64, ptr %active, i64 1
  store atomic i64 %threads, ptr %limit monotonic, align 8
  store atomic i32 1, ptr %active seq_cst, align 4
  ret ptr %pool
alone:
  ret ptr null
}

define i64 @sardonyx_run(ptr %control) nounwind {
entry:
  %fits = call i1 @open(ptr %control)
  br i1 %fits, label %start, label %refuse
refuse:
  ret i64 -1
start:
  %program = load ptr, ptr %control, align 8
  %c1 = getelementptr i64, ptr %control, i64 $COUNT
  %count = load i64, ptr %c1, align 8
  %c2 = getelementptr i64, ptr %control, i64 $FIRST
  %first = load i64, ptr %c2, align 8
  %c3 = getelementptr i64, ptr %control, i64 $TABLE
  %table = load ptr, ptr %c3, align 8
  %c4 = getelementptr i64, ptr %control, i64 $SCRATCH
  %scratch = load ptr, ptr %c4, align 8
  %c5 = getelementptr i64, ptr %control, i64 $STATUS
  %status = load ptr, ptr %c5, align 8
  %c6 = getelementptr i64, ptr %control, i64 $THREADS
  %threads = load i64, ptr %c6, align 8
  %c7 = getelementptr i64, ptr %control, i64 $BUDGET
  %budget = load i64, ptr %c7, align 8
  %pool = call ptr @own(ptr %control)
  %is.alone = icmp eq ptr %pool, null
  br label %head
head:
  %i = phi i64 [ %first, %start ], [ %next, %go.on ]
  %rest = phi i64 [ %budget, %start ], [ %rest.next, %go.on ]
  %more = icmp slt i64 %i, %count
  %affordable = icmp sgt i64 %rest, 0
  %goes.on = and i1 %more, %affordable
  br i1 %goes.on, label %body, label %done
body:
  %record = getelementptr [$RECORD_WORDS x i64], ptr %program, i64 %i
  %r2 = getelementptr i64, ptr %record, i64 2
  %extent = load i64, ptr %r2, align 8
  %r4 = getelementptr i64, ptr %record, i64 4
  %mode = load i64, ptr %r4, align 8
  %r5 = getelementptr i64, ptr %record, i64 5
  %work = load i64, ptr %r5, align 8
  %rest.next = sub i64 %rest, %work
  %plain = icmp eq i64 %mode, 0
  %single = or i1 %plain, %is.alone
  br i1 %single, label %alone, label %together
together:
  %shared = and i64 %mode, 1
  %is.shared = icmp ne i64 %shared, 0
  br i1 %is.shared, label %share, label %early
share:
  call void @share(ptr %pool, ptr %control, ptr %record, i64 %mode)
  %fault.shared = call i1 @failed(ptr %status, i64 %threads)
  br i1 %fault.shared, label %fault, label %go.on
early:
  call void @rouse(ptr %pool, i64 %threads)
  br label %alone
alone:
  %code = load ptr, ptr %record, align 8
  %r1 = getelementptr i64, ptr %record, i64 1
  %args = load ptr, ptr %r1, align 8
  call void %code(ptr %args, ptr %table, i64 0, i64 %extent, ptr %scratch, ptr %status)
  %noted = load i8, ptr %status, align 1
  %fault.alone = icmp ne i8 %noted, 0
  br i1 %fault.alone, label %fault, label %go.on
go.on:
  %next = add i64 %i, 1
  br label %head
fault:
  %mirrored = sub i64 -2, %i
  br label %done
done:
  %result = phi i64 [ %i, %head ], [ %mirrored, %fault ]
  br i1 %is.alone, label %leave, label %release
release:
  %active = getelementptr i64, ptr %pool, i64 $ACTIVE
  store atomic i32 0, ptr %active seq_cst, align 4
  store atomic i32 0, ptr %pool release, align 4
  br label %leave
leave:
  ret i64 %result
}

declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""


def runner_text(machine: Machine, *, futex: bool = True) -> str:
    """The LLVM module of `sardonyx_run`, `sardonyx_help` and `sardonyx_quit`.

    With `futex`, helpers sleep by Linux's futex call where there is one.
    """
    number = futex_number(machine) if futex else None
    declare, pause = pause_of(machine)
    words = {name: int(word) for name, word in Control.__members__.items()}
    words |= {name: int(word) for name, word in Pool.__members__.items()}
    words |= {
        "RECORD_WORDS": RECORD_WORDS,
        "ARRAY_WORDS": ARRAY_WORDS,
        "STATUS_BYTES": STATUS_BYTES,
        "POOL_BYTES": POOL_BYTES,
        "HELPER_BYTES": HELPER_BYTES,
        "MOST_CHUNKS": MOST_CHUNKS,
        "object_bytes": object.__basicsize__,
        "number": number or 0,
    }
    parking = CONDITION if number is None else FUTEX
    return Template(parking + SHARING + _RUNNER).substitute(
        words, declare_pause=declare, pause=pause
    )
