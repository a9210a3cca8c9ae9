from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbkit import lifecycle


@pytest.fixture
def contract_file(tmp_path: Path) -> Path:
    lifecycle.new("mortgage", template="credit", directory=tmp_path)
    return tmp_path / "mortgage" / "contract.yaml"


def _shortened(path: Path, *, impact: str) -> lifecycle.Result:
    """Let the contract's path go from staging to production, and check it."""
    found = lifecycle.check_contract(path).contract
    assert found is not None
    content = json.loads(found.canonical())
    gates = {stage: content["gates"][stage] for stage in ("staging", "production")}
    content |= {"impact": impact, "gates": gates, "rollout": {"path": ["staging", "production"]}}
    # JSON is YAML.
    path.write_text(json.dumps(content))
    return lifecycle.check_contract(path)


def test_a_path_with_every_stage_needs_no_remark(contract_file: Path) -> None:
    report = lifecycle.check_contract(contract_file)
    assert (report.succeeded, report.remark) == (True, "")
    assert "later versions" not in str(report)


def test_low_impact_may_go_from_staging_to_production(contract_file: Path) -> None:
    report = _shortened(contract_file, impact="low")
    assert (report.succeeded, report.remark) == (True, "")


@pytest.mark.parametrize("impact", ["medium", "high"])
def test_a_path_that_stops_every_version_but_the_first_is_remarked(contract_file: Path, impact: str) -> None:
    report = _shortened(contract_file, impact=impact)
    assert report.succeeded, str(report)
    assert f"with impact {impact} one that replaces another passes shadow and canary first" in str(report)
    assert "rollout.path" in json.loads(lifecycle.to_json(report))["remark"]
