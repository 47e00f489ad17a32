"""Contexts that select text for each step: retrieved passages, or pages chosen by their gists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from typing_extensions import override

from ragkit.errors import InvalidInputError, ModelError, PromptTooLongError, RagkitError
from ragkit.protocols import LanguageModel
from ragkit.records import Document, Example, Hit, Prompt
from ragkit_pipelines.pearl.prompts import marked
from ragkit_pipelines.pearl.run.calls import ModelCall, Outcome
from ragkit_pipelines.pearl.run.context import Context, Reading, Readings, Sizes, View, room_of
from ragkit_pipelines.pearl.run.passages import Passage, cut


@dataclass(frozen=True)
class Retrieved(Context):
    """Each step reads the passages retrieved for its own words; the document may have any length.

    Attributes:
        retriever: A retriever (``retrieve(queries, k)``) or an `Index` (``search(queries, k)``) over stored passages,
            in which case Pearl needs no document; or a function that creates one from the passages of the document
            (`Document`s with ``metadata["span"]``). If None, BM25 over the passages of the document.
        k: Number of passages to retrieve.
        max_tokens: Maximum number of tokens of a step's passages; the best ones are used first.
        passage_tokens: Maximum number of tokens of a passage of the document.
        name: Name of the retriever in traces; the name of its class if empty.
    """

    retriever: Any = None
    k: int = 8
    max_tokens: int = 2000
    passage_tokens: int = 200
    name: str = field(default="")

    def __post_init__(self) -> None:
        if self.k < 1 or self.max_tokens < 1 or self.passage_tokens < 1:
            raise InvalidInputError(
                f"`k`, `max_tokens` and `passage_tokens` of Retrieved must be at least 1, got {self}"
            )
        if self.retriever is not None and not (_searches(self.retriever) or callable(self.retriever)):
            kind = type(self.retriever).__name__
            raise InvalidInputError(
                f"`retriever` must have a method `retrieve` or `search`, or be a function, got {kind}"
            )

    @property
    @override
    def fingerprint(self) -> str:
        searched = "bm25" if self.retriever is None else self.name or type(self.retriever).__name__
        return f"retrieved:{searched}:{self.k}:{self.max_tokens}:{self.passage_tokens}"

    @property
    @override
    def holds_texts(self) -> bool:
        return self.retriever is not None and _searches(self.retriever)

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Prepare a document."""
        if self.retriever is not None and _searches(self.retriever):
            return _Found(self.retriever, self, model)
        passages = cut(document, self.passage_tokens, model.count_tokens)
        documents = [
            Document(passage.text, id=str(number), metadata={"span": passage.span})
            for number, passage in enumerate(passages)
        ]
        make = _Bm25 if self.retriever is None else self.retriever
        return _Found(make(documents) if documents else None, self, model)


def _searches(value: object) -> bool:
    return hasattr(value, "retrieve") or hasattr(value, "search")


class _Bm25:
    """BM25 over the passages of one document. Unlike `BM25Retriever`, it fills up with passages that share no word."""

    def __init__(self, documents: list[Document]) -> None:
        from ragkit_selectors.lexical import BM25Selector

        self.documents = documents
        self._selector = BM25Selector([Example(document.text, "", id=document.id) for document in documents])

    def retrieve(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        def with_text(hit: Hit) -> Hit:
            document = self.documents[int(hit.id)]
            return replace(hit, text=document.text, metadata=document.metadata)

        found = self._selector.select_many(list(queries), min(k, len(self.documents)))
        return [[with_text(hit) for hit in chosen.hits] for chosen in found]


class _Found:
    """A view that retrieves passages."""

    def __init__(self, retriever: Any, settings: Retrieved, model: LanguageModel) -> None:
        self.retriever, self.settings, self.model = retriever, settings, model

    def readings(self, step: str, query: str) -> Readings:  # noqa: ARG002 - the same for every step
        yield from ()
        return [Reading(passages=tuple(self._passages(query)))]

    def sizes(self) -> Sizes:
        return Sizes(shared=(0,), own=min(self.settings.max_tokens, self.settings.k * self.settings.passage_tokens))

    def _passages(self, query: str) -> list[Passage]:
        if self.retriever is None:
            return []
        search = getattr(self.retriever, "retrieve", None) or self.retriever.search
        hits: list[Hit] = search([query], self.settings.k)[0]
        chosen: list[Passage] = []
        left = self.settings.max_tokens
        for hit in hits:
            size = self.model.count_tokens(hit.text)
            if size <= left:
                left -= size
                chosen.append(Passage(hit.text, _span(hit)))
        if hits and not chosen:
            sizes = min(self.model.count_tokens(hit.text) for hit in hits)
            advice = "raise `max_tokens` of Retrieved, or store shorter passages"
            raise PromptTooLongError(sizes, self.settings.max_tokens, advice=advice)
        in_order = all(passage.span for passage in chosen)
        return sorted(chosen, key=lambda passage: passage.span or (0, 0)) if in_order else chosen


def _span(hit: Hit) -> tuple[int, int] | None:
    found = hit.span or (hit.metadata or {}).get("span")
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(end, int) for end in found):
        return int(found[0]), int(found[1])
    return None


