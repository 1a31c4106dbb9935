// The page: what the server last said is kept in `seen`, and everything is drawn from it alone.
import { $, STATES, bar, colour, letterOf, make, seconds, table, tip } from "./marks.js";
import { setDatabases } from "./databases.js";
import { describe, forget, redrawAll, showPlots } from "./plots.js";

const seen = { overview: null, run: null, table: [], ended: [] };
const COUNTED = ["c", "f", "x", "r", "q"];
let chosen = decodeURIComponent(location.hash.slice(1));
let source = null;

// News
function listen() {
  if (source) source.close();
  source = new EventSource("api/live" + (chosen ? "?run=" + encodeURIComponent(chosen) : ""));
  source.onopen = () => { $("live").textContent = "live"; $("live").className = "live"; };
  source.onerror = () => { $("live").textContent = "no connection, trying again"; $("live").className = ""; };
  source.addEventListener("overview", (event) => { seen.overview = JSON.parse(event.data); showOverview(); });
  source.addEventListener("databases", (event) => setDatabases(JSON.parse(event.data)));
  source.addEventListener("run", (event) => { seen.run = JSON.parse(event.data); showRun(); loadTable(); });
}
function choose(run) {
  if (run === chosen) return;
  chosen = run;
  location.hash = encodeURIComponent(run);
  Object.assign(seen, { run: null, table: [], ended: [] });
  forget();
  $("logs").hidden = true;
  listen();
}
let loading = false, again = false;
async function loadTable() {
  if (loading) { again = true; return; }
  loading = true;
  const run = chosen, began = performance.now();
  try {
    const answer = await fetch("api/runs/" + encodeURIComponent(run) + "/table");
    if (answer.ok && run === chosen) {
      seen.table = await answer.json();
      showPlots(seen.table, (index) => showLog(index, "out"));
      const rest = seen.run && seen.run.status.size > seen.table.length;
      for (const note of document.querySelectorAll(".first")) note.textContent = rest ? "of the first " + seen.table.length + " members" : "";
    }
  } catch { /* the connection is gone; the next news asks again */ }
  // A large table takes its time: a page that only loads tables would answer to nothing else.
  setTimeout(() => {
    loading = false;
    if (again) { again = false; loadTable(); }
  }, 3 * (performance.now() - began));
}

// Left side
const counts = (status) => Object.fromEntries(COUNTED.map((letter) => [letter, status[STATES[letter]]]));
function showOverview() {
  const { runs, workers } = seen.overview;
  if (!chosen && runs.length) { choose(runs[0].run_id); }
  $("empty").hidden = runs.length > 0;
  const running = runs.filter((run) => run.state === "Running").length, slots = workers.reduce((sum, each) => sum + each.slots, 0);
  const free = workers.reduce((sum, each) => sum + each.free, 0);
  $("totals").textContent = [running + " of " + runs.length + " runs running", workers.length + (workers.length === 1 ? " worker" : " workers"),
    slots - free + " of " + slots + " slots in use"].join(" · ");
  $("runs").replaceChildren(...runs.map((run) => {
    const item = make("li", undefined, { class: run.run_id === chosen ? "chosen" : "" }), strip = make("div", undefined, { class: "bar" });
    strip.append(...bar(counts(run), run.size));
    item.append(make("b", run.experiment), make("span", run.run_id),
      make("span", run.state + " · " + (run.completed + run.failed + run.cancelled) + " of " + run.size +
        (run.failed ? " · " + run.failed + " failed" : "")), strip);
    item.onclick = () => choose(run.run_id);
    return item;
  }));
  $("workers").replaceChildren(...workers.map((worker) => {
    const item = make("li"), strip = make("div", undefined, { class: "bar" });
    strip.append(...bar({ r: worker.slots - worker.free, n: worker.free }, worker.slots));
    item.append(make("b", worker.name), make("span", worker.host + " · " + worker.running + " running · " + worker.free +
      " of " + worker.slots + " slots free" + (worker.gpus.length ? " · " + worker.gpus.length + " GPUs" : "")), strip);
    return item;
  }));
  if (!workers.length) $("workers").replaceChildren(make("li", "No worker is connected: members wait. `taskensemble worker` starts one."));
}

