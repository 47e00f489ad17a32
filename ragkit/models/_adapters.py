"""Several adapters on one base model, whose weights are held in memory only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning._adapters import add_adapter, check_base, embedding_rows, kind_of
from ragkit.finetuning._manifest import MANIFEST, Manifest
from ragkit.models._batched_lora import MixedRows
from ragkit.models._loading import load_local
from ragkit.models._local import LocalModel
from ragkit.models._prefix_cache import batches_by_length
from ragkit.models._prompts import checked_prompts
from ragkit.models._sampling import Sampling, checked_answers
from ragkit.models._sources import Weights
from ragkit.models._streaming import Listener
from ragkit.protocols import AnyPrompt, Schema
from ragkit.records import Completion


class AdapterSet(Mapping[str, LocalModel]):
    r"""A mapping from names to adapters, which are `LanguageModel`s that share one copy of the base weights.

    Switching between adapters takes about a millisecond. `generate_mixed` answers prompts for different adapters in one
    batch.

    Attributes:
        base: The base model without an adapter.

    Examples:
        >>> adapters = AdapterSet("tiny", {})
        >>> prompt = "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"
        >>> adapters.base.generate(prompt, max_tokens=2).text
        ' fade fan'
    """

    def __init__(self, base: str, adapters: Mapping[str, str | Path]) -> None:
        """Load a base model and its adapters.

        Args:
            base: Spec of the base model, such as ``"smollm2"``, ``"tiny"`` or ``"hf:<folder>"``.
            adapters: Folders by name; each contains a PEFT adapter or is an output folder of `ragkit.finetune`.

        Raises:
            InvalidInputError: If the base model does not support adapters, or a folder does not contain an adapter.
            IntegrityError: If an adapter is damaged or belongs to another base model.
        """
        loaded = load_local(base)
        if not isinstance(loaded, LocalModel) or hasattr(loaded.module, "peft_config"):
            raise InvalidInputError(f"{base!r} does not take adapters; give the base they were trained on")
        module: Any = loaded.module
        self._inner: dict[str, str] = {}
        prints: dict[str, str] = {}
        for number, (name, folder) in enumerate(adapters.items()):
            path = _adapter_folder(folder, loaded)
            self._inner[name] = f"ragkit{number}"  # a name that PEFT cannot confuse with part of "lora_"
            prints[name] = Weights(path).fingerprint
            module = add_adapter(module, path, name=self._inner[name], source=base)
        self.base = loaded
        self._models: dict[str, LocalModel] = {}
        self._mixed_rows: MixedRows | None = None
        if adapters:
            model = LocalModel(
                module, loaded.tokenizer, name=loaded.name, fingerprint=loaded.fingerprint, source=loaded.source
            )
            model.products = loaded.products
            self.base = model.with_adapter(module.disable_adapter, name=model.name, fingerprint=model.fingerprint)
            for name, inner in self._inner.items():
                fingerprint = f"{model.fingerprint}+{prints[name]}"
                self._models[name] = model.with_adapter(
                    partial(_adapter, module, inner), name=f"{base}+{name}", fingerprint=fingerprint
                )
            self._mixed_rows = MixedRows(module, list(self._inner.values())) if MixedRows.fits(module) else None

    def __getitem__(self, name: str) -> LocalModel:
        if name not in self._models:
            raise KeyError(f"no adapter is called {name!r}; there are {', '.join(sorted(self._models)) or 'none'}")
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def generate_mixed(
        self,
        prompts: Sequence[AnyPrompt],
        names: Sequence[str | None],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
    ) -> list[Completion]:
        """Generate an answer to each prompt with its own adapter; one batch can contain different adapters.

        Args:
            prompts: n prompts.
            names: n names of adapters; None for the base model.
            max_tokens: Maximum number of generated tokens per prompt.
            temperature: Sampling temperature; 0 for greedy decoding.
            stop: Stop sequences.
            seed: Seed for sampling.
            schema: A pydantic model or JSON schema that the answers must follow.
            choices: Allowed answers.
            grammar: A grammar that the answers must follow, in Lark's notation.

        Returns:
            n completions, equal to those that each model generates on its own.

        Raises:
            BatchError: If some answers do not satisfy the schema, choices or grammar.
            InvalidInputError: If the numbers of names and prompts differ, or a name is unknown.
        """
        batch = checked_prompts(prompts)
        if len(names) != len(batch):
            raise InvalidInputError(f"`names` must be as many as the prompts, got {len(names)} for {len(batch)}")
        unknown = [name for name in names if name is not None and name not in self._models]
        if unknown:
            raise InvalidInputError(f"no adapter is called {unknown[0]!r}; there are {', '.join(sorted(self._models))}")
        sampling = Sampling.of(
            max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, schema=schema, choices=choices,
            grammar=grammar,
        )  # fmt: skip
        window = self.base.capabilities.window
        rows = [self.base.encode_prompt(prompt, max_tokens=window) for prompt in batch]
        answers = self.complete_rows(rows, names, sampling, prompts=batch) if rows else []
        return checked_answers(answers, schema, sampling.choices, self.base.name, grammar=grammar)

    def complete_rows(
        self,
        rows: list[list[int]],
        names: Sequence[str | None],
        sampling: Sampling,
        *,
        prompts: Sequence[AnyPrompt] | None = None,
        seeds: Sequence[int] | None = None,
        listeners: Sequence[Listener] | None = None,
    ) -> list[Completion]:
        """Complete encoded prompts, each with its own adapter or none, like `LocalModel.complete_rows`."""
        seeds, listeners = seeds or [sampling.seed] * len(rows), listeners or [Listener()] * len(rows)
        if len(set(names)) > 1 and self._mixed_rows is not None:
            return self._mixed(self._mixed_rows, rows, names, sampling, seeds, listeners)
        answers: dict[int, Completion] = {}
        for name in dict.fromkeys(names):
            indices = [index for index, other in enumerate(names) if other == name]
            found = (self.base if name is None else self._models[name]).complete_rows(
                [rows[index] for index in indices],
                sampling,
                prompts=None if prompts is None else [prompts[index] for index in indices],
                seeds=[seeds[index] for index in indices],
                listeners=[listeners[index] for index in indices],
            )
            answers |= zip(indices, found, strict=True)
        return [answers[index] for index in range(len(rows))]

    def _mixed(
        self,
        mixed: MixedRows,
        rows: list[list[int]],
        names: Sequence[str | None],
        sampling: Sampling,
        seeds: Sequence[int],
        listeners: Sequence[Listener],
    ) -> list[Completion]:
        base = self.base
        base.check_window(max(map(len, rows)), sampling.max_tokens)
        inner = [None if name is None else self._inner[name] for name in names]
        answers: dict[int, Completion] = {}
        with base.computing():
            for batch in batches_by_length(rows, range(len(rows)), base.batch_size):
                with mixed.on([inner[index] for index in batch.indices]):
                    answers |= base.generator.complete(batch, sampling, seeds, listeners)
        return [answers[index] for index in range(len(rows))]


@contextmanager
def _adapter(module: Any, name: str) -> Iterator[None]:
    module.set_adapter(name)
    yield


def _adapter_folder(folder: str | Path, base: LocalModel) -> str:
    """Return the folder of the PEFT files, after checking the manifest of an output folder of ragkit."""
    path = Path(folder)
    if (path / MANIFEST).is_file():
        manifest = Manifest.read(path)
        manifest.check_weights(path)
        manifest.check_base(path, base.fingerprint.partition(":")[0])
        if manifest.form != "adapter":
            raise InvalidInputError(f"{path} holds a {manifest.form}, not an adapter; load it with load_model")
        path /= "model"
    if not (path / "adapter_config.json").is_file():
        raise InvalidInputError(f"{path} holds no adapter: expected adapter_config.json or {MANIFEST}")
    check_base(str(path), base.source)
    if kind_of(str(path)) == "PROMPT_TUNING":
        raise UnsupportedError(f"{path} is a soft prompt, which cannot share its base; load it with load_model")
    if embedding_rows(base.module, str(path)) is not None:
        raise UnsupportedError(
            f"{path} has token embeddings of its own, which cannot share its base; load it with load_model"
        )
    return str(path)
