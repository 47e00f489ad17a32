"""The registry: specs with arguments, the built-in components, plugins, and what is listed."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
from plugins import distribution, restored_registry

from ragkit import Example, load_embedder, load_model, load_selector
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.registry import KINDS, components, create, find, is_known, name_of, register, specs
from ragkit_pipelines.cli.components import list_components
from ragkit_selectors.stages.filters import Guard

POOL = [{"input": f"{word} {number}", "output": word} for word in ("red", "blue") for number in range(5)]


@pytest.fixture
def registry():
    with restored_registry():
        yield


@dataclass(frozen=True)
class Sizes:
    """A component with arguments of several types."""

    name: str
    count: int = 1
    share: "float | None" = None
    label: "str | int" = ""
    seed: int = 0


def python(code, folder=None):
    start = "" if folder is None else f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- specs and their arguments


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sizes:a", Sizes("a")),
        ("sizes:a:2", Sizes("a", 2)),
        ("sizes:a:2e3", Sizes("a", 2000)),
        ("sizes:a:2:0.5", Sizes("a", 2, 0.5)),
        ("sizes:a:2:0.5:7", Sizes("a", 2, 0.5, "7")),
        ("sizes:a:2:0.5:7:8:", Sizes("a", 2, 0.5, "7:8:")),  # the last argument may contain colons
    ],
)
def test_arguments_go_to_parameters_in_their_order(registry, spec, expected):
    register("chunker", "sizes:<name>[:<count>][:<share>][:<label>]", Sizes)
    made = create("chunker", spec, settings={"seed": 0})
    assert made == expected
    assert [type(value) for value in vars(made).values()] == [type(value) for value in vars(expected).values()]


@pytest.mark.parametrize("spec", ["sizes", "sizes:", "sizes::2", "sizes:a:", "size:a", ""])
def test_missing_and_empty_arguments_are_refused(registry, spec):
    register("chunker", "sizes:<name>[:<count>][:<share>][:<label>]", Sizes)
    with pytest.raises(UnknownSpecError) as caught:
        create("chunker", spec)
    assert caught.value.spec == spec
    assert not is_known("chunker", spec)


@pytest.mark.parametrize(
    "spec", ["sizes:a:x", "sizes:a:1.5", "sizes:a:nan", "sizes:a:inf", "sizes:a:1:x", "sizes:a:1:nan"]
)
def test_numbers_are_checked(registry, spec):
    register("chunker", "sizes:<name>[:<count>][:<share>][:<label>]", Sizes)
    with pytest.raises(InvalidInputError, match="number") as caught:
        create("chunker", spec)
    assert not isinstance(caught.value, UnknownSpecError)


def test_settings_and_presets_are_passed_by_name(registry):
    register("chunker", "preset[:<share>]", Sizes, preset={"name": "fixed", "label": "x"})
    settings = {"seed": 3, "count": 4, "unknown": 5, "label": "the preset wins"}
    assert create("chunker", "preset:0.5", settings=settings) == Sizes("fixed", 4, 0.5, "x", 3)
    assert create("chunker", "preset") == Sizes("fixed", label="x")


def test_a_parameter_spec_receives_the_whole_spec(registry):
    register("chunker", "whole:<a>:<b>", lambda first, spec, other="kept": (first, spec, other))
    assert create("chunker", "whole:1:2", "leading") == ("leading", "whole:1:2", "kept")


def test_the_longest_name_counts(registry):
    register("chunker", "a:<x>", lambda x: ("a", x))
    register("chunker", "a:b:<x>", lambda x: ("a:b", x))
    assert create("chunker", "a:b:c") == ("a:b", "c")
    assert create("chunker", "a:c:b") == ("a", "c:b")
    assert find("chunker", "a:b:c").name == "a:b"


# -- registering


def test_a_name_belongs_to_one_component(registry):
    register("selector", "mine", Sizes)
    register("selector", "mine", Sizes)
    assert find("selector", "mine").load() is Sizes
    with pytest.raises(InvalidInputError, match="already registered"):
        register("selector", "mine", Guard)
    with pytest.raises(InvalidInputError, match="already registered"):
        register("selector", "bm25[:<k1>]", Sizes)
    with pytest.raises(InvalidInputError, match="`kind` must be one of"):
        register("colour", "red", Sizes)


def test_a_cell_that_runs_again_replaces_its_component(registry):
    cell = "@register('stage', 'cell')\nclass Cell:\n    pass"
    classes = []
    for _ in range(2):
        names = {"register": register, "__name__": "__main__"}
        exec(cell, names)  # noqa: S102 - our own text
        classes.append(names["Cell"])
    assert classes[0] is not classes[1]
    assert find("stage", "cell").load() is classes[1]


def test_names_of_registered_functions():
    from ragkit.metrics._matching import label_match

    assert name_of("metric", label_match) == "accuracy"
    assert name_of("metric", max) is None


# -- the built-in components


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_component_can_be_imported(kind):
    listed = components(kind)
    assert listed
    for component in listed:
        if kind == "model" and "langchain" in component.requires and component.name != "openai":
            continue  # the packages of the other providers are not installed, and the class is the same
        assert callable(component.load())
        assert set(component.preset) <= set(component.parameters())


def test_listing_imports_no_component():
    code = """
    import json, sys
    from ragkit.registry import KINDS, specs
    listed = {kind: specs(kind) for kind in KINDS}
    names = {"numpy", "torch", "transformers", "langchain_core", "faiss", "pydantic", "sklearn"}
    modules = {"ragkit.models", "ragkit_selectors.base", "ragkit_pipelines.compare"}
    print(json.dumps([sorted((names | modules) & set(sys.modules)), listed]))
    """
    loaded, listed = json.loads(python(f"if True:{code}"))
    assert loaded == []
    assert listed == {kind: specs(kind) for kind in KINDS}


def test_numbers_of_hidden_arguments_are_not_shifted():
    """The preset of `Tuning` must not leave its flag to the first argument."""
    from ragkit_pipelines.compare.strategies.named import load_strategy

    loaded = load_strategy("lora+few-shot:jaccard@2")
    assert (loaded.method, loaded.pretrain, loaded.selector, loaded.k) == ("lora", False, "jaccard", 2)


# -- plugins

PLUGIN = '''
from dataclasses import dataclass
from ragkit.models._scripted import ScriptedModel
from ragkit.registry import register
from ragkit_selectors.baselines import FixedSelector
from ragkit_selectors.stages.base import Stage


@register("selector", "last[:<offset>]")
class LastSelector(FixedSelector):
    """Selects the last examples."""

    def __init__(self, examples, offset: int = 0, *, key="input", output="output", seed: int = -1):
        super().__init__(examples, key=key, output=output)
        self.offset, self.seed = offset, seed

    def _best(self, texts, n, barred):
        from ragkit_selectors.candidates import best_of_pool
        import numpy as np
        return [best_of_pool(np.arange(len(self.pool.entries), dtype=float) + self.offset, n, barred) for _ in texts]

    def _config(self):
        return {"offset": self.offset, "seed": self.seed}


@register("stage", "skip:<count>")
@dataclass(frozen=True)
class Skip:
    """Leaves out the best candidates."""

    count: int

    def fetch(self, n):
        return n + self.count

    def take(self, asked, before, n):
        return before(self.fetch(n)).take(slice(self.count, None))


@register("model", "served:<name>")
class Served(ScriptedModel):
    """A model that accepts the settings of API models."""

    def __init__(self, spec: str, base_url: str | None = None, timeout: float = 0.0):
        super().__init__([f"{spec} {base_url} {timeout}"])
'''


@pytest.fixture
def plugin(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    return distribution(folder, {"example_plugin": PLUGIN, "broken": "1 / 0", "taken": TAKEN}, ["example_plugin"])


TAKEN = "from ragkit.registry import register\nregister('selector', 'bm25', object)\n"


def test_a_plugin_is_imported_when_its_name_is_needed(plugin):
    code = """
    import json, sys
    from ragkit import load_selector
    pool = [{"input": f"{n}", "output": "x"} for n in range(9)]
    load_selector("bm25", pool)
    before = "example_plugin" in sys.modules
    selector = load_selector("last:3 | skip:2", pool, seed=5)
    print(json.dumps([before, [each.input for each in selector.select("8", k=2)], selector.source._config()]))
    """
    assert json.loads(python(f"if True:{code}", plugin)) == [False, ["6", "5"], {"offset": 3, "seed": 5}]


def test_a_saved_selector_of_a_plugin_is_loaded_without_its_import(plugin, tmp_path):
    save = f"""
    from ragkit import load_selector
    pool = [{{"input": f"{{n}}", "output": "x"}} for n in range(9)]
    load_selector("last | skip:1", pool).save({str(tmp_path / "saved")!r})
    """
    python(f"if True:{save}", plugin)
    load = f"""
    from ragkit_selectors import BaseSelector
    selector = BaseSelector.load({str(tmp_path / "saved")!r})
    print(repr(selector), [each.input for each in selector.select("8", k=2)])
    """
    assert python(f"if True:{load}", plugin) == "LastSelector | Skip(count=1) ['7', '6']\n"


def test_a_model_of_a_plugin_receives_the_settings_that_it_accepts(plugin):
    code = """
    import json
    from ragkit import load_model
    from ragkit.errors import InvalidInputError
    text = load_model("served:x:y", base_url="http://a", timeout=3.0).generate("q").text
    try:
        load_model("served:x", adapter="folder")
    except InvalidInputError as error:
        print(json.dumps([text, "adapter" in str(error)]))
    """
    assert json.loads(python(f"if True:{code}", plugin)) == ["served:x:y http://a 3.0", True]


def test_components_of_plugins_are_suggested_and_listed(plugin):
    code = """
    import json
    from typer.testing import CliRunner
    from ragkit import load_selector
    from ragkit.errors import UnknownSpecError
    from ragkit_pipelines.cli.main import app
    try:
        load_selector("lats", [])
    except UnknownSpecError as error:
        suggested = error.suggestions
    run = lambda *words: CliRunner().invoke(app, words, env={"COLUMNS": "200"}).output
    print(json.dumps([suggested, json.loads(run("components", "stage", "--json")), run("select", "--help")]))
    """
    suggested, listed, shown = json.loads(python(f"if True:{code}", plugin))
    assert suggested == ["last[:<offset>]"]
    assert {"kind": "stage", "spec": "skip:<count>", "defined_in": "example_plugin:Skip"} in listed
    assert [row["spec"] for row in listed] == sorted([*specs("stage"), "skip:<count>"])
    assert all(spec in " ".join(shown.split()) for spec in [*specs("selector"), "last[:<offset>]", "skip:<count>"])


def test_a_plugin_that_fails_is_skipped_with_a_warning(plugin):
    points = plugin / "ragkit_example-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "broken = broken\ntaken = taken\n")
    code = """
    import json, warnings
    from ragkit.registry import find, specs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        listed = specs("selector")
        specs("selector")
    print(json.dumps([listed, find("selector", "bm25").origin, [str(each.message) for each in caught]]))
    """
    listed, origin, warned = json.loads(python(f"if True:{code}", plugin))
    assert listed == sorted([*specs("selector"), "last[:<offset>]"])
    assert origin == "ragkit_selectors.lexical:BM25Selector"
    assert ["ZeroDivisionError" in each for each in warned] == [True, False]
    assert "already registered" in warned[1]


# -- in this process


def test_registered_components_are_used_where_specs_are_read(registry):
    @register("selector", "first")
    class First(type(load_selector("fixed", POOL))):
        pass

    @register("embedder", "double:<embedder>")
    def double(embedder: str):
        return load_embedder(embedder)

    @register("model", "constant:<text>")
    def constant(text: str):
        from ragkit import ScriptedModel

        return ScriptedModel(lambda _: text)

    assert load_selector("first | guard", POOL).select("red 0", k=1)[0].input == "red 1"
    assert load_embedder("double:hash:8").dim == 8
    assert load_model("constant:yes").generate("q").text == "yes"
    with pytest.raises(InvalidInputError, match="`dtype`"):
        load_embedder("double:hash:8", dtype="float16")
    with pytest.raises(InvalidInputError, match="`base_url`"):
        load_model("constant:yes", base_url="http://a")
    from ragkit import FewShot, Task, compare

    task = Task("x", examples=[Example(**row) for row in POOL], test=[Example("green", "red")])
    result = compare(task, ["copy:first", "few-shot:first@2"], model="constant:red", embedder="double:hash:8")
    assert [row.score for row in result.results.rows] == [1.0, 1.0]
    assert FewShot("constant:red", load_selector("first", POOL)).invoke("green").text == "red"


def test_an_unknown_kind_is_named_on_the_command_line():
    with pytest.raises(InvalidInputError, match="`kind` must be one of"):
        list_components("selectors")
