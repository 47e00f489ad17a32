"""The result of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.finetuning.manifest import Manifest
    from ragkit.protocols import LanguageModel


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A finished fine-tuning run.

    Attributes:
        model: The fine-tuned model; ``load_model("hf:<folder>")`` loads it again.
        folder: Folder of the model; for a model at a vendor, it contains the model's name.
        manifest: Record of the data, base model, settings and results, including the template for prompts.
    """

    model: LanguageModel
    folder: Path
    manifest: Manifest

    def push_to_hub(self, repository: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the folder to the Hugging Face hub. Nothing is uploaded without this call.

        Args:
            repository: ``"<user>/<name>"``; created if it does not exist.
            private: Whether a new repository is private.
            token: Access token, which is not stored; the stored login of this machine if None.

        Returns:
            URL of the repository.
        """
        from ragkit.finetuning.hub import upload

        return upload(self.folder, repository, private=private, token=token)
