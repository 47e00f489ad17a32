"""Extraction of the number that a completion gives as its answer."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import NamedTuple

from typing_extensions import override

from ragkit.answers._base import AnswerReader, ReadAnswer, unreadable
from ragkit.answers._wording import CharacterTable, announcing

_SPACE = "\u00a0"  # represents every space that groups digits: no-break, narrow no-break, thin, figure, LaTeX
_FRACTION = "\x1f"  # precedes a fraction, which may follow a whole number (3½) or a sign (-½)
_LOOK_ALIKE = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f", _SPACE),
    **dict(zip("\uff0c\u066c\uff0e\u066b\uff0f\u2044\u2215", ",,..///", strict=True)),
    **dict(zip("\uff05\u066a\uff1a\uff1d\u2019\uff08\uff09", "%%:='()", strict=True)),
}
_SUPERSCRIPTS = {"⁺": "+", "⁻": "-", **{char: str(digit) for digit, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}}
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_LATEX = re.compile(
    r"(?P<group>\{,\}|\\,|\\;|\\:|\\ )|(?P<char>\\[$%#&])|(?P<times>\\(?:times|cdot)(?![A-Za-z]))|\\!"
    r"|\\[dt]?frac\s*(?P<top>\d|\{\d+\})\s*(?P<bottom>\d|\{\d+\})"
)
# "is minus 5", but not "10 minus 5".
_MINUS = re.compile(
    r"(?:(?:(?<=[:=(*])|(?<=\bis)|(?<=\bwas)|(?<=\bequals)|(?<=\bto)|(?<=\bbe))\s*+|^[^\S\n]*+)"
    r"(?:minus|negative)\s++(?=[$€]?[.\d])",
    re.IGNORECASE | re.MULTILINE,
)

_GROUPED = r"[1-9]\d{0,2}"
_FORMS = [  # pattern of a whole run of digits and separators, thousands separators, decimal separator
    (re.compile(r"\d+(?:\.\d+)?|\.\d+"), "", "."),
    (re.compile(rf"{_GROUPED}(?:,\d{{3}})+(?:\.\d+)?|[1-9]\d?(?:,\d\d)+,\d{{3}}(?:\.\d+)?"), ",", "."),
    (re.compile(rf"{_GROUPED}(?:\.\d{{3}})+,\d+|{_GROUPED}(?:\.\d{{3}}){{2,}}"), ".", ","),
    (re.compile(rf"{_GROUPED}(?:[{_SPACE}']\d{{3}})+(?:\.\d+)?"), f"{_SPACE}'", "."),
    (re.compile(rf"{_GROUPED}(?:[{_SPACE}']\d{{3}})+,\d+|0,\d+"), f"{_SPACE}'", ","),
    (re.compile(r"[1-9]\d?(?: \d{3})+(?:\.\d+)?|[1-9]\d\d(?: [1-9]\d\d)*+ 0\d\d(?: \d{3})*+(?:\.\d+)?"), " ", "."),
    (re.compile(r"[1-9]\d?(?: \d{3})+,\d+"), " ", ","),
]
_DECIMAL_COMMA = re.compile(r"\d+,\d{1,2}")
_ONE = re.compile(r"\d*\.\d+|\d+")

_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)])-(?:[A-Z]{{1,3}}(?=[$€])|(?:[A-Z]{{3}}|Rs\.?|kr\.?)[ {_SPACE}]?(?=[.\d]))?(?=[$€.\d]))?
    (?P<money>[$€][ {_SPACE}]?)? (?P<inner>(?<=[$€ {_SPACE}])-(?=[.\d]))?
    (?: (?<![\d/.,])(?:(?P<whole>\d++)[ ]{{1,2}})?(?P<top>\d++)[ ]?/[ ]?(?P<bottom>\d++)(?![\d/]|[.,]\d)
      | (?P<run>(?:(?<![^\W\d_])\.\d++|\d++)(?:[,.'{_SPACE}]\d++|[ ]\d{{3}}(?!\d|[ ](?!\d{{3}}(?!\d))\d))*+)
        (?: [eE](?P<e>[-+]?\d{{1,4}})(?!\w)
          | \s?(?:[×x*·]\s?10)\s?\^\s?\{{?(?P<ten>[-+]?\d{{1,4}})(?!\d)\}}?
          | (?<=\b10)\^\{{?(?P<power>[-+]?\d{{1,4}})(?!\d)\}}? )?
        (?P<after>[ {_SPACE}]?[€%])?
    )""",
    re.VERBOSE,
)

