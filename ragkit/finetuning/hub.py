"""Upload of finished runs to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from ragkit.errors import InvalidInputError
from ragkit.extras import require
from ragkit.finetuning.manifest import MANIFEST, Manifest


def upload(folder: Path, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a finished run, with the model's files at the top level as other tools expect, and the manifest.

    Args:
        folder: The run's folder.
        repository: ``"<user>/<name>"``.
        private: Whether a new repository is private.
        token: Access token; the stored login of this machine if None.

    Returns:
        URL of the repository.

    Raises:
        InvalidInputError: If the name is invalid, or the run is a classifier.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InvalidInputError(f"`repository` must be '<user>/<name>', got {repository!r}")
    manifest = Manifest.read(folder)
    if manifest.kind != "causal":
        raise InvalidInputError("only language models can be uploaded, and this is a classifier; copy its folder")
    manifest.check_weights(folder)
    require("transformers")
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    address = str(hub.create_repo(repository, private=private, exist_ok=True))
    hub.upload_folder(repo_id=repository, folder_path=folder / "model", commit_message="Weights")
    hub.upload_file(repo_id=repository, path_or_fileobj=folder / MANIFEST, path_in_repo=MANIFEST)
    return address
