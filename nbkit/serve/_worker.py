"""One scoring worker: a process that answers for one model, from the store and the ledger on this machine."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Place, RemoteLedger
from nbkit.errors import AuditError
from nbkit.package import has_kernel
from nbkit.serve._fork_server import ForkServer
from nbkit.serve._gate import gated_protocol
from nbkit.serve._guard import check_exposure
from nbkit.serve._ids import Ids, utc_now
from nbkit.serve._server import Server
from nbkit.serve._wiring import Assembled, assemble
from nbkit.serve._writer import Writer

__all__ = ["WorkerOptions", "run_worker"]

_LOG = logging.getLogger("nbkit.serve")

# What is being decided when the signal comes is answered; a model that hangs is not waited for any longer.
_DRAIN_SECONDS = 10

# Callers beyond this wait in the kernel or are told 503 by the server at once.
_MOST_CONNECTIONS = 2048


# Objects that must pile up before the young ones are looked through; Python's own 700 are twelve requests.
_GARBAGE = 50_000

# Another thread wants the interpreter for microseconds and would wait for it this long each time; Python's own
# 5 ms would be most of a decision.
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Where a worker finds and keeps things.

    Parameters
    ----------
    name : str
        The registered model.
    store : Path
        The package store.
    trust : Path
        The trust file.
    ledger : Path or str
        The audit ledger: a file of SQLite, or the address of a PostgreSQL database; workers may share one.
    ledger_key : Ed25519PrivateKey
        Signs the ledger's checkpoints.
    host : str
        To listen on.
    port : int
        0 takes a free one; the log line ``listening`` names it.
    journal : Path, optional
        Where records wait while the ledger cannot take them, if the contract lets them; of this worker alone.
    api_keys : Path, optional
        File of the callers' API keys.
    oidc : Path, optional
        ``oidc.json``: whose bearer tokens count.
    tls_cert, tls_key : Path, optional
        Certificate chain and private key, PEM.
    tls_elsewhere : bool
        A proxy in front encrypts.
    routes : Path, optional
        ``routes.json``: several models behind one address.
    supervisor : int, optional
        Id of the process that started this one and brings it new versions.
    """

    name: str
    store: Path
    trust: Path
    ledger: Place
    ledger_key: Ed25519PrivateKey
    host: str = "127.0.0.1"
    port: int = 8000
    journal: Path | None = None
    api_keys: Path | None = None
    oidc: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_elsewhere: bool = False
    routes: Path | None = None
    supervisor: int | None = None

    @property
    def secured(self) -> bool:
        """Whether callers must say who they are."""
        return self.api_keys is not None or self.oidc is not None


def run_worker(options: WorkerOptions, *, forks: ForkServer) -> None:
    """Answer until SIGTERM or SIGINT; then finish what has begun, close the ledger and return.

    Parameters
    ----------
    options : WorkerOptions
        Where things are.
    forks : ForkServer
        From before there were keys.

    Raises
    ------
    UsageError
        Others than this machine could reach it, and it would not know them, or the line is in the clear.
    AuditError
        The ledger cannot be written: nothing would be answered.
    OSError
        The address cannot be listened on.
    """
    has_tls = options.tls_cert is not None or options.tls_elsewhere
    check_exposure(options.host, has_auth=options.secured, has_tls=has_tls)
    sys.setswitchinterval(_SWITCH_SECONDS)
    writer = Writer(options.ledger, key=options.ledger_key, now=utc_now, journal=options.journal, aside=forks.said)
    try:
        _answer(options, writer=writer, forks=forks)
    finally:
        writer.channel.close()
        writer.wait()


def _answer(options: WorkerOptions, *, writer: Writer, forks: ForkServer) -> None:
    servers: list[Server] = []
    lost = [False]

    def end() -> None:
        # Without its writer nothing can be answered: whoever watches over this process starts another.
        lost[0] = True
        _LOG.error("the ledger's writer has ended")
        for server in servers:
            server.should_exit = True

    ledger = RemoteLedger(writer.channel, place=options.ledger, key=options.ledger_key, lost=end)
    try:
        assembled = assemble(options, ledger=ledger, now=utc_now, new_id=Ids(), fork=forks.start)
        # What is there now stays: looking through packages, and through scikit-learn where a model without a plan has
        # brought it, would hold everybody up.
        gc.freeze()
        gc.set_threshold(_GARBAGE, 10, 100)
        with _listen(options.host, options.port) as listener:
            servers.append(Server(_config(assembled, options), starting=ledger.listen, stopping=assembled.stop))
            # uvicorn drains, then raises the signal again for whoever had a handler before, which says the same again;
            # and a signal that comes before uvicorn listens for it is not lost.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, servers[0].handle_exit)
            host, port = listener.getsockname()[:2]
            if not has_kernel():
                _LOG.warning("scores and reasons take several times as long: nbkit was installed without a C compiler")
            _LOG.info("listening", extra={"fields": {"model": options.name, "host": host, "port": port}})
            servers[0].run(sockets=[listener])
    finally:
        ledger.close()
        last = ledger.checkpoint
        # A copy of the last signed root outside the ledger shows later whether it was cut back.
        told = {"size": last.size, "root": last.root, "signature": last.signature} if last else {}
        _LOG.info("ledger closed", extra={"fields": told})
    if lost[0]:
        raise AuditError("the ledger's writer has ended")


def _config(assembled: Assembled, options: WorkerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        assembled.app,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", gated_protocol(assembled.gate, express=assembled.express)),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    # From here on callers wait in the kernel instead of being refused.
    listener.listen(_MOST_CONNECTIONS)
    return listener
