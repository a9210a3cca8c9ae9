"""A small lender: a contract, models, people who sign, a store, and a worker process. Shared with tests/faults."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Action, Envelope, SigningKey, Statement, Submitter, TrustStore, load_key, new_key
from nbkit.serve import PackageStore

NAME = "loans"
PURPOSES = ("car", "home", "study")
GOOD = {"income": 90.0, "ratio": 0.05, "purpose": "home"}
BAD = {"income": 1.0, "ratio": 0.99, "purpose": "car"}

REASONS = """\
format: 1
codes:
  R01: {inputs: [income], text: Income insufficient for the amount, missing_text: Unable to verify income}
  R02: {inputs: [ratio], text: Excessive obligations in relation to income}
  R03: {inputs: [purpose], text: Purpose of the loan}
"""


def make_contract(**changes: object) -> Contract:
    money = {"positive": 1, "negative": 1}
    gates = [{"gate": "parity"}]
    content: dict[str, object] = {
        "format": 1,
        "name": NAME,
        "kind": "tabular",
        "title": "Loans",
        "owner": {"team": "credit", "primary": "ada", "deputy": "bob"},
        "impact": "medium",
        "purpose": "decide",
        "jurisdictions": ["US"],
        "entity": "id",
        "target": {"column": "denied", "positive": 1, "meaning": "denied", "label_delay_days": 0},
        "inputs": [
            {"name": "income", "type": "number", "minimum": 0, "maximum": 1000, "nullable": True, "pii": True},
            {"name": "ratio", "type": "number", "minimum": 0, "maximum": 1},
            {"name": "purpose", "type": "category", "categories": PURPOSES},
        ],
        "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
        # Long enough for a machine that does other things as well; tests of the deadline set their own.
        "serve": {"deadline_ms": 5000},
        "rollout": {"path": ["staging", "production"]},
        "gates": {"staging": gates, "production": gates},
    }
    return Contract.model_validate(content | changes)


def rules_graph(
    *rules: Mapping[str, str],
    hit_policy: str = "first",
    nodes: tuple[object, ...] = (),
    fields: tuple[str, ...] = ("phase", "score", "income", "ratio", "purpose"),
) -> str:
    """A GoRules table: cells by field, and the outputs decision, rule and reason."""
    outputs = ("decision", "rule", "reason")
    table = {
        "hitPolicy": hit_policy,
        "inputs": [{"id": f"in-{name}", "name": name, "field": name} for name in fields],
        "outputs": [{"id": f"out-{name}", "name": name, "field": name} for name in outputs],
        "rules": [
            {"_id": str(number)}
            | {f"in-{name}": rule.get(name, "") for name in fields}
            | {f"out-{name}": rule.get(name, "") for name in outputs}
            for number, rule in enumerate(rules)
        ],
    }
    at = {"x": 0, "y": 0}
    return json.dumps(
        {
            "contentType": "application/vnd.gorules.decision",
            "nodes": [
                {"id": "i", "type": "inputNode", "name": "Request", "position": at},
                {"id": "t", "type": "decisionTableNode", "name": "policy", "position": at, "content": table},
                {"id": "o", "type": "outputNode", "name": "Answer", "position": at},
                *nodes,
            ],
            "edges": [
                {"id": "1", "sourceId": "i", "targetId": "t", "type": "edge"},
                {"id": "2", "sourceId": "t", "targetId": "o", "type": "edge"},
            ],
        }
    )


TRIAL_PATH = ("staging", "shadow", "canary", "production")


def trial_contract(**changes: object) -> Contract:
    """A contract whose versions pass shadow and canary."""
    gates = {stage: [{"gate": "parity"}] for stage in TRIAL_PATH}
    return make_contract(**({"rollout": {"path": TRIAL_PATH, "canary_shares": (0.01, 0.1)}, "gates": gates} | changes))


RULES = rules_graph(
    {"phase": "'before'", "ratio": "> 0.999", "decision": "'decline'", "rule": "'overcommitted'", "reason": "'R02'"},
    {"phase": "'after'", "income": "< 0.5", "decision": "'refer'", "rule": "'no-income'", "reason": "'R01'"},
    {"phase": "'fallback'", "ratio": "< 0.1", "decision": "'approve'", "rule": "'plainly-good'", "reason": ""},
)


def make_table(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {"income": rng.uniform(0, 100, rows), "ratio": rng.random(rows), "purpose": rng.choice(PURPOSES, rows)}
    )
    margin = 9 * frame["ratio"] - 0.08 * frame["income"] + (frame["purpose"] == "car") - 1
    frame["denied"] = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(int)
    frame["id"] = [f"id{number}" for number in range(rows)]
    return frame


def make_package(
    directory: Path,
    *,
    compiled: bool = True,
    rules: str | None = RULES,
    reasons: str | None = REASONS,
    iterations: int = 10,
    contract: Contract | None = None,
    thresholds: Thresholds | None = None,
) -> Package:
    """Fit a model and write its package."""
    contract = contract or make_contract()
    training = make_table()
    numbers = SimpleImputer() if not compiled else "passthrough"
    encode = ColumnTransformer(
        [
            ("purpose", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["purpose"]),
            ("numbers", numbers, ["income", "ratio"]),
        ]
    )
    last = HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False, random_state=0)
    model = Pipeline([("encode", encode), ("model", last if compiled else GaussianNB())])
    model.fit(training[["income", "ratio", "purpose"]], training["denied"])
    sources = {}
    for path, text in (("rules.json", rules), ("reasons.yaml", reasons)):
        if text is not None:
            sources[path] = directory.with_name(f"{directory.name}-{path}")
            sources[path].write_text(text)
    return write_package(
        directory,
        model=model,
        contract=contract,
        training=training,
        thresholds=thresholds or Thresholds(refer=0.4, decline=0.7),
        threshold_facts={},
        sources=sources,
        parameters={},
        seeds={},
        git_commit="c0ffee",
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


@dataclass(frozen=True, kw_only=True)
class People:
    """Everybody's private key, and the trust file that holds the public ones."""

    keys: dict[str, SigningKey]
    trust: TrustStore
    home: Path

    @classmethod
    def settle(cls, home: Path) -> Self:
        trust, keys = TrustStore(), {}
        now = datetime.now(UTC)
        for name, role in (("ana", "submitter"), ("ben", "approver"), ("ledger", "ledger")):
            public = new_key(name, directory=home / "keys")
            keys[name] = load_key(name, directory=home / "keys")
            trust = trust.add(
                public,
                owner=name,
                roles=[role],
                not_before=now - timedelta(days=1),
                not_after=now + timedelta(days=1),
            )
        trust.save(home / "trust.json")
        return cls(keys=keys, trust=trust, home=home)

    @property
    def trust_file(self) -> Path:
        return self.home / "trust.json"

    @property
    def ledger_key(self) -> Path:
        return self.home / "keys" / "ledger.pem"

    def promotion(self, package: Package, *, signers: tuple[str, ...] = ("ana", "ben"), **changes: object) -> Envelope:
        now = datetime.now(UTC)
        content: dict[str, object] = {
            "model": NAME,
            "version": 1,
            "stage": "production",
            "action": Action.PROMOTE,
            "epoch": 1,
            "issued_at": now - timedelta(hours=1),
            "expires_at": now + timedelta(hours=12),
            "package_digest": package.digest,
            "contract_digest": package.contract.digest,
            "gates": (GateResult(gate="parity", verdict=Verdict.PASS, reason="0 rows differ"),),
            "impact": package.contract.impact,
            "approvals_needed": package.contract.approvals_needed,
            "submitter": Submitter(key_id=self.keys["ana"].key_id, owner="ana"),
        }
        envelope = Envelope.of(Statement.model_validate(content | changes))
        for name in signers:
            envelope = envelope.sign(self.keys[name])
        return envelope

    def install(
        self,
        package: Package,
        *,
        store: PackageStore,
        version: int = 1,
        epoch: int = 1,
        stage: str = "production",
        share: float = 0.0,
    ) -> None:
        envelope = self.promotion(package, version=version, epoch=epoch, stage=stage)
        store.install(
            package.contract.name,
            version=version,
            package_dir=package.directory,
            envelope_json=envelope.to_json(),
            epoch=epoch,
            stage=stage,
            share=share,
        )


