"""The servers that people use today, each in an environment of its own, with the same fitted model."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cloudpickle
from sklearn.pipeline import Pipeline

ENVIRONMENTS = Path(__file__).parents[2] / "build" / "peers"
SKLEARN = "scikit-learn==1.9.1"

_FASTAPI = """
import cloudpickle, pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel
model = cloudpickle.load(open({model!r}, "rb"))
app = FastAPI()
class Request(BaseModel):
    inputs: dict[str, float | str]
@app.get("/healthz")
def health(): return "ok"
@app.post("/predict")
def predict(request: Request):
    return {{"score": float(model.predict_proba(pd.DataFrame([request.inputs]))[0, 1])}}
"""

_BENTOML = """
import bentoml, cloudpickle, pandas as pd
@bentoml.service(workers=1)
class Scorer:
    def __init__(self):
        self.model = cloudpickle.load(open({model!r}, "rb"))
    @bentoml.api
    def predict(self, inputs: dict) -> dict:
        return {{"score": float(self.model.predict_proba(pd.DataFrame([inputs]))[0, 1])}}
"""

_MLSERVER = """
import cloudpickle
from mlserver import MLModel
from mlserver.codecs import PandasCodec
from mlserver.types import InferenceResponse, ResponseOutput
class Scorer(MLModel):
    async def load(self):
        self._model = cloudpickle.load(open({model!r}, "rb"))
        return True
    async def predict(self, payload):
        frame = self.decode_request(payload, default_codec=PandasCodec)
        score = float(self._model.predict_proba(frame)[0, 1])
        output = ResponseOutput(name="score", shape=[1], datatype="FP64", data=[score])
        return InferenceResponse(model_name=self.name, outputs=[output])
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How to start a server and what to send it."""

    name: str
    command: list[str]
    path: str
    health: str
    shape: str
    version: str
    environment: dict[str, str] = field(default_factory=dict)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(name: str, *packages: str) -> Path:
    """Make an environment; raises CalledProcessError where pip cannot."""
    home = ENVIRONMENTS / name
    python = home / "bin" / "python"
    if not (home / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
        (home / ".ready").touch()
    return python


def version_in(python: Path, module: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({module!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def prepare(model: Pipeline, home: Path, *, ports: dict[str, int]) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can be installed here, and why the others are left out."""
    pickled = home / "model.pkl"
    pickled.write_bytes(cloudpickle.dumps(model))
    peers, skipped = [], {}
    for name, make in (("fastapi", _fastapi), ("bentoml", _bentoml), ("mlserver", _mlserver)):
        try:
            peers.append(make(home, pickled, ports[name]))
        except subprocess.CalledProcessError as error:
            skipped[name] = str(error.stderr or error).strip().splitlines()[-1][:200]
    return peers, skipped


def _fastapi(home: Path, model: Path, port: int) -> Peer:
    python = environment("fastapi", "fastapi", "uvicorn[standard]", SKLEARN, "pandas", "cloudpickle")
    folder = home / "fastapi"
    folder.mkdir()
    (folder / "fastapi_app.py").write_text(_FASTAPI.format(model=str(model)))
    command = [str(python), "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--app-dir", str(folder)]
    return Peer(
        name="fastapi", command=[*command, "--log-level", "warning", "--no-access-log"], path="/predict",
        health="/healthz", shape="native", version=version_in(python, "fastapi"),
    )  # fmt: skip


def _bentoml(home: Path, model: Path, port: int) -> Peer:
    python = environment("bentoml", "bentoml", SKLEARN, "pandas", "cloudpickle")
    folder = home / "bentoml"
    folder.mkdir()
    (folder / "service.py").write_text(_BENTOML.format(model=str(model)))
    command = [str(python), "-m", "bentoml", "serve", "service:Scorer", "--working-dir", str(folder)]
    return Peer(
        name="bentoml", command=[*command, "--port", str(port)], path="/predict", health="/readyz", shape="native",
        version=version_in(python, "bentoml"), environment={"BENTOML_DO_NOT_TRACK": "True"},
    )  # fmt: skip


def _mlserver(home: Path, model: Path, port: int) -> Peer:
    python = environment("mlserver", "mlserver", SKLEARN, "pandas", "cloudpickle")
    folder = home / "mlserver"
    folder.mkdir()
    (folder / "scorer.py").write_text(_MLSERVER.format(model=str(model)))
    others = [_free_port(), _free_port()]
    settings = {"http_port": port, "grpc_port": others[0], "metrics_port": others[1], "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings | {"debug": False}))
    (folder / "model-settings.json").write_text(json.dumps({"name": "payments", "implementation": "scorer.Scorer"}))
    return Peer(
        name="mlserver", command=[str(python.with_name("mlserver")), "start", str(folder)],
        path="/v2/models/payments/infer", health="/v2/health/ready", shape="v2", version=version_in(python, "mlserver"),
        environment={"PYTHONPATH": str(folder)},
    )  # fmt: skip
