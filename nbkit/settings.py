"""Where nbkit finds and keeps things; read once by a face and passed down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that comes from outside a use case.

    Parameters
    ----------
    tracking_uri : str
        MLflow's tracking and registry store.
    artifact_root : Path
        Where MLflow keeps artifacts when the store is a local database.
    home : Path
        Private keys (``keys/``) and the trust file (``trust.json``); outside any repository.
    store : Path
        The content-addressed package store and the audit ledger of ``nbkit serve``.
    identity : str
        Name of the key that signs; empty means none.
    ui_url : str
        Where reviewers reach the MLflow UI; deep links begin with it.
    ledger : str
        The one audit ledger of all models: a file, or ``postgresql://…``; empty: a file a model below the store. It may
        hold a password, so it is never shown.
    """

    tracking_uri: str
    artifact_root: Path
    home: Path
    store: Path
    identity: str = ""
    ui_url: str = "http://127.0.0.1:5000"
    ledger: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, directory: Path) -> Settings:
        """Read ``NBKIT_*`` and ``MLFLOW_TRACKING_URI``; anything not set lies under ``directory``.

        A use-case folder stands for its parent, so that its notebook and a shell beside it find the same store.

        Examples
        --------
        >>> Settings.from_environment({}, directory=Path("/project")).tracking_uri
        'sqlite:////project/mlruns/mlflow.db'
        """
        here = directory.resolve()
        project = here.parent if (here / "contract.yaml").is_file() else here
        runs = project / "mlruns"
        ledger = environment.get("NBKIT_LEDGER", "")
        home = environment.get("NBKIT_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config/nbkit")
        return cls(
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / 'mlflow.db'}",
            artifact_root=Path(environment.get("NBKIT_ARTIFACT_ROOT") or runs / "artifacts"),
            home=Path(home),
            store=Path(environment.get("NBKIT_STORE") or project / ".nbkit"),
            identity=environment.get("NBKIT_IDENTITY", ""),
            ui_url=environment.get("NBKIT_UI_URL") or "http://127.0.0.1:5000",
            ledger=str(project / ledger) if ledger and "://" not in ledger else ledger,
        )

    @property
    def trust_file(self) -> Path:
        """Which keys this verifier trusts, in which roles."""
        return self.home / "trust.json"

    @property
    def keys(self) -> Path:
        """Where private keys lie."""
        return self.home / "keys"
