// -- window ------------------------------------------------------------------------------------------------------

const greys = new Uint32Array(256);

function setWindow(level, width) {
  state.level = level;
  state.width = Math.max(1, width);
  for (let n = 0; n < 256; n++) {
    const hu = levels[Math.min(n, levels.length - 1)];
    const grey = Math.max(0, Math.min(255, Math.round(((hu - level) / state.width + 0.5) * 255)));
    greys[n] = (255 << 24) | (grey << 16) | (grey << 8) | grey;
  }
  byId("level").value = Math.round(level);
  byId("width").value = Math.round(width);
  PRESETS.forEach(([, l, w], n) => byId("presets").children[n].classList.toggle("on", l === level && w === width));
  redraw();
}

function showValue(view, place) {
  const { k, i, j } = view.voxel(place);
  const inside = k >= 0 && k < K && i >= 0 && i < rows && j >= 0 && j < columns && place[1] >= 0 && place[1] < view.size[1];
  if (!inside) { byId("readout").textContent = ""; return; }
  const n = volume[(k * I + Math.floor(i / binning)) * J + Math.floor(j / binning)];
  const half = n && n < levels.length - 1 ? Math.max(1, Math.round((levels[n + 1] - levels[n - 1]) / 4)) : 0;
  const value = n ? `${Math.round(levels[n])}${half ? ` ± ${half}` : ""} HU` : "air";
  const names = rois.filter((roi) => isShown(roi, "predicted")
    && crossings(roi.contours.predicted.get(k), "i", i).filter((c) => c < j).length % 2).map((roi) => roi.name);
  byId("readout").textContent = `slice ${k + 1} (${positionOf(data.views[0].positions, k)}), row ${i + 1}, column ${j + 1}: ${value}  ${names.join(", ")}`;
}

// Whether a ROI's contours of one side are there and asked for.
function isShown(roi, side) {
  return Boolean(roi.contours[side] && state.sides[side] && roi.shown[side] && (state.solo === null || state.solo === roi));
}

// -- moving about ------------------------------------------------------------------------------------------------

let views = [];
let rois = [];
let scene = null;
let stackRows = [];
let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; for (const view of views) view.draw(); scene?.draw(); });
}

function activate(view) {
  state.active = view;
  for (const other of scene ? [...views, scene] : views) other.frame.classList.toggle("active", other === view);
}

// Moves the views to a voxel; the one that was clicked stays on its slice.
function goTo(voxel, clicked) {
  for (const view of views) {
    if (view !== clicked) view.index = Math.max(0, Math.min(view.count - 1, Math.round(voxel[view.axis])));
  }
  redraw();
}

// The middle of a ROI, in slice k if it is there.
function middleOf(roi, k) {
  const slices = roi.contours.predicted?.size ? roi.contours.predicted : roi.contours.reference;
  if (!slices?.size) return null;
  const held = [...slices.keys()];
  const at = k === undefined ? held[Math.floor(held.length / 2)] : held.reduce((a, b) => (Math.abs(b - k) < Math.abs(a - k) ? b : a));
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  for (const points of slices.get(at)) {
    for (let n = 0; n < points.length; n++) {
      low[n % 2] = Math.min(low[n % 2], points[n]);
      high[n % 2] = Math.max(high[n % 2], points[n]);
    }
  }
  return { k: k === undefined ? at : k, i: (low[0] + high[0]) / 2, j: (low[1] + high[1]) / 2 };
}

// The button of a view that makes it the large one.
function enlarger(view) {
  return element("button", { className: "enlarge", title: "show large (V)", ariaLabel: `show ${view.name} large`, onclick: () => enlarge(view) }, "⤢");
}

function enlarge(view) {
  const chosen = view.frame.classList.contains("large") ? views[0] : view;
  for (const other of scene ? [...views, scene] : views) other.frame.classList.toggle("large", other === chosen);
}

function mark(roi) {
  state.marked = roi;
  state.current = roi;
  redraw();
  clearTimeout(state.unmark);
  state.unmark = setTimeout(() => { state.marked = null; redraw(); }, 1500);
}

function goToRoi(roi, k) {
  const middle = middleOf(roi, k);
  if (middle) goTo(middle); else if (k !== undefined) { views[0].go(k); }
  mark(roi);
}

