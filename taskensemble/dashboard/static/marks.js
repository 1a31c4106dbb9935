// What every part of the page draws with: elements, numbers as people read them, the colours of states and of values.
export const STATES = { n: "new", q: "queued", r: "running", c: "completed", f: "failed", x: "cancelled", p: "paused" };

export const $ = (id) => document.getElementById(id);
export const colour = (letter) => getComputedStyle(document.documentElement).getPropertyValue("--" + letter).trim();
export const letterOf = (state) => Object.keys(STATES).find((k) => STATES[k] === String(state).toLowerCase()) || "n";

export function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
export function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
export function seconds(value) {
  if (value === 0) return "0 s";
  if (value < 0.01) return (value * 1000).toFixed(2) + " ms";
  if (value < 1) return (value * 1000).toFixed(0) + " ms";
  if (value < 120) return value.toFixed(1) + " s";
  return value < 7200 ? (value / 60).toFixed(1) + " min" : (value / 3600).toFixed(1) + " h";
}
export function short(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}
export function table(names, rows) {
  const grid = make("table"), numbers = names.map((_, k) => rows.some((cells) => typeof cells[k] === "number"));
  const line = (tag, cells) => {
    const found = make("tr");
    found.append(...cells.map((cell, k) => {
      const box = make(tag, cell instanceof Node ? undefined : String(cell), numbers[k] ? { class: "number" } : {});
      if (cell instanceof Node) box.append(cell);
      return box;
    }));
    return found;
  };
  grid.append(line("th", names), ...rows.map((cells) => line("td", cells)));
  return grid;
}
export function bar(counts, whole) {
  return Object.entries(counts).map(([letter, count]) => {
    const part = make("i");
    part.style.background = colour(letter);
    part.style.width = (100 * count) / Math.max(1, whole) + "%";
    return part;
  });
}
export function tip(event, text) {
  const box = $("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  box.style.left = Math.max(4, Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8)) + "px";
  box.style.top = Math.min(event.clientY + 14, window.innerHeight - box.offsetHeight - 8) + "px";
}
// From low to high, told apart in grey as well.
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [240, 215, 40]];
export function ramp(share) {
  const place = Math.max(0, Math.min(1, share)) * (RAMP.length - 1), k = Math.min(RAMP.length - 2, Math.floor(place));
  return "rgb(" + RAMP[k].map((low, c) => Math.round(low + (RAMP[k + 1][c] - low) * (place - k))).join(",") + ")";
}
