"""Pickle files as versions of LangChain's FAISS store wrote them."""

import pickle  # noqa: TID251 - to write the files of old folders
import sys
import types
from collections.abc import Mapping
from pathlib import Path

# Written by langchain-community 0.4.2 with ``FAISS.from_documents(…).save_local``, over ``hash:16``.
SAVED = Path(__file__).parents[1] / "langchain" / "saved_faiss"
MODULES = {
    "langchain.docstore.in_memory": "InMemoryDocstore",
    "langchain_core.documents.base": "Document",
}


def docstore_pickle(state: Mapping, protocol: int = 4, modules: Mapping[str, str] = MODULES) -> bytes:
    """A store with one document of some state, whose classes are in modules of that version."""
    made, replaced = {}, {path: sys.modules.get(path) for path in modules}
    for path, name in modules.items():
        module = types.ModuleType(path)
        made[name] = type(name, (), {"__module__": path})
        setattr(module, name, made[name])
        sys.modules[path] = module
    try:
        store, document = made["InMemoryDocstore"](), made["Document"]()
        vars(document).update(state)
        vars(store)["_dict"] = {"a": document, "without a vector": document}
        return pickle.dumps((store, {0: "a"}), protocol=protocol)
    finally:
        for path, module in replaced.items():
            del sys.modules[path]
            if module is not None:
                sys.modules[path] = module
