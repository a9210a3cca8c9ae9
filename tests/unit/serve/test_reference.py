"""The reference page has every path, option, scope and tag of a worker."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click
import pytest

import nbkit
from nbkit.route import RouteTable
from nbkit.serve import SCOPES
from nbkit.serve.__main__ import main
from nbkit.serve._mlflow_face import MlflowFace
from nbkit.serve._native import NativeFace
from nbkit.serve._openapi import OpenApiFace
from nbkit.serve._routes_face import RoutesFace
from nbkit.serve._service import Service
from nbkit.serve._v2_face import OUTPUTS, InferenceFace

DOCS = Path(nbkit.__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "reference" / "service.md").read_text(encoding="utf-8")
TABLE = RouteTable.parse(b'{"format": 1, "name": "table", "routes": [{"model": "loans"}]}')


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(name="NAME", ledger=cast("Any", None), now=lambda: datetime.now(UTC), new_id=str)


def test_every_path_is_documented(service: Service) -> None:
    paths = [
        *NativeFace(service)._endpoints,
        *MlflowFace(service)._endpoints,
        *InferenceFace({"NAME": service})._fixed,
        "/v2/models/NAME", "/v2/models/NAME/ready", "/v2/models/NAME/infer", "/openapi.json",
        "/v1/decisions/ID/explanation", "/v1/routes/TABLE/decisions",
    ]  # fmt: skip
    assert [path for path in paths if not re.search(rf"[`\s]{re.escape(path)}[`?]", PAGE)] == []
    # The last ones are what the faces really answer.
    for path in paths:
        real = path.replace("/TABLE/", "/table/")
        faces = (NativeFace(service), MlflowFace(service), InferenceFace({"NAME": service}))
        others = (OpenApiFace(service, secured=False), RoutesFace(TABLE, {"loans": service}))
        assert any(face.find(real) for face in (*faces, *others)), path


def test_every_option_is_documented() -> None:
    options = [option for parameter in main.params for option in cast("click.Option", parameter).opts]
    assert [option for option in options if f"`{option}`" not in PAGE] == []


def test_every_scope_and_output_is_documented() -> None:
    assert [name for name in (*SCOPES, *OUTPUTS) if f"`{name}`" not in PAGE] == []
