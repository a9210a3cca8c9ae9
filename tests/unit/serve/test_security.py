"""Who may call, how long a caller may take, and what an error gives away."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nbkit.cli import cli
from nbkit.errors import AccessError, UsageError
from nbkit.package import Package
from nbkit.serve import AccessFile, PackageStore
from nbkit.serve._app import Endpoint
from nbkit.serve._connection import HEAD_LIMIT
from nbkit.serve._express import Express
from nbkit.serve._guard import AccessGuard, check_exposure
from nbkit.serve._head import KnownHead
from nbkit.serve._http import Call, RefusedError, Reply
from nbkit.serve._metrics import Metrics
from nbkit.serve._tokens import Issuer, TokenVerifier
from nbkit.serve._wiring import follow

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden" / "apikeys-1.json"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing binds to it: that is what is tested
ISSUER, AUDIENCE = "https://login.example", "nbkit"


async def nothing(_: Call) -> Reply:
    return Reply()


DECIDE = Endpoint(nothing, methods=("POST",), scope="decide")


def call(**headers: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}


@pytest.fixture
def clock() -> list[datetime]:
    return [NOW]


def guard_of(clock: list[datetime], *, keys: Path | None = None, tokens: TokenVerifier | None = None) -> AccessGuard:
    return AccessGuard(keys=keys, tokens=tokens, now=lambda: clock[0], metrics=Metrics())


def refusal(guard: AccessGuard, **headers: str) -> tuple[int, str]:
    with pytest.raises(RefusedError) as refused:
        guard(call(**headers), DECIDE)
    return refused.value.status, str(refused.value)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    file, tokens = AccessFile.begin(), {}
    for name, scopes in (("shop", ("decide",)), ("scraper", ("metrics",)), ("tester", ("decide", "override"))):
        file, _, tokens[name] = file.add(name, scopes=scopes, now=NOW, expires_at=NOW + timedelta(days=1))
    path = tmp_path / "apikeys.json"
    file.save(path)
    return path, tokens


def test_a_key_lets_in_whoever_has_it_with_its_scopes(keys: Any, clock: list[datetime]) -> None:
    path, tokens = keys
    guard = guard_of(clock, keys=path)
    for headers in ({"x_api_key": tokens["shop"]}, {"authorization": f"Bearer {tokens['shop']}"}):
        assert guard(call(**headers), DECIDE).name == "shop"
    assert refusal(guard) == (401, "an API key or a bearer token is needed")
    assert refusal(guard, authorization=f"Basic {tokens['shop']}")[0] == 401
    assert refusal(guard, x_api_key=tokens["shop"][:-1])[0] == 401
    assert refusal(guard, x_api_key=tokens["scraper"]) == (403, "scope 'decide' is needed")


def test_the_file_holds_no_secret_and_is_its_owners_alone(keys: Any) -> None:
    path, tokens = keys
    assert not any(token in path.read_text() or token.split("_", 2)[2] in path.read_text() for token in tokens.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(AccessError, match="others can read it"):
        AccessFile.load(path)


def test_a_key_ends_by_the_clock_and_by_revocation(keys: Any, clock: list[datetime]) -> None:
    path, tokens = keys
    guard = guard_of(clock, keys=path)
    clock[0] = NOW + timedelta(days=1)
    assert refusal(guard, x_api_key=tokens["shop"])[0] == 401
    clock[0] = NOW
    file = AccessFile.load(path)
    file.revoke(file.keys[0].id, now=NOW).save(path)
    guard.reread()
    assert refusal(guard, x_api_key=tokens["shop"])[0] == 401
    assert guard(call(x_api_key=tokens["tester"]), DECIDE).name == "tester"


# --- A head that is known -------------------------------------------------------------------------------------------


class Door:
    """An express behind a guard, asked again and again with one head of a connection that is kept open."""

    def __init__(self, guard: AccessGuard, *, kind: bytes = b"application/json", **headers: str) -> None:
        self.guard = guard
        self.asks: list[Any] = []
        self.replies: list[Reply] = []
        endpoint = Endpoint(nothing, methods=("POST",), scope="decide", kinds=frozenset({b"application/json"}), limit=9)
        self.express = Express(
            {"/": (endpoint, self)},  # type: ignore[dict-item]
            guard=guard,
            broken=lambda path, error: Reply(status=500, body=type(error).__name__.encode()),
        )
        told = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        self.head = KnownHead(before=b"", after=b"", url=b"/", headers=told | {b"content-type": kind})

    def take(self, ask: Any) -> None:
        self.asks.append(ask)

    def knock(self, body: bytes = b"{}") -> int:
        """Ask once; return the status, or 0 where somebody was let in."""
        before = len(self.asks), len(self.replies)
        self.express.offer(b"/", self.head.headers, body, arrived=0.0, reply=self.replies.append, head=self.head)
        assert (len(self.asks) - before[0]) + (len(self.replies) - before[1]) == 1
        return self.replies[-1].status if len(self.replies) > before[1] else 0


async def nothing(_: Call) -> Reply:
    return Reply()


@pytest.fixture
def lasting(tmp_path: Path) -> tuple[Path, str]:
    """A key that has no end."""
    file, _, token = AccessFile.begin().add("shop", scopes=["decide"], now=NOW)
    file.save(tmp_path / "lasting.json")
    return tmp_path / "lasting.json", token


def test_whom_the_same_head_let_in_comes_in_again_until_the_key_is_revoked(
    lasting: tuple[Path, str], clock: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, token = lasting
    door = Door(guard_of(clock, keys=path), authorization=f"Bearer {token}")
    assert door.knock() == 0
    with monkeypatch.context() as patch:
        patch.setattr(door.guard, "admit", None)  # nobody is asked again
        assert door.knock() == 0
        assert door.knock(b"x" * 10) == 413  # but what may differ is looked at each time
    assert {ask.caller.name for ask in door.asks} == {"shop"}
    file = AccessFile.load(path)
    file.revoke(file.keys[0].id, now=NOW).save(path)
    door.guard.reread()
    assert [door.knock(), door.knock()] == [401, 401]


def test_whoever_has_an_end_is_looked_at_each_time(
    keys: Any, oidc: Path, make_token: Callable[..., str], clock: list[datetime]
) -> None:
    path, tokens = keys
    doors = [
        Door(guard_of(clock, keys=path), x_api_key=tokens["shop"]),
        Door(guard_of(clock, tokens=TokenVerifier(Issuer.load(oidc))), authorization=f"Bearer {make_token()}"),
    ]
    assert [door.knock() for door in doors * 2] == [0] * 4
    clock[0] = NOW + timedelta(days=1)
    assert [door.knock() for door in doors] == [401, 401]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"kind": b"text/plain"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"x_nbkit_stage": "canary"}, 403),
        ({"content_length": "99"}, 413),
    ],
)
def test_a_head_that_was_refused_is_not_let_in_the_next_time(
    lasting: tuple[Path, str], clock: list[datetime], headers: dict[str, Any], status: int
) -> None:
    path, token = lasting
    door = Door(guard_of(clock, keys=path), x_api_key=token, **headers)
    assert [door.knock(), door.knock()] == [status, status]
    assert door.head.admitted is None


def test_a_broken_file_changes_nothing_while_serving(keys: Any, clock: list[datetime]) -> None:
    path, tokens = keys
    guard = guard_of(clock, keys=path)
    whole = json.loads(path.read_text())
    naive = {**whole["keys"][0], "expires_at": "2026-11-25T12:00:00"}
    for broken in (
        {},
        whole | {"salt": "zz"},
        whole | {"keys": [naive]},
        whole | {"keys": [{**naive, "expires_at": "x"}]},
    ):
        path.write_text(json.dumps(broken))
        guard.reread()
        assert guard(call(x_api_key=tokens["shop"]), DECIDE).name == "shop"
        with pytest.raises(AccessError, match="expected the keys of callers"):
            guard_of(clock, keys=path)
    path.unlink()
    guard.reread()
    with pytest.raises(AccessError, match=r"no such file\. Next: nbkit apikeys new"):
        guard_of(clock, keys=path)


def test_only_a_tester_names_the_stage(keys: Any, clock: list[datetime]) -> None:
    path, tokens = keys
    guard = guard_of(clock, keys=path)
    assert guard(call(x_api_key=tokens["tester"], x_nbkit_stage="canary"), DECIDE).wants == "canary"
    assert refusal(guard, x_api_key=tokens["shop"], x_nbkit_stage="canary")[0] == 403
    assert refusal(guard, x_api_key=tokens["tester"], x_nbkit_stage="shadow")[0] == 400


def test_a_wrong_key_is_refused_with_all_its_problems() -> None:
    with pytest.raises(AccessError) as error:
        AccessFile.begin().add("", scopes=["decode"], now=NOW)
    assert len(error.value.problems) == 2
    with pytest.raises(AccessError, match="at least one"):
        AccessFile.begin().add("x", scopes=[], now=NOW)
    with pytest.raises(AccessError, match="none of that id counts"):
        AccessFile.begin().revoke("abc", now=NOW)


def test_a_file_of_the_first_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_bytes(GOLDEN.read_bytes())
    path.chmod(0o600)
    (key,) = AccessFile.load(path).keys
    assert (key.name, key.scopes, key.holds(now=NOW)) == ("shop", ("decide",), True)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(AccessError, match="expected format 1, got 2"):
        AccessFile.load(path)
    path.write_text("[]")
    with pytest.raises(AccessError, match="expected the keys of callers"):
        AccessFile.load(path)


def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBKIT_HOME", str(tmp_path))
    run = CliRunner().invoke
    made = json.loads(run(cli, ["apikeys", "new", "shop", "--scope", "decide", "--days", "30", "--json"]).output)
    assert made["token"].startswith(f"nbk_{made['id']}_")
    listed = run(cli, ["apikeys", "list"]).output
    assert "1 of 1 keys count" in listed
    assert made["token"] not in listed
    assert "revoked" in run(cli, ["apikeys", "revoke", made["id"]]).output
    assert isinstance(run(cli, ["apikeys", "new", "shop", "--scope", "all"]).exception, AccessError)


# Bearer tokens


@pytest.fixture(scope="module")
def signer() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwks(signer: ec.EllipticCurvePrivateKey, *, kid: str = "k1") -> str:
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key()))
    return json.dumps({"keys": [key | {"kid": kid, "alg": "ES256", "use": "sig"}]})


@pytest.fixture
def oidc(tmp_path: Path, signer: ec.EllipticCurvePrivateKey) -> Path:
    (tmp_path / "jwks.json").write_text(jwks(signer))
    path = tmp_path / "oidc.json"
    told = {"format": 1, "issuer": ISSUER, "audience": AUDIENCE, "jwks": "jwks.json", "algorithms": ["ES256"]}
    path.write_text(json.dumps(told))
    return path


@pytest.fixture
def make_token(signer: ec.EllipticCurvePrivateKey) -> Callable[..., str]:
    def make(*, key: Any = signer, algorithm: str = "ES256", kid: str = "k1", **claims: object) -> str:
        told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc", "scope": "openid nbkit:decide nbkit:nonsense"}
        told |= {"exp": NOW + timedelta(minutes=5)} | claims
        present = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid})

    return make


def test_a_token_of_the_issuer_lets_in(oidc: Path, make_token: Callable[..., str], clock: list[datetime]) -> None:
    guard = guard_of(clock, tokens=TokenVerifier(Issuer.load(oidc)))
    token = make_token()
    caller = guard(call(authorization=f"Bearer {token}"), DECIDE)
    assert (caller.name, caller.scopes) == ("svc", {"decide"})
    assert guard(call(authorization=f"Bearer {token}"), DECIDE) is caller
    # What is remembered ends with the token.
    clock[0] = NOW + timedelta(minutes=6)
    assert refusal(guard, authorization=f"Bearer {token}")[0] == 401
    scraper = make_token(scope="nbkit:metrics", exp=NOW + timedelta(hours=1))
    assert refusal(guard, authorization=f"Bearer {scraper}") == (403, "scope 'decide' is needed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://evil.example"}, "InvalidIssuerError"),
        ({"aud": "another"}, "InvalidAudienceError"),
        ({"exp": NOW - timedelta(minutes=1)}, "expired"),
        ({"nbf": NOW + timedelta(minutes=5)}, "not_yet"),
        ({"exp": None}, "MissingRequiredClaimError"),
        ({"sub": None}, "MissingRequiredClaimError"),
        ({"kid": "k9"}, "unknown_key"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "InvalidSignatureError"),
        ({"key": "secret" * 8, "algorithm": "HS256"}, "InvalidAlgorithmError"),
        ({"key": None, "algorithm": "none"}, "InvalidAlgorithmError"),
    ],
)
def test_a_token_that_is_not_the_issuers_is_refused(
    oidc: Path, make_token: Callable[..., str], clock: list[datetime], changes: dict[str, Any], said: str
) -> None:
    guard = guard_of(clock, tokens=TokenVerifier(Issuer.load(oidc)))
    assert refusal(guard, authorization=f"Bearer {make_token(**changes)}") == (
        401, f"the bearer token does not count: {said}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"format": 2}, "format"),
        ({"audience": ""}, "audience"),
        ({"jwks": "http://login.example/jwks.json"}, "https address, or http on loopback"),
        ({"jwks": "ftp://x/y"}, "https address, or http on loopback"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_refused(oidc: Path, changes: dict[str, Any], said: str) -> None:
    oidc.write_text(json.dumps(json.loads(oidc.read_text()) | changes))
    with pytest.raises(AccessError, match=said):
        Issuer.load(oidc)


def test_the_issuers_keys_are_fetched_from_loopback_and_outlive_its_absence(
    oidc: Path, signer: ec.EllipticCurvePrivateKey, make_token: Callable[..., str], clock: list[datetime]
) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(jwks(signer).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/jwks.json"
        oidc.write_text(json.dumps(json.loads(oidc.read_text()) | {"jwks": address}))
        verifier = TokenVerifier(Issuer.load(oidc))
        guard = guard_of(clock, tokens=verifier)
        server.shutdown()
    assert guard(call(authorization=f"Bearer {make_token()}"), DECIDE).name == "svc"
    verifier.fetch()  # the issuer is gone: the last keys go on
    assert guard(call(authorization=f"Bearer {make_token(jti='2')}"), DECIDE).name == "svc"
    with pytest.raises(AccessError, match="the issuer's keys cannot be read"):
        TokenVerifier(Issuer.load(oidc)).fetch()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n\r\n7",
        b'HTTP/1.1 200 OK\r\n\r\n{"keys": 7}',
        b'HTTP/1.1 200 OK\r\n\r\n{"keys": [7]}',
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{",
        b"not HTTP\r\n\r\n",
        b"",
        b"HTTP/1.1 302 Found\r\nlocation: http://login.example/jwks.json\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_whatever_an_issuer_answers_the_last_keys_go_on(
    answer: bytes, oidc: Path, make_token: Callable[..., str], clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    verifier = TokenVerifier(Issuer.load(oidc))
    guard = guard_of(clock, tokens=verifier)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        verifier._issuer = verifier._issuer.model_copy(
            update={"jwks": f"http://127.0.0.1:{server.getsockname()[1]}/jwks.json"}
        )
        verifier.fetch()
        thread.join(timeout=20)
    assert "issuer keys not read" in caplog.text
    assert guard(call(authorization=f"Bearer {make_token()}"), DECIDE).name == "svc"
    verifier._keys = {}
    with pytest.raises(AccessError, match="the issuer's keys cannot be read"):
        verifier.fetch()


# Exposure


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure(host, has_auth=False, has_tls=False)


@pytest.mark.parametrize("host", [EVERYWHERE, "10.0.0.7", "::", "scores.example"])
def test_where_others_reach_auth_and_tls_are_needed(host: str) -> None:
    with pytest.raises(UsageError) as error:
        check_exposure(host, has_auth=False, has_tls=False)
    assert len(error.value.problems) == 2
    with pytest.raises(UsageError, match="in the clear"):
        check_exposure(host, has_auth=True, has_tls=False)
    check_exposure(host, has_auth=True, has_tls=True)


# A worker


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "tls.crt", folder / "tls.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, private


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, lender: Any, people: Any, package: Package
) -> Iterator[tuple[Any, dict[str, str]]]:
    home = tmp_path_factory.mktemp("secured")
    store = PackageStore(home / "store")
    people.install(package, store=store)
    now = datetime.now(UTC)
    file, tokens = AccessFile.begin(), {}
    for scope in ("decide", "explain", "metrics"):
        file, _, tokens[scope] = file.add(scope, scopes=[scope], now=now)
    file.save(home / "apikeys.json")
    arguments = ("--api-keys", str(home / "apikeys.json"))
    with lender.Worker(store=store.root, people=people, ledger=home / "l.db", arguments=arguments) as worker:
        yield worker, tokens


def test_each_endpoint_asks_for_its_scope(secured: Any, lender: Any) -> None:
    worker, tokens = secured
    paths = {
        "decide": ("POST", "/v1/models/loans/decisions", json.dumps({"inputs": lender.GOOD}).encode()),
        "explain": ("GET", "/v1/decisions/nobody/explanation", None),
        "metrics": ("GET", "/metrics", None),
    }
    for scope, (method, path, body) in paths.items():
        kind = {"content-type": "application/json"} if body else {}
        assert worker.ask(method, path, body, kind).status == 401
        for given, token in tokens.items():
            status = worker.ask(method, path, body, kind | {"x-api-key": token}).status
            assert (status == 403) == (given != scope), (scope, given, status)
    for path in ("/healthz", "/readyz", "/openapi.json", "/v2/health/ready", "/ping"):
        assert worker.get(path).status == 200
    for path in ("/invocations", "/v2/models/loans/infer"):
        assert worker.ask("POST", path, b"{}", {"content-type": "application/json"}).status == 401
    assert "securitySchemes" in worker.get("/openapi.json").body["components"]


def test_nothing_is_read_of_who_is_not_let_in(secured: Any) -> None:
    """A stranger's body is not even parsed: it could be a megabyte of nonsense."""
    worker, _ = secured
    reply = worker.ask("POST", "/invocations", b"x" * 2_000_000, {"content-type": "application/json"})
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="nbkit"'


