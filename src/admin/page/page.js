// The status page. It gets all that it shows as events of this node, and puts it into the page as text.
"use strict";

const at = (id) => document.getElementById(id);
const points = [];
const POINTS_MAX = 720;

// An element with text and attributes. Text is never taken for HTML.
function make(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function setText(element, text) {
  // A screen reader speaks of a change only where there is one.
  if (element.textContent !== text) element.textContent = text;
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = parts.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0s";
  const [length, unit] = parts[first];
  const rest = parts[first + 1];
  const text = `${Math.floor(seconds / length)}${unit}`;
  return rest ? `${text}${Math.floor((seconds % length) / rest[0])}${rest[1]}` : text;
}

function figure(number) {
  if (number === null || number === undefined) return "–";
  if (number >= 100) return Math.round(number).toLocaleString("en");
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

const WORDS = {
  healthy: ["Healthy", "✓"],
  degraded: ["Degraded", "!"],
  unavailable: ["Unavailable", "✕"],
  waiting: ["Waiting to be added", "…"],
  removed: ["No member any more", "–"],
};
const KINDS = { online: "good", linked: "good", starting: "warn", draining: "warn", degraded: "warn", unknown: "warn", waiting: "warn" };

function showVerdict(state) {
  const [word, sign] = WORDS[state.state];
  at("verdict").dataset.state = state.state;
  setText(at("verdict-word"), word);
  setText(at("verdict-sign"), sign);
  const isMember = state.state !== "waiting" && state.state !== "removed";
  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + ".";
  const own = state.node.detail;
  // The table of nodes has the text of each node too. Where keys cannot be read, there is one thing to do first.
  const verdict = own && state.state !== "unavailable" ? `${sentence(state.verdict)} This node: ${own}.` : sentence(state.verdict);
  setText(at("verdict-text"), isMember ? verdict : sentence(own));
  const warnings = state.warnings ?? [];
  at("warnings").hidden = warnings.length === 0;
  const shown = warnings.map((text) => sentence(text));
  if (at("warnings").dataset.shown !== shown.join("\n")) {
    at("warnings").dataset.shown = shown.join("\n");
    at("warnings").replaceChildren(...shown.map((text) => make("li", text)));
  }
  at("verdict-command").hidden = !state.command;
  if (state.command) {
    setText(at("purpose"), state.purpose);
    setText(at("command"), state.command);
  }
  setText(at("tolerated"), isMember ? String(state.failures_tolerated) : "–");
  setText(at("lost"), isMember ? state.slots_without_majority.toLocaleString("en") : "–");
  const after = state.change ? state.change.replica_count : state.replica_count;
  const replicas = after === state.replica_count ? String(after) : `${state.replica_count} → ${after}`;
  setText(at("replicas"), isMember ? replicas : "–");
  document.title = `${sign} ${word} – Quorate`;
}

function showProblem(problem) {
  at("verdict").dataset.state = "stuck";
  setText(at("verdict-word"), "This node does not answer");
  setText(at("verdict-sign"), "✕");
  setText(at("verdict-text"), problem);
  at("verdict-command").hidden = true;
  document.title = "✕ Quorate";
}

function showChange(state) {
  const change = state.change;
  at("change").hidden = !change;
  if (!change) return;
  const count = (number, one, more) => `${number.toLocaleString("en")} ${number === 1 ? one : more}`;
  const busy = change.busy ?? [];
  const left = busy.length === 0
    ? "all nodes are ready"
    : `${busy.length === 1 ? "node" : "nodes"} ${busy.join(", ")} ${busy.length === 1 ? "has" : "have"} something left to do`;
  const all = change.bytes_about ? ` of about ${bytes(change.bytes_about)}` : "";
  const rate = change.bytes_per_second > 0 ? `, ${bytes(Math.round(change.bytes_per_second))} a second` : "";
  const time = change.seconds_left !== null && busy.length > 0 ? `, about ${span(change.seconds_left)} left` : "";
  setText(at("change-text"), `Configuration ${state.configuration}: ${change.slots_done.toLocaleString("en")} of `
    + `${count(change.slots, "slot is", "slots are")} taken over (${bytes(change.bytes)}${all}${rate})${time}; ${left}. `
    + `Afterwards ${count(change.failures_tolerated, "more failure is", "more failures are")} tolerated.`);
  const bar = at("change-bar");
  bar.max = Math.max(change.slots, 1);
  bar.value = change.nodes_left === 0 ? bar.max : change.slots_done;
}

function showNodes(state) {
  const waiting = (state.waiting ?? []).map((node) => ({
    ...node, state: "waiting", detail: "it waits to be added: quorate members apply",
  }));
  const rows = [...state.nodes, ...waiting].map((node) => {
    const kind = KINDS[node.state] ?? "bad";
    const row = make("tr", null, { "data-kind": kind });
    const name = make("th", node.id, { scope: "row" });
    name.append(make("small", node.is_this ? `${node.address} – this node` : node.address));
    const cell = make("td", null, { class: "wide" });
    const role = node.role === "joining" || node.role === "leaving" ? `, ${node.role}` : "";
    cell.append(make("span", node.state + role, { class: "state", "data-kind": role && kind === "good" ? "moving" : kind }));
    if (node.detail) cell.append(make("span", node.detail, { class: "why" }));
    if (node.certificate_ends_seconds) {
      const ends = node.certificate_ends_seconds * 1e3;
      const text = `certificate until ${new Date(ends).toISOString().slice(0, 10)}`;
      cell.append(make("span", text, { class: "why", ...(ends - Date.now() < CERTIFICATE_GOOD_MS ? { "data-kind": "warn" } : {}) }));
    }
    const number = (title, text, warns) => make("td", text, { class: "number", "data-name": title, ...(warns ? { "data-kind": "warn" } : {}) });
    const count = (number) => number.toLocaleString("en");
    const moves = node.slots_before !== undefined && node.slots_before !== node.slots_after;
    const slots = moves ? `${count(node.slots_before)} → ${count(node.slots_after)}` : count(node.slots ?? 0);
    const running = number("Up for", span(node.uptime_seconds));
    if (node.version) running.append(make("small", ` ${node.version}`));
    row.append(
      name,
      cell,
      number("Slots", node.slots === undefined ? "–" : slots),
      number("Keys", node.keys_estimate === undefined ? "–" : `~${node.keys_estimate.toLocaleString("en")}`),
      number("Data", bytes(node.disk_bytes)),
      number("Free", room(node), isLow(node)),
      number("Sync p99", node.sync_p99_ms ? `${figure(node.sync_p99_ms)} ms` : "–", node.sync_p99_ms > SYNC_P99_GOOD_MS),
      number("Answer", node.answer_ms ? `${figure(node.answer_ms)} ms` : "–"),
      number("Queue", node.is_this ? "–" : bytes(node.queued_bytes)),
      running,
    );
    return row;
  });
  document.querySelector("#nodes tbody").replaceChildren(...rows);
}

// The lines that `quorate check`, `quorate status` and the alerts draw.
const FREE_SHARE_GOOD = 0.3;
const SYNC_P99_GOOD_MS = 20;
const CERTIFICATE_GOOD_MS = 14 * 86400e3;

function isLow(node) {
  return Boolean(node.disk_total_bytes) && node.disk_free_bytes < FREE_SHARE_GOOD * node.disk_total_bytes;
}

function room(node) {
  if (!node.disk_total_bytes) return "–";
  return `${bytes(node.disk_free_bytes)} (${Math.floor((node.disk_free_bytes / node.disk_total_bytes) * 100)} %)`;
}

function showFacts(id, facts) {
  const rows = facts.map(([name, value, warns]) => {
    const row = make("div");
    const shown = make("dd", null, warns ? { "data-kind": "warn" } : {});
    shown.append(value instanceof Node ? value : String(value));
    row.append(make("dt", name), shown);
    return row;
  });
  at(id).replaceChildren(...rows);
}

function showDisk(node) {
  const facts = [
    ["sync, p50 / p99", node.syncs ? `${figure(node.sync_p50_ms)} ms / ${figure(node.sync_p99_ms)} ms` : "–", node.sync_p99_ms > SYNC_P99_GOOD_MS],
    ["data", bytes(node.disk_bytes)],
    ["free", node.disk_total_bytes ? `${bytes(node.disk_free_bytes)} of ${bytes(node.disk_total_bytes)}` : "–", isLow(node)],
    ["writers waited for the disk", `${figure(node.stalled_seconds)} s`],
    ["tables still to be merged", bytes(node.compaction_pending_bytes)],
    ["caches and buffers in memory", bytes(node.block_cache_bytes + node.write_buffer_bytes)],
    ["operations in flight", String(node.operations_in_flight)],
  ];
  showFacts("disk", facts);
}

function showRepair(repair, isChanging) {
  if (!repair.is_on) {
    showFacts("repair", [["repair", "off (repair_keys_per_second: 0)"]]);
    return;
  }
  const pair = (pair) => {
    const never = isChanging ? "not compared yet since members change" : "not found equal yet";
    const since = pair.equal_seconds === null ? never : `equal ${span(pair.equal_seconds)} ago`;
    const text = pair.behind > 0 ? `${pair.behind.toLocaleString("en")} keys wait` : since;
    return [`with node ${pair.peer}`, pair.is_linked ? text : `not linked; ${text}`];
  };
  const facts = repair.pairs.map(pair);
  if (repair.share_counted < 1) facts.push(["counted", `${Math.floor(repair.share_counted * 100)} %`]);
  facts.push(
    ["records", repair.records.toLocaleString("en")],
    ["keys repaired since start", repair.repaired.toLocaleString("en")],
    ["deletions kept", repair.tombstones.toLocaleString("en")],
    ["deletions forgotten", repair.forgotten.toLocaleString("en")],
  );
  if (repair.waits_for.length > 0) facts.push(["deletions wait for", `node ${repair.waits_for.join(", ")}`]);
  showFacts("repair", facts);
}

let shownSlowest = "";
function showSlowest(slowest) {
  const text = JSON.stringify(slowest);
  if (text === shownSlowest) return;
  shownSlowest = text;
  const cell = (title, value, attributes = {}) => make("td", value, { "data-name": title, ...attributes });
  const rows = slowest.map((slow) => {
    const row = make("tr");
    const time = new Date(slow.at);
    const ended = make("th", null, { scope: "row" });
    ended.append(make("time", time.toLocaleTimeString("en", { hour12: false }), { datetime: time.toISOString(), title: time.toLocaleString() }));
    row.append(
      ended,
      cell("Took", `${figure(slow.took_ms)} ms`, { class: "number" }),
      cell("Operation", slow.method),
      cell("Key", slow.key, { class: "key" }),
      cell("Slot", slow.slot === null ? "–" : String(slow.slot), { class: "number" }),
      cell("Result", slow.is_done ? "done" : "failed", slow.is_done ? {} : { "data-kind": "warn" }),
    );
    return row;
  });
  const none = make("tr");
  none.append(make("td", "There was none.", { colspan: "6" }));
  document.querySelector("#slowest tbody").replaceChildren(...(rows.length > 0 ? rows : [none]));
}

function showHottest(hottest) {
  at("hottest-section").hidden = !hottest;
  if (!hottest) return;
  const rows = hottest.map((hot) => {
    const row = make("tr");
    row.append(
      make("th", hot.key, { scope: "row", class: "key" }),
      make("td", `${(hot.share * 100).toFixed(1)} %`, { class: "number", "data-name": "Share of operations" }),
    );
    return row;
  });
  const none = make("tr");
  none.append(make("td", "No operation was sampled lately.", { colspan: "2" }));
  document.querySelector("#hottest tbody").replaceChildren(...(rows.length > 0 ? rows : [none]));
}

let shownEvents = "";
function showEvents(events) {
  const text = JSON.stringify(events);
  if (events.length === 0 || text === shownEvents) return;
  shownEvents = text;
  const rows = events.map((event) => {
    const row = make("li");
    const time = new Date(event.at);
    row.append(
      make("time", time.toLocaleTimeString("en", { hour12: false }), { datetime: time.toISOString(), title: time.toLocaleString() }),
      make("span", event.text, { "data-kind": event.kind }),
    );
    return row;
  });
  at("events").replaceChildren(...rows);
}

// A number with one or two digits that are not 0, at or above the greatest value.
function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((digit) => digit * power >= value) * power;
}

// The last minutes of a node that has just started, and the last hour of others. A bin is longer than the time between points.
const SPANS = [[5, 30], [15, 60], [60, 120]];
function windowOf(now) {
  const first = points[0]?.at ?? now;
  const [minutes, bins] = SPANS.find(([minutes]) => now - first <= minutes * 60e3) ?? SPANS[2];
  return { begin: now - minutes * 60e3, length: minutes * 60e3, minutes, bins };
}

// The greatest value of each bin, so that no peak is lost.
function binned(name, { begin, length, bins }) {
  const values = Array(bins).fill(null);
  for (const point of points) {
    const bin = Math.floor(((point.at - begin) / length) * bins);
    const value = point[name];
    if (bin < 0 || value === null || value === undefined) continue;
    const at = Math.min(bin, bins - 1);
    values[at] = Math.max(values[at] ?? 0, value);
  }
  return values;
}

const SVG = "http://www.w3.org/2000/svg";
function draw(id, names, unit, nowText) {
  const svg = at(id);
  const span = windowOf(Date.now());
  const lines = names.map(([name, kind]) => [binned(name, span), kind]);
  const top = roundUp(Math.max(0, ...lines.flatMap(([bins]) => bins.map((value) => value ?? 0))));
  const parts = [];
  for (let line = 0; line <= 2; line += 1) {
    const grid = document.createElementNS(SVG, "line");
    const y = String(4 + line * 86);
    for (const [key, value] of Object.entries({ x1: "0", x2: "600", y1: y, y2: y, class: "grid" })) grid.setAttribute(key, value);
    parts.push(grid);
  }
  for (const [bins, kind] of lines) {
    let path = "";
    let pen = "M";
    bins.forEach((value, bin) => {
      if (value === null) { pen = "M"; return; }
      const x = ((bin + 1) / bins.length) * 600;
      const y = 176 - (value / top) * 172;
      // A single point is drawn as a dot.
      path += pen === "M" ? `M${x.toFixed(1)} ${y.toFixed(1)}h.1` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    });
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path || "M0 0");
    line.setAttribute("class", kind);
    parts.push(line);
  }
  svg.replaceChildren(...parts);
  let axis = svg.parentElement.querySelector(".axis");
  if (!axis) {
    axis = make("p", null, { class: "axis", "aria-hidden": "true" });
    axis.append(make("span"), make("span"), make("span", "now"));
    svg.after(axis);
  }
  setText(axis.children[0], span.minutes === 60 ? "1 h ago" : `${span.minutes} min ago`);
  setText(axis.children[1], `top: ${figure(top)} ${unit}`);
  const latest = points[points.length - 1];
  if (!latest) return;
  const said = names.map(([name, , title]) => `${title} ${figure(latest[name])}`).join(", ");
  setText(at(`${id}-now`), nowText(latest));
  svg.setAttribute("aria-label", `Last ${span.minutes} minutes; now ${said} ${unit}; the greatest value is below ${figure(top)} ${unit}`);
}

