"""What onnx and onnxruntime say to the corpus, beside our verdicts: a table.

``python -m hostile.peers [NUMBER | PART OF A NAME]...`` in the folder ``tests``. Each file is
judged in a process of its own, with a timeout. ``--markdown`` prints a table of counts too.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hostile import judge as judging
from hostile.corpus import CLASSES, Case, cases
from hostile.judge import judge, resident, verdict_of, warm_up

PEERS = ("sardonyx", "onnx", "onnxruntime")
SLOW_SECONDS = 2.0
LARGE = 256 << 20


def quiet() -> None:
    """Keep what the peers print to themselves."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def measured(call: Any) -> dict[str, Any]:
    start, before = time.process_time(), resident("VmRSS")
    try:
        call()
        verdict = "accepted"
    except BaseException as error:  # noqa: BLE001 - any answer is the answer
        verdict = type(error).__name__
    return {
        "verdict": verdict,
        "cpu": time.process_time() - start,
        "memory": resident("VmHWM") - before,
    }


def by_onnx(case: Case, path: Path) -> dict[str, Any]:
    import onnx

    def call() -> None:
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except onnx.checker.ValidationError as error:
            if "Field 'shape'" not in str(error):
                raise
        onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)

    quiet()
    return measured(call)


def by_onnxruntime(case: Case, path: Path) -> dict[str, Any]:
    import onnxruntime

    def call() -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options)
        feeds = case.feeds() if case.feeds else generated(session)
        session.run(None, feeds)

    quiet()
    return measured(call)


def generated(session: Any) -> dict[str, Any]:
    from sardonyx import dtypes

    found = {}
    for argument in session.get_inputs():
        dtype = dtypes.from_name(argument.type.removeprefix("tensor(").removesuffix(")"))
        shape = [size if isinstance(size, int) else 2 for size in argument.shape]
        fill = "a" if dtype is dtypes.STRING else 1
        found[argument.name] = np.full(shape, fill).astype(dtype.numpy)
    return found


def shown(found: dict[str, Any]) -> str:
    if "signal" in found:
        return f"DIES: {found['signal']}"
    notes = []
    if found["cpu"] > SLOW_SECONDS:
        notes.append(f"{found['cpu']:.0f} s")
    if found["memory"] > LARGE:
        notes.append(f"{found['memory'] >> 20} MB")
    return found["verdict"] + (f" ({', '.join(notes)})" if notes else "")


def ours(found: dict[str, Any]) -> str:
    if "signal" in found:
        return f"DIES: {found['signal']}"
    return verdict_of(found).split()[-1]


def chosen(words: list[str]) -> list[Case]:
    every = list(cases().values())
    if not words:
        return every
    return [
        case
        for case in every
        if any(
            word == str(case.number) or (not word.isdigit() and word in case.name) for word in words
        )
    ]


def main(words: list[str]) -> None:
    """Print the table for the cases that `words` choose."""
    import onnx  # noqa: F401 - imported before forking, so that children start warm
    import onnxruntime  # noqa: F401

    warm_up()
    judging.SECONDS = 20
    counts: dict[str, Counter[str]] = {peer: Counter() for peer in PEERS}
    for case in chosen([word for word in words if not word.startswith("-")]):
        answers = (
            ours(judge(case)),
            shown(judge(case, by_onnx)),
            shown(judge(case, by_onnxruntime)),
        )
        for peer, answer in zip(PEERS, answers, strict=True):
            kind = (
                "dies"
                if answer.startswith("DIES")
                else "accepts"
                if answer.startswith("acc")
                else "refuses"
            )
            counts[peer][kind] += 1
            counts[peer]["slow or large"] += "(" in answer
        print(
            f"{case.number:2} {case.name[:44]:44} {answers[0]:18} {answers[1]:30} {answers[2]}",
            flush=True,
        )
    print()
    for peer, found in counts.items():
        print(peer, dict(found))
    if "--markdown" in words:
        print("\nclasses: " + ", ".join(f"{number} {what}" for number, what in CLASSES.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