// Shows a flag; asked again, its next slice.
function goToFlag(number) {
  const flag = data.flags[number];
  flag.seen = state.flag === number ? (flag.seen + 1) % Math.max(1, flag.slices.length) : 0;
  state.flag = number;
  document.querySelectorAll(".flag").forEach((card, n) => card.classList.toggle("current", n === number));
  const roi = rois.find((r) => r.name === flag.roi), k = flag.slices[flag.seen];
  if (roi) goToRoi(roi, k); else if (k !== undefined) views[0].go(k);
}

// Shows one ROI alone, or all again.
function solo(roi) {
  state.solo = state.solo === roi ? null : roi;
  listRois();
  redraw();
}

function setDisplay(changes) {
  Object.assign(state, changes);
  if (!state.ruling) state.ruler = null;
  showDisplay();
  redraw();
}

const KEYS = {
  f: () => data.flags.length && goToFlag((state.flag + 1) % data.flags.length),
  x: () => setDisplay({ cross: !state.cross }),
  p: () => switchSide("predicted"),
  r: () => switchSide("reference"),
  n: () => setDisplay({ names: !state.names }),
  m: () => setDisplay({ ruling: !state.ruling }),
  g: () => setDisplay({ fill: state.fill ? 0 : 0.3 }),
  s: () => rois.length && solo(state.solo || state.current || rois[0]),
  v: () => enlarge(state.active || views[0]),
  "?": () => byId("help").showModal(),
  h: () => byId("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  // Ctrl+P, Ctrl+F, Ctrl+R and the like are the browser's; what is typed into a field is the field's.
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open || event.target.matches("input[type=number]")) return;
  if (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const view = state.active || views[0];
  const steps = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
  if (view === scene && scene.key(key)) { /* it turned */ }
  else if (key in steps) { if (view !== scene) view.go(view.index + steps[key] * view.next); }
  else if (key === "Home" || key === "End") { if (view !== scene) view.go(key === "Home" ? 0 : view.count - 1); }
  else if (key === "Escape" && (state.ruling || state.solo)) { state.solo = null; setDisplay({ ruling: false }); listRois(); }
  else if (/^[1-6]$/.test(key)) setWindow(...PRESETS[key - 1].slice(1));
  else if (Object.hasOwn(KEYS, key)) KEYS[key]();
  else return;
  event.preventDefault();
});

// -- what stands around the views --------------------------------------------------------------------------------

function toggle(side, title, color, pressed, disabled, onclick) {
  const button = element("button", { className: `toggle${side === "reference" ? " dashed" : ""}`, title, disabled, onclick, ariaPressed: String(pressed) }, element("i"));
  button.style.color = color;
  return button;
}

// Names, ruler, fill and line width: what is on, on the buttons.
function showDisplay() {
  for (const name of ["names", "cross", "ruling"]) byId(`show-${name}`).classList.toggle("on", state[name]);
  byId("fill").value = state.fill;
  byId("line").value = state.line;
  document.body.classList.toggle("ruling", state.ruling);
}

function connectDisplay() {
  for (const name of ["names", "cross", "ruling"]) byId(`show-${name}`).addEventListener("click", () => setDisplay({ [name]: !state[name] }));
  for (const name of ["fill", "line"]) byId(name).addEventListener("input", () => setDisplay({ [name]: Number(byId(name).value) }));
  byId("show-help").addEventListener("click", () => byId("help").showModal());
  byId("close-help").addEventListener("click", () => byId("help").close());
  showDisplay();
}

function switchSide(side) {
  state.sides[side] = !state.sides[side];
  listRois();
  redraw();
}

function listRois() {
  const label = { predicted: data.labels[0], reference: data.labels[1] };
  const anyReference = rois.some((roi) => roi.contours.reference);
  byId("roi-head").replaceChildren(element("span", {}, "all"), ...SIDES.map((side) => toggle(side, `${label[side]} of all ROIs`, "inherit", state.sides[side], side === "reference" && !anyReference, () => switchSide(side))), element("span", {}), element("span", { className: "figure" }, data.figure));
  byId("rois").replaceChildren(...rois.map((roi) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = roi.color;
    const name = element("button", { className: "name", title: "go to its middle", onclick: () => goToRoi(roi) }, swatch, element("span", { className: roi.flagged && !roi.verdict ? "flagged" : "" }, roi.name), ...(roi.verdict && roi.verdict !== "clear" ? [element("b", { className: `verdict ${roi.verdict}` }, roi.verdict)] : []));
    const switches = SIDES.map((side) => toggle(side, `${label[side]} of ${roi.name}`, roi.color, roi.shown[side] && state.sides[side], !roi.contours[side], () => {
      roi.shown[side] = !roi.shown[side];
      listRois();
      redraw();
    }));
    const alone = element("button", { className: "toggle solo", title: `${roi.name} alone (S)`, ariaPressed: String(state.solo === roi), onclick: () => { state.current = roi; solo(roi); } }, "S");
    return element("div", { className: state.solo && state.solo !== roi ? "roi dim" : "roi" }, name, ...switches, alone, element("span", { className: "figure" }, roi.figure));
  }));
}

