"""The native side of threads that share a launch; `sardonyx.runtime.threads` has the protocol.

A launch is divided into chunks that the running thread and helpers claim one by one. `share` does
that for a run; `help` is what a helper thread calls, with the address of the pool's block (`Pool`)
and its number, and it returns when `quit` was called for the pool.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["HELPER_BYTES", "MOST_CHUNKS", "POOL_BYTES", "SHARING", "Pool"]

MOST_CHUNKS = 1 << 15
"""Chunks of one launch: their number takes 16 bits beside the launch's in the claim word."""


class Pool(IntEnum):
    """The words of a pool's block; helper h has its sleeping word at POOL_BYTES + 64 h."""

    OWNER = 0
    CLAIM = 8
    PENDING = 16
    ACTIVE = 24
    LAUNCH = 32
    WAITING_SPINS = 48
    HELPING_SPINS = 49
    FUTEX = 50
    LOCK = 51
    UNLOCK = 52
    WAIT = 53
    BROADCAST = 54
    MUTEX = 55
    CONDITION = 56
    GENERATION = 57


POOL_BYTES = 512
HELPER_BYTES = 64

SHARING = """
$declare_pause

define internal ptr @sleeping(ptr %pool, i64 %helper) alwaysinline nounwind {
  %far = mul i64 %helper, $HELPER_BYTES
  %offset = add i64 %far, $POOL_BYTES
  %word = getelementptr i8, ptr %pool, i64 %offset
  ret ptr %word
}

; Wake up to two of the helpers below %threads that sleep; those wake others in turn.
define internal void @rouse(ptr %pool, i64 %threads) nounwind {
entry:
  br label %head
head:
  %helper = phi i64 [ 1, %entry ], [ %following, %next ]
  %woken = phi i64 [ 0, %entry ], [ %count, %next ]
  %some = icmp slt i64 %helper, %threads
  %few = icmp slt i64 %woken, 2
  %more = and i1 %some, %few
  br i1 %more, label %look, label %done
look:
  %word = call ptr @sleeping(ptr %pool, i64 %helper)
  %state = load atomic i32, ptr %word seq_cst, align 4
  %asleep = icmp eq i32 %state, 1
  br i1 %asleep, label %claim, label %next
claim:
  %pair = cmpxchg ptr %word, i32 1, i32 0 seq_cst seq_cst
  %mine = extractvalue { i32, i1 } %pair, 1
  br i1 %mine, label %rouse, label %next
rouse:
  call void @wake(ptr %pool, ptr %word)
  %more.woken = add i64 %woken, 1
  br label %next
next:
  %count = phi i64 [ %woken, %look ], [ %woken, %claim ], [ %more.woken, %rouse ]
  %following = add i64 %helper, 1
  br label %head
done:
  ret void
}

; Compute chunks of the launch that is offered until none is left; gives how many it was.
define internal i32 @take(ptr %pool, i64 %me) nounwind {
entry:
  %claim = getelementptr i64, ptr %pool, i64 $CLAIM
  %launch = getelementptr i64, ptr %pool, i64 $LAUNCH
  br label %head
head:
  %done = phi i32 [ 0, %entry ], [ %done, %read ], [ %done.next, %compute ]
  %seen = load atomic i64, ptr %claim acquire, align 8
  %left = and i64 %seen, 65535
  %none = icmp eq i64 %left, 0
  br i1 %none, label %finish, label %allowed
allowed:
  %p9 = getelementptr i64, ptr %launch, i64 9
  %threads = load atomic i64, ptr %p9 monotonic, align 8
  %may = icmp slt i64 %me, %threads
  br i1 %may, label %read, label %finish
read:
  %code = load atomic ptr, ptr %launch monotonic, align 8
  %p1 = getelementptr i64, ptr %launch, i64 1
  %args = load atomic ptr, ptr %p1 monotonic, align 8
  %p2 = getelementptr i64, ptr %launch, i64 2
  %extent = load atomic i64, ptr %p2 monotonic, align 8
  %p3 = getelementptr i64, ptr %launch, i64 3
  %grain = load atomic i64, ptr %p3 monotonic, align 8
  %p4 = getelementptr i64, ptr %launch, i64 4
  %chunks = load atomic i64, ptr %p4 monotonic, align 8
  %p5 = getelementptr i64, ptr %launch, i64 5
  %table = load atomic ptr, ptr %p5 monotonic, align 8
  %p6 = getelementptr i64, ptr %launch, i64 6
  %scratches = load atomic ptr, ptr %p6 monotonic, align 8
  %p7 = getelementptr i64, ptr %launch, i64 7
  %stride = load atomic i64, ptr %p7 monotonic, align 8
  %p8 = getelementptr i64, ptr %launch, i64 8
  %statuses = load atomic ptr, ptr %p8 monotonic, align 8
  %less = sub i64 %seen, 1
  %pair = cmpxchg ptr %claim, i64 %seen, i64 %less acq_rel monotonic
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %compute, label %head
compute:
  %number = sub i64 %chunks, %left
  %begin = mul i64 %number, %grain
  %after = add i64 %begin, %grain
  %end = call i64 @llvm.smin.i64(i64 %after, i64 %extent)
  %far = mul i64 %stride, %me
  %scratch = getelementptr i8, ptr %scratches, i64 %far
  %away = mul i64 %me, $STATUS_BYTES
  %status = getelementptr i8, ptr %statuses, i64 %away
  call void %code(ptr %args, ptr %table, i64 %begin, i64 %end, ptr %scratch, ptr %status)
  %done.next = add i32 %done, 1
  br label %head
finish:
  %idle = icmp eq i32 %done, 0
  br i1 %idle, label %leave, label %tell
tell:
  %pending = getelementptr i64, ptr %pool, i64 $PENDING
  %before = atomicrmw sub ptr %pending, i32 %done seq_cst
  %last = icmp eq i32 %before, %done
  br i1 %last, label %look, label %leave
look:
  %waits = getelementptr i32, ptr %pending, i64 1
  %waiting = load atomic i32, ptr %waits seq_cst, align 4
  %sleeper = icmp ne i32 %waiting, 0
  br i1 %sleeper, label %call, label %leave
call:
  call void @wake(ptr %pool, ptr %pending)
  br label %leave
leave:
  ret i32 %done
}

; Offer a launch to all, take part, and wait until every chunk is computed.
define internal void @share(ptr %pool, ptr %control, ptr %record, i64 %mode) nounwind {
entry:
  %c = getelementptr i64, ptr %control, i64 $THREADS
  %threads = load i64, ptr %c, align 8
  %r2 = getelementptr i64, ptr %record, i64 2
  %extent = load i64, ptr %r2, align 8
  %r3 = getelementptr i64, ptr %record, i64 3
  %least = load i64, ptr %r3, align 8
  %fitting = sdiv i64 %extent, %least
  %wanted = shl i64 %threads, 2
  %fewer = call i64 @llvm.smin.i64(i64 %fitting, i64 %wanted)
  %few = call i64 @llvm.smin.i64(i64 %fewer, i64 $MOST_CHUNKS)
  %parts = call i64 @llvm.smax.i64(i64 %few, i64 1)
  %up = add i64 %extent, %parts
  %up.less = sub i64 %up, 1
  %even = sdiv i64 %up.less, %parts
  %is.long = icmp sge i64 %even, 64
  %plus = add i64 %even, 15
  %round = and i64 %plus, -16
  %grain = select i1 %is.long, i64 %round, i64 %even
  %over = add i64 %extent, %grain
  %over.less = sub i64 %over, 1
  %chunks = sdiv i64 %over.less, %grain
  %launch = getelementptr i64, ptr %pool, i64 $LAUNCH
  %code = load i64, ptr %record, align 8
  store atomic i64 %code, ptr %launch monotonic, align 8
  %r1 = getelementptr i64, ptr %record, i64 1
  %args = load i64, ptr %r1, align 8
  %p1 = getelementptr i64, ptr %launch, i64 1
  store atomic i64 %args, ptr %p1 monotonic, align 8
  %p2 = getelementptr i64, ptr %launch, i64 2
  store atomic i64 %extent, ptr %p2 monotonic, align 8
  %p3 = getelementptr i64, ptr %launch, i64 3
  store atomic i64 %grain, ptr %p3 monotonic, align 8
  %p4 = getelementptr i64, ptr %launch, i64 4
  store atomic i64 %chunks, ptr %p4 monotonic, align 8
  %c5 = getelementptr i64, ptr %control, i64 $TABLE
  %table = load i64, ptr %c5, align 8
  %p5 = getelementptr i64, ptr %launch, i64 5
  store atomic i64 %table, ptr %p5 monotonic, align 8
  %c6 = getelementptr i64, ptr %control, i64 $SCRATCH
  %scratch = load i64, ptr %c6, align 8
  %p6 = getelementptr i64, ptr %launch, i64 6
  store atomic i64 %scratch, ptr %p6 monotonic, align 8
  %c7 = getelementptr i64, ptr %control, i64 $STRIDE
  %stride = load i64, ptr %c7, align 8
  %p7 = getelementptr i64, ptr %launch, i64 7
  store atomic i64 %stride, ptr %p7 monotonic, align 8
  %c8 = getelementptr i64, ptr %control, i64 $STATUS
  %status = load i64, ptr %c8, align 8
  %p8 = getelementptr i64, ptr %launch, i64 8
  store atomic i64 %status, ptr %p8 monotonic, align 8
  %p9 = getelementptr i64, ptr %launch, i64 9
  store atomic i64 %threads, ptr %p9 monotonic, align 8
  %pending = getelementptr i64, ptr %pool, i64 $PENDING
  %count = trunc i64 %chunks to i32
  store atomic i32 %count, ptr %pending monotonic, align 4
  %waiting = getelementptr i32, ptr %pending, i64 1
  store atomic i32 0, ptr %waiting monotonic, align 4
  %g = getelementptr i64, ptr %pool, i64 $GENERATION
  %generation = load i64, ptr %g, align 8
  %newer = add i64 %generation, 1
  store i64 %newer, ptr %g, align 8
  %high = shl i64 %newer, 16
  %offer = or i64 %high, %chunks
  %claim = getelementptr i64, ptr %pool, i64 $CLAIM
  store atomic i64 %offer, ptr %claim seq_cst, align 8
  %wakes = and i64 %mode, 2
  %quiet = icmp eq i64 %wakes, 0
  br i1 %quiet, label %work, label %rouse
rouse:
  call void @rouse(ptr %pool, i64 %threads)
  br label %work
work:
  %mine = call i32 @take(ptr %pool, i64 0)
  %s = getelementptr i64, ptr %pool, i64 $WAITING_SPINS
  %most = load i64, ptr %s, align 8
  br label %spin
spin:
  %spins = phi i64 [ 0, %work ], [ %spins.next, %pause ]
  %left = load atomic i32, ptr %pending acquire, align 4
  %all = icmp eq i32 %left, 0
  br i1 %all, label %done, label %again
again:
  %spins.next = add i64 %spins, 1
  %patient = icmp slt i64 %spins, %most
  br i1 %patient, label %pause, label %sleep
pause:
  $pause
  br label %spin
sleep:
  store atomic i32 1, ptr %waiting seq_cst, align 4
  %still = load atomic i32, ptr %pending seq_cst, align 4
  %none = icmp eq i32 %still, 0
  br i1 %none, label %done, label %park
park:
  call void @park(ptr %pool, ptr %pending, i32 %still)
  br label %sleep
done:
  ret void
}

; The life of helper %me of the pool.
define void @sardonyx_help(ptr %pool, i64 %me) nounwind {
entry:
  %word = call ptr @sleeping(ptr %pool, i64 %me)
  %active = getelementptr i64, ptr %pool, i64 $ACTIVE
  %quits = getelementptr i32, ptr %active, i64 1
  %limit = getelementptr i64, ptr %active, i64 1
  %s = getelementptr i64, ptr %pool, i64 $HELPING_SPINS
  br label %fresh
fresh:
  br label %head
head:
  %spins = phi i64 [ 0, %fresh ], [ %spins.next, %pause ]
  %taken = call i32 @take(ptr %pool, i64 %me)
  %worked = icmp ne i32 %taken, 0
  br i1 %worked, label %fresh, label %idle
idle:
  %is.active = load atomic i32, ptr %active acquire, align 4
  %threads = load atomic i64, ptr %limit monotonic, align 8
  %runs = icmp ne i32 %is.active, 0
  %may = icmp slt i64 %me, %threads
  %wanted = and i1 %runs, %may
  br i1 %wanted, label %patience, label %settle
patience:
  %spins.next = add i64 %spins, 1
  %most = load atomic i64, ptr %s monotonic, align 8
  %patient = icmp slt i64 %spins, %most
  br i1 %patient, label %pause, label %settle
pause:
  $pause
  br label %head
settle:
  %bored = phi i1 [ false, %idle ], [ true, %patience ]
  store atomic i32 1, ptr %word seq_cst, align 4
  %quit = load atomic i32, ptr %quits seq_cst, align 4
  %ends = icmp ne i32 %quit, 0
  br i1 %ends, label %leave, label %recheck
recheck:
  %claim = getelementptr i64, ptr %pool, i64 $CLAIM
  %seen = load atomic i64, ptr %claim seq_cst, align 8
  %offered = and i64 %seen, 65535
  %is.offered = icmp ne i64 %offered, 0
  %now.active = load atomic i32, ptr %active seq_cst, align 4
  %now.runs = icmp ne i32 %now.active, 0
  %eager = xor i1 %bored, true
  %starts = and i1 %now.runs, %eager
  %some = or i1 %starts, %is.offered
  %now.threads = load atomic i64, ptr %limit monotonic, align 8
  %now.may = icmp slt i64 %me, %now.threads
  %busy = and i1 %some, %now.may
  br i1 %busy, label %rise, label %park
rise:
  store atomic i32 0, ptr %word seq_cst, align 4
  br label %fresh
park:
  call void @park(ptr %pool, ptr %word, i32 1)
  %state = load atomic i32, ptr %word seq_cst, align 4
  %asleep = icmp ne i32 %state, 0
  br i1 %asleep, label %park, label %woken
woken:
  %then.quit = load atomic i32, ptr %quits seq_cst, align 4
  %then.ends = icmp ne i32 %then.quit, 0
  br i1 %then.ends, label %leave, label %others
others:
  %then.active = load atomic i32, ptr %active acquire, align 4
  %goes.on = icmp ne i32 %then.active, 0
  br i1 %goes.on, label %tell, label %fresh
tell:
  %all = load atomic i64, ptr %limit monotonic, align 8
  call void @rouse(ptr %pool, i64 %all)
  br label %fresh
leave:
  ret void
}

; End the pool: every helper returns.
define void @sardonyx_quit(ptr %pool, i64 %threads) nounwind {
entry:
  %active = getelementptr i64, ptr %pool, i64 $ACTIVE
  %quits = getelementptr i32, ptr %active, i64 1
  store atomic i32 1, ptr %quits seq_cst, align 4
  br label %head
head:
  %helper = phi i64 [ 1, %entry ], [ %following, %body ]
  %some = icmp slt i64 %helper, %threads
  br i1 %some, label %body, label %done
body:
  %word = call ptr @sleeping(ptr %pool, i64 %helper)
  store atomic i32 0, ptr %word seq_cst, align 4
  call void @wake(ptr %pool, ptr %word)
  %following = add i64 %helper, 1
  br label %head
done:
  ret void
}
"""
