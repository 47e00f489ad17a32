"""The test rows with all answers, for the part of the HTML report that filters and searches them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.printable import printable

PAGE_ROWS = 50  # rows that are shown at once, also without JavaScript
MOST_TEXT = 12_000_000  # characters of all rows; a larger page would open slowly


def explored(items: Items) -> list[dict[str, Any]]:
    """Return the test rows with the answers of all strategies, for the first seed at the largest pool.

    Rows on which the strategies disagree come first, then those that most strategies answer wrongly. If the texts are
    too long for one page, the last prompts are left out, and then the last rows.

    Returns:
        One dict per row with the keys ``number``, ``input``, ``expected``, ``right`` (how many answers are correct)
        and ``answers``, which has a dict per strategy.
    """
    shown, room = items.shown(), MOST_TEXT
    unreadable = [frozenset(each.unreadable_rows) for each in shown]
    rows: list[dict[str, Any]] = []
    for index in sorted(range(len(items.inputs)), key=lambda each: _order(shown, each)):
        room -= len(items.inputs[index]) + len(items.expected[index]) + sum(len(each.answers[index]) for each in shown)
        if room < 0 and rows:
            break
        answers = [_answer(each, index, unreadable=index in bad) for each, bad in zip(shown, unreadable, strict=True)]
        prompts = sum(len(answer["prompt"] or "") for answer in answers)
        if prompts > room:
            answers = [{**answer, "prompt": None} for answer in answers]
        else:
            room -= prompts
        rows.append(
            {
                "number": index,
                "input": items.inputs[index],
                "expected": items.expected[index],
                "right": sum(answer["right"] for answer in answers),
                "answers": answers,
            }
        )
    return rows


def _order(shown: Sequence[Answers], index: int) -> tuple[bool, float]:
    scores = [each.scores[index] for each in shown]
    return len(set(scores)) < 2, sum(scores)


def _answer(given: Answers, index: int, *, unreadable: bool) -> dict[str, Any]:
    return {
        "strategy": given.strategy,
        "answer": given.answers[index],
        "score": given.scores[index],
        "right": given.scores[index] >= 0.5,
        "unreadable": unreadable,
        # `channel` has a prompt for each row and class, of which the first is shown
        "prompt": given.prompts[index * len(given.prompts) // len(given.answers)] if given.prompts else None,
    }


def explorer_json(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as JSON that cannot end the element of the page that contains it.

    Short keys, because they are repeated for every row: number, input, expected, answers, scores, indices of the
    unreadable answers, and prompts.
    """
    data = {
        "strategies": [answer["strategy"] for answer in rows[0]["answers"]] if rows else [],
        "rows": [
            [
                row["number"], row["input"], row["expected"],
                [answer["answer"] for answer in row["answers"]],
                [answer["score"] for answer in row["answers"]],
                [index for index, answer in enumerate(row["answers"]) if answer["unreadable"]],
                [answer["prompt"] for answer in row["answers"]],
            ]
            for row in rows
        ],
    }  # fmt: skip
    text = json.dumps(_printable(data), ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    return value