# Evidence that a number is not the answer; such a number is the answer only if there is no other.
_BEFORE_WEAK = re.compile(
    r"(?:(?<!\w)(?:step|question|problem|example|figure|table|equation|case|part|option|line|page|version|not)\s?\#?"
    r"|[A-Za-z]-|\^\{?|_\{?)\Z",
    re.IGNORECASE,
)
_AFTER_WEAK = re.compile(r"(?:st|nd|rd|th)\b|[A-Z]\b|[A-Za-z]+\d|\^")
_LINE_START = re.compile(r"(?:\A|\n)[^\S\n]*[(\[]?\Z")
_LIST_MARK = re.compile(r"[.)\]]+[^\S\n]+\S")

_BOXED = re.compile(r"\\boxed\s*\{(?=((?:[^{}\n]|\{[^{}\n]*\})*+))")
_MARKERS = [_BOXED, re.compile(r"####\s*"), announcing("answer")]
_DIRECT = re.compile(r"(?:[\W_]|(?:approximately|about|around|roughly|equal to|exactly|just|only|the|[A-Z]{2,3})\b)*")
_SENTENCE_END = re.compile(r"[.!?]\s|\n|\Z")
_SEGMENT = 300  # characters after a marker that are searched


def _usual_form(char: str) -> str:
    """Return the ASCII form of a digit, sign or separator; ``€`` represents every currency except ``$``."""
    if char in _LOOK_ALIKE:
        return _LOOK_ALIKE[char]
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Sc":
        return char if char == "$" else "€"  # a $ after a number may end a formula
    if category == "No":
        top, slash, bottom = unicodedata.normalize("NFKC", char).partition("\u2044")
        return f"{_FRACTION}{top}/{bottom}" if slash and bottom else char  # ½
    return "" if category == "Cf" else char


_USUAL_FORMS = CharacterTable(_usual_form)
_CONTEXT = Context(prec=28)


class _Candidate(NamedTuple):
    value: Decimal
    start: int
    end: int
    strong: bool


def canonical(value: Decimal) -> str:
    """Write a finite number without trailing zeros, sign of zero or exponent (but one for more than 20,000 digits)."""
    if not value:
        return "0"
    if abs(value.adjusted()) > 20_000:
        return str(value)
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


@dataclass(frozen=True)
class NumberReader(AnswerReader):
    r"""Extracts the number that a completion gives as its answer, as a canonical decimal: ``"9500"``, ``"-3.5"``.

    The answer is the number in the last ``\boxed{…}``, after the last ``####`` or after the last "the answer is", in
    this order of precedence; otherwise it is the last number of the text. Numbers inside identifiers (GPT-4), of lists
    (``1. First``) and steps, and ordinals are used only if there is no other number.

    - Commas, spaces and apostrophes before groups of three digits separate thousands. An ordinary space does so only
      after one or two digits (9 500) or before a zero (500 000); "100 200" is two numbers.
    - A point is the decimal separator (1.234 is less than 2), unless a comma follows its groups or there is more than
      one point (9.500,00 and 1.234.567).
    - A comma before one or two digits is the decimal separator next to a currency or ``%`` (€9,50) and after a zero
      (0,5); otherwise it separates two numbers.
    - Currencies, ``%`` and units do not change the number: 45 % is 45. Fractions are divided, to 28 digits.
    - Parentheses do not make a number negative.
    """

    spec = "number"

    @override
    def extract(self, text: str) -> ReadAnswer:
        cleaned = _clean(text)
        candidates = list(_candidates(cleaned))
        if not candidates:
            return unreadable("it has no number")
        strong = [each for each in candidates if each.strong]
        marked = (_after_markers(cleaned, strong, marker) for marker in _MARKERS)
        chosen = next((each for each in marked if each), (strong or candidates)[-1])
        return ReadAnswer(canonical(chosen.value))


