// The surfaces of the ROIs in three dimensions: turned by mouse and keys, drawn by the processor into a depth buffer.

const LIGHT = [-0.35, -0.5, -0.79];        // to the right, down and into the screen is positive: from the upper left

class Scene {
  constructor() {
    this.name = "3-D";
    this.canvas = element("canvas", { tabIndex: 0, ariaLabel: "surfaces: drag or arrow keys turn, wheel zooms" });
    this.caption = element("div", { className: "caption" }, element("b", {}, "3-D"), "drag to turn");
    this.frame = element("div", { className: "view", id: "view-3d" }, this.canvas, this.caption, enlarger(this));
    this.letters = ["left", "right", "top", "bottom"].map((side) => element("span", { className: `letter ${side}` }));
    this.frame.append(...this.letters);
    byId("views").append(this.frame);
    this.frame.addEventListener("pointerenter", () => activate(this));
    this.canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoomBy(Math.exp(-event.deltaY / 400)); }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => { byId("readout").textContent = this.roiAt(event)?.name || ""; });
    this.canvas.addEventListener("pointerleave", () => { byId("readout").textContent = ""; });
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => this.draw()).observe(this.frame);
    this.reset();
  }

  // From the front, the head up.
  reset() {
    [this.yaw, this.pitch, this.zoom] = [0, 0, 1];
    this.draw();
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, this.pitch + pitch));
    this.ask();
  }

  zoomBy(factor) {
    this.zoom = Math.max(0.3, Math.min(12, this.zoom * factor));
    this.ask();
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  press(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    let last = [event.clientX, event.clientY], far = 0;
    const move = (now) => {
      const [dx, dy] = [now.clientX - last[0], now.clientY - last[1]];
      far += Math.abs(dx) + Math.abs(dy);
      last = [now.clientX, now.clientY];
      this.turn(dx / 120, dy / 120);
    };
    const stop = (now) => {
      this.canvas.removeEventListener("pointermove", move);
      const roi = far < 4 && this.roiAt(now);
      if (roi) goToRoi(roi);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", stop, { once: true });
    this.canvas.addEventListener("pointercancel", stop, { once: true });
  }

  // Answers to a key; false for keys of others.
  key(name) {
    const step = Math.PI / 18;
    const turns = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (turns[name]) this.turn(...turns[name]);
    else if (name === "+" || name === "=") this.zoomBy(1.2);
    else if (name === "-") this.zoomBy(1 / 1.2);
    else if (name === "Home") this.reset();
    else return false;
    return true;
  }

  // Rows: to the right of the screen, down, and into it, in LPS.
  get axes() {
    const [c, s, d, t] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    return [[c, -s, 0], [t * s, t * c, -d], [d * s, d * c, t]];
  }

  // The middle and half the size of what is looked at: the organs, or the body alone.
  get extent() {
    const organs = rois.filter((roi) => roi.surface && !roi.external);
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const { surface } of organs.length ? organs : rois.filter((roi) => roi.surface)) {
      for (let n = 0; n < surface.corners.length; n++) {
        low[n % 3] = Math.min(low[n % 3], surface.corners[n]);
        high[n % 3] = Math.max(high[n % 3], surface.corners[n]);
      }
    }
    return { middle: low.map((value, n) => (value + high[n]) / 2), reach: Math.hypot(...low.map((value, n) => high[n] - value)) / 2 };
  }

  draw() {
    const ratio = Math.min(devicePixelRatio || 1, 1.5);
    const [wide, high] = [this.frame.clientWidth, this.frame.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (this.canvas.width !== wide || this.canvas.height !== high) [this.canvas.width, this.canvas.height] = [wide, high];
    if (!rois.length || wide < 2) return;
    this.box ??= this.extent;
    const context = this.canvas.getContext("2d"), picture = context.createImageData(wide, high);
    const pixels = new Uint32Array(picture.data.buffer).fill(0xff000000);
    const depth = new Float32Array(wide * high).fill(Infinity);
    this.owner = new Int16Array(wide * high).fill(-1);
    const shown = rois.filter((roi) => roi.surface && isShown(roi, "predicted"));
    for (const roi of shown.filter((one) => !one.external)) {
      const [red, green, blue] = channels(roi.color), { number } = roi, { owner } = this;
      this.triangles(roi.surface, wide, high, depth, (at, facing) => {
        const light = 0.28 + 0.72 * facing;
        pixels[at] = (255 << 24) | ((blue * light) << 16) | ((green * light) << 8) | (red * light);
        owner[at] = number;
      });
    }
    for (const roi of shown.filter((one) => one.external)) this.veil(roi, wide, high, pixels);
    context.putImageData(picture, 0, 0);
    this.writeLetters();
  }

  // The body as a veil over the organs, denser where its surface is seen from the side.
  veil(roi, wide, high, pixels) {
    const color = channels(roi.color), depth = new Float32Array(wide * high).fill(Infinity), veil = new Float32Array(wide * high);
    this.triangles(roi.surface, wide, high, depth, (at, facing, across) => { veil[at] = 0.1 + 0.4 * (1 - across) ** 2; });
    for (let at = 0; at < veil.length; at++) {
      if (!veil[at]) continue;
      const mixed = color.map((value, n) => ((pixels[at] >> (8 * n)) & 255) * (1 - veil[at]) + value * veil[at]);
      pixels[at] = (255 << 24) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
    }
  }

  // Calls paint(pixel, how much light falls on it, how far it faces the viewer) for every pixel nearer than before.
  triangles({ corners, faces, normals }, wide, high, depth, paint) {
    const [right, down, into] = this.axes, { middle, reach } = this.box, count = corners.length / 3;
    const scale = (this.zoom * 0.46 * Math.min(wide, high)) / Math.max(reach * 0.8, 1);
    const xs = new Float32Array(count), ys = new Float32Array(count), zs = new Float32Array(count), lights = new Float32Array(count), acrosses = new Float32Array(count);
    const dot = (axis, x, y, z) => axis[0] * x + axis[1] * y + axis[2] * z;
    for (let n = 0, at = 0; n < count; n++, at += 3) {
      const [x, y, z] = [corners[at] - middle[0], corners[at + 1] - middle[1], corners[at + 2] - middle[2]];
      xs[n] = wide / 2 + scale * dot(right, x, y, z);
      ys[n] = high / 2 + scale * dot(down, x, y, z);
      zs[n] = dot(into, x, y, z);
      const normal = [right, down, into].map((axis) => dot(axis, normals[at], normals[at + 1], normals[at + 2]));
      lights[n] = Math.max(0, dot(LIGHT, ...normal));
      acrosses[n] = Math.abs(normal[2]);
    }
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [faces[f], faces[f + 1], faces[f + 2]];
      const area = (xs[b] - xs[a]) * (ys[c] - ys[a]) - (xs[c] - xs[a]) * (ys[b] - ys[a]);
      if (Math.abs(area) < 1e-9) continue;
      const left = Math.max(0, Math.ceil(Math.min(xs[a], xs[b], xs[c]) - 0.5)), last = Math.min(wide - 1, Math.floor(Math.max(xs[a], xs[b], xs[c]) - 0.5));
      const top = Math.max(0, Math.ceil(Math.min(ys[a], ys[b], ys[c]) - 0.5)), bottom = Math.min(high - 1, Math.floor(Math.max(ys[a], ys[b], ys[c]) - 0.5));
      for (let y = top; y <= bottom; y++) {
        for (let x = left; x <= last; x++) {
          const u = ((xs[b] - x - 0.5) * (ys[c] - y - 0.5) - (xs[c] - x - 0.5) * (ys[b] - y - 0.5)) / area;
          const v = ((xs[c] - x - 0.5) * (ys[a] - y - 0.5) - (xs[a] - x - 0.5) * (ys[c] - y - 0.5)) / area;
          const w = 1 - u - v;
          if (u < 0 || v < 0 || w < 0) continue;
          const far = u * zs[a] + v * zs[b] + w * zs[c], at = y * wide + x;
          if (far >= depth[at]) continue;
          depth[at] = far;
          paint(at, u * lights[a] + v * lights[b] + w * lights[c], u * acrosses[a] + v * acrosses[b] + w * acrosses[c]);
        }
      }
    }
  }

  roiAt(event) {
    if (!this.owner) return null;
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    const [x, y] = [Math.floor((event.clientX - box.left) * ratio), Math.floor((event.clientY - box.top) * ratio)];
    const number = x >= 0 && y >= 0 && x < this.canvas.width ? this.owner[y * this.canvas.width + x] : -1;
    return number >= 0 ? rois[number] : null;
  }

  // Where the borders of the picture lie in the patient; two letters where that is oblique.
  writeLetters() {
    const [right, down] = this.axes;
    const named = (axis) => axis.map((value, n) => [Math.abs(value), "LPS"[n], "RAI"[n], value]).filter(([size]) => size > 0.38)
      .sort((a, b) => b[0] - a[0]).slice(0, 2).map(([, plus, minus, value]) => (value > 0 ? plus : minus)).join("");
    const back = (axis) => axis.map((value) => -value);
    [back(right), right, back(down), down].forEach((axis, n) => { this.letters[n].textContent = named(axis); });
  }
}

const channels = (color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
