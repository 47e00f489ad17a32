"""`tiny`: the language model that ships with ragkit, and the task family it was trained on.

A decoder of about a million parameters that has learned one thing, to read a mapping off the examples in its prompt
and to apply it, so that prompting, example selection and fine-tuning can be tried, tested and compared with no
network, no key and no GPU. It knows nothing about the world. ``weights/README.md`` is its model card.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
