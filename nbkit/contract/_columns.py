"""Blocks of the contract: whose model it is, and the columns it reads."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nbkit.contract._types import Block, Text


def sentinel_key(value: object) -> str:
    """Return a sentinel as text: ``-9`` whether it is written -9, -9.0 or '-9'.

    Parameters
    ----------
    value : object
        A number or text.

    Returns
    -------
    str
        The same for every way to write one number.

    Examples
    --------
    >>> sentinel_key(-9.0), sentinel_key("-9"), sentinel_key("unknown")
    ('-9', '-9', 'unknown')
    """
    try:
        return repr(float(str(value))).removesuffix(".0")
    except ValueError:
        return str(value)


class Owner(Block):
    """Who answers for the model, and who does when that person is gone."""

    team: Text
    primary: Text
    deputy: Text

    @model_validator(mode="after")
    def _deputy_is_someone_else(self) -> Self:
        if self.primary == self.deputy:
            raise ValueError("deputy: expected another person than primary")
        return self


class Target(Block):
    """The column that is predicted."""

    column: Text
    positive: int | str | bool
    meaning: Text
    label_delay_days: int = Field(ge=0, description="days until a label counts as matured")
    decided_at: Text | None = Field(
        default=None, description="column of training rows with the moment at which the decision was due"
    )


class Input(Block):
    """One column that the model is given."""

    name: Text
    type: Literal["number", "integer", "boolean", "category"]
    meaning: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = False
    sentinels: tuple[float | str, ...] = Field(default=(), description="values that mean 'missing'")
    direction: Literal["increasing", "decreasing"] | None = Field(
        default=None, description="how the score of the positive class must move when this input rises"
    )
    pii: bool = False
    reason: str | None = Field(default=None, description="reason code in reasons.yaml")
    known_at: Text | None = Field(
        default=None, description="column of training rows with the moment at which this value was known"
    )

    @model_validator(mode="after")
    def _limits_fit_type(self) -> Self:
        if self.type == "category":
            if not self.categories:
                raise ValueError("categories: expected at least one for type 'category'")
            if len(set(self.categories)) != len(self.categories):
                raise ValueError("categories: expected no duplicates")
            if self.minimum is not None or self.maximum is not None or self.direction is not None:
                raise ValueError("minimum, maximum, direction: not for type 'category'")
        elif self.categories:
            raise ValueError(f"categories: not for type {self.type!r}")
        if self.type == "boolean" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("minimum, maximum: not for type 'boolean'")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum: expected at most maximum {self.maximum}, got {self.minimum}")
        return self

    @model_validator(mode="after")
    def _sentinels_fit_type(self) -> Self:
        text = self.type == "category"
        if any(isinstance(value, str) is not text for value in self.sentinels):
            raise ValueError(f"sentinels: expected {'text' if text else 'numbers'} for type {self.type!r}")
        if both := sorted(set(self.categories) & set(self.sentinels)):
            raise ValueError(f"sentinels: {both[0]!r} is also a category")
        return self


class Protected(Block):
    """An attribute that is never a model input; used only to measure fairness."""

    name: Text
    reference: Text = Field(description="the group that others are compared with")
    meaning: str = ""
