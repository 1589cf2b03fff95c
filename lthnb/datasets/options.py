"""Options of sources and tables: frozen, checked by pydantic, refused in one line."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from lthnb.config import ConfigError, in_one_line

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "order": 1.0}  # in seconds


class Options(
    BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
):
    """Base of all options; each field has its meaning as `description`. Raises ConfigError for the
    first option that cannot be."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigError(in_one_line(type(self), error, error.title)) from None


def explained(cls: type[Options], **defaults: Any) -> dict[str, str]:
    """Option → its meaning and default, in one line each. defaults: others than those of `cls`."""
    return {
        name: f"{name}: {field.description}. Default {defaults.get(name, field.default)!r}."
        for name, field in cls.model_fields.items()
    }


class TableOptions(Options, title="table"):
    """Of a table of one's own."""

    user: str = Field("user", description="column of the users' ids")
    item: str = Field("item", description="column of the items' ids")
    rating: str | None = Field(None, description="column of ratings, where rows below threshold go")
    threshold: float | None = Field(
        None, description="the lowest rating that counts as an interaction"
    )
    time: str | None = Field(None, description="column of times: numbers, or dates as 2026-01-31")
    time_unit: Literal["s", "ms", "us", "ns", "order"] = Field(
        "s", description="unit of times that are numbers, since 1970; or order, for no dates"
    )
    core: int = Field(0, ge=0, description="keep users and items with at least so many partners")
    ids: Literal["auto", "text"] = Field(
        "auto", description="auto: numbers where all are whole numbers; text: as they are written"
    )
    columns: str | None = Field(
        None, description="names of the columns, where a file has no header: user,item,time"
    )
    separator: str | None = Field(None, description="what separates columns: a character, or tab")
    quote: Literal["auto", "double", "none"] = Field(
        "auto",
        description="double: a value in quotation marks may hold anything; none: such a mark is a "
        "character like others; auto: as double, where no value holds rows",
    )
    encoding: str = Field("utf-8", description="encoding of a text file, such as latin-1")
    form: Literal["lists", "rows"] | None = Field(
        None, description="of .txt: a user and its items in a line, or one interaction in a line"
    )

    @field_validator("separator")
    @classmethod
    def _one_character(cls, given: str | None) -> str | None:
        given = {"tab": "\t", "\\t": "\t"}.get(given or "", given)
        if given is not None and (len(given.encode()) != 1 or given in '"\r\n\0'):
            raise ValueError(
                f"separator: found {given!r}, expected one character, or tab; pass what "
                "pandas.read_csv(…, sep=…) makes."
            )
        return given

    @model_validator(mode="after")
    def _together(self) -> TableOptions:
        if (self.rating is None) is not (self.threshold is None):
            raise ValueError(
                f"found rating={self.rating!r} and threshold={self.threshold!r}, expected both or "
                "neither: a rating counts from a threshold on."
            )
        return self
