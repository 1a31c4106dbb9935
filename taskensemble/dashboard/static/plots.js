// Pictures of a run's members: parameters against results, parallel coordinates, and the time line of members on slots.
import { $, STATES, colour, draw, letterOf, make, ramp, seconds, short, tip } from "./marks.js";

let rows = [], act = null;
const brushes = new Map();

export function showPlots(table, onClick) {
  rows = table;
  act = onClick;
  const found = axes(), keys = found.map((each) => each.key);
  $("plots").hidden = found.length < 2;
  fill($("x"), keys, keys.find((key) => key.startsWith("params.")) || keys[0]);
  fill($("y"), keys, keys.find((key) => key.startsWith("result.")) || keys[keys.length - 1]);
  fill($("tint"), ["state", ...keys], "state");
  for (const key of brushes.keys()) if (!keys.includes(key)) brushes.delete(key);
  redraw(found);
  showTimeline();
}
function redraw(found = axes()) {
  if (found.length >= 2) {
    const paint = painter(found);
    showScatter(found, paint);
    showParallel(found, paint);
  }
  $("clear").hidden = !brushes.size;
}
export const describe = (member) => {
  const shown = Object.entries(member).filter(([key, value]) => /^(params|result)\./.test(key) && typeof value !== "object");
  return [member.name + ": " + member.state + (member.reason ? " (" + member.reason + ")" : ""),
    ...shown.slice(0, 12).map(([key, value]) => bare(key) + " = " + short(value)),
    member.seconds === null ? "" : "took " + seconds(member.seconds)].filter(Boolean).join("\n");
};

// A column is numbers, or words that take whole places in the order in which they appear.
const WORDS = 24;
function axis(key) {
  const raw = rows.map((member) => (typeof member[key] === "object" || member[key] === "" ? undefined : member[key]));
  const given = raw.filter((value) => value !== undefined);
  if (!given.length) return null;
  const words = given.every((value) => Number.isFinite(Number(value))) ? null : [...new Set(given.map(String))];
  if (words && words.length > WORDS) return null;
  const values = raw.map((value) => (value === undefined ? NaN : words ? words.indexOf(String(value)) : Number(value)));
  let low = Infinity, high = -Infinity;
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  let ticks = words ? words.map((_, place) => place) : [low, (low + high) / 2, high];
  if (low === high) { ticks = [low]; low -= 0.5; high += 0.5; }
  return { key, values, low, high, ticks, words, label: (value) => (words ? words[value] : short(value)) };
}
function axes() {
  const keys = new Set(rows.flatMap((member) => Object.keys(member)));
  return [...keys].filter((key) => /^(params|result)\./.test(key) || key === "seconds").map(axis).filter(Boolean);
}
const bare = (key) => key.replace(/^\w+\./, "");
function fill(select, keys, first) {
  const now = keys.includes(select.value) ? select.value : first;
  if ([...select.options].map((each) => each.value).join() !== keys.join()) select.replaceChildren(...keys.map((key) => make("option", key)));
  if (now) select.value = now;
}
const chosen = (found) => (i) => [...brushes].every(([key, [low, high]]) => {
  const value = (found.find((each) => each.key === key) || { values: [] }).values[i];
  return value >= low && value <= high;
});

// The colour of a member: of its state, or of a value between the lowest and the highest.
function painter(found) {
  const by = found.find((each) => each.key === $("tint").value), shades = Object.fromEntries(Object.keys(STATES).map((k) => [k, colour(k)]));
  $("scale").replaceChildren();
  if (by) {
    const strip = make("i");
    strip.style.background = "linear-gradient(to right," + [0, 0.25, 0.5, 0.75, 1].map(ramp).join(",") + ")";
    $("scale").append(by.label(by.ticks[0]), strip, by.label(by.ticks[by.ticks.length - 1]));
  }
  return (i) => (by && Number.isFinite(by.values[i]) ? ramp((by.values[i] - by.low) / (by.high - by.low)) : shades[letterOf(rows[i].state)]);
}
function alive(element, member) {
  element.onmousemove = (event) => tip(event, describe(member));
  element.onmouseleave = (event) => tip(event, "");
  element.onclick = () => act(member.index);
  return element;
}
function canvas(svg, height) {
  const width = Math.max(280, Math.round(svg.clientWidth || svg.parentElement.clientWidth));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  return width;
}
// Of many members each is fainter, so that where they are dense still shows.
const faint = (most) => Math.max(0.06, Math.min(most, (most * 300) / Math.max(1, rows.length)));

