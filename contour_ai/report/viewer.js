"use strict";
// The viewer of one patient: three views through the CT, contours, flags, metrics. No library, no network.

const data = JSON.parse(document.getElementById("data").textContent);
const [K, I, J] = data.ct.shape;
const levels = data.ct.levels;
const volume = new Uint8Array(K * I * J);
const byId = (id) => document.getElementById(id);
const SIDES = ["predicted", "reference"];
const PRESETS = [["Soft tissue", 40, 400], ["Head & neck", 60, 300], ["Brain", 40, 90], ["Bone", 400, 2000], ["Lung", -600, 1500], ["All", 300, 2800]];
const state = { level: 40, width: 400, cross: true, sides: { predicted: true, reference: true }, flag: -1, active: null };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// -- unpacking ---------------------------------------------------------------------------------------------------

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let n = 0; n < bytes.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Every level was stored as its difference from the mean of its left and upper neighbour, modulo 256.
function undoDifferences(stream, from, to) {
  for (let i = 0; i < I; i++) {
    let left = 0;
    for (let j = 0; j < J; j++, from++, to++) {
      const upper = i ? volume[to - J] : 0;
      left = volume[to] = (stream[from] + ((left + upper) >> 1)) & 255;
    }
  }
}

async function unpackVolume() {
  const bytes = bytesOf(byId("ct").textContent), { group, lengths } = data.ct;
  const starts = [];
  let at = 0;
  for (const length of lengths) { starts.push(at); at += length; }
  // What is looked at comes first.
  const first = Math.floor(views[0].index / group);
  const order = [...lengths.keys()].sort((a, b) => Math.abs(a - first) - Math.abs(b - first));
  const atOnce = 4;
  let drawn = -Infinity;
  for (let n = 0; n < order.length; n += atOnce) {
    await Promise.all(order.slice(n, n + atOnce).map(async (g) => {
      const stream = await inflated(bytes.subarray(starts[g], starts[g] + lengths[g]));
      for (let k = 0; k * I * J < stream.length; k++) undoDifferences(stream, k * I * J, (g * group + k) * I * J);
    }));
    if (performance.now() - drawn > 300) {
      byId("progress").textContent = `loading ${Math.round((100 * (n + atOnce)) / order.length)} %`;
      redraw();
      await new Promise(requestAnimationFrame);
      drawn = performance.now();
      document.body.dataset.shown ??= Math.round(drawn);
    }
  }
  byId("progress").textContent = "";
}

// {slice: [Float32Array of row, column, row, column, …]} of one ROI on one side.
async function unpackContours(packed) {
  const stream = await inflated(bytesOf(packed.data));
  const steps = new Int16Array(stream.buffer), total = steps.length / 2, slices = new Map();
  let at = 0;
  packed.slices.forEach((k, s) => {
    slices.set(k, packed.points[s].map((count) => {
      const points = new Float32Array(2 * count);
      let i = 0, j = 0;
      for (let n = 0; n < count; n++, at++) {
        points[2 * n] = (i += steps[at]) / packed.subpixels;
        points[2 * n + 1] = (j += steps[total + at]) / packed.subpixels;
      }
      return points;
    }));
  });
  return slices;
}

// -- geometry: millimetres from the upper left corner of a view ---------------------------------------------------

const [, DI, DJ] = data.spacing;          // of the CT's own pixels
const binning = data.ct.binning;
const rows = data.shape[1], columns = data.shape[2];
const edges = data.edges;                 // (K + 1) mm along the stack
const height = edges[K];
const stackY = (mm) => (data.up ? height - mm : mm);

class View {
  constructor(description, number) {
    this.axis = description.axis;         // "k": a slice; "i": along a row; "j": along a column
    this.name = description.name;
    this.number = number;
    this.count = { k: K, i: rows, j: columns }[this.axis];
    this.size = { k: [columns * DJ, rows * DI], i: [columns * DJ, height], j: [rows * DI, height] }[this.axis];
    this.index = description.start;
    this.box = description.box;           // [left, top, right, bottom] mm that is shown at first
    this.positions = description.positions;
    this.paths = new Map();
    this.image = element("canvas");
    this.build(description.letters);
    this.reset();
  }

