"""`tiny`: the small language model that ships with ragkit, and the task family on which it was trained.

The decoder of about one million parameters has learned a single skill: to infer a mapping from the in-context examples
and to apply it. With it, prompting, example selection and fine-tuning can be tried, tested and compared without a
network, an API key or a GPU. It has no world knowledge. ``weights/README.md`` is its model card.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