def read_all(sock: socket.socket) -> bytes:
    got = b""
    while part := sock.recv(65536):
        got += part
    return got


def test_a_head_that_never_ends_is_cut_off(secured: Any) -> None:
    worker, _ = secured
    with (
        socket.create_connection(("127.0.0.1", worker.port), timeout=20) as slow,
        socket.create_connection(("127.0.0.1", worker.port), timeout=20) as silent,
    ):
        slow.sendall(b"POST /v1/models/loans/decisions HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert read_all(slow) == b""
        assert read_all(silent) == b""
    assert worker.get("/healthz").status == 200


def test_a_head_that_is_too_large_is_cut_off(secured: Any) -> None:
    worker, _ = secured
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as large:
        large.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        try:
            for _ in range(2 * HEAD_LIMIT // 1024):
                large.sendall(b"x-filler: " + b"y" * 1012 + b"\r\n")
                time.sleep(0.001)
            assert read_all(large) == b""
        except ConnectionError:
            pass
    assert worker.get("/healthz").status == 200


def test_a_worker_that_others_reach_refuses_to_start_in_the_open(tmp_path: Path, people: Any, package: Package) -> None:
    command = [
        sys.executable, "-m", "nbkit.serve", "--name", "loans", "--store", str(tmp_path), "--host", EVERYWHERE,
        "--trust", str(people.trust_file), "--ledger", str(tmp_path / "l.db"), "--ledger-key", str(people.ledger_key),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    reason = json.loads(ran.stderr.splitlines()[-1])["reason"]
    assert "2 problems" in reason
    assert "nbkit apikeys new CALLER" in reason


def test_a_worker_answers_over_tls(tmp_path: Path, lender: Any, people: Any, package: Package) -> None:
    cert, private = certificate(tmp_path)
    store = PackageStore(tmp_path / "store")
    people.install(package, store=store)
    arguments = ("--tls-cert", str(cert), "--tls-key", str(private))
    with lender.Worker(store=store.root, people=people, ledger=tmp_path / "l.db", arguments=arguments) as worker:
        context = ssl.create_default_context(cafile=str(cert))
        with (
            socket.create_connection(("127.0.0.1", worker.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as line,
        ):
            line.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in read_all(line)
        assert worker.stop() == 0


def test_what_follows_files_begins_again_whatever_it_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it a revoked key would count until the next restart."""
    monkeypatch.setattr("nbkit.serve._wiring._AGAIN_SECONDS", 0.0)
    begun: list[int] = []

    async def task() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ZeroDivisionError

    asyncio.run(follow(task))
    assert begun == [0, 1, 2]
    assert caplog.text.count("following failed") == 2


def test_the_guard_follows_its_files(keys: Any, clock: list[datetime], monkeypatch: pytest.MonkeyPatch) -> None:
    path, tokens = keys
    monkeypatch.setattr("nbkit.serve._guard._POLL_SECONDS", 0.01)
    guard = guard_of(clock, keys=path)
    file = AccessFile.load(path)
    replace(file, keys=file.keys[1:]).save(path)

    async def until_refused() -> None:
        following = asyncio.create_task(guard.follow())
        for _ in range(2000):
            await asyncio.sleep(0.01)
            if len(guard._callers) == 2:
                break
        following.cancel()

    asyncio.run(until_refused())
    assert refusal(guard, x_api_key=tokens["shop"])[0] == 401
