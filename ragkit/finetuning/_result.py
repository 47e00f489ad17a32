"""The result of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit._extras import require
from ragkit.errors import InvalidInputError
from ragkit.finetuning._manifest import MANIFEST, Manifest

if TYPE_CHECKING:
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

        The model's files are at the top level, as other tools expect, next to the manifest.

        Args:
            repository: ``"<user>/<name>"``; created if it does not exist.
            private: Whether a new repository is private.
            token: Access token, which is not stored; the stored login of this machine if None.

        Returns:
            URL of the repository.

        Raises:
            InvalidInputError: If the name is invalid, or the run is a classifier.
        """
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise InvalidInputError(f"`repository` must be '<user>/<name>', got {repository!r}")
        manifest = Manifest.read(self.folder)
        if manifest.kind != "causal":
            raise InvalidInputError("only language models can be uploaded, and this is a classifier; copy its folder")
        manifest.check_weights(self.folder)
        require("transformers")
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        address = str(hub.create_repo(repository, private=private, exist_ok=True))
        hub.upload_folder(repo_id=repository, folder_path=self.folder / "model", commit_message="Weights")
        hub.upload_file(repo_id=repository, path_or_fileobj=self.folder / MANIFEST, path_in_repo=MANIFEST)
        return address
