"""Which of several options a text names; see `ragkit.answers`, which has the implementation."""

from ragkit.answers.choices import MOST_OPTIONS, NO_CHOICE, Choice, check_options, read_option

__all__ = ["MOST_OPTIONS", "NO_CHOICE", "Choice", "check_options", "read_option"]
