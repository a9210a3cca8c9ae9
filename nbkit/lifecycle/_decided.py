"""What is in production when alias and evidence disagree: what was decided last, not what a label says."""

from __future__ import annotations

from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, TamperedPackageError
from nbkit.lifecycle._champion import claimed, verify_version
from nbkit.registry import Registry
from nbkit.settings import Settings


class DecidedRegistry(Registry):
    """A registry that looks past an alias of production which lags behind the evidence.

    A move happens when its evidence is set; the alias follows. Where a promotion was killed in between, or somebody
    let the alias point back at a version whose older evidence still holds, the version that was decided last is
    answered. An alias that points at a version without evidence is answered as it is, and refused by whoever verifies
    it.

    Parameters
    ----------
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.
    """

    def __init__(self, settings: Settings, *, now: datetime) -> None:
        super().__init__(settings)
        self._now = now
        self.alias_lags = ""

    def version_at(self, name: str, *, stage: str) -> int | None:
        """Return the version that a stage points at; for production the one that was decided last."""
        pointed = super().version_at(name, stage=stage)
        if stage != Stage.PRODUCTION.value:
            return pointed
        decided = claimed(name, stage=Stage.PRODUCTION, settings=self._settings)
        if pointed is not None and pointed not in [each.version for each in decided]:
            return pointed
        for each in decided:
            if each.version == pointed:
                break
            try:
                verify_version(
                    name, version=each.version, stage=Stage.PRODUCTION, settings=self._settings, now=self._now
                )
            except (EvidenceError, TamperedPackageError):
                continue
            self.alias_lags = (
                f"the alias production names version {pointed or 'none'}, but version {each.version} was decided last"
                f" (epoch {each.statement.epoch}): an alias moved by hand, or a promotion that was not finished;"
                f" nbkit promote {name}@{each.version} --to production sets it right"
            )
            return each.version
        return pointed
