"""``python -m nbkit.serve``: run one scoring worker."""

from __future__ import annotations

import gc
import logging
import os
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from nbkit.errors import NbkitError
from nbkit.serve._log import JsonLines


@click.command()
@click.option("--name", required=True, help="The registered model.")
@click.option("--store", required=True, type=click.Path(path_type=Path), help="The package store.")
@click.option("--trust", required=True, type=click.Path(path_type=Path), help="The trust file.")
@click.option(
    "--ledger", required=True, envvar="NBKIT_LEDGER", help="The audit ledger: a file, or postgresql://… (NBKIT_LEDGER)."
)
@click.option("--journal", type=click.Path(path_type=Path), help="Where records may wait for the ledger.")
@click.option(
    "--ledger-key", required=True, type=click.Path(path_type=Path), help="Private key that signs it: DIR/NAME.pem."
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
@click.option("--api-keys", type=click.Path(path_type=Path), help="API keys of callers (nbkit apikeys).")
@click.option("--oidc", type=click.Path(path_type=Path), help="oidc.json: whose bearer tokens count.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--tls-elsewhere", is_flag=True, help="A proxy in front encrypts.")
@click.option("--routes", type=click.Path(path_type=Path), help="routes.json: several models behind one address.")
@click.option("--supervisor", type=int, help="Process id of nbkit serve, which brings new versions.")
def main(
    *,
    name: str,
    store: Path,
    trust: Path,
    ledger: str,
    journal: Path | None,
    ledger_key: Path,
    host: str,
    port: int,
    log_level: str,
    api_keys: Path | None,
    oidc: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_elsewhere: bool,
    routes: Path | None,
    supervisor: int | None,
) -> None:
    """Answer POST /v1/models/NAME/decisions from verified packages, each answer recorded before it is given."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    _import_quickly()
    from nbkit.audit import is_address
    from nbkit.registry import load_key
    from nbkit.serve._fork_server import ForkServer
    from nbkit.serve._shadow_process import decide_trials
    from nbkit.serve._worker import WorkerOptions, run_worker

    # Before there is a key that it could inherit.
    forks = ForkServer(partial(decide_trials, store=store))
    try:
        key = load_key(ledger_key.stem, directory=ledger_key.parent)
        run_worker(
            WorkerOptions(
                name=name,
                store=store,
                trust=trust,
                ledger=ledger if is_address(ledger) else Path(ledger),
                ledger_key=key.secret,
                host=host,
                port=port,
                journal=journal or store / "journals" / f"{name}.journal",
                api_keys=api_keys,
                oidc=oidc,
                tls_cert=tls_cert,
                tls_key=tls_key,
                tls_elsewhere=tls_elsewhere,
                routes=routes,
                supervisor=supervisor,
            ),
            forks=forks,
        )
    except (NbkitError, OSError) as error:
        logging.getLogger("nbkit.serve").error("cannot serve", extra={"fields": {"reason": str(error)}})
        sys.exit(1)
    finally:
        forks.close()


def _import_quickly() -> None:
    """Import what a worker needs, without what an import usually costs beside."""
    # At its first model pydantic reads what every installed package declares, to find plugins; a worker wants none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # What modules make while they are imported stays: to look through it for garbage, then and later, is in vain.
    gc.disable()
    import_module("nbkit.serve._worker")
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
