"""Every rule against models with one fault, beside what onnx's checker says of the same bytes."""

from __future__ import annotations

import onnx
import pytest

import sardonyx as sx
from check import part_faults, structure_faults
from check.faults import BUILT, FAULTS, SEEDS, Fault, seed
from sardonyx.check import RULES, Report, validate
from sardonyx.errors import SardonyxError

assert part_faults
assert structure_faults


def onnx_refuses(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError):
        return True
    return False


def report_of(data: bytes) -> Report:
    """The report; what cannot even be opened is in it as the rule of unreadable files."""
    try:
        return validate(sx.loads(data))
    except SardonyxError as error:
        report = Report()
        report.unreadable(error)
        return report


@pytest.mark.parametrize("name", [*SEEDS, *BUILT])
def test_seeds_are_sound(name: str) -> None:
    model = seed(name)
    assert not onnx_refuses(model)
    report = validate(sx.loads(model.SerializeToString()))
    assert report.errors == report.warnings == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault) -> None:
    model = seed(fault.seed)
    fault.mutate(model)
    report = report_of(model.SerializeToString())
    found = [problem for problem in report.problems if problem.kind == fault.kind]
    assert [problem.severity for problem in found][:1] == [fault.severity], report.problems
    assert all(problem.message and (problem.hint or problem.cause) for problem in found)
    refused = onnx_refuses(model)
    assert refused == (not fault.lax), "onnx's verdict"
    assert report.has_errors == (fault.severity == "error"), report.errors
    if refused:
        assert report.has_errors == (not fault.lenient)


def test_the_table_covers_every_rule() -> None:
    assert len(FAULTS) >= 100
    elsewhere = {"limit", "inference"}
    assert {fault.kind for fault in FAULTS} == RULES.keys() - elsewhere


def test_one_fault_is_one_error() -> None:
    """A fault does not drown in what follows from it."""
    many = {}
    for fault in FAULTS:
        model = seed(fault.seed)
        fault.mutate(model)
        errors = report_of(model.SerializeToString()).errors
        if len(errors) > 2:
            many[fault.name] = [str(error) for error in errors]
    assert many == {}
