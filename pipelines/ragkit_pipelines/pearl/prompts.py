"""The prompts of PEARL. Their prefix is byte-for-byte the same for all steps over one document.

Every text from a document, an earlier step or a model is enclosed in markers that do not occur in it, and is never used
as a template. Therefore a document may contain plan steps, ``CTX``, ``$1`` or such markers without any effect. The
strings of a plan are part of the instruction, on one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragkit._text import marked as marked
from ragkit.records import Chat, Message, Prompt
from ragkit_pipelines.pearl.plan.action import DOCUMENT
from ragkit_pipelines.pearl.plan.instructions import instruction_of
from ragkit_pipelines.pearl.plan.nodes import Step, Text, TextList, Variable

VERSION = 4  # of the prompts; a trace that was recorded with another version is not resumed

_READ = "Read this text.\n\n"
_LIST = "Write a list: one item per line, each after '- ', and nothing else. Write None if there is no item."
_PROSE = "Answer in one to four plain sentences, with the names and facts that a reader without the text needs."
_ONLY = "Use only what is written above. If it is not there, say that it is not mentioned."
LIST_GRAMMAR = r"""start: "None" | item ("\n" item){0,49}
item: "- " /[^\s\x00-\x1f\x7f-\x9f\-][^\x00-\x1f\x7f-\x9f]{0,159}/
"""
"""The form of a list, for models that can be constrained to a grammar."""


def prefix(shared: str) -> str:
    """Build the prefix of the prompts of all steps that read this text."""
    return f"{_READ}{marked('text', shared)}\n" if shared else ""


def step_prompt(
    step: Step,
    values: Mapping[str, str],
    *,
    shared: str,
    subjects: Mapping[str, str] | None = None,
    passages: Sequence[str] = (),
    part: str = "",
    as_list: bool = False,
    question: str = "",
) -> Prompt:
    """Build the prompt for the value of a step.

    Args:
        step: The step.
        values: The arguments by the names of their parameters, without the document.
        shared: The text that all steps read, at the beginning of the prompt.
        subjects: What the values of earlier steps are about; see `subjects_of`.
        passages: Passages for this step only.
        part: Which part of the document is shown; empty for the whole.
        as_list: Whether the value must be a list.
        question: The question, for a step that answers it.

    Returns:
        The prompt.
    """
    subjects = subjects or {}
    blocks = []
    if passages:
        shown = "".join(marked("passage", passage) for passage in passages)
        blocks.append(f"Read these passages of a text, which are in their order:\n{shown}")
    if part:
        blocks.append(f"This is only {part} of the text. If it says nothing about the task, write: nothing here.\n")
    blocks += _known(step, values, subjects)
    if question:
        blocks.append(f"The question:\n{marked('question', question)}")
    instruction = instruction_of(step, subjects)
    purpose = "" if step.note in {instruction, step.action.text} else f"Purpose: {step.note}\n"
    blocks.append(f"Task: {instruction}\n{purpose}{_LIST if as_list else f'{_ONLY} {_PROSE}'}\n")
    return Prompt(prefix(shared), "\n".join(blocks))


def _known(step: Step, values: Mapping[str, str], subjects: Mapping[str, str]) -> list[str]:
    """Show the values of earlier steps and the lists that a step uses."""
    blocks = []
    for at, argument in enumerate(step.arguments):
        name = step.action.parameter(at)
        if name not in values or isinstance(argument, Text):
            continue
        if name == DOCUMENT:
            blocks.append(f"Read this instead of the text:\n{marked('value', values[name])}")
        elif name == "LIST" or isinstance(argument, TextList):
            blocks.append(f"The list:\n{marked('list', values[name])}")
        elif isinstance(argument, Variable):
            subject = subjects.get(argument.name, argument.name.replace("_", " "))
            blocks.append(f"Found out before about {subject}:\n{marked('notes', values[name])}")
    return blocks


def merge_prompt(
    step: Step,
    values: Mapping[str, str],
    parts: Sequence[str],
    *,
    subjects: Mapping[str, str] | None = None,
    as_list: bool,
    question: str,
) -> Prompt:
    """Build the prompt that merges the values from all parts of a document into one."""
    bare = step_prompt(step, values, shared="", subjects=subjects, as_list=as_list, question=question)
    shown = "".join(marked("part", part) for part in parts)
    head = f"A long text was read in parts, and the same task was done for each. The results, in order:\n{shown}\n"
    return Prompt("", head + "Combine them into one result for the whole text.\n" + bare.suffix)


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


def short_plan_prefix(actions: str, max_steps: int) -> str:
    """Build the rules and the actions for a model that is constrained to a grammar of plans."""
    return (
        "You plan how to answer a question about a long text. You cannot see the text, so do not answer the question "
        f"yourself. Write at most {max_steps} steps, one per line. Every step finds out something different that the "
        f"question needs, by one of these actions:\n{actions}\n"
        "CTX is the text. The other arguments are words of the question in double quotes, or s1, s2 for the result of "
        "an earlier step.\n\n"
    )


def short_plan_prompt(
    rules: str, turns: Sequence[tuple[str, str]], question: str, rejected: str = "", problems: Sequence[str] = ()
) -> Prompt:
    """Build a planning prompt with demonstrations, as text and as a conversation."""
    shown = "".join(f"Question: {asked}\n\n{plan}\n\n" for asked, plan in turns)
    asked = f"Question: {' '.join(question.split())}"
    messages = [Message("system", rules.strip())]
    for other, plan in turns:
        messages += [Message("user", f"Question: {other}"), Message("assistant", plan)]
    messages.append(Message("user", asked))
    if problems:
        said = "\n".join(f"- {problem}" for problem in problems)
        again = f"This is wrong:\n{said}\nWrite the steps again, without this mistake."
        messages += [Message("assistant", rejected), Message("user", again)]
    return Prompt(rules + shown, plan_suffix(question, rejected, problems), chat=Chat(tuple(messages)))


def plan_suffix(question: str, rejected: str = "", problems: Sequence[str] = ()) -> str:
    """Build the end of a planning prompt."""
    if not problems:
        return f"Question: {' '.join(question.split())}\n\n"
    said = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Question: {' '.join(question.split())}\n\nThis plan was not accepted:\n{marked('plan', rejected)}"
        f"What is wrong with it:\n{said}\n\nThe whole plan again, with this put right:\n\n"
    )
