"""What a version did with every case, kept beside its evaluation so that two versions can be compared years later."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np
import rfc8785
from numpy.typing import NDArray

from nbkit.errors import EvaluationError
from nbkit.evaluate._cases import CaseSet, digest_of
from nbkit.evaluate._decide import DECISIONS, Scored
from nbkit.evaluate._metrics import Judged

RECORD_FORMAT = 1
# Beyond this the record would outgrow what MLflow shows and people download; figures are compared without it.
MOST_RECORDED = 2_000_000


class _Document(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    format: int
    kind: str
    case_set: str
    package_digest: str
    ids: list[int | str]
    labels: str
    decisions: str
    scores: list[float]
    costs: list[float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseRecord:
    """Score, decision and cost of one version on every case.

    Parameters
    ----------
    case_set, package_digest : str
        Which cases, and which version.
    ids : tuple of str
        The cases, in the order of everything else.
    judged : Judged
        Scores, labels, decisions and costs.
    """

    case_set: str
    package_digest: str
    ids: tuple[str, ...]
    judged: Judged

    def to_bytes(self) -> bytes:
        """Return the record as compressed canonical JSON, format 1.

        Returns
        -------
        bytes
            The same bytes for the same record.
        """
        document = {
            "format": RECORD_FORMAT,
            "kind": "nbkit.judged",
            "case_set": self.case_set,
            "package_digest": self.package_digest,
            "ids": list(self.ids),
            "labels": "".join("1" if label else "0" for label in self.judged.labels.tolist()),
            "decisions": "".join(DECISIONS[decision][0] for decision in self.judged.decisions.tolist()),
            "scores": self.judged.scores.tolist(),
            "costs": self.judged.costs.tolist(),
        }
        return gzip.compress(rfc8785.dumps(document), mtime=0)

    @property
    def digest(self) -> str:
        """``sha256:`` of the bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def from_bytes(cls, raw: bytes) -> CaseRecord:
        """Read what `to_bytes` wrote.

        Parameters
        ----------
        raw : bytes
            Of any format that nbkit has written.

        Returns
        -------
        CaseRecord
            As it was.

        Raises
        ------
        EvaluationError
            Not such a record.
        """
        try:
            found = msgspec.json.decode(gzip.decompress(raw), type=_Document)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise EvaluationError(f"record of cases: {error}", next_step="nbkit evaluate NAME") from None
        lengths = {len(found.ids), len(found.labels), len(found.decisions), len(found.scores), len(found.costs)}
        letters = {decision[0]: number for number, decision in enumerate(DECISIONS)}
        if found.format != RECORD_FORMAT or len(lengths) != 1 or set(found.decisions) - set(letters):
            raise EvaluationError(
                f"record of cases: expected format {RECORD_FORMAT} with entries for every case, got {found.format}"
            )
        return cls(
            case_set=found.case_set,
            package_digest=found.package_digest,
            ids=tuple(str(one) for one in found.ids),
            judged=Judged(
                scores=np.array(found.scores, dtype=np.float64),
                labels=np.array([label == "1" for label in found.labels], dtype=bool),
                decisions=np.array([letters[letter] for letter in found.decisions], dtype=np.int64),
                costs=np.array(found.costs, dtype=np.float64),
            ),
        )


def scores_of(package: Scored, cases: CaseSet) -> NDArray[np.float64]:
    """Return a package's score of every case.

    Parameters
    ----------
    package : Package
        Whose inputs the cases have.
    cases : CaseSet
        The frozen cases.

    Returns
    -------
    numpy.ndarray
        Shape (n,); not checked.
    """
    inputs = [column.name for column in package.contract.inputs]
    frame = cast("Mapping[str, Sequence[object]]", cases.frame[inputs])
    return np.asarray(package.score_frame(frame), dtype=np.float64)