  build(letters) {
    this.canvas = element("canvas");
    this.caption = element("div", { className: "caption" });
    this.slider = element("input", { type: "range", min: 0, max: this.count - 1, value: this.index, ariaLabel: `${this.name} slice` });
    this.frame = element("div", { className: "view", id: `view-${this.axis}` }, this.canvas, this.caption, this.slider);
    ["left", "right", "top", "bottom"].forEach((side, n) => this.frame.append(element("span", { className: `letter ${side}` }, letters[n])));
    byId("views").append(this.frame);
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.frame.addEventListener("pointerenter", () => activate(this));
    for (const k of this.axis === "k" ? new Set(data.flags.flatMap((flag) => flag.slices)) : []) {
      const tick = element("i", { className: "tick", title: `flagged: slice ${k + 1}` });
      tick.style.left = `calc(18px + (100% - 36px) * ${k / Math.max(1, K - 1)})`;  // where the slider's thumb would be
      this.frame.append(tick);
    }
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => showValue(this, this.place(event)));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", () => { this.reset(); this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.frame);
  }

  reset() {
    const [left, top, right, bottom] = this.box;
    this.zoom = 1;
    this.middle = [(left + right) / 2, (top + bottom) / 2];
  }

  get scale() {
    const [left, top, right, bottom] = this.box;
    const room = (length, margin) => Math.max(0.3 * length, length - 2 * margin * (devicePixelRatio || 1));
    return this.zoom * Math.min(room(this.canvas.width, 22) / (right - left), room(this.canvas.height, 32) / (bottom - top));
  }

  go(index) {
    this.index = Math.max(0, Math.min(this.count - 1, Math.round(index)));
    redraw();
  }

  // Millimetres under the pointer.
  place(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    return [
      ((event.clientX - box.left) * ratio - this.canvas.width / 2) / this.scale + this.middle[0],
      ((event.clientY - box.top) * ratio - this.canvas.height / 2) / this.scale + this.middle[1],
    ];
  }

  // {k, i, j} of the voxel at a place in this view.
  voxel([x, y]) {
    const across = Math.floor(x / (this.axis === "j" ? DI : DJ));
    if (this.axis === "k") return { k: this.index, i: Math.floor(y / DI), j: across };
    const k = sliceAt(data.up ? height - y : y);
    return this.axis === "i" ? { k, i: this.index, j: across } : { k, i: across, j: this.index };
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey) {
      const before = this.place(event);
      this.zoom = Math.max(0.5, Math.min(20, this.zoom * Math.exp(-event.deltaY / 400)));
      const after = this.place(event);
      this.middle = this.middle.map((value, n) => value + before[n] - after[n]);
      this.draw();
    } else if (event.deltaY) this.go(this.index + Math.sign(event.deltaY) * this.next);
  }

  // Scrolling down goes to what lies lower in the stack, or farther to the back or the right of the screen.
  get next() { return this.axis === "k" && data.up ? -1 : 1; }

  press(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    let last = [event.clientX, event.clientY];
    const windowing = event.button === 2, moving = event.shiftKey || event.button === 1;
    const move = (now) => {
      const [dx, dy] = [now.clientX - last[0], now.clientY - last[1]];
      last = [now.clientX, now.clientY];
      const ratio = devicePixelRatio / this.scale;
      if (windowing) setWindow(state.level - 2 * dy, Math.max(8, state.width + 3 * dx));
      else if (moving) { this.middle = [this.middle[0] - dx * ratio, this.middle[1] - dy * ratio]; this.draw(); }
      else goTo(this.voxel(this.place(now)), this);
    };
    const stop = () => { this.canvas.removeEventListener("pointermove", move); };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", stop, { once: true });
    this.canvas.addEventListener("pointercancel", stop, { once: true });
    if (!windowing && !moving) goTo(this.voxel(this.place(event)), this);
  }

  // The CT of this view in grey, one pixel a voxel; slices in a cut are repeated to equal distances.
  paint() {
    const fixed = Math.min(Math.floor(this.index / binning), (this.axis === "i" ? I : J) - 1);
    let wide, high, start, step, line;
    if (this.axis === "k") [wide, high, start, step, line] = [J, I, this.index * I * J, 1, (r) => r * J];
    else {
      const order = stackRows;
      wide = this.axis === "i" ? J : I;
      high = order.length;
      start = this.axis === "i" ? fixed * J : fixed;
      step = this.axis === "i" ? 1 : J;
      line = (r) => order[r] * I * J;
    }
    this.image.width = wide;
    this.image.height = high;
    const context = this.image.getContext("2d"), picture = context.createImageData(wide, high);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let r = 0, n = 0; r < high; r++) {
      let at = start + line(r);
      for (let c = 0; c < wide; c++, at += step) pixels[n++] = greys[volume[at]];
    }
    context.putImageData(picture, 0, 0);
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [this.frame.clientWidth, this.frame.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (this.canvas.width !== wide || this.canvas.height !== high) [this.canvas.width, this.canvas.height] = [wide, high];
    const context = this.canvas.getContext("2d"), scale = this.scale;
    this.paint();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "black";
    context.fillRect(0, 0, wide, high);
    context.setTransform(scale, 0, 0, scale, wide / 2 - scale * this.middle[0], high / 2 - scale * this.middle[1]);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    // Averaged pixels may reach a little beyond the last of the CT's own.
    const across = this.axis === "j" ? I * binning * DI : J * binning * DJ;
    context.drawImage(this.image, 0, 0, across, this.axis === "k" ? I * binning * DI : this.size[1]);
    this.strokeContours(context, ratio / scale);
    if (state.cross) this.strokeCross(context, ratio / scale);
    this.caption.replaceChildren(element("b", {}, this.name), `${this.index + 1} / ${this.count}   ${this.label()}`);
    this.slider.value = this.index;
    this.frame.dataset.index = this.index;
  }

  label() {
    const { letter, values, start, step } = this.positions;
    const mm = values ? values[this.index] : start + step * this.index;
    return `${letter} ${mm >= 0 ? "+" : "−"}${Math.abs(mm).toFixed(1)} mm`;
  }

  strokeContours(context, pixel) {
    for (const roi of rois) {
      for (const side of SIDES) {
        if (!state.sides[side] || !roi.shown[side] || !roi.contours[side]) continue;
        const path = this.path(roi, side);
        context.lineJoin = "round";
        context.setLineDash(side === "reference" ? [6 * pixel, 4 * pixel] : []);
        context.strokeStyle = "rgba(0,0,0,.55)";
        context.lineWidth = 3.4 * pixel;
        context.stroke(path);
        context.strokeStyle = roi.color;
        context.lineWidth = (state.marked === roi ? 2.8 : 1.7) * pixel;
        context.stroke(path);
      }
    }
    context.setLineDash([]);
  }

  path(roi, side) {
    if (this.pathsOf !== this.index) { this.paths.clear(); this.pathsOf = this.index; }
    const key = `${roi.number} ${side}`;
    if (!this.paths.has(key)) {
      const slices = roi.contours[side];
      this.paths.set(key, this.axis === "k" ? slicePath(slices.get(this.index) || []) : cutPath(slices, this.axis, this.index));
    }
    return this.paths.get(key);
  }

  strokeCross(context, pixel) {
    const [k, i, j] = "kij".split("").map((axis) => views.find((view) => view.axis === axis).index);
    const y = this.axis === "k" ? (i + 0.5) * DI : stackY((edges[k] + edges[k + 1]) / 2);
    const x = this.axis === "j" ? (i + 0.5) * DI : (j + 0.5) * DJ;
    context.strokeStyle = "rgba(88,199,224,.55)";
    context.lineWidth = pixel;
    context.beginPath();
    const gap = 14 * pixel, far = 4000;
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * gap, y + dy * gap);
      context.lineTo(x + dx * far, y + dy * far);
    }
    context.stroke();
  }
}

