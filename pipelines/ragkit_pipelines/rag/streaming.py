"""An answer while it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ragkit_pipelines.rag.answers import CitedAnswer


class AnswerStream(Iterator[str]):
    """The pieces of an answer as they come; when they are through, `answer` is the whole with its citations."""

    def __init__(self, pieces: Iterator[str], finish: Callable[[str], CitedAnswer]) -> None:
        """Wrap the pieces."""
        self._pieces, self._finish = pieces, finish
        self._text = ""
        self._answer: CitedAnswer | None = None

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        except StopIteration:
            if self._answer is None:
                self._answer = self._finish(self._text)
            raise
        self._text += piece
        return piece

    @property
    def answer(self) -> CitedAnswer:
        """The whole answer; what has not been read of the stream is read first."""
        for _ in self:
            pass
        assert self._answer is not None  # noqa: S101 - the end of the stream has set it
        return self._answer
