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
    """A finished run.

    Attributes:
        model: The tuned model, one more `LanguageModel`; ``load_model("hf:<folder>")`` gives the same one later.
        folder: Where it is stored; of a model at a vendor, its name.
        manifest: What was trained, on what, and what came of it; holds the template to ask with.
    """

    model: LanguageModel
    folder: Path
    manifest: Manifest

    def push_to_hub(self, repository: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the folder to the Hugging Face hub. Nothing is ever uploaded but by this call.

        Args:
            repository: ``"<user>/<name>"``; made where it does not exist.
            private: Whether a new repository is private.
            token: Access token; that of the machine's login if None. It is not kept.

        Returns:
            Address of the repository.
        """
        from ragkit.finetuning.hub import upload

        return upload(self.folder, repository, private=private, token=token)
