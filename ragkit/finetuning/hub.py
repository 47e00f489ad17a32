"""Uploading a finished run to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from ragkit.errors import InvalidInputError
from ragkit.extras import require
from ragkit.finetuning.manifest import MANIFEST, Manifest


def upload(folder: Path, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a finished run: the model's files at the top, where other tools look for them, and the manifest.

    Args:
        folder: The run's folder.
        repository: ``"<user>/<name>"``.
        private: Whether a new repository is private.
        token: Access token, that of the machine's login if None.

    Returns:
        Address of the repository.

    Raises:
        InvalidInputError: If the name has another form, or the run has no model to upload.
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
