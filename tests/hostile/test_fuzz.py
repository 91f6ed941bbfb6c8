"""Files with errors in any place: a model or a typed error, whatever is done with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from onnx.helper import make_node as node

import sardonyx as sx
from hostile import files, graphs, values, wire
from hostile.judge import feeds_of, walk
from sardonyx.errors import SardonyxError
from sardonyx.limits import Limits

LIMITS = Limits(seconds=1.0, tensor_bytes=1 << 20, memory_bytes=4 << 20, loop_iterations=20)

SEEDS = {
    "add": wire.whole(),
    "branches": graphs.nested_ifs(2, 1),
    "functions": graphs.bomb(3),
    "attributes of functions": graphs.attribute_bomb(2),
    "loop": graphs.loop([node("Neg", ["s"], ["t"])], graphs.info("s"), np.int64(3)),
    "scan": graphs.scan(1),
    "convolution": graphs.one("Conv", graphs.IMAGE, graphs.KERNEL, pads=[1, 1, 1, 1]),
    "shapes": values.chain_of("Mul", 3),
    "text": graphs.matched("(a+|b)*c?"),
    "trees": values.tree(),
    "vectors": values.svm(),
    "external": files.as_function(files.external("data")),
}


def survives(data: bytes) -> None:
    """Every entry point works on `data`, or raises a `SardonyxError`."""
    with suppress(SardonyxError):
        model = sx.loads(data, limits=LIMITS)
        with suppress(SardonyxError):
            walk(model)
        with suppress(SardonyxError):
            sx.loads(sx.dumps(model))
        with suppress(SardonyxError):
            sx.infer_shapes(sx.loads(data), limits=LIMITS)
        session = sx.Session(model, limits=LIMITS)
        with np.errstate(all="ignore"):
            session.run(None, feeds_of(session))


def prefixes(data: bytes, step: int) -> Iterator[bytes]:
    for end in range(0, len(data), step):
        yield data[:end]


def changes(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` copies of `data` with one byte changed, at places drawn at random."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        place = draw.randrange(len(data))
        value = draw.choice([0, 1, 2, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        changed[place] = value if value != data[place] else value ^ draw.randrange(1, 256)
        yield bytes(changed)


def edits(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` copies of `data` with some bytes removed, repeated or moved."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            place, size = draw.randrange(len(changed) or 1), draw.randint(1, 24)
            kind = draw.randrange(3)
            part = changed[place : place + size]
            if kind == 0:
                del changed[place : place + size]
            elif kind == 1:
                changed[place:place] = part * draw.randint(1, 3)
            else:
                other = draw.randrange(len(changed) or 1)
                changed[other : other + size] = part
        yield bytes(changed)


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_sound_and_some_changes_survive(name: str) -> None:
    data = SEEDS[name]
    if name != "external":
        session = sx.Session(data, limits=LIMITS)
        session.run(None, feeds_of(session))
    for changed in prefixes(data, max(len(data) // 12, 1)):
        survives(changed)
    for changed in changes(data, 25, seed=1):
        survives(changed)
    for changed in edits(data, 10, seed=2):
        survives(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_many_changes_survive(name: str) -> None:
    data = SEEDS[name]
    for changed in prefixes(data, 1):
        survives(changed)
    for changed in changes(data, 2000, seed=3):
        survives(changed)
    for changed in edits(data, 1000, seed=4):
        survives(changed)