function sliceAt(mm) {
  let k = 0;
  while (k < K - 1 && edges[k + 1] <= mm) k++;
  return k;
}

function slicePath(polygons) {
  const path = new Path2D();
  for (const points of polygons) {
    for (let n = 0; n < points.length; n += 2) {
      const x = (points[n + 1] + 0.5) * DJ, y = (points[n] + 0.5) * DI;
      if (n) path.lineTo(x, y); else path.moveTo(x, y);
    }
    path.closePath();
  }
  return path;
}

// Where the contours of one slice cross a row or a column, sorted: inside lies between the first and the second, and so on.
function crossings(polygons, axis, index) {
  const found = [], fixed = axis === "i" ? 0 : 1;
  for (const points of polygons || []) {
    const length = points.length;
    for (let n = 0; n < length; n += 2) {
      const m = n + 2 < length ? n + 2 : 0;
      const a = points[n + fixed], b = points[m + fixed];
      if ((a <= index) === (b <= index)) continue;
      const c = points[n + 1 - fixed], d = points[m + 1 - fixed];
      found.push(c + ((index - a) / (b - a)) * (d - c));
    }
  }
  return found.sort((a, b) => a - b);
}

// The outline of a stack of slabs: their ends, and between two slabs what only one of them covers.
function cutPath(slices, axis, index) {
  const pitch = axis === "i" ? DJ : DI, path = new Path2D();
  const corners = new Map();              // "edge:place" of every corner: the corners it is joined to
  const join = (a, b) => {
    for (const [from, to] of [[a, b], [b, a]]) {
      const key = from.join(":");
      if (!corners.has(key)) corners.set(key, []);
      corners.get(key).push(to);
    }
  };
  let below = [];
  for (let k = 0; k <= K; k++) {
    const here = k < K ? crossings(slices.get(k), axis, index) : [];
    for (const c of here) join([k, c], [k + 1, c]);
    const both = [...below, ...here].sort((a, b) => a - b);
    for (let n = 0; n + 1 < both.length; n += 2) {
      if (both[n + 1] > both[n]) join([k, both[n]], [k, both[n + 1]]);
    }
    below = here;
  }
  // Lines are drawn from corner to corner without lifting the pen, so that dashes are dashes.
  for (const [key, first] of corners) {
    let at = key, next = first.pop();
    if (!next) continue;
    path.moveTo(...spot(key.split(":").map(Number)));
    while (next) {
      path.lineTo(...spot(next));
      const arrived = next.join(":"), onwards = corners.get(arrived);
      const back = onwards.findIndex((corner) => corner.join(":") === at);
      if (back >= 0) onwards.splice(back, 1);
      [at, next] = [arrived, onwards.pop()];
    }
  }
  return path;

  function spot([k, c]) { return [(c + 0.5) * pitch, stackY(edges[k])]; }
}

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
  const names = rois.filter((roi) => roi.contours.predicted && state.sides.predicted && roi.shown.predicted
    && crossings(roi.contours.predicted.get(k), "i", i).filter((c) => c < j).length % 2).map((roi) => roi.name);
  byId("readout").textContent = `slice ${k + 1}, row ${i + 1}, column ${j + 1}: ${value}  ${names.join(", ")}`;
}

