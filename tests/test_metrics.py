"""Metrics: what counts as right."""

from __future__ import annotations

import pytest

from ragkit.errors import UnknownSpecError
from ragkit.metrics import exact_match, label_match, load_metric


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("fade lamp, zone: hall", "fade lamp, zone: hall", 1.0),
        ("  fade lamp,\tzone:  hall\n", "fade lamp, zone: hall", 1.0),
        ("Fade lamp, zone: hall", "fade lamp, zone: hall", 0.0),
        ("fade lamp, zone:hall", "fade lamp, zone: hall", 0.0),
        ("fade lamp", "fade lamp, zone: hall", 0.0),
        ("", "", 1.0),
        ("", "x", 0.0),
    ],
)
def test_exact_match(answer: str, expected: str, score: float):
    assert exact_match(answer, expected) == score


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("card_arrival", "card_arrival", 1.0),
        (" Card_Arrival.\nand more", "card_arrival", 1.0),
        ("\n\ncard_arrival", "card_arrival", 1.0),
        ("card_arrival or card_linking", "card_arrival", 0.0),
        ("card_arrivals", "card_arrival", 0.0),
        ("card", "card_arrival", 0.0),
        ("", "card_arrival", 0.0),
        ("+", "-", 0.0),
        ("+", "+", 1.0),
        ("Refund not showing up", "Refund_not_showing_up", 0.0),
    ],
)
def test_label_match(answer: str, expected: str, score: float):
    assert label_match(answer, expected) == score


def test_load_metric():
    assert load_metric("exact_match") is exact_match
    assert load_metric("accuracy") is label_match
    assert load_metric(max) is max
    with pytest.raises(UnknownSpecError, match="Did you mean 'accuracy'") as caught:
        load_metric("acuracy")
    assert caught.value.suggestions == ("accuracy",)
