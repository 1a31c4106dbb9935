"use strict";
// The page keeps what the server last said in `seen`, and draws from it alone.
const $ = (id) => document.getElementById(id);
const STATES = { n: "new", q: "queued", r: "running", c: "completed", f: "failed", x: "cancelled", p: "paused" };
const seen = { overview: null, run: null, databases: null, table: [], calls: new Map() };
let chosen = decodeURIComponent(location.hash.slice(1));
let source = null;

const colour = (letter) => getComputedStyle(document.documentElement).getPropertyValue("--" + letter).trim();
const letterOf = (state) => Object.keys(STATES).find((k) => STATES[k] === String(state).toLowerCase()) || "n";

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function seconds(value) {
  if (value < 1) return (value * 1000).toFixed(0) + " ms";
  if (value < 120) return value.toFixed(1) + " s";
  return value < 7200 ? (value / 60).toFixed(1) + " min" : (value / 3600).toFixed(1) + " h";
}
function short(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

// News
function listen() {
  if (source) source.close();
  source = new EventSource("api/live" + (chosen ? "?run=" + encodeURIComponent(chosen) : ""));
  source.onopen = () => { $("live").textContent = "live"; };
  source.onerror = () => { $("live").textContent = "no connection, trying again"; };
  source.addEventListener("overview", (event) => { seen.overview = JSON.parse(event.data); showOverview(); });
  source.addEventListener("databases", (event) => { seen.databases = JSON.parse(event.data); showDatabases(); });
  source.addEventListener("run", (event) => { seen.run = JSON.parse(event.data); showRun(); loadTable(); });
}
function choose(run) {
  if (run === chosen) return;
  chosen = run;
  location.hash = encodeURIComponent(run);
  seen.run = null;
  seen.table = [];
  $("logs").hidden = true;
  listen();
}
let loading = false, again = false;
async function loadTable() {
  if (loading) { again = true; return; }
  loading = true;
  const run = chosen;
  const answer = await fetch("api/runs/" + encodeURIComponent(run) + "/table");
  if (answer.ok && run === chosen) {
    seen.table = await answer.json();
    showPlots();
  }
  loading = false;
  if (again) { again = false; loadTable(); }
}

// Left side
function showOverview() {
  const { runs, workers } = seen.overview;
  if (!chosen && runs.length) { choose(runs[0].run_id); }
  $("empty").hidden = runs.length > 0;
  $("runs").replaceChildren(...runs.map((run) => {
    const item = make("li", undefined, { class: run.run_id === chosen ? "chosen" : "" });
    item.append(make("b", run.experiment), make("span", run.run_id),
      make("span", run.state + " · " + (run.completed + run.failed + run.cancelled) + " of " + run.size + " ended" +
        (run.failed ? " · " + run.failed + " failed" : "")));
    item.onclick = () => choose(run.run_id);
    return item;
  }));
  $("workers").replaceChildren(...workers.map((worker) => {
    const item = make("li");
    item.append(make("b", worker.name), make("span", worker.host + " · " + worker.running + " running · " + worker.free +
      " of " + worker.slots + " slots free" + (worker.gpus.length ? " · " + worker.gpus.length + " GPUs" : "")));
    return item;
  }));
  if (!workers.length) $("workers").replaceChildren(make("li", "none"));
}

// The chosen run
function showRun() {
  const run = seen.run;
  if (run.error) { $("detail").hidden = true; return; }
  $("detail").hidden = false;
  const s = run.status;
  const letters = ["c", "f", "x", "r", "q"];
  $("title").textContent = s.experiment + " — " + s.run_id;
  const time = s.started ? " · " + seconds((s.ended || Date.now() / 1000) - s.started) : "";
  $("counters").textContent = s.state + time + (s.reason ? " · " + s.reason : "");
  $("bar").replaceChildren(...letters.map((letter) => {
    const part = make("i");
    part.style.background = colour(letter);
    part.style.width = (100 * s[STATES[letter]]) / Math.max(1, s.size) + "%";
    return part;
  }));
  $("legend").replaceChildren(...letters.flatMap((letter) => {
    const swatch = make("span", undefined, { class: "swatch" });
    swatch.style.background = colour(letter);
    return [swatch, document.createTextNode(STATES[letter] + " " + s[STATES[letter]])];
  }));
  const names = ["name", "kind", "state", "size", "queued", "running", "completed", "failed", "cancelled"];
  const grid = make("table");
  grid.append(row("th", names), ...run.entities.map((entity) => row("td", names.map((name) => entity[name]))));
  $("entities").replaceChildren(grid);
  showGrid();
}
function row(tag, cells) {
  const line = make("tr");
  line.append(...cells.map((cell) => make(tag, cell)));
  return line;
}
const cells = { size: 14, columns: 1 };
function showGrid() {
  const states = seen.run.states, canvas = $("grid");
  const width = Math.max(200, Math.min(960, canvas.parentElement.clientWidth - 10));
  cells.size = Math.max(2, Math.min(22, Math.floor(Math.sqrt((width * 420) / Math.max(1, states.length)))));
  cells.columns = Math.max(1, Math.floor(width / cells.size));
  const ratio = window.devicePixelRatio || 1, height = Math.ceil(states.length / cells.columns) * cells.size;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.maxWidth = width + "px";
  const pen = canvas.getContext("2d"), gap = cells.size > 4 ? 2 : 0;
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
function describe(index) {
  const member = seen.table[index];
  if (!member) return "member " + index + ": " + STATES[seen.run.states[index]];
  const shown = Object.entries(member).filter(([key, value]) => /^(params|result)\./.test(key) && typeof value !== "object");
  return [member.name + ": " + member.state + (member.reason ? " (" + member.reason + ")" : ""),
    ...shown.slice(0, 12).map(([key, value]) => key.replace(/^\w+\./, "") + " = " + short(value)),
    member.seconds === null ? "" : "took " + seconds(member.seconds)].filter(Boolean).join("\n");
}
function tip(event, text) {
  const box = $("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  box.style.left = Math.min(event.clientX + 14, window.innerWidth - 260) + "px";
  box.style.top = event.clientY + 14 + "px";
}
$("grid").onmousemove = (event) => { const index = memberAt(event); tip(event, index < 0 ? "" : describe(index)); };
$("grid").onmouseleave = (event) => tip(event, "");
$("grid").onclick = (event) => { const index = memberAt(event); if (index >= 0) showLog(index, "out"); };

// Logs
let logged = { index: -1, stream: "out" };
async function showLog(index, stream) {
  logged = { index, stream };
  const answer = await fetch("api/runs/" + encodeURIComponent(chosen) + "/log/" + index + "?stream=" + stream);
  const log = await answer.json();
  $("logs").hidden = false;
  $("logname").textContent = (log.name || "member " + index) + (log.reason ? ": " + log.reason : "");
  $("logpath").textContent = log.path;
  $("logtext").textContent = log.text || "(empty)";
  $("logs").scrollIntoView({ behavior: "smooth", block: "nearest" });
}
$("out").onclick = () => showLog(logged.index, "out");
$("err").onclick = () => showLog(logged.index, "err");

// Plots
// A column is numbers, or words that take whole places in the order in which they appear.
const WORDS = 24;
function axis(key) {
  const raw = seen.table.map((member) => (typeof member[key] === "object" || member[key] === "" ? undefined : member[key]));
  const given = raw.filter((value) => value !== undefined);
  if (!given.length) return null;
  const words = given.every((value) => Number.isFinite(Number(value))) ? null : [...new Set(given.map(String))];
  if (words && words.length > WORDS) return null;
  const values = raw.map((value) => (value === undefined ? NaN : words ? words.indexOf(String(value)) : Number(value)));
  const finite = values.filter(Number.isFinite);
  let low = Math.min(...finite), high = Math.max(...finite);
  if (low === high) { low -= 0.5; high += 0.5; }
  const ticks = words ? words.map((_, place) => place) : [low, (low + high) / 2, high];
  return { key, values, low, high, ticks, label: (value) => (words ? words[value] : short(value)) };
}
function axes() {
  const keys = new Set(seen.table.flatMap((member) => Object.keys(member)));
  return [...keys].filter((key) => /^(params|result)\./.test(key) || key === "seconds").map(axis).filter(Boolean);
}
const bare = (key) => key.replace(/^\w+\./, "");
function showPlots() {
  const found = axes(), keys = found.map((each) => each.key);
  $("plots").hidden = found.length < 2;
  fill($("x"), keys, keys.find((key) => key.startsWith("params.")) || keys[0]);
  fill($("y"), keys, keys.find((key) => key.startsWith("result.")) || keys[keys.length - 1]);
  if (found.length >= 2) {
    showScatter();
    showParallel(found);
  }
  showTimeline();
}
function fill(select, keys, first) {
  const now = keys.includes(select.value) ? select.value : first;
  select.replaceChildren(...keys.map((key) => make("option", key)));
  if (now) select.value = now;
}
$("x").onchange = $("y").onchange = () => showScatter();
function showScatter() {
  const svg = $("scatter"), W = 460, H = 260, L = 58, B = 34;
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.replaceChildren();
  const x = axis($("x").value), y = axis($("y").value);
  if (!x || !y) return;
  const px = (value) => L + ((value - x.low) / (x.high - x.low)) * (W - L - 24), py = (value) => H - B - ((value - y.low) / (y.high - y.low)) * (H - B - 14);
  for (const tick of y.ticks) {
    svg.append(draw("line", { class: "axis", x1: L, x2: W - 14, y1: py(tick), y2: py(tick) }),
      draw("text", { x: L - 6, y: py(tick) + 4, "text-anchor": "end" }, y.label(tick).slice(0, 9)));
  }
  for (const tick of x.ticks) svg.append(draw("text", { x: px(tick), y: H - B + 16, "text-anchor": "middle" }, x.label(tick).slice(0, 9)));
  svg.append(draw("text", { x: (W + L) / 2, y: H - 4, "text-anchor": "middle" }, bare(x.key)));
  seen.table.forEach((member, i) => {
    if (!Number.isFinite(x.values[i]) || !Number.isFinite(y.values[i])) return;
    const dot = draw("circle", { cx: px(x.values[i]), cy: py(y.values[i]), r: 4, fill: colour(letterOf(member.state)), "fill-opacity": 0.8 });
    dot.onmousemove = (event) => tip(event, describe(i));
    dot.onmouseleave = (event) => tip(event, "");
    dot.onclick = () => showLog(member.index, "out");
    svg.append(dot);
  });
}
function showParallel(found) {
  const svg = $("parallel"), W = 460, H = 260;
  // From what was given to what came out; how long it took stands between.
  const order = (each) => (each.key.startsWith("params.") ? 0 : each.key === "seconds" ? 1 : 2);
  const shown = [...found].sort((one, other) => order(one) - order(other)).slice(0, 8);
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.replaceChildren();
  const px = (k) => 40 + (k * (W - 80)) / (shown.length - 1);
  const py = (value, each) => H - 36 - ((value - each.low) / (each.high - each.low)) * (H - 66);
  seen.table.forEach((member, i) => {
    const points = shown.map((each, k) => (Number.isFinite(each.values[i]) ? px(k) + "," + py(each.values[i], each) : null)).filter(Boolean);
    const line = draw("polyline", { points: points.join(" "), fill: "none", stroke: colour(letterOf(member.state)), "stroke-opacity": 0.45, "stroke-width": 1.5 });
    line.onmousemove = (event) => tip(event, describe(i));
    line.onmouseleave = (event) => tip(event, "");
    line.onclick = () => showLog(member.index, "out");
    svg.append(line);
  });
  shown.forEach((each, k) => svg.append(draw("line", { class: "axis", x1: px(k), x2: px(k), y1: 30, y2: H - 36 }),
    draw("text", { x: px(k), y: 22, "text-anchor": "middle" }, each.label(each.ticks[each.ticks.length - 1])),
    draw("text", { x: px(k), y: H - 22, "text-anchor": "middle" }, each.label(each.ticks[0])),
    draw("text", { x: px(k), y: H - 6, "text-anchor": "middle" }, bare(each.key).slice(0, 14))));
}
function showTimeline() {
  const svg = $("timeline"), W = 940, L = 130;
  const ran = seen.table.filter((member) => member.started !== null);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${W} 40`);
  if (!ran.length) { svg.append(draw("text", { x: 10, y: 20 }, "nothing has run yet")); return; }
  const now = Date.now() / 1000, from = Math.min(...ran.map((m) => m.started)), to = Math.max(...ran.map((m) => m.ended || now));
  const laneOf = new Map(), last = new Map();
  // A member that runs has not told its CPUs yet: it takes the first free line of its node.
  for (const m of [...ran].sort((one, other) => one.started - other.started)) {
    const node = m.node || m.worker || "";
    let name = node + " cpu " + m.slots.join(",");
    if (!m.slots.length) {
      const free = [...last.keys()].find((each) => each.startsWith(node + " ") && last.get(each) <= m.started);
      name = free || node + " slot " + last.size;
    }
    last.set(name, m.ended || Infinity);
    laneOf.set(m, name);
  }
  const lane = (m) => laneOf.get(m);
  const lanes = [...new Set(laneOf.values())].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).slice(0, 64);
  const H = lanes.length * 18 + 34;
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  const px = (t) => L + ((t - from) / Math.max(1e-3, to - from)) * (W - L - 10);
  lanes.forEach((name, k) => svg.append(draw("text", { x: L - 8, y: 16 + k * 18, "text-anchor": "end" }, name)));
  for (const share of [0, 0.25, 0.5, 0.75, 1]) svg.append(
    draw("text", { x: px(from + share * (to - from)), y: H - 8, "text-anchor": share === 1 ? "end" : "middle" }, seconds(share * (to - from))));
  ran.forEach((member) => {
    const k = lanes.indexOf(lane(member));
    if (k < 0) return;
    const bar = draw("rect", { x: px(member.started), y: 5 + k * 18, height: 14, rx: 2, fill: colour(letterOf(member.state)),
      width: Math.max(1.5, px(member.ended || now) - px(member.started) - 1) });
    bar.onmousemove = (event) => tip(event, describe(member.index));
    bar.onmouseleave = (event) => tip(event, "");
    bar.onclick = () => showLog(member.index, "out");
    svg.append(bar);
  });
}

// Databases: calls a second come from two looks at the counters
function showDatabases() {
  const at = performance.now() / 1000;
  const blocks = seen.databases.map((database) => {
    const block = make("div");
    const facts = database.up ? (database.memory / 1048576).toFixed(1) + " MiB · " + database.clients + " clients" : "down: " + database.error;
    block.append(make("p", database.identifier + " — " + database.addresses.join(", ") + " · " + facts, { class: database.up ? "" : "down" }));
    if (database.assets.length) {
      const grid = make("table");
      grid.append(row("th", ["name", "type", "backend", "device", "calls", "calls/s", "batches", "waiting", "p50", "p99", "mean", "errors"]));
      for (const asset of database.assets) {
        const key = asset.shard + asset.type + asset.name, before = seen.calls.get(key);
        const rate = before && at > before.at ? (asset.calls - before.calls) / (at - before.at) : 0;
        seen.calls.set(key, { at, calls: asset.calls });
        grid.append(row("td", [asset.name, asset.type.toLowerCase(), asset.backend, asset.device, asset.calls, rate.toFixed(1),
          asset.batches, asset.waiting, asset.p50 === null ? "" : seconds(asset.p50), asset.p99 === null ? "" : seconds(asset.p99),
          asset.calls ? seconds(asset.seconds / asset.calls) : "", asset.errors]));
      }
      block.append(grid);
    }
    return block;
  });
  $("databases").replaceChildren(...(blocks.length ? blocks : [make("p", "none")]));
}

window.onresize = () => { if (seen.run && !seen.run.error) showGrid(); };
window.onhashchange = () => choose(decodeURIComponent(location.hash.slice(1)));
listen();
