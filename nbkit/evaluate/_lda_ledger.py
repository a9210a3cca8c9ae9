"""What a search for less discriminatory alternatives tried: every candidate, its cost, and why it was rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import rfc8785
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nbkit.errors import EvaluationError
from nbkit.evaluate._delong import Estimate

# To raise it: read the former layout in `from_json`, and add a golden file of the new one to the tests.
LDA_FORMAT = 1

_FOLDER = Path(__file__).parent / "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class LdaGroup:
    """One group under one candidate.

    Parameters
    ----------
    attribute, group : str
        Whose group.
    n : int
        Rows of the group.
    impact_ratio : Estimate
        Its approval rate over the reference group's, with Katz's interval.
    change : Estimate
        Impact ratio less that of the present model, on the same rows (paired bootstrap).
    """

    attribute: str
    group: str
    n: int
    impact_ratio: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LdaEntry:
    """One candidate, decided and judged.

    Parameters
    ----------
    name : str
        What differs from the present model.
    thresholds : str
        How thresholds were chosen.
    dropped : tuple of str
        Inputs that told it nothing.
    parameters : dict of str to float
        Parameters that differ.
    auc : float or None
        On rows that it was not fitted on; None when it could not be fitted.
    cost : Estimate or None
        Money lost per row.
    cost_change : Estimate or None
        Cost less that of the present model, on the same rows.
    groups : tuple of LdaGroup
        Every group with enough rows.
    verdict : str
        ``present``, ``alternative`` (surely fairer, surely cheap enough), ``perhaps`` (fairer and cheap enough, but
        these rows cannot assure it) or ``rejected``.
    reason : str
        Why.
    """

    name: str
    thresholds: str
    dropped: tuple[str, ...]
    parameters: dict[str, float]
    auc: float | None
    cost: Estimate | None
    cost_change: Estimate | None
    groups: tuple[LdaGroup, ...]
    verdict: str
    reason: str

    def group(self, attribute: str, group: str) -> LdaGroup | None:
        """Return one group's figures.

        Parameters
        ----------
        attribute, group : str
            Which group.

        Returns
        -------
        LdaGroup or None
            None where it has too few rows.
        """
        return next((one for one in self.groups if (one.attribute, one.group) == (attribute, group)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LdaLedger:
    """Every candidate of one search.

    Parameters
    ----------
    model : str
        The contract's name.
    contract_digest : str
        Of the contract.
    currency : str
        Of costs.
    rows, positives, folds, seed : int
        What it was searched on: rows apart from the frozen cases, in so many folds.
    confidence : float
        Of every interval.
    cost_share : float
        How much dearer than the present model an alternative may be.
    attribute, group : str
        The group with the lowest impact ratio under the present model; empty when none has enough rows.
    entries : tuple of LdaEntry
        The present model first, then in the order in which they were tried.
    """

    model: str
    contract_digest: str
    currency: str
    rows: int
    positives: int
    folds: int
    seed: int
    confidence: float
    cost_share: float
    attribute: str
    group: str
    entries: tuple[LdaEntry, ...]

    @property
    def present(self) -> LdaEntry:
        """The model as it is."""
        return self.entries[0]

    @property
    def alternatives(self) -> tuple[LdaEntry, ...]:
        """Surely fairer and cheap enough, the fairest first."""
        return self._of("alternative")

    @property
    def possible(self) -> tuple[LdaEntry, ...]:
        """Perhaps fairer and cheap enough, the fairest first."""
        return self._of("perhaps")

    @property
    def summary(self) -> str:
        """What was found, in one line."""
        tried = len(self.entries) - 1
        if not self.group:
            return f"{tried} candidates tried; no group has enough rows to compare"
        best = (*self.alternatives, *self.possible)
        found = f"{len(self.alternatives)} surely and {len(self.possible)} perhaps less discriminatory"
        if not best:
            return f"{tried} candidates tried for {self.attribute} {self.group}: none less discriminatory at this cost"
        now, then = (entry.group(self.attribute, self.group) for entry in (self.present, best[0]))
        moved = f" ({now.impact_ratio.value:.2f} to {then.impact_ratio.value:.2f})" if now and then else ""
        return (
            f"{tried} candidates tried for {self.attribute} {self.group}: {found}; best: {best[0].name},"
            f" {best[0].thresholds}{moved}"
        )

    def _of(self, verdict: str) -> tuple[LdaEntry, ...]:
        found = [entry for entry in self.entries if entry.verdict == verdict]
        return tuple(sorted(found, key=lambda entry: (-self._ratio(entry), entry.name, entry.thresholds)))

    def _ratio(self, entry: LdaEntry) -> float:
        found = entry.group(self.attribute, self.group)
        return found.impact_ratio.value if found else 0.0

    def to_json(self) -> str:
        """Return the ledger as canonical JSON, format 1.

        Returns
        -------
        str
            `from_json` reads it back.
        """
        document = {"format": LDA_FORMAT, "summary": self.summary, "ledger": msgspec.to_builtins(self)}
        return bytes(rfc8785.dumps(document)).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> LdaLedger:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            JSON of any format that nbkit has written.

        Returns
        -------
        LdaLedger
            Equal to the one that was written.

        Raises
        ------
        EvaluationError
            Not such JSON, or of a format that this nbkit does not know.
        """
        try:
            document = msgspec.json.decode(text, type=dict[str, object])
            if document.get("format") != LDA_FORMAT:
                raise EvaluationError(f"lda: format: expected {LDA_FORMAT}, got {document.get('format')!r}")
            return msgspec.convert(document.get("ledger"), type=cls)
        except msgspec.DecodeError as error:
            raise EvaluationError(f"lda: {error}") from None

    def to_html(self) -> str:
        """Return the ledger as one self-contained HTML file.

        Returns
        -------
        str
            It needs no network and no script.
        """
        environment = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        # Our own style sheet, not input.
        style = Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))  # noqa: S704
        return environment.get_template("lda.html.j2").render(ledger=self, style=style)
