"""Findings name check, severity, place and remedy; reports put errors first."""

import pytest

from data_pipeline.doctor.findings import CHECKS, Finding, Report, collect, finding
from data_pipeline.errors import InputError


def test_a_finding_states_why_its_check_matters() -> None:
    assert finding("nan", "error", "2 values", "here", "Fill them.").why == CHECKS["nan"]


def test_an_error_becomes_a_finding_whose_remedy_is_the_end_of_the_message() -> None:
    findings: list[Finding] = []
    with collect(findings, "disk", "/data"):
        raise InputError("the store does not fit; 2 GiB are free; take fewer years")
    (found,) = findings
    assert (found.check, found.severity, found.where) == ("disk", "error", "/data")
    assert found.what == "the store does not fit; 2 GiB are free"
    assert found.remedy == "Take fewer years."


def test_other_errors_are_not_collected() -> None:
    findings: list[Finding] = []
    with pytest.raises(ZeroDivisionError), collect(findings, "disk", "/data"):
        raise ZeroDivisionError
    assert findings == []


def test_reports_put_errors_first_and_count() -> None:
    info = finding("filled", "info", "1 value", "a", "Nothing.")
    error = finding("nan", "error", "2 values", "b", "Fill them.")
    report = Report({"grid": 1}).extended({"time": 2}, [info]).extended({"time": 3}, [error])
    assert report.findings == (error, info)
    document = report.to_json()
    assert document["facts"] == {"grid": 1, "time": 3}
    assert document["counts"] == {"error": 1, "warning": 0, "info": 1}
    assert not document["ok"]
    assert [entry["check"] for entry in document["findings"]] == ["nan", "filled"]
