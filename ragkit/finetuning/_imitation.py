"""Training rows from another model's answers (sequence-level distillation, Kim and Rush, EMNLP 2016)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ragkit._files import make_folder, private_opener, sync
from ragkit._progress import progress
from ragkit._text import read_json, refuse_bare_string
from ragkit.errors import EmptyPoolError, IntegrityError, InvalidInputError
from ragkit.finetuning._manifest import run_hash
from ragkit.finetuning._settings import check_whole
from ragkit.models import load_model
from ragkit.models._results import raised, results_of
from ragkit.models._sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Example, Fields, Prompt, Usage
from ragkit.templates import Template

_COMPLETION = TypeAdapter(Completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imitation:
    """The answers of a teacher model.

    Attributes:
        examples: Inputs with the teacher's answers, ready for `finetune`, in the order of the inputs.
        dropped: Indices of the inputs without an example, each with the reason.
        usage: Token usage of all answers.
        cost: Cost of all answers in US dollars; None if any price is unknown.
        seconds: Total time of all answers in seconds.
        asked: Number of answers that were generated in this call; the others were read from the file.
    """

    examples: tuple[Example, ...]
    dropped: tuple[tuple[int, str], ...]
    usage: Usage
    cost: float | None
    seconds: float
    asked: int


def imitate(
    teacher: str | LanguageModel,
    inputs: Sequence[str | Fields],
    *,
    template: Template | None = None,
    examples: Sequence[Example] = (),
    out: str | Path | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    group: int = 32,
) -> Imitation:
    """Generate answers with a teacher model, on which another model can be trained.

    Truncated and empty answers are dropped and reported. With ``out``, each group of answers is written to disk before
    the next group is requested: an interrupted call resumes, and no answer is requested or paid for twice. Load the
    teacher with ``budget`` to limit the cost.

    Args:
        teacher: A model or its spec.
        inputs: Inputs to answer; duplicates are answered once.
        template: Template that converts inputs to prompts; use the same one to train and prompt the student.
        examples: In-context examples for the teacher, in this order.
        out: JSON Lines file for the answers, which is new or belongs to the same call.
        max_tokens: Maximum number of tokens per answer.
        temperature: Sampling temperature.
        seed: Seed for sampling.
        group: Number of inputs per batch.

    Returns:
        The examples with their usage and cost.

    Raises:
        EmptyPoolError: If there are no inputs.
        InvalidInputError: If an argument is invalid, or the file belongs to another call.
        IntegrityError: If the file is damaged.
    """
    refuse_bare_string("inputs", inputs)
    if not inputs:
        raise EmptyPoolError("`inputs` of imitate")
    check_whole(1, group=group)
    model = load_model(teacher)
    template = (template or Template()).for_model(model)
    prompts = [template.prompt(examples, value) for value in inputs]
    call = run_hash(
        teacher=model.fingerprint, stop=template.stop, max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    kept = _Answers(None if out is None else Path(out), call)
    missing = list(dict.fromkeys(prompt for prompt in prompts if prompt.text not in kept.found))
    choices = tuple(map(template.render_answer, template.labels)) if model.capabilities.choices else ()
    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, stop=template.stop, seed=seed, choices=choices or None
    )
    with progress("querying the teacher", len(missing), "rows") as advance:
        for start in range(0, len(missing), group):
            part = missing[start : start + group]
            results = results_of(model, part, sampling)
            answered = [(prompt, got) for prompt, got in zip(part, results, strict=True) if isinstance(got, Completion)]
            kept.add([prompt for prompt, _ in answered], [answer for _, answer in answered])
            raised(results)
            advance(len(part))
    return _gathered(inputs, prompts, kept.found, template, asked=len(missing))


def _gathered(
    inputs: Sequence[str | Fields], prompts: Sequence[Prompt], found: dict[str, Completion], template: Template, *,
    asked: int,
) -> Imitation:  # fmt: skip
    made: list[Example] = []
    dropped: list[tuple[int, str]] = []
    for place, (value, prompt) in enumerate(zip(inputs, prompts, strict=True)):
        completion = found[prompt.text]
        answer = template.read_answer(completion.text)
        if completion.finish_reason == "length":
            dropped.append((place, "the answer was truncated at `max_tokens`"))
        elif not answer:
            dropped.append((place, "the answer is empty"))
        else:
            made.append(Example(value, answer))
    answers = [found[text] for text in dict.fromkeys(prompt.text for prompt in prompts)]
    known = [completion.cost for completion in answers if completion.cost is not None]
    return Imitation(
        examples=tuple(made), dropped=tuple(dropped), asked=asked,
        usage=sum((completion.usage for completion in answers), Usage()),
        cost=sum(known) if len(known) == len(answers) else None,
        seconds=sum(completion.seconds for completion in answers),
    )  # fmt: skip


class _Answers:
    """Answers by prompt, which are written to disk as they arrive."""

    def __init__(self, path: Path | None, call: str) -> None:
        self.path, self.found = path, dict[str, Completion]()
        if path is None:
            return
        whole = path.read_bytes() if path.is_file() else b""
        end = whole.rfind(b"\n") + 1  # an interrupted process may leave a partial line
        if whole and not end and not whole.startswith(b'{"ragkit"'):
            raise InvalidInputError(f"{path} holds something else; give another `out`")
        for number, line in enumerate(whole[:end].splitlines(), 1):
            self._read(line, number, call)
        make_folder(path.parent)
        if end < len(whole):
            with path.open("r+b") as file:
                file.truncate(end)
        if not end:
            self._append([{"ragkit": "imitate", "call": call}])

    def add(self, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        pairs = [(prompt.text, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        self._append([{"prompt": text, **asdict(answer)} for text, answer in pairs])
        self.found.update(pairs)

    def _read(self, line: bytes, number: int, call: str) -> None:
        try:
            row = read_json(line)
            if number > 1:
                if not isinstance(row, dict):
                    raise InvalidInputError("expected a JSON object")
                prompt = row.pop("prompt")
                self.found[prompt] = _COMPLETION.validate_python(row)
        except (ValueError, KeyError, AttributeError, TypeError) as error:  # a ValidationError is a ValueError
            if number == 1:
                raise InvalidInputError(f"{self.path} holds something else; give another `out`") from error
            raise IntegrityError(f"{self.path}, line {number} is damaged ({error}); delete the line") from error
        if number == 1 and (not isinstance(row, dict) or row.get("call") != call):
            raise InvalidInputError(
                f"{self.path} holds answers of another teacher or other settings; give another `out` or delete it"
            )

    def _append(self, rows: Sequence[dict[str, object]]) -> None:
        if self.path is None:
            return
        with open(self.path, "a", encoding="utf-8", opener=private_opener) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        sync(self.path)
