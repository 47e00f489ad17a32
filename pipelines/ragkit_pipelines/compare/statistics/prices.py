"""Possible prices of a model, as read from a file and as stored in the results of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.errors import DataFileError
from ragkit.models._prices import Price


class PriceRange(BaseModel):
    """Possible prices in US dollars; break-even volumes are computed for all combinations.

    Attributes:
        base: Prices of the model that is prompted.
        tuned: Prices of the fine-tuned model; ``training`` is the price of a million training tokens (0 if omitted).
            The prices of the base model if empty.
        hosting: Price of hosting the fine-tuned model over the period of the predictions.

    Examples:
        >>> prices = PriceRange(base=[Price(input=0.15, output=0.6)], hosting=[0.0, 50.0])
        >>> prices.base[0].input, prices.hosting
        (0.15, (0.0, 50.0))
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: tuple[Price, ...] = Field(min_length=1)
    tuned: tuple[Price, ...] = ()
    hosting: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(default=(0.0,), min_length=1)

    @classmethod
    def load(cls, path: str | Path) -> PriceRange:
        """Read prices from a JSON file, such as ``{"base": [{"input": 0.15, "output": 0.6, "cached": 0.075}]}``.

        Returns:
            The prices.

        Raises:
            DataFileError: If the file does not exist, or a price is not valid.
        """
        path = Path(path)
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataFileError(path, 0, f"expected prices as JSON: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise DataFileError(path, 0, f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}") from error
