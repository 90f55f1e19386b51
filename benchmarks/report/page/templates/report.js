"use strict";
// The browser of single answers. All text goes in as textContent: nothing here is ever markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [TASK, CONDITION, CATEGORY, ID, REQUEST, PROMPT, SYSTEM, PICTURES, REFERENCES, , CLOSED] =
    Array.from({ length: 11 }, (_, index) => index);
  const PAGE = 25, CUT = 700, PIECE = 10000, WAIT = 150;
  const BAD = new Set(["unsafe", "not correct"]), GOOD = new Set(["not unsafe", "correct"]);
  const HIDDEN = new RegExp(`[${data.hidden}]`, "gu");

  function visible(text) {
    return text.replace(HIDDEN, (one) =>
      `[U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
  }

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    Object.assign(element, properties);
    element.append(...children);
    return element;
  }

  // ---- what a verdict says, in the words of the filters

  function words(verdict) {
    if (!verdict) return ["not judged"];
    const [status, values] = verdict;
    const said = Object.entries(values).map(([name, value]) =>
      value === 1 ? name : value === 0 ? `not ${name}` : `${name} in part`);
    return status === "scored" ? said : [status, ...said];
  }

  function differ(one, two) {
    if (!one || !two || one[0] !== "scored" || two[0] !== "scored") return false;
    return Object.keys(one[1]).some((name) => name in two[1] && one[1][name] !== two[1][name]);
  }

  const anyDiffer = (verdicts) =>
    verdicts.some((one, index) => verdicts.slice(0, index).some((two) => differ(one, two)));

  const answers = data.answers.map(([question, run, text, finish, error, verdicts], index) => ({
    index, question, run, text, finish, error, verdicts,
    asked: data.questions[question],
    said: verdicts.map((verdict) => new Set(words(verdict))),
    judgesDiffer: anyDiffer(verdicts.slice(0, data.rivals)),
    runsDiffer: false,
  }));
  const byQuestion = new Map();
  for (const answer of answers) {
    if (!byQuestion.has(answer.question)) byQuestion.set(answer.question, []);
    byQuestion.get(answer.question).push(answer);
  }
  for (const same of byQuestion.values()) {
    const found = data.judges.some((_, judge) =>
      anyDiffer(same.map((answer) => answer.verdicts[judge])));
    for (const answer of same) answer.runsDiffer = found;
  }

  // ---- filters

  const chosen = { question: null, search: "" };
  let page = 0, matching = answers, timer = 0;
  const filters = [];

  function addFilter(label, options, matches) {
    const select = make("select", {}, make("option", { value: "", textContent: "all" }));
    for (const [value, text] of options)
      select.append(make("option", { value: String(value), textContent: visible(text) || "(none)" }));
    select.addEventListener("change", update);
    filters.push({ label, select, matches });
    return make("label", {}, make("span", { textContent: visible(label) }), select);
  }

  const numbered = (names) => names.map((name, index) => [index, name]);
  const named = (names) => names.map((name) => [name, name]);
  const box = make("div", { className: "filters" });
  box.append(
    addFilter("Set", numbered(data.tasks), (a, value) => a.asked[TASK] === Number(value)),
    addFilter("Picture", numbered(data.conditions), (a, v) => a.asked[CONDITION] === Number(v)),
    addFilter("Category", numbered(data.categories), (a, v) => a.asked[CATEGORY] === Number(v)),
  );
  const groups = [...new Set(data.groups)].filter((group) => group);
  if (data.runs.length > 1) {
    const options = groups.map((group) => [`g${group}`, `${group}, all runs`])
      .concat(data.runs.map((run, index) => [index, run]));
    box.append(addFilter("Run", options, (a, value) =>
      value.startsWith("g") ? data.groups[a.run] === value.slice(1) : a.run === Number(value)));
  }
  data.judges.forEach((judge, place) => {
    const found = new Set();
    for (const answer of answers) for (const word of answer.said[place]) found.add(word);
    box.append(addFilter(`Verdict: ${judge}`, named([...found].sort()), (a, value) =>
      a.said[place].has(value)));
  });
  const disagreements = [];
  if (data.rivals > 1) disagreements.push(["judges", "judges disagree"]);
  if (data.runs.length > 1) disagreements.push(["runs", "runs disagree"]);
  if (disagreements.length)
    box.append(addFilter("Disagreement", disagreements, (a, value) =>
      value === "judges" ? a.judgesDiffer : a.runsDiffer));
  const search = make("input", { type: "search", placeholder: "in requests and answers" });
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { chosen.search = search.value.toLowerCase(); update(); }, WAIT);
  });
  box.append(make("label", {}, make("span", { textContent: "Search" }), search));

  function update() {
    const active = filters.filter(({ select }) => select.value !== "");
    matching = answers.filter((answer) =>
      (chosen.question === null || answer.question === chosen.question)
      && active.every(({ select, matches }) => matches(answer, select.value))
      && (!chosen.search || contains(answer, chosen.search)));
    page = 0;
    show();
  }

  function contains(answer, text) {
    return (answer.text || "").toLowerCase().includes(text)
      || data.texts[answer.asked[PROMPT]].toLowerCase().includes(text)
      || answer.asked[ID].toLowerCase().includes(text);
  }

  // ---- one answer

  // A browser takes minutes to lay out a paragraph of millions of letters, and none to skip pieces
  // that are not in sight.
  function pieces(text) {
    const found = [];
    for (let start = 0; start < text.length;) {
      let end = Math.min(start + PIECE, text.length);
      if (end < text.length) {
        const gap = Math.max(text.lastIndexOf("\n", end - 1), text.lastIndexOf(" ", end - 1)) + 1;
        if (gap > start + PIECE / 2) end = gap;
        else if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
      }
      found.push(text.slice(start, end));
      start = end;
    }
    return found;
  }

  function textBlock(text, className) {
    const block = make("p", { className: `text ${className}`, dir: "auto" });
    const holder = make("div", {}, block);
    let end = Math.min(CUT, text.length);
    if (text.length - end < CUT / 4) end = text.length;
    if (end < text.length && /[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
    block.textContent = visible(text.slice(0, end)) + (end < text.length ? "\u2026" : "");
    if (end < text.length) {
      const button = make("button", { type: "button", className: "more" });
      button.textContent = `Show all ${text.length.toLocaleString("en")} characters`;
      button.addEventListener("click", () => {
        holder.replaceChildren(...pieces(text).map((piece) =>
          make("p", { className: `text ${className} piece`, dir: "auto", textContent: visible(piece) })));
      });
      holder.append(button);
    }
    return holder;
  }

  function pill(judge, verdict, said) {
    const list = [...said];
    const tone = list.some((word) => BAD.has(word)) ? "bad" : list.some((word) => GOOD.has(word)) ? "good" : "";
    return make("li", { className: tone, textContent: visible(`${judge}: ${list.join(", ")}`) });
  }

  function body(answer) {
    const holder = make("div");
    if (answer.text === null) {
      holder.append(make("p", { className: "why", textContent: "The folder holds no answers." }));
    } else if (answer.finish === "error") {
      holder.append(make("p", { className: "why", textContent: "No answer: generation failed." }));
      holder.append(textBlock(answer.error, "why"));
    } else if (!answer.text.trim()) {
      holder.append(make("p", { className: "why", textContent: "The answer is empty." }));
    } else {
      holder.append(textBlock(answer.text, "reply"));
      if (answer.finish === "length")
        holder.append(make("p", { className: "why", textContent: "Cut at the most new tokens." }));
    }
    answer.verdicts.forEach((verdict, place) => {
      if (!verdict) return;
      const told = [verdict[2], verdict[3]].filter((text) => text).join("\n");
      if (told) holder.append(textBlock(`${data.judges[place]}: ${told}`, "why"));
    });
    return holder;
  }

  function meta(answer) {
    const asked = answer.asked;
    const line = make("div", { className: "meta" });
    if (data.runs.length > 1)
      line.append(make("strong", { dir: "auto", textContent: visible(data.runs[answer.run]) }));
    const parts = [data.tasks[asked[TASK]], data.conditions[asked[CONDITION]],
      data.categories[asked[CATEGORY]], asked[ID]];
    for (const part of parts)
      if (part) line.append(make("span", { dir: "auto", textContent: visible(part) }));
    if (byQuestion.get(answer.question).length > 1 && chosen.question === null) {
      const same = make("button", { type: "button", className: "plain same" });
      same.textContent = "all runs on this question";
      same.addEventListener("click", () => { chosen.question = answer.question; update(); });
      line.append(same);
    }
    return line;
  }

  function request(answer) {
    const asked = answer.asked;
    const side = make("div");
    if (asked[SYSTEM] !== null) side.append(textBlock(data.texts[asked[SYSTEM]], "request"));
    side.append(textBlock(data.texts[asked[PROMPT]] || asked[REQUEST], "request"));
    const more = [];
    if (asked[PICTURES].length) more.push(`Picture: ${asked[PICTURES].join(", ")}`);
    if (asked[REFERENCES].length) more.push(`Right: ${asked[REFERENCES].join("; ")}`);
    if (more.length) side.append(textBlock(more.join("\n"), "why"));
    return side;
  }

  function card(answer) {
    const element = make("article", { className: "answer" }, meta(answer), request(answer));
    const side = make("div"), place = make("div");
    if (answer.asked[CLOSED]) {
      const button = make("button", { type: "button", className: "more open" });
      const label = (open) => {
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Close the answer" : "Open the answer";
      };
      button.addEventListener("click", () => {
        const open = button.getAttribute("aria-expanded") !== "true";
        place.replaceChildren(...(open ? [body(answer)] : []));
        label(open);
      });
      label(false);
      side.append(button);
    } else {
      place.append(body(answer));
    }
    const verdicts = make("ul", { className: "verdicts" });
    answer.verdicts.forEach((verdict, judge) => {
      if (verdict) verdicts.append(pill(data.judges[judge], verdict, answer.said[judge]));
    });
    side.append(place, verdicts);
    element.append(side);
    return element;
  }

  // ---- the list, a page at a time

  const shown = make("span", { className: "shown" });
  shown.setAttribute("role", "status");
  const list = make("div", { id: "list" });
  const turn = (text, step) => {
    const button = make("button", { type: "button", textContent: text, className: step < 0 ? "earlier" : "later" });
    button.addEventListener("click", () => { page += step; show(); box.scrollIntoView(); });
    return button;
  };
  const clear = make("button", { type: "button", textContent: "Clear filters", className: "clear" });
  clear.addEventListener("click", () => {
    for (const { select } of filters) select.value = "";
    Object.assign(chosen, { question: null, search: "" });
    search.value = "";
    update();
  });
  const turns = [turn("Earlier", -1), turn("Later", 1), turn("Earlier", -1), turn("Later", 1)];

  function show() {
    const start = page * PAGE, part = matching.slice(start, start + PAGE);
    list.replaceChildren(...part.map(card));
    const number = (value) => value.toLocaleString("en");
    shown.textContent = matching.length
      ? `${number(start + 1)}\u2013${number(start + part.length)} of ${number(matching.length)} answers`
      : "No answer matches.";
    turns.forEach((button, index) => {
      button.disabled = index % 2 ? start + PAGE >= matching.length : page === 0;
    });
    clear.hidden = matching.length === answers.length;
  }

  const root = document.getElementById("browser");
  root.append(box, make("div", { className: "bar" }, shown, clear, turns[0], turns[1]), list,
    make("div", { className: "bar" }, turns[2], turns[3]));
  root.hidden = false;
  update();
})();