// -- moving about ------------------------------------------------------------------------------------------------

let views = [];
let rois = [];
let stackRows = [];
let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; for (const view of views) view.draw(); });
}

function activate(view) {
  state.active = view;
  for (const other of views) other.frame.classList.toggle("active", other === view);
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

function mark(roi) {
  state.marked = roi;
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

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=number]")) return;
  const view = state.active || views[0];
  const steps = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
  if (event.key in steps) view.go(view.index + steps[event.key] * view.next);
  else if (event.key === "Home" || event.key === "End") view.go((event.key === "Home") === (view.next > 0) ? 0 : view.count - 1);
  else if (/^[1-6]$/.test(event.key)) setWindow(...PRESETS[event.key - 1].slice(1));
  else if (event.key === "f" && data.flags.length) goToFlag((state.flag + 1) % data.flags.length);
  else if (event.key === "x") { state.cross = !state.cross; redraw(); }
  else if (event.key === "p" || event.key === "r") switchSide(event.key === "p" ? "predicted" : "reference");
  else return;
  event.preventDefault();
});

// -- what stands around the views --------------------------------------------------------------------------------

function toggle(side, title, color, pressed, disabled, onclick) {
  const button = element("button", { className: `toggle${side === "reference" ? " dashed" : ""}`, title, disabled, onclick, ariaPressed: String(pressed) }, element("i"));
  button.style.color = color;
  return button;
}

