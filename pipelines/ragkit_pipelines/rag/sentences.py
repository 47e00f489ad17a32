"""Where the sentences of a text begin and end."""

from __future__ import annotations

import re

from ragkit.text import SENTENCE_CLOSERS, SENTENCE_ENDS

# A sentence ends at a mark and what closes behind it, before white space; at a blank line; or where a list goes on.
_END = re.compile(
    r"""
    (?<=[.!?…])["'”’)\]]*\s+(?=["'“‘(\[]*[^\W_a-z]|[-*•]\s)   # a mark, and something that can begin a sentence
    | (?:[ENDS]|．(?!\d))+[CLOSERS]*\s*                          # marks of other scripts, which need no space
    | (?>\r\n|[\r\n])\s*?(?>\r\n|[\r\n])                       # a blank line
    | [\r\n](?=\s*(?:[-*•]|\d+[.)]|\#+|\|)\s)                   # an item of a list, a heading, a row
    """.replace("ENDS", SENTENCE_ENDS).replace("CLOSERS", SENTENCE_CLOSERS),
    re.VERBOSE,
)
_SHORT = re.compile(
    r"(?:^|[\s(\[\"“])(?:[^\W\d_]|[A-Z]\.[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|al|cf|e\.g|i\.e|No|Fig|Eq|Vol|pp|approx)\.$"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Cut a text into sentences.

    Args:
        text: Prose, lists or Markdown.

    Returns:
        Start and end of each sentence, white space around it left out, in their order.

    Examples:
        >>> text = "Dr. Who came. He left at 5 p.m. yesterday!  - Really?"
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['Dr. Who came.', 'He left at 5 p.m. yesterday!', '- Really?']
    """
    ends = [(found.start(), found.end()) for found in _END.finditer(text)]
    cuts = [0, *(after for at, after in ends if not _SHORT.search(text[max(0, at - 12) : at]))]
    spans = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        own = text[start:end]
        if own.strip():
            first = start + len(own) - len(own.lstrip())
            spans.append((first, start + len(own.rstrip())))
    return spans