@dataclass(kw_only=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(kw_only=True)
class Worker:
    """``python -m nbkit.serve`` as a process of its own."""

    store: Path
    people: People
    ledger: Path
    arguments: tuple[str, ...] = ()
    # What starts it; a process of the test's own may stand above it.
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None
    port: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    told: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)

    def start(self) -> Self:
        command = [
            *self.prefix, sys.executable, "-m", "nbkit.serve", "--name", NAME, "--store", str(self.store),
            "--port", "0",
            "--trust", str(self.people.trust_file), "--ledger", str(self.ledger),
            "--ledger-key", str(self.people.ledger_key), *self.arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        self.port = int(self.wait_for("listening")["port"])
        return self

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                try:
                    told = json.loads(line)
                except ValueError:  # the traceback of a worker that could not even begin
                    told = {"event": "no log line", "line": line}
                self.lines.append(told)
                self.told.put(told)
        self.told.put(None)

    def wait_for(self, event: str, *, seconds: float = 20) -> dict[str, Any]:
        """Return the next log line of that event."""
        deadline = time.monotonic() + seconds
        while True:
            told = self.told.get(timeout=max(deadline - time.monotonic(), 0.001))
            if told is None and self.process is not None:
                self.process.wait(timeout=20)
            assert told is not None, f"the worker ended before {event!r}: {self.lines}"
            if told["event"] == event:
                return told

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get("content-type", "").startswith("application/json") and content
        return Reply(
            status=answer.status,
            headers={key.lower(): value for key, value in answer.headers.items()},
            body=json.loads(content) if is_json else content.decode(),
        )

    def decide(self, inputs: Mapping[str, object], **others: object) -> Reply:
        return self.send(json.dumps({"inputs": inputs, **others}).encode())

    def send(self, body: bytes, **headers: str) -> Reply:
        kind = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        return self.ask("POST", f"/v1/models/{NAME}/decisions", body, kind)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
