// Labels of one annotator: kept in this browser as they are given, exported and imported as JSON.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const place = "regap-annotation/" + data.project + "/" + data.annotator;
const names = new Set(data.labels.map((label) => label.name));
const ids = new Set(data.items.map((item) => item.id));
const byKey = new Map(data.labels.flatMap((label) => label.keys.map((key) => [key, label.name])));

let given = new Map(); // id -> {label, note, at}
let undone = []; // what was before, newest last
let current = 0;
let accepted = false;
let written = true; // whether the browser keeps what is given

function entries(rows) {
  const found = new Map();
  for (const row of Array.isArray(rows) ? rows : []) {
    if (!row || !ids.has(row.id) || !(names.has(row.label) || row.label === null)) continue;
    const note = typeof row.note === "string" ? row.note.slice(0, 500) : "";
    const when = typeof row.at === "string" ? row.at : "";
    if (row.label !== null || note) found.set(row.id, { label: row.label, note, at: when });
  }
  return found;
}

function rows() {
  return data.items.filter((item) => given.has(item.id)).map((item) => ({ id: item.id, ...given.get(item.id) }));
}

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(place) || "null");
    if (kept) given = entries(kept.labels);
    if (kept && Number.isInteger(kept.current)) current = Math.min(Math.max(kept.current, 0), data.items.length - 1);
  } catch (error) { written = false; }
}

function save() {
  try {
    localStorage.setItem(place, JSON.stringify({ labels: rows(), current }));
    written = true;
  } catch (error) { written = false; }
}

function labelOf(item) { return given.has(item.id) ? given.get(item.id).label : null; }
function labelled() { return data.items.filter((item) => labelOf(item)).length; }

function say(text) {
  at("message").hidden = !text;
  at("message").textContent = text;
}

function showMarks() {
  const item = data.items[current];
  const number = labelled();
  at("position").textContent = (current + 1) + " of " + data.items.length;
  at("counts").textContent = number + " labelled, " + (data.items.length - number) + " to go";
  at("progress").value = number;
  at("saved").textContent = written ? "Kept in this browser" : "Not kept: export before you close";
  at("undo").disabled = !undone.length;
  at("previous").disabled = current === 0;
  at("next").disabled = current === data.items.length - 1;
  for (const button of document.querySelectorAll("[data-label]"))
    button.setAttribute("aria-pressed", String(button.dataset.label === labelOf(item)));
}

function optional(part, element, text) {
  at(part).hidden = !text;
  showText(at(element), text || "");
}

function picture(number, count, index) {
  const frame = document.createElement("button");
  frame.type = "button";
  frame.className = "frame";
  const image = document.createElement("img");
  image.alt = "picture " + (index + 1) + " of " + count + " of the request";
  image.src = data.pictures[number];
  frame.append(image);
  frame.addEventListener("click", toggleBlur);
  return frame;
}

function show() {
  const item = data.items[current];
  optional("system-part", "system", item.system);
  showText(at("prompt"), item.prompt);
  optional("meaning-part", "meaning", item.meaning);
  at("pictures").replaceChildren(...item.pictures.map((number, index) => picture(number, item.pictures.length, index)));
  at("blur-hint").hidden = !item.pictures.length || !document.body.classList.contains("blurred");
  showText(at("answer"), item.answer);
  if (item.omitted) at("answer").append(" … " + item.omitted.toLocaleString("en") + " characters more are not on this page.");
  at("cut").hidden = !item.cut;
  at("note").value = given.has(item.id) ? given.get(item.id).note : "";
  showMarks();
}

function go(index) {
  if (index < 0 || index >= data.items.length || index === current) return;
  keepNote();
  say("");
  current = index;
  save();
  show();
  window.scrollTo(0, 0);
}

function firstOpen(from) {
  const order = data.items.map((_, index) => (from + index) % data.items.length);
  return order.find((index) => !labelOf(data.items[index]));
}

function put(item, label, note) {
  if (label === null && !note) given.delete(item.id);
  else given.set(item.id, { label, note, at: new Date().toISOString() });
}

