"""A process that answers prompts in batch mode, to be killed: ``python batch_child.py <address> <folder> <count>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def answers(url: str, folder: Path, count: int) -> list[str]:
    """Answer prompts in batch mode; the cost is that of a batch."""
    from ragkit import load_model
    from ragkit.models import Price, Prices

    prices = Prices({"openai:m": Price(input=1.0, output=2.0)})
    model = load_model(
        "openai:m", base_url=url, prices=prices, batch=True, poll_seconds=0.01, cache=folder / "answers.sqlite"
    )
    return [answer.text for answer in model.generate([f"prompt {number}" for number in range(count)])]


if __name__ == "__main__":
    print(json.dumps(answers(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
