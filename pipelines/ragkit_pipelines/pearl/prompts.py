"""The prompts of PEARL. Their prefix is byte-for-byte the same for all steps over one document.

Every text from a document, a plan or a model is enclosed in markers that do not occur in it, and is never used as a
template. Therefore a document may contain plan steps, ``CTX``, ``$1`` or such markers without any effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragkit._text import marked as marked
from ragkit.records import Prompt
from ragkit_pipelines.pearl.plan.action import DOCUMENT
from ragkit_pipelines.pearl.plan.nodes import Step

_READ = (
    "You work on one step of a plan that answers a question about a text. Base everything you write on the text and on "
    "the values that the step is given. Where they do not say it, write that they do not.\n\n"
)
_LIST = "Write a list: one item per line, each after '- ', and nothing else. Write None if there is no item."
_PROSE = "Write the result only, in plain sentences, with the names and facts that a reader without the text needs."


def prefix(shared: str) -> str:
    """Build the prefix of the prompts of all steps that read this text."""
    return _READ + (f"The text:\n{marked('text', shared)}\n" if shared else "")


def step_prompt(
    step: Step,
    values: Mapping[str, str],
    *,
    shared: str,
    passages: Sequence[str] = (),
    part: str = "",
    as_list: bool = False,
    question: str = "",
) -> Prompt:
    """Build the prompt for the value of a step."""
    lines = []
    if passages:
        shown = "".join(marked("passage", passage) for passage in passages)
        lines.append(f"Passages of the text that were found for this step, in the order of the text:\n{shown}")
    if part:
        lines.append(f"Only {part} of the text is shown. Where this part says nothing about it, write: nothing here.\n")
    if question:
        lines.append(f"The question:\n{marked('question', question)}")
    lines.append(f"The step: {step.action.signature}\nWhat it does: {step.action.text}\nWhat it is for: {step.note}\n")
    shown_values = "".join(marked(name, value) for name, value in values.items() if name != DOCUMENT)
    if DOCUMENT in values:
        shown_values = f"Instead of the text:\n{marked('value', values[DOCUMENT])}" + shown_values
    if shown_values:
        lines.append(f"Its values:\n{shown_values}")
    lines.append(f"{_LIST if as_list else _PROSE}\n\nResult:\n")
    return Prompt(prefix(shared), "\n".join(lines))


def merge_prompt(
    step: Step, values: Mapping[str, str], parts: Sequence[str], *, as_list: bool, question: str
) -> Prompt:
    """Build the prompt that merges the values from all parts of a document into one."""
    bare = step_prompt(step, values, shared="", as_list=as_list, question=question)
    shown = "".join(marked("part", part) for part in parts)
    head = f"The text is long, so each of its parts was worked on alone. What the parts gave, in order:\n{shown}\n"
    return Prompt(_READ, head + "Make one result of them for the whole text.\n" + bare.suffix)


def plan_prefix(actions: str, demonstrations: Sequence[tuple[str, str]]) -> str:
    """Build the prefix of every planning prompt: the rules, the actions and the demonstrations."""
    shown = "\n".join(f"Question: {question}\n\n{plan}\n" for question, plan in demonstrations)
    return (
        "Questions about a long text are answered by plans. A plan calls actions, which work like functions: each "
        "takes values and gives a text. CTX stands for the whole text, which you do not see while you plan.\n\n"
        f"The actions, each with what it does:\n{actions}\n"
        "How a plan is written:\n"
        "- First comes a line 'New actions:', then '- None'. Where no action above will do, define one instead: "
        "'- NAME(CTX, X) : what it does'.\n"
        "- Then come the steps, one a line: '1. name = ACTION(CTX, \"a text\", earlier_name) : what the step is for'.\n"
        "- A value is CTX, a text in double quotes, or the name that an earlier step gave; a LIST may also be written "
        '["a", "b"]. Nothing else: no call inside a call, no operators, no named values.\n'
        "- Every name is given once. Every value that no later step uses becomes part of the answer.\n"
        "- Use few steps, and let them stand side by side where they do not need each other.\n"
        "- To count, list the evidence with an action and count the list with COUNT.\n"
        "- Where the question leaves choices open, gather what is needed to choose.\n\n"
        f"{shown}\n"
    )


def plan_suffix(question: str, rejected: str = "", problems: Sequence[str] = ()) -> str:
    """Build the end of a planning prompt."""
    if not problems:
        return f"Question: {' '.join(question.split())}\n\n"
    said = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Question: {' '.join(question.split())}\n\nThis plan was not accepted:\n{marked('plan', rejected)}"
        f"What is wrong with it:\n{said}\n\nThe whole plan again, with this put right:\n\n"
    )
