"""Instructions: what a step asks for, in plain words with its arguments filled in.

A model that is shown the call ``MEANING_OF(CTX, X)`` tends to discuss the notation. It is shown "Explain what the
second silence means in this text." instead: the text of the action, in which the names of the parameters are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ragkit_pipelines.pearl.plan.action import DOCUMENT
from ragkit_pipelines.pearl.plan.nodes import Argument, Step, Text, TextList, Variable

_WORDS = frozenset({"A", "I"})  # parameters that cannot be told from English words
_LONGEST = 200  # characters of a phrase


def subjects_of(steps: Iterable[Step]) -> dict[str, str]:
    """Name the subject of each value in a few words, for the instructions of the steps that use it.

    Returns:
        The subjects by the names of the values: that of ``WHO_IS(CTX, "the keeper")`` is "the keeper". Equal subjects
        of different steps are distinguished by their actions.
    """
    found: dict[str, str] = {}
    for step in steps:
        phrases = [phrase for each in step.arguments if (phrase := _phrase(each, found))]
        joined = " and ".join(phrases[:2]) if not step.reads_document else (phrases or ["the whole text"])[0]
        subject = joined or step.out.replace("_", " ")
        if subject in found.values():
            subject = f"{subject} ({step.action.name.lower().replace('_', ' ')})"
        found[step.out] = subject[:_LONGEST]
    return found


def _phrase(argument: Argument, subjects: Mapping[str, str]) -> str:
    if isinstance(argument, Text):
        return " ".join(argument.value.split())
    if isinstance(argument, Variable):
        return subjects.get(argument.name, argument.name.replace("_", " "))
    if isinstance(argument, TextList):
        return ", ".join(_phrase(item, subjects) for item in argument.items)
    return ""


def instruction_of(step: Step, subjects: Mapping[str, str]) -> str:
    """Write what a step asks for: the text of its action with its arguments in place of the parameters.

    Args:
        step: The step.
        subjects: The subjects of earlier values; see `subjects_of`.

    Returns:
        The instruction. Arguments that the text of the action does not mention follow at its end.
    """
    words = {DOCUMENT: "the text"}
    for at, argument in enumerate(step.arguments):
        if phrase := _phrase(argument, subjects):
            words[step.action.parameter(at)] = "the list" if step.action.parameter(at) == "LIST" else phrase
    names = sorted(set(words) - _WORDS, key=len, reverse=True)
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
    said = set(pattern.findall(step.action.text))
    text = pattern.sub(lambda found: words[found[0]], step.action.text)  # in one pass: phrases are not read again
    text = f"{text[:1].upper()}{text[1:]}"
    rest = [f"{name}: {phrase}" for name, phrase in words.items() if name not in {*said, DOCUMENT, "LIST"}]
    return f"{text} ({'; '.join(rest)})" if rest else text
