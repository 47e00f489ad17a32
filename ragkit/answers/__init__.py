"""Answer readers, which extract the answer from a completion in the same way for every strategy."""

from ragkit.answers._base import AnswerReader, Expected, ReadAnswer, load_reader, unreadable
from ragkit.answers._choices import ChoiceReader, read_option
from ragkit.answers._json_field import JsonField
from ragkit.answers._labels import LabelReader
from ragkit.answers._numbers import NumberReader
from ragkit.answers._plain import After, FinalAnswer, FirstLine, Regex, Whole
from ragkit.answers._reasoning import without_reasoning

__all__ = [
    "After",
    "AnswerReader",
    "ChoiceReader",
    "Expected",
    "FinalAnswer",
    "FirstLine",
    "JsonField",
    "LabelReader",
    "NumberReader",
    "ReadAnswer",
    "Regex",
    "Whole",
    "load_reader",
    "read_option",
    "unreadable",
    "without_reasoning",
]
