// The databases and how often their models are called. The server tells counters when they change; the rates come from here.
import { $, draw, make, seconds, table } from "./marks.js";

const KEPT = 120, SMOOTH = 3;
let databases = null;
const history = new Map();

export function setDatabases(found) {
  databases = found;
  if (!history.size) look();
}
const key = (database, asset) => [database.experiment, asset.shard, asset.type, asset.name].join("\n");

function look() {
  if (!databases) return;
  const at = performance.now() / 1000, now = new Set();
  for (const database of databases) {
    for (const asset of database.assets) {
      const name = key(database, asset), past = history.get(name) || [];
      past.push({ at, calls: asset.calls });
      history.set(name, past.slice(-KEPT));
      now.add(name);
    }
  }
  for (const name of history.keys()) if (!now.has(name)) history.delete(name);
  show();
}
// Calls a second, over a few looks: the server's and the page's clocks do not beat together.
function rates(past) {
  return past.slice(1).map((point, k) => {
    const before = past[Math.max(0, k + 1 - SMOOTH)];
    return Math.max(0, point.calls - before.calls) / Math.max(0.1, point.at - before.at);
  });
}
function spark(values) {
  const W = 120, H = 20, most = Math.max(1e-9, ...values), svg = draw("svg", { class: "spark", viewBox: `0 0 ${W} ${H}` });
  const x = (k) => W - ((values.length - 1 - k) * W) / (KEPT - 2);
  if (values.length > 1) svg.append(draw("path", { d: values.map((value, k) => (k ? "L" : "M") + x(k).toFixed(1) + " " + (H - 2 - (value / most) * (H - 4)).toFixed(1)).join("") }));
  return svg;
}
function show() {
  const blocks = databases.map((database) => {
    const block = make("div", undefined, { class: "scroll" });
    const workers = database.workers + (database.workers === 1 ? " inference worker" : " inference workers") + (database.busy ? ", " + database.busy + " busy" : "");
    const facts = database.up ? [(database.memory / 1048576).toFixed(1) + " MiB", database.clients + " clients", workers].join(" · ") : "down: " + database.error;
    const name = (database.experiment ? database.experiment + " / " : "") + database.identifier;
    block.append(make("p", name + " — " + database.addresses.join(", ") + " · " + facts, { class: database.up ? "" : "down" }));
    if (database.assets.length) {
      block.append(table(["name", "type", "backend", "device", "calls", "calls/s", "last two minutes", "batches", "waiting", "p50", "p99", "mean", "errors"],
        database.assets.map((asset) => {
          const found = rates(history.get(key(database, asset)) || []), wait = (value) => (value === null ? "" : seconds(value));
          return [asset.name, asset.type.toLowerCase(), asset.backend, asset.device, asset.calls, Number((found.at(-1) || 0).toFixed(1)), spark(found),
            asset.batches, asset.waiting, wait(asset.p50), wait(asset.p99), asset.calls ? seconds(asset.seconds / asset.calls) : "", asset.errors];
        })));
    }
    return block;
  });
  $("databases").replaceChildren(...(blocks.length ? blocks : [make("p", "No database runs. One that a driver creates with create_database appears here.")]));
}
setInterval(look, 1000);
