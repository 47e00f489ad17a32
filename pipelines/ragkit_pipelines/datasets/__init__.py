"""The data set that ships with ragkit for demonstrations and tests: customer messages and the teams they go to."""

from __future__ import annotations

from pathlib import Path

from ragkit.tasks import Task

__all__ = ["support_requests"]

_SUPPORT_REQUESTS = Path(__file__).with_name("support_requests.jsonl")
_INSTRUCTION = "Route the customer's message to the team that handles it."
_TEAMS = (
    "account",
    "app",
    "billing",
    "cancellation",
    "claims",
    "fraud",
    "login",
    "orders",
    "products",
    "refunds",
    "repairs",
    "returns",
    "shipping",
    "subscription",
    "vouchers",
    "wholesale",
)


def support_requests() -> Task:
    """Load the customer support requests that ship with ragkit.

    The messages to an invented online coffee shop are labelled with one of 16 teams. They were written for
    demonstrations and tests; results on them are not evidence about other data. The data card, `README.md` in the
    folder of this module, defines the teams and the rules for borderline cases.

    Returns:
        A classification task with a pool of 428 examples, 106 test rows and the metric accuracy.
    """
    return Task.from_jsonl(_SUPPORT_REQUESTS, instruction=_INSTRUCTION, metric="accuracy", labels=_TEAMS)