function showScatter(found, paint) {
  const svg = $("scatter"), H = 280, W = canvas(svg, H), L = 62, B = 36;
  const x = found.find((each) => each.key === $("x").value), y = found.find((each) => each.key === $("y").value);
  if (!x || !y) return;
  const px = (value) => L + ((value - x.low) / (x.high - x.low)) * (W - L - 24), py = (value) => H - B - ((value - y.low) / (y.high - y.low)) * (H - B - 14);
  for (const tick of y.ticks) {
    svg.append(draw("line", { class: "axis", x1: L, x2: W - 14, y1: py(tick), y2: py(tick) }),
      draw("text", { x: L - 6, y: py(tick) + 4, "text-anchor": "end" }, y.label(tick).slice(0, 9)));
  }
  for (const tick of x.ticks) svg.append(draw("text", { x: px(tick), y: H - B + 16, "text-anchor": "middle" }, x.label(tick).slice(0, 9)));
  svg.append(draw("text", { x: (W + L) / 2, y: H - 4, "text-anchor": "middle" }, bare(x.key)));
  const wanted = chosen(found), dense = faint(0.8), size = rows.length > 1000 ? 2.5 : 4;
  rows.forEach((member, i) => {
    if (!Number.isFinite(x.values[i]) || !Number.isFinite(y.values[i])) return;
    const opacity = wanted(i) ? Math.max(0.2, dense) : 0.04;
    svg.append(alive(draw("circle", { cx: px(x.values[i]), cy: py(y.values[i]), r: size, fill: paint(i), "fill-opacity": opacity }), member));
  });
}
function showParallel(found, paint) {
  const svg = $("parallel"), H = 280, W = canvas(svg, H);
  // From what was given to what came out; how long it took stands between.
  const order = (each) => (each.key.startsWith("params.") ? 0 : each.key === "seconds" ? 1 : 2);
  const shown = [...found].sort((one, other) => order(one) - order(other)).slice(0, 10);
  const px = (k) => 40 + (k * (W - 80)) / (shown.length - 1), top = 30, bottom = H - 38;
  const py = (value, each) => bottom - ((value - each.low) / (each.high - each.low)) * (bottom - top);
  const wanted = chosen(found), dense = faint(0.55);
  const lines = rows.map((member, i) => {
    const points = shown.map((each, k) => (Number.isFinite(each.values[i]) ? px(k).toFixed(1) + "," + py(each.values[i], each).toFixed(1) : null)).filter(Boolean);
    // The few that failed must not drown among the many that did not.
    const opacity = wanted(i) ? (member.state === "Failed" ? Math.max(dense, 0.5) : dense) : 0.02;
    return alive(draw("polyline", { points: points.join(" "), fill: "none", stroke: paint(i), "stroke-opacity": opacity, "stroke-width": 1.5 }), member);
  });
  svg.append(...lines);
  shown.forEach((each, k) => {
    const space = Math.max(4, Math.floor((W - 80) / (shown.length - 1) / 6.5));
    svg.append(draw("line", { class: "axis", x1: px(k), x2: px(k), y1: top, y2: bottom }),
      draw("text", { x: px(k), y: 20, "text-anchor": "middle" }, each.label(each.ticks[each.ticks.length - 1]).slice(0, space)),
      draw("text", { x: px(k), y: H - 22, "text-anchor": "middle" }, each.ticks.length > 1 ? each.label(each.ticks[0]).slice(0, space) : ""),
      draw("text", { x: px(k), y: H - 6, "text-anchor": "middle" }, bare(each.key).slice(0, space)));
    const range = brushes.get(each.key);
    if (range) svg.append(draw("rect", { class: "brush", x: px(k) - 6, width: 12, y: py(range[1], each), height: Math.max(2, py(range[0], each) - py(range[1], each)) }));
    svg.append(brush(draw("rect", { class: "hold", x: px(k) - 9, width: 18, y: top - 6, height: bottom - top + 12 }), each,
      (y) => each.low + ((bottom - Math.max(top, Math.min(bottom, y))) / (bottom - top)) * (each.high - each.low), H));
  });
}
// Dragging along an axis chooses the members whose values lie there; a click on it takes the choice back.
function brush(hold, each, valueAt, height) {
  const at = (event) => {
    const box = hold.ownerSVGElement.getBoundingClientRect();
    return valueAt(((event.clientY - box.top) / box.height) * height);
  };
  hold.onpointerdown = (down) => {
    const first = at(down);
    const released = (up) => {
      window.removeEventListener("pointerup", released);
      const last = at(up);
      if (Math.abs(last - first) < (each.high - each.low) / 100) brushes.delete(each.key);
      else brushes.set(each.key, [Math.min(first, last), Math.max(first, last)]);
      redraw();
    };
    window.addEventListener("pointerup", released);
    down.preventDefault();
  };
  return hold;
}

