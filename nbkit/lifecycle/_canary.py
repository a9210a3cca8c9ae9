"""Let a canary answer more of the traffic, step by step through the shares of its contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import RefusedError, UsageError
from nbkit.lifecycle._champion import verify_version
from nbkit.lifecycle._view import Result, View
from nbkit.registry import Registry
from nbkit.serve import CANARY_SHARE_TAG
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryShare(Result):
    """What share of the subjects a canary answers."""

    name: str
    version: int
    share: float
    before: float
    shares: tuple[float, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        last = self.share == self.shares[-1]
        step = f"nbkit gate {self.name}@{self.version} --to production" if last else f"nbkit canary {self.name}"
        return View(
            headline=f"{self.name}@{self.version}: the canary answers {self.share:.1%} of the subjects",
            facts=[("before", f"{self.before:.1%}"), ("shares", ", ".join(f"{share:.1%}" for share in self.shares))],
            next_step=step,
        )


def canary(name: str, *, share: float | None = None, settings: Settings, now: datetime) -> CanaryShare:
    """Move a canary to the next share of its contract, or to the one that is named.

    Whoever is in stays in when the share grows. Workers follow within seconds; they take no share that the contract
    under the canary's evidence does not list.

    Raises
    ------
    RefusedError
        No version is a canary, or it answers the largest share already.
    UsageError
        The contract lists no such share.
    EvidenceError
        The evidence of the canary does not hold.
    """
    registry = Registry(settings)
    version = registry.version_at(name, stage=Stage.CANARY)
    # The alias stays where it was when its version moves on: then the trial is over.
    if version is None or registry.envelope(name, version=version, stage=Stage.PRODUCTION) is not None:
        raise RefusedError(f"{name}: no version is a canary", next_step=f"nbkit promote {name} --to canary")
    verified = verify_version(name, version=version, stage=Stage.CANARY, settings=settings, now=now)
    shares = verified.package.contract.rollout.canary_shares
    if not shares:
        raise UsageError(f"{name}: rollout.canary_shares is empty")
    said = registry.version(name, version=version).tags.get(CANARY_SHARE_TAG, "")
    before = next((number for number, each in enumerate(shares) if repr(each) == said), 0)
    if share is None:
        if before + 1 == len(shares):
            step = f"nbkit gate {name}@{version} --to production"
            raise RefusedError(f"{name}@{version}: answers the largest share of its contract already", next_step=step)
        share = shares[before + 1]
    if share not in shares:
        raise UsageError(f"share: expected one of rollout.canary_shares {list(shares)}, got {share}")
    registry.set_version_tags(name, version=version, tags={CANARY_SHARE_TAG: repr(float(share))})
    return CanaryShare(name=name, version=version, share=share, before=shares[before], shares=shares)
