"""What the blocks of a contract are built from."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_CASE_SET_REFERENCE = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}\Z")


class Stage(StrEnum):
    """Where a model version stands; carried by an MLflow alias of the same name."""

    CANDIDATE = "candidate"
    STAGING = "staging"
    SHADOW = "shadow"
    CANARY = "canary"
    PRODUCTION = "production"
    ARCHIVED = "archived"


class Outcome(StrEnum):
    """What is decided about one row."""

    APPROVE = "approve"
    REFER = "refer"
    DECLINE = "decline"


def _plain_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("expected lower-case letters, digits, '-' and '_', beginning with a letter, at most 63")
    return value


def _relative_path(value: str) -> str:
    if value in {"", "."} or value.startswith("/") or ".." in value.split("/") or "\\" in value:
        raise ValueError("expected a path inside the use-case folder")
    return value


def _case_set_reference(value: str) -> str:
    if not _CASE_SET_REFERENCE.match(value):
        raise ValueError("expected 'path@sha256:<64 hex digits>'")
    _relative_path(value.split("@")[0])
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
CaseSetReference = Annotated[str, AfterValidator(_case_set_reference)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=1)]
# The ceiling keeps 1E+1000000, which is a valid decimal, from becoming a number that no sum survives.
Money = Annotated[Decimal, Field(ge=0, le=Decimal(10) ** 12)]
Text = Annotated[str, Field(min_length=1)]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
