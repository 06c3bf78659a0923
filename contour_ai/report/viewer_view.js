// A view: slices or cuts of the CT with contours, cross-hair, ruler and names.

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
    this.frame = element("div", { className: "view", id: `view-${this.axis}` }, this.canvas, this.caption, this.slider, enlarger(this));
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
    this.canvas.addEventListener("pointerleave", () => { byId("readout").textContent = ""; });
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
    const inside = (length, margin) => Math.max(0.3 * length, length - 2 * margin * (devicePixelRatio || 1));
    return this.zoom * Math.min(inside(this.canvas.width, 22) / (right - left), inside(this.canvas.height, 32) / (bottom - top));
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
    const windowing = event.button === 2, moving = event.shiftKey || event.button === 1, ruling = state.ruling && !windowing && !moving;
    if (ruling) state.ruler = { view: this, index: this.index, from: this.place(event), to: this.place(event) };
    const move = (now) => {
      const [dx, dy] = [now.clientX - last[0], now.clientY - last[1]];
      last = [now.clientX, now.clientY];
      const ratio = devicePixelRatio / this.scale;
      if (windowing) setWindow(state.level - 2 * dy, Math.max(8, state.width + 3 * dx));
      else if (moving) { this.middle = [this.middle[0] - dx * ratio, this.middle[1] - dy * ratio]; this.draw(); }
      else if (ruling) { state.ruler.to = this.place(now); this.draw(); showValue(this, state.ruler.to); }
      else goTo(this.voxel(this.place(now)), this);
    };
    const stop = () => { this.canvas.removeEventListener("pointermove", move); };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", stop, { once: true });
    this.canvas.addEventListener("pointercancel", stop, { once: true });
    if (ruling) redraw();
    else if (!windowing && !moving) goTo(this.voxel(this.place(event)), this);
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
    this.render(ratio);
    this.caption.replaceChildren(element("b", {}, this.name), `${this.index + 1} / ${this.count}   ${this.label()}`);
    this.slider.value = this.index;
    this.frame.dataset.index = this.index;
  }

  // The CT, contours and what else is asked for, on this view's canvas as large as it is.
  render(ratio, plain = false) {
    const { width: wide, height: high } = this.canvas;
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
    if (state.cross && !plain) this.strokeCross(context, ratio / scale);
    if (state.ruler?.view === this && state.ruler.index === this.index && !plain) this.strokeRuler(context, ratio / scale);
    if (state.names) writeNames(context, this.namesHere(), this, ratio);
  }

  // A picture of its own, for paper: a whole slice.
  picture(index, wide, high) {
    const kept = [this.canvas, this.index, this.zoom, this.middle];
    this.canvas = element("canvas", { width: wide, height: high });
    this.index = index;
    this.reset();
    this.render(1, true);
    const drawn = this.canvas;
    [this.canvas, this.index, this.zoom, this.middle] = kept;
    return drawn;
  }

  label(index = this.index) { return positionOf(this.positions, index); }

  strokeContours(context, pixel) {
    for (const roi of rois) {
      for (const side of SIDES) {
        if (!isShown(roi, side)) continue;
        const { path } = this.path(roi, side);
        context.lineJoin = "round";
        context.setLineDash(side === "reference" ? [6 * pixel, 4 * pixel] : []);
        if (state.fill && side === "predicted" && !roi.external) {
          context.globalAlpha = state.fill;
          context.fillStyle = roi.color;
          context.fill(path, "evenodd");
          context.globalAlpha = 1;
        }
        const width = state.line + (state.marked === roi ? 1.1 : 0);
        context.strokeStyle = "rgba(0,0,0,.55)";
        context.lineWidth = (width + 1.7) * pixel;
        context.stroke(path);
        context.strokeStyle = roi.color;
        context.lineWidth = width * pixel;
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

  // The ROIs that have a contour in this plane, with the box around it in mm.
  namesHere() {
    return rois.flatMap((roi) => {
      const side = SIDES.find((one) => isShown(roi, one) && this.path(roi, one).box);
      return side ? [{ text: roi.name, color: roi.color, box: this.path(roi, side).box }] : [];
    });
  }

  strokeRuler(context, pixel) {
    const { from, to } = state.ruler, length = Math.hypot(to[0] - from[0], to[1] - from[1]);
    for (const [color, width] of [["rgba(0,0,0,.7)", 4], ["#ffffff", 1.6]]) {
      context.strokeStyle = color;
      context.lineWidth = width * pixel;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      for (const [x, y] of [from, to]) {
        context.moveTo(x + 3 * pixel, y);
        context.arc(x, y, 3 * pixel, 0, 7);
      }
      context.stroke();
    }
    writeText(context, `${length.toFixed(1)} mm`, "#ffffff", [to[0] + 9 * pixel, to[1] - 9 * pixel], pixel, 14);
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

// Where a slice, row or column lies along the patient: "z +12.5 mm".
function positionOf({ letter, values, start, step }, index) {
  const mm = values ? values[index] : start + step * index;
  return `${letter} ${mm >= 0 ? "+" : "−"}${Math.abs(mm).toFixed(1)} mm`;
}
