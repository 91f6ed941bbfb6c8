"""Random kernels: compiled code beside the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codegen.random_kernels import random_case
from codegen.running import compiled, run
from sardonyx.codegen.machine import host
from sardonyx.dtypes import from_numpy
from sardonyx.loops.interpret import interpret
from sardonyx.loops.machine import Machine
from sardonyx.loops.printer import kernel_text

EACH = 6


def machines() -> list[Machine]:
    """This one, and ones with other vectors: LLVM makes any width from what there is."""
    return [
        host(),
        replace(host(), vector_bits=128, interleave=2, unrolled=1),
        replace(host(), vector_bits=512, interleave=1),
        replace(host(), vector_bits=128, interleave=3, unrolled=0),
    ]


def check(first: int, machine: Machine, *, strict: bool) -> None:
    cases = [random_case(seed) for seed in range(first, first + EACH)]
    library = compiled([case.kernel for case in cases], machine, strict=strict)
    for case in cases:
        expected = {name: array.copy() for name, array in case.buffers.items()}
        interpret(case.kernel, expected, case.sizes)
        found = run(library, case.kernel, case.buffers, case.sizes, case.steps)
        for name, array in expected.items():
            if from_numpy(array.dtype).is_floating:
                array, ours = array.astype(np.float64), found[name].astype(np.float64)
            else:
                ours = found[name]
            np.testing.assert_array_equal(
                ours, array, f"{name} of\n{kernel_text(case.kernel)}\nsizes {case.sizes}"
            )


@pytest.mark.parametrize("number", range(8))
def test_random_kernels(number: int) -> None:
    check(EACH * number, machines()[number % 4], strict=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8, 200))
def test_more_random_kernels(number: int) -> None:
    check(EACH * number, machines()[number % 4], strict=number % 2 == 0)
