"""MLflow without what a rollback does not need; each in a process of its own, since a library is loaded once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from nbkit.registry import load_lean
unused, folder = sys.argv[1], Path(sys.argv[2])
lean = load_lean(unused)
from nbkit.registry import Registry
from nbkit.settings import Settings
settings = Settings(tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_root=folder, home=folder, store=folder)
run = Registry(settings).create_run("loans", name="train", tags={}, parameters={"trees": 5})
parameters = Registry(settings).run(run).parameters
print(lean, unused in sys.modules, parameters, load_lean(unused))
import pandas
print(len(pandas.DataFrame({"a": [1, 2]})))
"""


@pytest.mark.parametrize(
    ("unused", "said"),
    [("pandas", "True False {'trees': '5'} False"), ("sqlparse", "False True {'trees': '5'} False")],
    ids=["it can do without", "it cannot do without"],
)
def test_mlflow_is_loaded_without_what_is_not_used_unless_it_needs_it(unused: str, said: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, unused, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [said, "2"]