@dataclass(frozen=True, slots=True)
class GistPages(Context):
    """Every step reads a gist of each page, and the full text of the pages that the model selects.

    The gists are generated once per question, with one call per page; with a trace, once for all questions about the
    document. Each step that reads the document needs one additional call to select its pages (ReadAgent,
    https://arxiv.org/abs/2402.09727).

    Attributes:
        page_tokens: Maximum number of tokens of a page.
        gist_tokens: Maximum number of tokens of a gist.
        pages: Maximum number of pages that a step reads in full.
        max_tokens: Maximum number of tokens of all gists; if None, as many as fit into the model's window.
    """

    page_tokens: int = 800
    gist_tokens: int = 120
    pages: int = 3
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.page_tokens < 16 or self.gist_tokens < 8 or self.pages < 1:
            raise InvalidInputError(
                f"GistPages needs `page_tokens` >= 16, `gist_tokens` >= 8 and `pages` >= 1, got {self}"
            )

    @property
    @override
    def fingerprint(self) -> str:
        return f"gists:{self.page_tokens}:{self.gist_tokens}:{self.pages}"

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Prepare a document, or raise `PromptTooLongError` if even the gists are too long."""
        pages = cut(document, self.page_tokens, model.count_tokens)
        room = room_of(model, self.max_tokens)
        most = len(pages) * self.gist_tokens + self.pages * self.page_tokens
        if room is not None and most > room:
            advice = "lower `gist_tokens` or raise `page_tokens` of GistPages, or use Retrieved(…)"
            raise PromptTooLongError(most, room, advice=advice)
        return _Gists(pages, self, model.count_tokens(document))


class _Gists:
    def __init__(self, pages: list[Passage], settings: GistPages, tokens: int) -> None:
        self.pages, self.settings, self.tokens = pages, settings, tokens

    def sizes(self) -> Sizes:
        return Sizes(
            shared=(len(self.pages) * self.settings.gist_tokens,),
            own=min(self.tokens, self.settings.pages * self.settings.page_tokens),
            before=1,
            once=len(self.pages),
            once_tokens=self.tokens,
        )

    def readings(self, step: str, query: str) -> Readings:
        # Every step requests the gists; equal calls are made only once.
        made = yield [_gist_call(page, self.settings.gist_tokens) for page in self.pages]
        gists = [_text(outcome, "the gist of a page") for outcome in made]
        shared = "\n".join(f"[Page {number}] {gist}" for number, gist in enumerate(gists, 1))
        chosen = yield [_pages_call(shared, step, query, self.settings.pages)]
        wanted = _numbers(_text(chosen[0], "the selection of pages"), len(self.pages))[: self.settings.pages]
        return [Reading(shared=shared, passages=tuple(self.pages[number - 1] for number in sorted(wanted)))]


def _text(outcome: Outcome, what: str) -> str:
    if isinstance(outcome, RagkitError):
        raise ModelError(f"{what} could not be generated: {outcome}")
    return outcome.text.strip()


def _gist_call(page: Passage, tokens: int) -> ModelCall:
    asked = "Shorten the page to its gist: who, what, where and why, in a few plain sentences.\n\nGist:\n"
    prompt = Prompt("You shorten one page of a long text.\n\n", marked("page", page.text) + asked)
    return ModelCall(prompt=prompt, purpose="gist", max_tokens=tokens)


def _pages_call(shared: str, step: str, query: str, most: int) -> ModelCall:
    head = "A long text is shown by the gist of each of its pages. Some pages can be shown in full.\n\n"
    asked = (
        f"The task:\n{marked('task', query)}Which pages are needed in full? Choose at most {most}. "
        "Write their numbers only, separated by commas.\n\nPages:\n"
    )
    return ModelCall(prompt=Prompt(f"{head}{marked('text', shared)}", asked), purpose="pages", step=step, max_tokens=32)


def _numbers(text: str, most: int) -> list[int]:
    """Extract the page numbers from a response, in order, without duplicates."""
    digits = "".join(letter if letter.isascii() and letter.isdigit() else " " for letter in text).split()
    found = (int(digit) for digit in digits if len(digit) < 6)
    return list(dict.fromkeys(number for number in found if 1 <= number <= most))