def _clean(text: str) -> str:
    raised = _RAISED.sub(lambda match: "^" + "".join(_SUPERSCRIPTS[char] for char in match[0]), text)
    usual = _LATEX.sub(_without_latex, raised).translate(_USUAL_FORMS)
    return _MINUS.sub(" -", usual.replace(f"-{_FRACTION}", "-").replace(_FRACTION, " "))


def _without_latex(match: re.Match[str]) -> str:
    if match["group"]:
        return "," if match["group"] == "{,}" else _SPACE
    if match["char"]:
        return match["char"][1]
    if match["times"]:
        return "×"
    return f"{_FRACTION}{match['top'].strip('{}')}/{match['bottom'].strip('{}')}" if match["top"] else ""


def _candidates(text: str) -> Iterator[_Candidate]:
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            strong = match["run"] is None or (match["run"].count(".") < 2 or "," in match["run"])
            yield _Candidate(value, match.start(), match.end(), strong and not _is_weak(text, match))


def _value(match: re.Match[str]) -> Decimal | None:
    negative = bool(match["sign"] or match["inner"])
    if match["run"] is None:
        top, bottom = Decimal(match["top"]), Decimal(match["bottom"])
        if not bottom:
            return None
        value = _CONTEXT.add(Decimal(match["whole"] or 0), _CONTEXT.divide(top, bottom))
        return value.copy_negate() if negative else value
    last, single = _read_run(match["run"], decimal_comma=bool(match["money"] or match["after"]))
    mantissa = "1" if match["power"] else last  # 10^6
    exponent = match["e"] or match["ten"] or match["power"] or "0"
    value = Decimal(f"{mantissa}E{exponent}")  # exact, unlike arithmetic, which rounds to a context
    return value.copy_negate() if negative and single else value


def _read_run(run: str, *, decimal_comma: bool) -> tuple[str, bool]:
    """Return the last number of a run of digits and separators, and whether it is the whole run."""
    if decimal_comma and _DECIMAL_COMMA.fullmatch(run):
        return run.replace(",", "."), True
    for form, thousands, point in _FORMS:
        if form.fullmatch(run):
            return run.translate(dict.fromkeys(map(ord, thousands))).replace(point, "."), True
    return _ONE.findall(run)[-1], False


def _is_weak(text: str, match: re.Match[str]) -> bool:
    start, end = match.start(), match.end()
    before = text[max(0, start - 20) : start]
    if before and (before[-1] == "_" or before[-1].lower() != before[-1].upper()):
        return True
    if _BEFORE_WEAK.search(before) or _AFTER_WEAK.match(text, end):
        return True
    return bool(_LINE_START.search(before) and _LIST_MARK.match(text, end))


def _after_markers(text: str, candidates: Sequence[_Candidate], marker: re.Pattern[str]) -> _Candidate | None:
    """Return the number after the last marker that is followed by one; None if there is none."""
    starts = [each.start for each in candidates]
    for match in reversed(list(marker.finditer(text))):
        start = match.end()
        end = _SENTENCE_END.search(text, start, start + _SEGMENT)
        stop = match.end(1) if marker is _BOXED else end.start() if end else start + _SEGMENT
        equals = text.rfind("=", start, stop)
        inside = candidates[bisect_left(starts, start) : bisect_left(starts, stop)]
        inside = [each for each in inside if each.start > equals] or inside
        if inside:
            direct = _DIRECT.fullmatch(text, max(start, equals + 1), inside[0].start)
            return inside[0] if direct else inside[-1]
    return None
