"""The structure of the code: no group of modules may import each other in a cycle."""

from collections.abc import Iterable

import grimp

PACKAGES = ("ragkit", "ragkit_selectors", "ragkit_pipelines")
LAZY = "ragkit"  # the package re-exports names of the layers above it, as strings that are imported on first use


def cycle_of(graph: grimp.ImportGraph, allowed: Iterable[str] = ()) -> list[str]:
    """Return the modules of one cycle, the first one repeated at the end, or nothing."""
    open_modules = set(graph.modules) - set(allowed)
    imports = {module: graph.find_modules_directly_imported_by(module) & open_modules for module in open_modules}
    done: set[str] = set()
    for start in sorted(imports):
        path, pending = [start], [sorted(imports[start] - done)]
        while path:
            if not pending[-1]:
                done.add(path.pop())
                pending.pop()
                continue
            following = pending[-1].pop()
            if following in path:
                return [*path[path.index(following) :], following]
            if following not in done:
                path.append(following)
                pending.append(sorted(imports[following]))
    return []


def test_no_modules_import_each_other_in_a_cycle():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 300
    cycle = cycle_of(graph, allowed=[LAZY])
    assert not cycle, "import cycle: " + " -> ".join(cycle)


def test_imports_inside_functions_count(tmp_path, monkeypatch):
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").write_text("from sample.first import f\n")
    (package / "first.py").write_text("import sample.second\n\ndef f(): ...\n")
    (package / "second.py").write_text("def g():\n    from sample.third import h\n    return h\n")
    (package / "third.py").write_text("def h():\n    from sample.first import f\n    return f\n")
    monkeypatch.syspath_prepend(tmp_path)
    cycle = cycle_of(grimp.build_graph("sample", cache_dir=None))
    assert cycle == ["sample.first", "sample.second", "sample.third", "sample.first"]
