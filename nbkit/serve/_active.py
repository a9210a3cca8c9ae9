"""The version that decides now: verified, loaded, and ready for the first request."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

from nbkit.contract import Contract, Input, RowCheck, Stage
from nbkit.package import Package
from nbkit.registry import Envelope, TrustStore
from nbkit.serve._batch import Batcher
from nbkit.serve._breaker import Breaker
from nbkit.serve._decide import Judge
from nbkit.serve._store import PRODUCTION, Installed, PackageStore
from nbkit.serve._sync import accept
from nbkit.serve._tick import TickScorer

__all__ = ["Active", "load_active"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """One verified version of a model, and everything that a request needs of it.

    Parameters
    ----------
    version, epoch : int
        Of the evidence that was verified.
    package, envelope : Package, Envelope
        What was verified; both are kept in memory, so that later edits of files change nothing.
    rows : RowCheck
        Of the contract.
    judge : Judge
        Decides.
    batcher : Batcher or None
        Scores where the model has no plan.
    scorer : TickScorer
        Scores where it has one.
    deadline_seconds : float
        For the whole request.
    contract_digest, evidence_digest : str
        For the record.
    keeps_inputs : bool
        Whether the record holds the inputs.
    may_wait : bool
        Whether a record may wait in the local journal while the ledger cannot take it.
    breaker : Breaker
        Of this version's model.
    stage : str
        That the evidence is for.
    share : float
        Of the subjects that a canary answers.
    price_usd : str
        What asking its model once costs, as decimal text.
    name, package_digest : str
        Of the package, for the record.
    names : list of str
        Of the inputs.
    """

    version: int
    epoch: int
    package: Package
    envelope: Envelope
    rows: RowCheck
    judge: Judge
    batcher: Batcher | None
    deadline_seconds: float
    contract_digest: str
    evidence_digest: str
    keeps_inputs: bool
    may_wait: bool = False
    breaker: Breaker = field(default_factory=lambda: Breaker(clock=time.monotonic))
    stage: str = PRODUCTION
    share: float = 0.0
    price_usd: str = "0"
    scorer: TickScorer = field(init=False)
    name: str = field(init=False)
    package_digest: str = field(init=False)
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scorer", TickScorer(self.package.score_rows))
        object.__setattr__(self, "name", self.package.contract.name)
        object.__setattr__(self, "package_digest", self.package.digest)
        object.__setattr__(self, "names", [column.name for column in self.package.contract.inputs])

    def prepare(self) -> None:
        """Lay the model out, on a thread: until then it is slower and reasons follow, so readiness need not wait."""
        if self.stage == Stage.SHADOW:
            return  # it decides in a process of its own, and gives no reasons
        threading.Thread(target=self._lay_out, name="nbkit-prepare", daemon=True).start()

    def _lay_out(self) -> None:
        self.package.lay_out()
        self.judge.reasons(made_up_row(self.package.contract), {})

    def still_holds(self, *, name: str, trust: TrustStore, now: datetime) -> None:
        """Verify the evidence once more, with the trust of today.

        Parameters
        ----------
        name : str
            The registered model.
        trust : TrustStore
            As the trust file says now.
        now : datetime
            Aware, UTC.

        Raises
        ------
        EvidenceError
            It does not hold any more.
        """
        accept(
            self.package,
            name=name,
            version=self.version,
            envelope=self.envelope,
            trust=trust,
            now=now,
            minimum_epoch=self.epoch,
            stage=self.stage,
        )


def load_active(
    name: str, *, installed: Installed, store: PackageStore, trust: TrustStore, now: datetime, minimum_epoch: int
) -> Active:
    """Load what a pointer names, after verifying files and evidence; nothing in the store is believed.

    Parameters
    ----------
    name : str
        The registered model.
    installed : Installed
        What the pointer says.
    store : PackageStore
        Where the package lies.
    trust : TrustStore
        The worker's own.
    now : datetime
        Aware, UTC.
    minimum_epoch : int
        Of what is served now.

    Returns
    -------
    Active
        Warm: it has decided a made-up row.

    Raises
    ------
    NbkitError
        The files or the evidence do not verify, or the package cannot decide.
    """
    package = store.package(installed.package_digest)
    envelope = Envelope.from_json(installed.envelope)
    statement = accept(
        package,
        name=name,
        version=installed.version,
        envelope=envelope,
        trust=trust,
        now=now,
        minimum_epoch=minimum_epoch,
        stage=installed.stage,
    )
    contract = package.contract
    judge = Judge.of(package)
    keeps_inputs = contract.audit.payload == "full"
    _warm(package, judge=judge)
    if installed.stage != Stage.SHADOW and (judge.explains_at_once or not keeps_inputs):
        # Elsewhere they may follow while the model is laid out for them, because the record keeps what they need.
        judge.reasons(made_up_row(contract), {})
    return Active(
        version=statement.version,
        epoch=statement.epoch,
        package=package,
        envelope=envelope,
        rows=RowCheck(contract),
        judge=judge,
        batcher=None if package.compiled else Batcher(package.score_frame),
        deadline_seconds=contract.serve.deadline_ms / 1000,
        contract_digest=contract.digest,
        evidence_digest=envelope.digest,
        keeps_inputs=keeps_inputs,
        stage=installed.stage,
        share=installed.share,
        may_wait=contract.audit.when_unavailable == "journal",
        price_usd=str(contract.budget.price_usd),
    )


def _warm(package: Package, *, judge: Judge) -> None:
    """Decide one row, so that the first caller does not wait for imports and caches; every path is taken."""
    row = made_up_row(package.contract)
    judge.before(row)
    for score in (package.score(row), 1.0):
        judge.conclude(judge.weigh(row, score), follow=True)


def made_up_row(contract: Contract) -> dict[str, float | str | None]:
    """Return a row that fits the contract and stands for nobody."""
    return {column.name: _any_value(column) for column in contract.inputs}


def _any_value(column: Input) -> float | str:
    if column.type == "category":
        return column.categories[0]
    value = 0.0
    if column.minimum is not None:
        value = max(value, float(math.ceil(column.minimum)))
    return value if column.maximum is None else min(value, column.maximum)