function drawAll() {
  draw("rate", [["per_second", "a", "all"], ["failed_per_second", "c", "failed"]], "a second",
    (now) => `${figure(now.per_second)}, ${now.failed_per_second > 0 ? figure(now.failed_per_second) : "none"} failed`);
  const times = (kind) => (now) => `p50 ${figure(now[`${kind}_p50_ms`])} ms, p99 ${figure(now[`${kind}_p99_ms`])} ms`;
  draw("reads", [["read_p50_ms", "a", "p50"], ["read_p99_ms", "b", "p99"]], "ms", times("read"));
  draw("writes", [["write_p50_ms", "a", "p50"], ["write_p99_ms", "b", "p99"]], "ms", times("write"));
}

function live(is, text) {
  at("live").dataset.live = is;
  setText(at("live-text"), text);
  // Colours tell the present state: what is shown is old.
  at("content").classList.toggle("old", is === "no");
}

let lastState = 0;
function show(state) {
  lastState = Date.now();
  live("yes", "live");
  showEvents(state.events ?? []);
  if (state.point && state.point.at !== points[points.length - 1]?.at) {
    points.push(state.point);
    if (points.length > POINTS_MAX) points.shift();
    drawAll();
  }
  if (state.problem) { showProblem(state.problem); return; }
  setText(at("this-id"), state.node.id);
  setText(at("this-version"), `version ${state.node.version}, up ${span(state.node.uptime_seconds)}`);
  showVerdict(state);
  showChange(state);
  showNodes(state);
  showDisk(state.node);
  showSlowest(state.slowest);
  showHottest(state.hottest);
  showRepair(state.repair, Boolean(state.change));
}

function connect() {
  const events = new EventSource("events");
  events.addEventListener("history", (event) => {
    points.splice(0, points.length, ...JSON.parse(event.data).points);
    drawAll();
  });
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.onerror = () => {
    live("no", lastState ? "connection lost, trying again" : "no connection, trying again");
    // The browser tries again by itself, unless the node refused.
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
}

at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("command").textContent);
    setText(at("copy"), "Copied");
  } catch {
    // Browsers give the clipboard to pages of https and localhost alone: select the text instead.
    getSelection().selectAllChildren(at("command"));
    setText(at("copy"), "Selected");
  }
  setTimeout(() => setText(at("copy"), "Copy"), 2000);
});

// What is shown is old where nothing has come for a while.
setInterval(() => {
  if (lastState && Date.now() - lastState > 10000) live("no", `last heard ${span(Math.floor((Date.now() - lastState) / 1000))} ago`);
}, 1000);

drawAll();
connect();
