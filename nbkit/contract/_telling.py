"""Blocks of the contract: what the person concerned is told, by whom, and in which languages."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from nbkit.contract._types import Block, Text

Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


class Bureau(Block):
    """The consumer reporting agency whose report the decision rests on."""

    name: Text
    address: Text
    phone: Text
    inputs: tuple[Text, ...] = Field(min_length=1, description="inputs that come from its report")
    score: str | None = Field(default=None, description="the input that is its credit score")

    @model_validator(mode="after")
    def _score_comes_from_the_report(self) -> Self:
        if self.score is not None and self.score not in self.inputs:
            raise ValueError(f"score: expected one of inputs, got {self.score!r}")
        return self


class Notice(Block):
    """What an adverse-action notice says besides the reasons."""

    creditor: str = ""
    address: str = ""
    phone: str = ""
    agency: str = Field(default="", description="name and address of the agency that supervises the creditor")
    languages: tuple[Language, ...] = Field(default=("en",), min_length=1)
    bureau: Bureau | None = None
