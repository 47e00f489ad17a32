"use strict";
(() => {
  const PAGE = 50;
  const { strategies, rows } = JSON.parse(document.getElementById("answers").textContent);
  const [NUMBER, INPUT, EXPECTED, ANSWERS, SCORES, UNREADABLE, PROMPTS] = [0, 1, 2, 3, 4, 5, 6];
  const byId = (id) => document.getElementById(id);
  const [form, list, pager] = [byId("filter"), byId("list"), byId("pager")];
  const controls = { a: byId("a"), b: byId("b"), which: byId("which"), expected: byId("class"), search: byId("search") };
  let found = rows;
  let page = 0;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const option = (value, text) => {
    const made = element("option", "", text);
    made.value = value;
    return made;
  };
  const right = (row, strategy) => row[SCORES][strategy] >= 0.5;
  const count = (number) => number.toLocaleString("en-US");

  // The text of a row in lower case, made when it is first searched.
  const searched = new Map();
  const textOf = (row) => {
    if (!searched.has(row)) {
      searched.set(row, [row[INPUT], row[EXPECTED], ...row[ANSWERS], ...row[PROMPTS].filter(Boolean)].join("\n").toLowerCase());
    }
    return searched.get(row);
  };

  const TESTS = {
    "all": () => true,
    "a-not-b": (row, a, b) => right(row, a) && !right(row, b),
    "b-not-a": (row, a, b) => right(row, b) && !right(row, a),
    "neither": (row, a, b) => !right(row, a) && !right(row, b),
    "both": (row, a, b) => right(row, a) && right(row, b),
    "differ": (row, a, b) => row[ANSWERS][a] !== row[ANSWERS][b],
    "unreadable": (row, a, b) => row[UNREADABLE].includes(a) || row[UNREADABLE].includes(b),
  };

  const answerCard = (row, strategy) => {
    const good = right(row, strategy);
    const card = element("div", `answer ${good ? "right" : "wrong"}`);
    card.append(element("h4", "", strategies[strategy]));
    const score = row[SCORES][strategy];
    const mark = element("p", "mark-text", `${good ? "right" : "wrong"}${score === 0 || score === 1 ? "" : ` (${score.toFixed(2)})`} `);
    if (row[UNREADABLE].includes(strategy)) mark.append(element("span", "tag", "could not be read"));
    card.append(mark, element("pre", "", row[ANSWERS][strategy]));
    const prompt = row[PROMPTS][strategy];
    if (prompt !== null) {
      const details = element("details", "prompt");
      details.append(element("summary", "", "Prompt"), element("pre", "", prompt));
      card.append(details);
    }
    return card;
  };

  const rowBody = (row) => {
    const body = element("div", "row-body");
    const asked = element("div", "asked");
    asked.append(element("h3", "", "Input"), element("pre", "", row[INPUT]));
    asked.append(element("h3", "", "Expected"), element("pre", "", row[EXPECTED]));
    const answers = element("div", "answers");
    const chosen = [Number(controls.a.value), Number(controls.b.value)];
    const order = [...new Set([...chosen, ...strategies.keys()])];
    answers.append(...order.map((strategy) => answerCard(row, strategy)));
    body.append(asked, answers);
    return body;
  };

  const rowDetails = (row) => {
    const details = element("details", "row");
    const summary = element("summary");
    const correct = row[SCORES].filter((score) => score >= 0.5).length;
    const start = row[INPUT].length > 160 ? `${row[INPUT].slice(0, 157)}...` : row[INPUT];
    summary.append(
      element("span", "row-number", String(row[NUMBER])), " ",
      element("span", "row-right", `${correct} of ${strategies.length} correct`), " ",
      element("span", "row-text", start),
    );
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(rowBody(row));
    });
    return details;
  };

  const showPage = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(rowDetails));
    byId("page").textContent = `Page ${count(page + 1)} of ${count(pages)}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    pager.hidden = pages === 1;
  };

  const table = (headings, lines) => {
    const made = element("table");
    const cells = (texts, tag) => {
      const line = element("tr");
      line.append(...texts.map((text, index) => element(index ? tag : "th", index ? "num" : "", text)));
      return line;
    };
    const [head, body] = [element("thead"), element("tbody")];
    head.append(cells(headings, "th"));
    body.append(...lines.map((texts) => cells(texts, "td")));
    for (const cell of head.querySelectorAll("th")) cell.scope = "col";
    for (const cell of body.querySelectorAll("th")) cell.scope = "row";
    made.append(head, body);
    return made;
  };

  const showClasses = (a, b) => {
    const place = byId("by-class");
    place.hidden = !fewClasses || !found.length;
    if (place.hidden) return;
    const counts = new Map();
    for (const row of found) {
      const counted = counts.get(row[EXPECTED]) ?? [0, 0, 0];
      counts.set(row[EXPECTED], [counted[0] + 1, counted[1] + right(row, a), counted[2] + right(row, b)]);
    }
    const lines = [...counts].sort((one, other) => other[1][0] - one[1][0]).map(([name, each]) => [name, ...each.map(count)]);
    place.querySelector(".scroll").replaceChildren(
      table(["expected", "rows", `right: ${strategies[a]}`, `right: ${strategies[b]}`], lines));
  };

  const filter = () => {
    const [a, b] = [Number(controls.a.value), Number(controls.b.value)];
    const test = TESTS[controls.which.value];
    const expected = controls.expected.value;
    const words = controls.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter((row) =>
      test(row, a, b)
      && (expected === "" || row[EXPECTED] === classes[Number(expected)])
      && words.every((word) => textOf(row).includes(word)));
    page = 0;
    const share = (strategy) => count(found.filter((row) => right(row, strategy)).length);
    byId("count").textContent = `${count(found.length)} of ${count(rows.length)} rows`
      + (found.length ? `; A is right in ${share(a)}, B in ${share(b)}` : "");
    showClasses(a, b);
    showPage();
  };

  const classes = [...new Set(rows.map((row) => row[EXPECTED]))].sort();
  const fewClasses = classes.length > 1 && classes.length <= 200 && classes.length <= rows.length / 2;
  byId("class-label").hidden = !fewClasses;
  controls.expected.append(option("", "any"), ...(fewClasses ? classes.map((name, index) => option(String(index), name)) : []));
  for (const select of [controls.a, controls.b]) {
    select.append(...strategies.map((name, index) => option(String(index), name)));
  }
  const best = strategies.map((_, index) => [rows.reduce((sum, row) => sum + row[SCORES][index], 0), index])
    .sort((one, other) => other[0] - one[0]).map(([, index]) => index);
  const reset = () => {
    controls.a.value = String(best[0]);
    controls.b.value = String(best[Math.min(1, best.length - 1)]);
  };
  reset();
  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 60); });
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  form.addEventListener("reset", () => setTimeout(() => { reset(); filter(); }));
  const turn = (step) => () => { page += step; showPage(); byId("rows").scrollIntoView(); list.querySelector("summary")?.focus({ preventScroll: true }); };
  byId("previous").addEventListener("click", turn(-1));
  byId("next").addEventListener("click", turn(1));
  form.hidden = false;
  filter();
})();