// The chosen run
function showRun() {
  const run = seen.run;
  $("gone").hidden = !run.error;
  $("detail").hidden = Boolean(run.error);
  if (run.error) { $("gone").textContent = run.error; return; }
  const s = run.status, pill = make("span", s.state, { class: "pill" });
  pill.style.background = colour(letterOf(s.state));
  $("title").replaceChildren(s.run_id + " ", pill);
  $("counters").textContent = "experiment " + s.experiment + (s.reason ? " · " + s.reason : "");
  showTiles(s);
  $("bar").replaceChildren(...bar(counts(s), s.size));
  $("legend").replaceChildren(...COUNTED.map((letter) => {
    const entry = make("span", undefined, { class: "state" }), swatch = make("span", undefined, { class: "swatch" });
    swatch.style.background = colour(letter);
    entry.append(swatch, STATES[letter] + " " + s[STATES[letter]]);
    return entry;
  }));
  const names = ["name", "kind", "state", "size", "queued", "running", "completed", "failed", "cancelled"];
  $("entities").replaceChildren(...(run.entities.length > 1 ? [table(names, run.entities.map((entity) => names.map((name) => entity[name])))] : []));
  showGrid();
  showFailures(run);
}
function showTiles(s) {
  const ended = s.completed + s.failed + s.cancelled, at = Date.now() / 1000, over = s.ended !== null;
  seen.ended.push({ at, ended });
  // The rate of the last half minute: what it was an hour ago says nothing of when this ends.
  while (seen.ended.length > 2 && at - seen.ended[0].at > 30) seen.ended.shift();
  const first = seen.ended[0], spent = s.started ? (s.ended || at) - s.started : 0;
  const rate = over || at - first.at < 2 ? ended / Math.max(spent, 1e-3) : (ended - first.ended) / (at - first.at);
  const tiles = [["ended", ended + " / " + s.size], [over ? "took" : "has run for", spent ? seconds(spent) : "–"],
    [over ? "members a second" : "members a second now", ended ? rate.toFixed(rate < 10 ? 2 : 0) : "–"]];
  if (!over) tiles.push(["left, at this rate", rate > 0 ? seconds((s.size - ended) / rate) : "–"]);
  if (s.failed) tiles.push(["failed", s.failed]);
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = make("div");
    tile.append(make("b", String(value)), make("span", name));
    return tile;
  }));
}
function showFailures(run) {
  const { failures, status } = run;
  $("failures").hidden = !failures.length;
  $("failures").lastElementChild.replaceChildren(...failures.map((failure) => {
    const item = make("li");
    item.append(make("b", failure.name), " " + (failure.reason || "failed"));
    item.onclick = () => showLog(failure.index, "err");
    return item;
  }), ...(status.failed > failures.length ? [make("li", "and " + (status.failed - failures.length) + " more", { class: "more" })] : []));
}
const cells = { size: 14, columns: 1 };
function showGrid() {
  const states = seen.run.states, canvas = $("grid");
  const width = Math.max(200, Math.min(1200, canvas.parentElement.clientWidth));
  cells.size = Math.max(2, Math.min(22, Math.floor(Math.sqrt((width * 320) / Math.max(1, states.length)))));
  cells.columns = Math.max(1, Math.floor(width / cells.size));
  const ratio = window.devicePixelRatio || 1, height = Math.ceil(states.length / cells.columns) * cells.size;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.maxWidth = width + "px";
  const pen = canvas.getContext("2d"), gap = cells.size > 8 ? 2 : cells.size > 4 ? 1 : 0;
  pen.scale(ratio, ratio);
  const colours = Object.fromEntries(Object.keys(STATES).map((letter) => [letter, colour(letter)]));
  for (let i = 0; i < states.length; i++) {
    pen.fillStyle = colours[states[i]];
    pen.fillRect((i % cells.columns) * cells.size, Math.floor(i / cells.columns) * cells.size, cells.size - gap, cells.size - gap);
  }
}
function memberAt(event) {
  const box = $("grid").getBoundingClientRect();
  const scale = $("grid").width / (window.devicePixelRatio || 1) / box.width;
  const column = Math.floor(((event.clientX - box.left) * scale) / cells.size);
  const index = Math.floor(((event.clientY - box.top) * scale) / cells.size) * cells.columns + column;
  return column < cells.columns && seen.run && index < seen.run.states.length ? index : -1;
}
const told = (index) => (seen.table[index] ? describe(seen.table[index]) : "member " + index + ": " + STATES[seen.run.states[index]]);
$("grid").onmousemove = (event) => { const index = memberAt(event); tip(event, index < 0 ? "" : told(index)); };
$("grid").onmouseleave = (event) => tip(event, "");
$("grid").onclick = (event) => { const index = memberAt(event); if (index >= 0) showLog(index, "out"); };
$("find").onsubmit = (event) => {
  event.preventDefault();
  const wanted = $("wanted").value.trim(), named = seen.table.find((member) => member.name === wanted);
  const index = named ? named.index : /^\d+$/.test(wanted) ? Number(wanted) : -1;
  const there = seen.run && index >= 0 && index < seen.run.states.length;
  $("found").textContent = there || !wanted ? "" : "no member " + wanted;
  if (there) showLog(index, "out");
};

// Logs
const logged = { index: -1, stream: "out", text: null };
async function showLog(index, stream) {
  const asked = chosen, isNew = logged.index !== index || logged.stream !== stream || $("logs").hidden;
  Object.assign(logged, { index, stream });
  const answer = await fetch("api/runs/" + encodeURIComponent(asked) + "/log/" + index + "?stream=" + stream);
  const log = await answer.json();
  if (asked !== chosen || logged.index !== index || logged.stream !== stream) return;
  $("logs").hidden = false;
  $("logname").textContent = (log.name || "member " + index) + (log.reason ? ": " + log.reason : "");
  $("logpath").textContent = log.path;
  $("logabout").textContent = seen.table[index] ? describe(seen.table[index]).split("\n").slice(1).join(" · ") : "";
  const atEnd = $("logtext").scrollTop + $("logtext").clientHeight >= $("logtext").scrollHeight - 4;
  $("logtext").textContent = log.text || "(empty)";
  if (isNew || atEnd) $("logtext").scrollTop = $("logtext").scrollHeight;
  $("out").className = stream === "out" ? "on" : "";
  $("err").className = stream === "err" ? "on" : "";
  if (isNew) $("logs").scrollIntoView({ behavior: "smooth", block: "nearest" });
}
$("out").onclick = () => showLog(logged.index, "out");
$("err").onclick = () => showLog(logged.index, "err");
$("shut").onclick = () => { $("logs").hidden = true; };
// What a running member writes is followed.
setInterval(() => {
  if (!$("logs").hidden && seen.run && !seen.run.error && seen.run.states[logged.index] === "r") showLog(logged.index, logged.stream).catch(() => {});
  if (seen.run && !seen.run.error && seen.run.status.ended === null) showTiles(seen.run.status);
}, 1000);

window.onresize = () => { if (seen.run && !seen.run.error) { showGrid(); redrawAll(); } };
window.onhashchange = () => choose(decodeURIComponent(location.hash.slice(1)));
listen();
