"""The HTML report in a real browser: the filter of rows, the keyboard, narrow and dark screens, and the network."""

import pytest
from browser import start_browser

from ragkit import Example, ScriptedModel, Task, compare
from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.compare.reports.html import html_report
from ragkit_pipelines.compare.results import Recommendation, Results, make_row

EVIL = "</script><script>document.title = 'changed'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
ROWS = 5000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = start_browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A small comparison with texts that try to break out of the page; one answer in ten cannot be read."""
    pool = [Example("dim it", "fade"), Example("open it", "vent"), Example("shut it", EVIL)]
    test = [Example(f"{'dim' if n % 2 else 'open'} {EVIL} {n}", "fade" if n % 2 else "vent") for n in range(30)]
    task = Task("Name it.", pool, test, name=EVIL, labels=["fade", "vent", EVIL])
    model = ScriptedModel(lambda prompt: "nothing known" if prompt.endswith("2\nOutput:") else " fade")
    result = compare(task, ["majority", "zero-shot", "few-shot:jaccard"], model=model, embedder="hash:16",
                     sizes=[2, None], seeds=[0, 1])  # fmt: skip
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(result.html(), encoding="utf-8")
    return file, result


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """5,000 rows: `one` is right in every second row, `two` in every third."""
    scores = {"one": [float(n % 2 == 0) for n in range(ROWS)], "two": [float(n % 3 == 0) for n in range(ROWS)]}
    answers = [
        Answers(
            strategy=name,
            size=1,
            seed=0,
            answers=[f"class {n % 7 if right else 'x'}" for n, right in enumerate(own)],
            scores=own,
            unreadable_rows=[4, 9] if name == "two" else [],
        )
        for name, own in scores.items()
    ]
    inputs = [f"question {n} about {'cats' if n % 5 == 0 else 'dogs'}" for n in range(ROWS)]
    items = Items(inputs=inputs, expected=[f"class {n % 7}" for n in range(ROWS)], answers=answers)
    facts = {"model": None, "size": 1, "seed": 0, "prompt_tokens": 0, "completion_tokens": 0, "fit_seconds": 0}
    rows = [
        make_row(strategy=name, n=ROWS, correct=sum(own), seconds=1, cost=None, **facts) for name, own in scores.items()
    ]
    results = Results(task="large", leaked_test_rows=0, rows=rows, pairs=[], differences=[],
                      recommendation=Recommendation(strategy=None, evidence="none"))  # fmt: skip
    file = tmp_path_factory.mktemp("large") / "report.html"
    file.write_text(html_report(results, items), encoding="utf-8")
    return file, scores


def choose(browser, **values):
    """Set fields of the filter as a user does, and wait until the rows have changed."""
    for name, value in values.items():
        browser.evaluate(
            f"(() => {{ const field = document.getElementById({name!r}); field.value = {value!r};"
            "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
    browser.evaluate("new Promise((done) => setTimeout(done, 200))")


def count(browser):
    return browser.evaluate("document.getElementById('count').textContent")


def test_the_page_loads_nothing_and_runs_only_its_own_script(browser, page):
    file, _ = page
    browser.open(file)
    assert browser.requests() == [file.as_uri()]
    assert browser.problems() == []
    assert browser.evaluate("document.title") == f"{EVIL}: comparison"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent") == EVIL
    # The policy blocks what the page itself might be made to do.
    blocked = browser.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')")
    assert blocked == "blocked"
    assert any("Content Security Policy" in each["params"]["entry"]["text"]
               for each in browser.events if each.get("method") == "Log.entryAdded")  # fmt: skip


def test_rows_can_be_filtered_and_searched(browser, large):
    file, scores = large
    browser.open(file)
    assert count(browser).startswith("5,000 of 5,000 rows; A is right in 2,500, B in 1,667")
    assert browser.evaluate("document.querySelectorAll('#list > details').length") == 50
    choose(browser, which="a-not-b")
    expected = [n for n in range(ROWS) if scores["one"][n] and not scores["two"][n]]
    assert count(browser).startswith(f"{len(expected):,} of 5,000 rows; A is right in {len(expected):,}, B in 0")
    numbers = browser.evaluate("[...document.querySelectorAll('.row-number')].map((each) => Number(each.textContent))")
    assert numbers == expected[:50]
    choose(browser, search="CATS  question")
    assert count(browser).startswith(f"{sum(n % 5 == 0 for n in expected):,} of")
    choose(browser, which="unreadable", search="")
    assert count(browser).startswith("2 of 5,000 rows")
    assert browser.evaluate("document.getElementById('pager').hidden")
    choose(browser, which="all", **{"class": "3"})
    assert count(browser).startswith(f"{sum(n % 7 == 3 for n in range(ROWS)):,} of")
    table = browser.evaluate("[...document.querySelectorAll('#by-class tbody tr')].map((row) => row.textContent)")
    right = [sum(own[n] > 0 for n in range(3, ROWS, 7)) for own in scores.values()]
    assert table == [f"class 3{sum(n % 7 == 3 for n in range(ROWS))}{right[0]}{right[1]}"]


def test_filtering_many_rows_is_immediate(browser, large):
    """The work that one change causes is counted in rows, because a time would depend on the machine."""
    browser.open(large[0])
    choose(browser, which="b-not-a", search="dogs")
    made = browser.evaluate("document.querySelectorAll('#list *').length")
    assert made < 50 * 10  # the rows of one page, and their details only when they are opened


def test_the_filter_works_by_keyboard(browser, large):
    browser.open(large[0])
    browser.evaluate("document.getElementById('next').focus()")
    browser.press("Enter", "\r")
    assert browser.evaluate("document.getElementById('page').textContent") == "Page 2 of 100"
    assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter", "\r")
    browser.evaluate("new Promise((done) => setTimeout(done, 100))")
    shown = browser.evaluate("document.querySelector('#list details[open]').innerText")
    assert "Expected" in shown
    assert "one" in shown
    browser.evaluate("document.body.focus()")
    browser.open(large[0])
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"


def test_prompts_and_unreadable_answers_are_shown(browser, page):
    file, result = page
    browser.open(file)
    names = browser.evaluate("[...document.getElementById('a').options].map((each) => each.textContent)")
    index = str(names.index("zero-shot"))
    choose(browser, a=index, b=index, which="unreadable")
    given = next(each for each in result.items.shown() if each.strategy == "zero-shot")
    assert given.unreadable_rows
    assert count(browser).startswith(f"{len(given.unreadable_rows)} of 30 rows")
    browser.evaluate("document.querySelector('#list summary').click()")
    browser.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert browser.evaluate("document.querySelector('#list .answer .tag').textContent") == "could not be read"
    number = browser.evaluate("Number(document.querySelector('.row-number').textContent)")
    browser.evaluate("document.querySelector('#list .prompt summary').click()")
    assert browser.evaluate("document.querySelector('#list .prompt pre').textContent") == given.prompts[number]


def test_the_content_is_shown_without_javascript(browser, page):
    browser.open(page[0], script=False)
    root = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]

    def found(selector):
        return len(browser.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

    assert found("#list > details .answer") == 30 * 3
    assert found("table.standings tbody tr") == 3
    assert found("figure svg") == 4
    assert found("#filter[hidden]") == 1


# The lowest contrast between a text and the background behind it; transparent backgrounds show what is behind them.
CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const parts = numbers(colour).slice(0, 3).map((each) => {
      const share = each / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  for (const each of document.querySelectorAll("details")) each.open = true;
  let least = 99, where = "";
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    if (!own || !element.getClientRects().length || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    if (element.disabled || ["title", "desc"].includes(element.tagName)) continue;
    const pair = [light(element instanceof SVGElement ? style.fill : style.color), light(behind(element))];
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < least) [least, where] = [contrast, element.outerHTML.slice(0, 80)];
  }
  return [least, where];
})()"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [375, 1200])
def test_every_text_is_readable_and_nothing_is_cut_off(browser, page, width, dark):
    browser.open(page[0], width=width, dark=dark)
    lowest, where = browser.evaluate(CONTRAST)
    assert lowest >= 4.5, where
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)"
    )
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    visible = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].filter((each) => each.getClientRects().length).length"
    )
    assert visible == 2


@pytest.mark.parametrize("width", [375, 1200])
def test_labels_of_plots_do_not_overlap(browser, page, width):
    browser.open(page[0], width=width)
    overlapping = browser.evaluate(
        """[...document.querySelectorAll("figure svg")].filter((each) => each.getClientRects().length).flatMap(
          (svg) => {
          const texts = [...svg.querySelectorAll("text")].map(
            (each) => [each.textContent, each.getBoundingClientRect()]);
          const outer = svg.getBoundingClientRect();
          return texts.flatMap(([name, one], index) => [
            ...(one.right > outer.right + 1 || one.left < outer.left - 1 ? [name + " is cut off"] : []),
            ...texts.slice(index + 1).filter(([, other]) =>
              Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
              && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 3).map(([other]) => [name, other]),
          ]);
        })"""
    )
    assert overlapping == []