const LANES = 64;
function showTimeline() {
  const ran = rows.filter((member) => member.started !== null);
  const svg = $("timeline");
  if (!ran.length) {
    canvas($("busy"), 1);
    canvas(svg, 30);
    svg.append(draw("text", { x: 4, y: 18 }, "nothing has run yet"));
    return;
  }
  const now = Date.now() / 1000;
  let from = Infinity, to = 0;
  for (const m of ran) { from = Math.min(from, m.started); to = Math.max(to, m.ended || now); }
  const lanes = lanesOf(ran), names = [...new Set(lanes.values())].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const shown = names.slice(0, LANES), place = new Map(shown.map((name, k) => [name, k]));
  const H = shown.length * 18 + 30, W = canvas(svg, H);
  const L = Math.min(W / 3, 16 + 6.2 * Math.max(...shown.map((name) => name.length)));
  const px = (t) => L + ((t - from) / Math.max(1e-3, to - from)) * (W - L - 10);
  showBusy(ran, px, to, L);
  shown.forEach((name, k) => svg.append(draw("text", { x: L - 8, y: 16 + k * 18, "text-anchor": "end" }, name)));
  for (const share of W > 500 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1]) svg.append(
    draw("text", { x: px(from + share * (to - from)), y: H - 8, "text-anchor": share === 1 ? "end" : "middle" }, seconds(share * (to - from))));
  if (names.length > shown.length) svg.append(draw("text", { x: 4, y: H - 8 }, names.length - shown.length + " more lines"));
  // What failed is drawn last: it must show where a pixel holds several members.
  for (const member of [...ran].sort((one, other) => (one.state === "Failed") - (other.state === "Failed"))) {
    const k = place.get(lanes.get(member));
    if (k === undefined) continue;
    const wide = px(member.ended || now) - px(member.started);
    svg.append(alive(draw("rect", { x: px(member.started), y: 5 + k * 18, height: 14, rx: wide > 6 ? 2 : 0, fill: colour(letterOf(member.state)),
      width: Math.max(1, wide > 4 ? wide - 1 : wide) }), member));
  }
}
function lanesOf(ran) {
  const lanes = new Map(), last = new Map();
  // A member that runs has not told its CPUs yet: it takes the first free line of its node.
  for (const m of [...ran].sort((one, other) => one.started - other.started)) {
    const node = m.node || m.worker || "";
    let name = node + " cpu " + m.slots.join(",");
    if (!m.slots.length) {
      const free = [...last.keys()].find((each) => each.startsWith(node + " ") && last.get(each) <= m.started);
      name = free || node + " slot " + last.size;
    }
    last.set(name, m.ended || Infinity);
    lanes.set(m, name);
  }
  return lanes;
}
// How many ran at a time, on the time line's own scale: the mean of each pixel.
function showBusy(ran, px, to, left) {
  const svg = $("busy"), H = 56, W = canvas(svg, H), sums = new Float64Array(Math.ceil(W) + 1);
  for (const member of ran) {
    const a = px(member.started), b = px(member.ended || to);
    for (let k = Math.floor(a); k <= Math.min(sums.length - 1, Math.floor(b)); k++) sums[k] += Math.max(0, Math.min(k + 1, b) - Math.max(k, a));
  }
  const most = Math.max(1, Math.ceil(sums.reduce((a, b) => Math.max(a, b), 0) - 1e-6)), y = (count) => H - 8 - (count / most) * (H - 18);
  let path = `M${left} ${y(0)}`;
  for (let k = Math.floor(left); k <= W - 10; k++) path += `L${k} ${y(sums[k]).toFixed(1)}`;
  svg.append(draw("path", { class: "area", d: path + `L${W - 10} ${y(0)}Z` }),
    draw("line", { class: "axis", x1: left, x2: W - 10, y1: y(0), y2: y(0) }),
    draw("text", { x: left - 8, y: y(most) + 8, "text-anchor": "end" }, most + " running"));
}

$("x").onchange = $("y").onchange = $("tint").onchange = () => redraw();
$("clear").onclick = () => { brushes.clear(); redraw(); };
export const redrawAll = () => { if (rows.length) { redraw(); showTimeline(); } };
export const forget = () => { rows = []; brushes.clear(); };
