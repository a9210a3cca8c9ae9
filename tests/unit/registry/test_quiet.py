"""What importing and using the registry does to the process around it: as little as possible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbkit.registry

_WATCHED = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        print("network:", event, arguments[1:])

sys.addaudithook(watch)
"""

_USE = """
from pathlib import Path
from nbkit.registry import Registry
from nbkit.settings import Settings

folder = Path(sys.argv[1])
uri = f"sqlite:///{folder / 'mlflow.db'}"
settings = Settings(tracking_uri=uri, artifact_root=folder / "files", home=folder, store=folder)
registry = Registry(settings)
run = registry.create_run("quiet", name="x", tags={}, parameters={"a": 1})
registry.finish_run(run, succeeded=True)
from mlflow.telemetry.client import get_telemetry_client
import threading
print("telemetry:", get_telemetry_client(), [t.name for t in threading.enumerate() if "elemetry" in t.name])
print("status:", registry.run(run).status)
"""


def _python(code: str, *arguments: str, home: Path) -> str:
    # Nothing that would turn telemetry off by itself: no CI, no pytest, no MLFLOW_DISABLE_TELEMETRY.
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_registry_phones_nobody_even_when_the_environment_forgets_to_forbid_it(tmp_path: Path) -> None:
    out = _python(_WATCHED + _USE, str(tmp_path), home=tmp_path)
    assert out.splitlines() == ["telemetry: None []", "status: FINISHED"]
    assert not (tmp_path / "mlruns").exists()


def test_verifying_loads_neither_mlflow_nor_pandas(tmp_path: Path) -> None:
    code = "import sys, nbkit.registry\nprint(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = _python(code, home=tmp_path)
    for heavy in ("mlflow", "pandas", "sklearn", "sqlalchemy", "skops", "shap", "requests"):
        assert f"'{heavy}'" not in loaded


def test_every_exported_name_resolves() -> None:
    assert all(getattr(nbkit.registry, name) is not None for name in nbkit.registry.__all__)
    assert nbkit.registry.Registry.__module__ == "nbkit.registry._registry"
    assert not hasattr(nbkit.registry, "Nothing")