// Where slices lie along the patient, in mm.
function spanOf(slices) {
  const [first, last] = [slices[0], slices[slices.length - 1]].map((k) => positionOf(data.views[0].positions, k));
  return first === last ? first : `${first.replace(" mm", "")} to ${last.slice(2)}`;
}

function listFlags() {
  if (data.verdict) byId("flags-title").textContent = "Findings";
  byId("flag-count").textContent = data.flags.length || (data.flagsKnown ? "none" : "not looked for");
  byId("flag-count").classList.add(...(data.flags.length ? [] : [data.flagsKnown ? "none" : "unknown"]));
  byId("flags").replaceChildren(...data.flags.map((flag, n) => {
    const slices = flag.slices.map((k) => k + 1), few = slices.slice(0, 8).join(", ") + (slices.length > 8 ? ", …" : "");
    const where = [flag.figure, slices.length ? `slice${slices.length > 1 ? "s" : ""} ${few} (${spanOf(flag.slices)})` : ""].filter(Boolean).join(" · ");
    return element("button", { className: "flag", title: flag.code, onclick: () => goToFlag(n) }, element("b", {}, flag.roi || "whole scan"), flag.reason, element("div", { className: "where" }, where));
  }));
}

function listTables() {
  byId("patient").textContent = data.title;
  byId("subtitle").textContent = data.subtitle;
  byId("verdict").textContent = data.verdict;
  byId("verdict").className = `verdict ${data.verdict}`;
  const head = element("tr", {}, ...data.metrics.columns.map((c) => element("th", c.definition ? { title: c.definition } : {}, c.label)));
  const body = data.metrics.rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  byId("metrics").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  byId("definitions").replaceChildren(...Object.entries(data.definitions).flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  byId("notes-section").hidden = !data.notes.length;
  byId("notes").replaceChildren(...data.notes.map((note) => element("li", {}, note)));
  byId("provenance").replaceChildren(...Object.entries(data.provenance).map(([heading, entries]) => element("div", {}, element("h3", {}, heading), element("dl", {}, ...Object.entries(entries).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])))));
}

async function start() {
  listTables();
  listFlags();
  byId("presets").replaceChildren(...PRESETS.map(([name, level, width], n) => element("button", { title: `key ${n + 1}: level ${level}, width ${width}`, onclick: () => setWindow(level, width) }, name)));
  for (const id of ["level", "width"]) byId(id).addEventListener("change", () => setWindow(Number(byId("level").value), Number(byId("width").value)));
  const finest = Math.max(0.5, Math.min(...edges.slice(1).map((edge, k) => edge - edges[k])));
  const count = Math.max(1, Math.round(height / finest));
  stackRows = Array.from({ length: count }, (_, r) => sliceAt(stackY(((r + 0.5) * height) / count)));
  views = data.views.map((description, number) => new View(description, number));
  if (data.rois.some((roi) => roi.surface)) scene = new Scene();
  byId("views").classList.toggle("flat", !scene);
  views[0].frame.classList.add("large");
  activate(views[0]);
  connectDisplay();
  setWindow(state.level, state.width);
  const flagged = new Set(data.flags.map((flag) => flag.roi));
  rois = await Promise.all(data.rois.map(async (roi, number) => {
    const contours = {};
    for (const side of SIDES) contours[side] = roi[side] && (await unpackContours(roi[side]));
    const surface = await unpackSurface(roi.surface);
    return { number, name: roi.name, color: roi.color, external: roi.external, surface, figure: roi.figure, verdict: roi.verdict, flagged: flagged.has(roi.name), contours, shown: { predicted: true, reference: true } };
  }));
  listRois();
  redraw();
  await unpackVolume();
  redraw();
  document.body.dataset.ready = Math.round(performance.now());
}

if (typeof DecompressionStream === "undefined") {
  byId("progress").className = "error";
  byId("progress").textContent = "This browser is too old to unpack the images: use one from 2023 or later.";
  listTables();
  listFlags();
} else start();
