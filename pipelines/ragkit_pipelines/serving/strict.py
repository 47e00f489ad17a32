"""The base of request bodies, which have no other fields than the declared ones, and the error of invalid ones."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ragkit.errors import InvalidInputError


class BadRequestError(InvalidInputError):
    """A request is invalid.

    Attributes:
        field: The invalid field; None for the whole request.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        """Describe the problem and name the field."""
        super().__init__(message)
        self.field = field


class Strict(BaseModel):
    """A JSON object without unknown fields, whose values are not converted to other types."""

    model_config = ConfigDict(extra="forbid", strict=True)