function switchSide(side) {
  state.sides[side] = !state.sides[side];
  listRois();
  redraw();
}

function listRois() {
  const label = { predicted: data.labels[0], reference: data.labels[1] };
  const anyReference = rois.some((roi) => roi.contours.reference);
  byId("roi-head").replaceChildren(element("span", {}, "all"), ...SIDES.map((side) => toggle(side, `${label[side]} of all ROIs`, "inherit", state.sides[side], side === "reference" && !anyReference, () => switchSide(side))), element("span", { className: "figure" }, data.figure));
  byId("rois").replaceChildren(...rois.map((roi) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = roi.color;
    const name = element("button", { className: "name", title: "go to its middle", onclick: () => goToRoi(roi) }, swatch, element("span", { className: roi.flagged ? "flagged" : "" }, roi.name));
    const switches = SIDES.map((side) => toggle(side, `${label[side]} of ${roi.name}`, roi.color, roi.shown[side] && state.sides[side], !roi.contours[side], () => {
      roi.shown[side] = !roi.shown[side];
      listRois();
      redraw();
    }));
    return element("div", { className: "roi" }, name, ...switches, element("span", { className: "figure" }, roi.figure));
  }));
}

function listFlags() {
  byId("flag-count").textContent = data.flags.length || (data.flagsKnown ? "none" : "not looked for");
  byId("flag-count").classList.add(...(data.flags.length ? [] : [data.flagsKnown ? "none" : "unknown"]));
  byId("flags").replaceChildren(...data.flags.map((flag, n) => {
    const slices = flag.slices.map((k) => k + 1), few = slices.slice(0, 8).join(", ") + (slices.length > 8 ? ", …" : "");
    const where = [flag.figure, slices.length ? `slice${slices.length > 1 ? "s" : ""} ${few}` : ""].filter(Boolean).join(" · ");
    return element("button", { className: "flag", title: flag.code, onclick: () => goToFlag(n) }, element("b", {}, flag.roi || "whole scan"), flag.reason, element("div", { className: "where" }, where));
  }));
}

function listTables() {
  byId("patient").textContent = data.title;
  byId("subtitle").textContent = data.subtitle;
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
  activate(views[0]);
  setWindow(state.level, state.width);
  const flagged = new Set(data.flags.map((flag) => flag.roi));
  rois = await Promise.all(data.rois.map(async (roi, number) => {
    const contours = {};
    for (const side of SIDES) contours[side] = roi[side] && (await unpackContours(roi[side]));
    return { number, name: roi.name, color: roi.color, figure: roi.figure, flagged: flagged.has(roi.name), contours, shown: { predicted: true, reference: true } };
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
