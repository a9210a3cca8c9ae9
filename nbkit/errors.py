"""Every error that nbkit raises on purpose.

::

    NbkitError
    ├── ContractError (ValueError)            the contract file itself is wrong
    ├── ContractViolationError (ValueError)   a row breaks the contract
    ├── ParameterError (ValueError)           a notebook parameter is unknown, of the wrong type or out of range
    ├── UsageError (ValueError)               a verb was called with something missing or contradictory
    ├── RuleError (ValueError)                rules.json does not fit the contract
    ├── RouteError (ValueError)               routes.json is wrong, or names a model that is not served
    ├── CaseSetError (ValueError)             a case set cannot be read, or is not the one that was frozen
    ├── EvaluationError (ValueError)          the evaluation cannot say anything about this input
    │   └── LeakError                         an input gives the target away
    ├── PackageError                          a model package cannot be written or read
    │   ├── NotCompilableError                no exact plan exists for this model
    │   └── TamperedPackageError              the files are not those of the manifest
    ├── RationaleError (ValueError)           a rationale cell or document is wrong
    ├── RunFailedError                        the notebook failed
    ├── RegistryError                         MLflow refused or could not answer
    │   ├── NotInRegistryError (LookupError)  no such model, version, alias or run
    │   └── RegistryUnavailableError          MLflow cannot be reached
    ├── EvidenceError                         evidence is missing, false, expired or not trusted
    │   └── KeyFileError                      a key file is missing, readable by others or malformed
    ├── RefusedError                          a gate or an approval stands in the way
    ├── ReviewError                           a ticket cannot be read, taken or decided
    ├── AccessError (ValueError)              the keys of callers cannot be read, or are wrong
    └── AuditError                            the ledger cannot be written or read
        ├── AlreadyRecordedError              the request has its record already
        ├── NotInLedgerError (LookupError)    no such record
        └── LedgerTamperedError               the ledger is not what was written
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AccessError",
    "AlreadyRecordedError",
    "AuditError",
    "CaseSetError",
    "ContractError",
    "ContractViolationError",
    "EvaluationError",
    "EvidenceError",
    "KeyFileError",
    "LeakError",
    "LedgerTamperedError",
    "NbkitError",
    "NotCompilableError",
    "NotInLedgerError",
    "NotInRegistryError",
    "PackageError",
    "ParameterError",
    "RationaleError",
    "RefusedError",
    "RegistryError",
    "RegistryUnavailableError",
    "ReviewError",
    "RouteError",
    "RuleError",
    "RunFailedError",
    "TamperedPackageError",
    "UsageError",
]


class NbkitError(Exception):
    """Base of every error that nbkit raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong: the place, what was expected, what came.
    problems : iterable of str
        All problems found, where a check finds several at once; they are appended to the message.
    next_step : str
        What to type or do next; appended to the message when given.

    Examples
    --------
    >>> str(NbkitError("contract.yaml", problems=["$.name: missing"], next_step="nbkit contract schema"))
    'contract.yaml: 1 problem: $.name: missing. Next: nbkit contract schema'
    """

    def __init__(self, message: str, *, problems: Iterable[str] = (), next_step: str = "") -> None:
        self.message = message
        self.problems = tuple(problems)
        self.next_step = next_step
        super().__init__(self._text())

    def _text(self) -> str:
        text = self.message
        if self.problems:
            count = len(self.problems)
            text = f"{text}: {count} problem{'s' if count > 1 else ''}: {'; '.join(self.problems)}"
        return f"{text}. Next: {self.next_step}" if self.next_step else text

    # IPython and papermill ask for this: one clean line in Lab, in the saved notebook and in a scheduled run.
    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class ContractError(NbkitError, ValueError):
    """The contract file itself is wrong."""


class ContractViolationError(NbkitError, ValueError):
    """A row breaks the contract."""


class ParameterError(NbkitError, ValueError):
    """A notebook parameter is unknown, of the wrong type or out of range."""


class UsageError(NbkitError, ValueError):
    """A verb was called with something missing or contradictory."""


class RuleError(NbkitError, ValueError):
    """``rules.json`` does not fit the contract."""


class RouteError(NbkitError, ValueError):
    """``routes.json`` is wrong, or names a model that is not served."""


class CaseSetError(NbkitError, ValueError):
    """A case set cannot be read, or is not the one that was frozen."""


class EvaluationError(NbkitError, ValueError):
    """The evaluation cannot say anything about this input."""


class LeakError(EvaluationError):
    """An input gives the target away."""


class PackageError(NbkitError):
    """A model package cannot be written or read."""


class NotCompilableError(PackageError):
    """No exact plan exists for this model."""


class TamperedPackageError(PackageError):
    """The files are not those of the manifest."""


class RationaleError(NbkitError, ValueError):
    """A rationale cell or document is wrong."""


class RunFailedError(NbkitError):
    """The notebook failed."""


class RegistryError(NbkitError):
    """MLflow refused or could not answer."""


class NotInRegistryError(RegistryError, LookupError):
    """No such model, version, alias or run."""


class RegistryUnavailableError(RegistryError):
    """MLflow cannot be reached."""


class EvidenceError(NbkitError):
    """Evidence is missing, false, expired or not trusted."""


class KeyFileError(EvidenceError):
    """A key file is missing, readable by others or malformed."""


class RefusedError(NbkitError):
    """A gate or an approval stands in the way."""


class ReviewError(NbkitError):
    """A ticket cannot be read, taken or decided."""


class AccessError(NbkitError, ValueError):
    """The keys of callers cannot be read, or are wrong."""


class AuditError(NbkitError):
    """The ledger cannot be written or read."""


class AlreadyRecordedError(AuditError):
    """The request has its record already."""


class NotInLedgerError(AuditError, LookupError):
    """No such record."""


class LedgerTamperedError(AuditError):
    """The ledger is not what was written."""
