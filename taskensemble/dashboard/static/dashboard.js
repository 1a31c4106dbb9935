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
function numbers(key) {
  return seen.table.map((member) => (member[key] === null || member[key] === undefined || member[key] === "" ? NaN : Number(member[key])));
}
function numeric() {
  const keys = new Set(seen.table.flatMap((member) => Object.keys(member)));
  return [...keys].filter((key) => (/^(params|result)\./.test(key) || key === "seconds") && numbers(key).some(Number.isFinite));
}
function range(values) {
  const finite = values.filter(Number.isFinite);
  const low = Math.min(...finite), high = Math.max(...finite);
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}
function showPlots() {
  const keys = numeric();
  fill($("x"), keys, keys.find((key) => key.startsWith("params.")) || keys[0]);
  fill($("y"), keys, keys.find((key) => key.startsWith("result.")) || keys[keys.length - 1]);
  showScatter();
  showParallel(keys);
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
  if (!$("x").value || !$("y").value) { svg.append(draw("text", { x: 10, y: 20 }, "no numbers yet")); return; }
  const xs = numbers($("x").value), ys = numbers($("y").value), [x0, x1] = range(xs), [y0, y1] = range(ys);
  const px = (x) => L + ((x - x0) / (x1 - x0)) * (W - L - 14), py = (y) => H - B - ((y - y0) / (y1 - y0)) * (H - B - 14);
  for (const share of [0, 0.5, 1]) {
    const x = x0 + share * (x1 - x0), y = y0 + share * (y1 - y0);
    svg.append(draw("line", { class: "axis", x1: L, x2: W - 14, y1: py(y), y2: py(y) }),
      draw("text", { x: L - 6, y: py(y) + 4, "text-anchor": "end" }, short(y)),
      draw("text", { x: px(x), y: H - B + 16, "text-anchor": "middle" }, short(x)));
  }
  svg.append(draw("text", { x: (W + L) / 2, y: H - 4, "text-anchor": "middle" }, $("x").value));
  seen.table.forEach((member, i) => {
    if (!Number.isFinite(xs[i]) || !Number.isFinite(ys[i])) return;
    const dot = draw("circle", { cx: px(xs[i]), cy: py(ys[i]), r: 4, fill: colour(letterOf(member.state)), "fill-opacity": 0.8 });
    dot.onmousemove = (event) => tip(event, describe(i));
    dot.onmouseleave = (event) => tip(event, "");
    dot.onclick = () => showLog(member.index, "out");
    svg.append(dot);
  });
}
function showParallel(keys) {
  const svg = $("parallel"), W = 460, H = 260, shown = keys.slice(0, 8);
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.replaceChildren();
  if (shown.length < 2) { svg.append(draw("text", { x: 10, y: 20 }, "fewer than two columns of numbers")); return; }
  const columns = shown.map(numbers), ranges = columns.map(range);
  const px = (k) => 40 + (k * (W - 80)) / (shown.length - 1);
  const py = (value, [low, high]) => H - 36 - ((value - low) / (high - low)) * (H - 66);
  seen.table.forEach((member, i) => {
    const points = columns.map((column, k) => (Number.isFinite(column[i]) ? px(k) + "," + py(column[i], ranges[k]) : null)).filter(Boolean);
    const line = draw("polyline", { points: points.join(" "), fill: "none", stroke: colour(letterOf(member.state)), "stroke-opacity": 0.45, "stroke-width": 1.5 });
    line.onmousemove = (event) => tip(event, describe(i));
    line.onmouseleave = (event) => tip(event, "");
    svg.append(line);
  });
  shown.forEach((key, k) => svg.append(draw("line", { class: "axis", x1: px(k), x2: px(k), y1: 30, y2: H - 36 }),
    draw("text", { x: px(k), y: 22, "text-anchor": "middle" }, short(ranges[k][1])),
    draw("text", { x: px(k), y: H - 22, "text-anchor": "middle" }, short(ranges[k][0])),
    draw("text", { x: px(k), y: H - 6, "text-anchor": "middle" }, key.replace(/^\w+\./, "").slice(0, 14))));
}
function showTimeline() {
  const svg = $("timeline"), W = 940, L = 130;
  const ran = seen.table.filter((member) => member.started !== null);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${W} 40`);
  if (!ran.length) { svg.append(draw("text", { x: 10, y: 20 }, "nothing has run yet")); return; }
  const now = Date.now() / 1000, from = Math.min(...ran.map((m) => m.started)), to = Math.max(...ran.map((m) => m.ended || now));
  const lane = (m) => (m.node || m.worker) + " " + (m.slots.length ? "cpu " + m.slots.join(",") : "");
  const lanes = [...new Set(ran.map(lane))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).slice(0, 64);
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