function choose(label) {
  const item = data.items[current];
  keepNote();
  undone.push({ labels: new Map([[item.id, given.get(item.id)]]), current });
  put(item, label, at("note").value.trim());
  const next = firstOpen(current);
  say(next === undefined ? "Every answer has a label. Export them and send the file back." : "");
  if (next !== undefined) current = next;
  save();
  show();
  window.scrollTo(0, 0);
}

function keepNote() {
  const item = data.items[current];
  const note = at("note").value.trim();
  if (note === (given.has(item.id) ? given.get(item.id).note : "")) return;
  put(item, labelOf(item), note);
  save();
  showMarks();
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  for (const [id, before] of last.labels) before ? given.set(id, before) : given.delete(id);
  current = last.current;
  say("");
  save();
  show();
}

function toggleBlur() {
  document.body.classList.toggle("blurred");
  at("blur-hint").hidden = !data.items[current].pictures.length || !document.body.classList.contains("blurred");
}

function guidelines() {
  at("guidelines").open = !at("guidelines").open;
  if (at("guidelines").open) at("guidelines").scrollIntoView({ block: "nearest" });
}

function exportLabels() {
  keepNote();
  const content = { schema: data.export_schema, project: data.project, annotator: data.annotator, exported: new Date().toISOString(), labels: rows() };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
  link.download = "labels." + data.annotator + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  const open = data.items.length - labelled();
  say("Exported " + labelled() + " labels as " + link.download + (open ? "; " + open + " answers have none yet." : "."));
}

async function importLabels(file) {
  let content;
  try { content = JSON.parse(await file.text()); } catch (error) { content = null; }
  if (!content || content.schema !== data.export_schema) return say("Not imported: expected a file that a page like this exported.");
  if (content.project !== data.project || content.annotator !== data.annotator)
    return say("Not imported: expected labels of this page, found those of another one.");
  const found = entries(content.labels);
  const before = new Map([...found.keys()].map((id) => [id, given.get(id)]));
  const replaced = [...found].filter(([id, row]) => given.has(id) && given.get(id).label !== row.label).length;
  keepNote();
  undone.push({ labels: before, current });
  for (const [id, row] of found) given.set(id, row);
  save();
  show();
  say("Imported " + found.size + " labels; " + replaced + " were other ones here and are replaced. Undo takes the import back.");
}

const actions = {
  arrowleft: () => go(current - 1), p: () => go(current - 1),
  arrowright: () => go(current + 1), n: () => go(current + 1),
  f: () => { const open = firstOpen(0); open === undefined ? say("Every answer has a label.") : go(open); },
  z: undo, b: toggleBlur, e: exportLabels, g: guidelines,
};

document.addEventListener("keydown", (event) => {
  if (!accepted || event.altKey || event.metaKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (event.target === at("note")) { if (key === "escape" || key === "enter") event.target.blur(); return; }
  if (event.ctrlKey && key !== "z") return;
  const action = byKey.has(key) && !event.ctrlKey ? () => choose(byKey.get(key)) : actions[key];
  if (!action) return;
  event.preventDefault();
  action();
});
for (const button of document.querySelectorAll("[data-label]")) button.addEventListener("click", () => choose(button.dataset.label));
at("previous").addEventListener("click", actions.p);
at("next").addEventListener("click", actions.n);
at("open").addEventListener("click", actions.f);
at("undo").addEventListener("click", undo);
at("note").addEventListener("change", keepNote);
at("export").addEventListener("click", exportLabels);
at("import-button").addEventListener("click", () => at("import").click());
at("import").addEventListener("change", async (event) => {
  if (event.target.files.length) await importLabels(event.target.files[0]);
  event.target.value = "";
});
// Another tab with this page has written: what it has is newer.
window.addEventListener("storage", (event) => { if (event.key === place) { load(); undone = []; if (accepted) show(); } });
window.addEventListener("pagehide", () => { if (accepted) keepNote(); });
at("accept").addEventListener("click", () => {
  accepted = true;
  document.body.classList.toggle("blurred", at("blur-first").checked);
  at("warning").hidden = true;
  at("work").hidden = false;
  load();
  show();
});
