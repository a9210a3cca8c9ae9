"""Gates that no contract can leave out: unchanged files, the stages before, the champion it was compared with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from nbkit.contract import Contract, GateSpec, Stage
from nbkit.errors import EvidenceError, TamperedPackageError
from nbkit.gates import run_gates
from nbkit.lifecycle._champion import verify_version
from nbkit.package import Package
from nbkit.records import GateResult, Verdict
from nbkit.settings import Settings

_ORDER = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)
_BESIDE_A_CHAMPION = (Stage.SHADOW, Stage.CANARY)


def standing_gates(
    name: str,
    *,
    version: int,
    stage: Stage,
    package: Package,
    facts: Mapping[str, object],
    champion: int | None,
    settings: Settings,
    now: datetime,
) -> list[GateResult]:
    """Return the results of the gates that hold for every contract."""
    results: list[GateResult] = []
    if "scan" not in [spec.gate for spec in package.contract.gates[stage]]:
        results += run_gates([GateSpec(gate="scan")], facts=facts)
    path = _path(
        name,
        version=version,
        stage=stage,
        package=package,
        champion=champion,
        settings=settings,
        now=now,
    )
    results += [path] if path else []
    compared = facts.get("champion")
    compared_version = compared.get("version") if isinstance(compared, dict) else None
    if champion is not None and compared_version != champion:
        reason = f"compared with version {compared_version or 'none'}, but production is version {champion}"
        results.append(
            GateResult(gate="champion", verdict=Verdict.CANNOT_TELL, reason=reason, next_step=f"nbkit run {name}")
        )
    return results


def stages_to_pass(contract: Contract, *, to: Stage, beside_champion: bool) -> tuple[Stage, ...]:
    """Return the stages that a version passes before another one, in order.

    The contract's path says it. Where the impact is more than low, a version that replaces another runs beside it
    first, in shadow and as a canary, whatever the path says; while nothing is in production there is nothing to run
    beside.

    Examples
    --------
    >>> from nbkit.contract import Contract
    >>> stages_to_pass(Contract.model_construct(impact="high"), to=Stage.PRODUCTION, beside_champion=True)
    (<Stage.STAGING: 'staging'>, <Stage.SHADOW: 'shadow'>, <Stage.CANARY: 'canary'>)
    """
    before = _ORDER[: _ORDER.index(to)]
    if contract.impact == "low":
        return tuple(stage for stage in before if stage in contract.rollout.path)
    return tuple(stage for stage in before if beside_champion or stage not in _BESIDE_A_CHAMPION)


def _path(
    name: str,
    *,
    version: int,
    stage: Stage,
    package: Package,
    champion: int | None,
    settings: Settings,
    now: datetime,
) -> GateResult | None:
    """Ask for the evidence of the stage before; it asked for the one before that."""
    contract = package.contract
    needed = stages_to_pass(contract, to=stage, beside_champion=champion is not None)
    if not needed:
        return None
    before, left_out = needed[-1], [step for step in needed if step not in contract.rollout.path]
    if left_out:
        reason = (
            f"impact {contract.impact}: a version that replaces version {champion} passes {' and '.join(left_out)} "
            f"first, but rollout.path is {', '.join(contract.rollout.path)}"
        )
        return GateResult(
            gate="path", verdict=Verdict.FAIL, reason=reason, next_step="correct rollout.path in contract.yaml"
        )
    try:
        verify_version(name, version=version, stage=before, settings=settings, now=now, package=package)
    except (EvidenceError, TamperedPackageError) as error:
        step = f"nbkit promote {name}@{version} --to {before}"
        return GateResult(gate="path", verdict=Verdict.FAIL, reason=str(error), next_step=step)
    reason = f"evidence for {before} holds"
    if stage is Stage.PRODUCTION and champion is None and contract.impact != "low":
        reason += "; shadow and canary are skipped, because no version is in production to run beside"
    return GateResult(gate="path", verdict=Verdict.PASS, reason=reason)
