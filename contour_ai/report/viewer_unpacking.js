// The viewer of one patient: three views through the CT, contours, flags, metrics. No library, no network.

const data = JSON.parse(document.getElementById("data").textContent);
const [K, I, J] = data.ct.shape;
const levels = data.ct.levels;
const volume = new Uint8Array(K * I * J);
const SIDES = ["predicted", "reference"];
const PRESETS = [["Soft tissue", 40, 400], ["Head & neck", 60, 300], ["Brain", 40, 90], ["Bone", 400, 2000], ["Lung", -600, 1500], ["All", 300, 2800]];
const state = {
  level: 40, width: 400, cross: true, sides: { predicted: true, reference: true }, flag: -1, active: null,
  names: true, fill: 0, line: 1.7, solo: null, current: null, ruling: false, ruler: null,
};

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

// Corners in LPS mm, triangles, and a normal for every corner of a ROI's surface; null where it has none.
async function unpackSurface(packed) {
  if (!packed) return null;
  const stream = await inflated(bytesOf(packed.data)), count = packed.vertices;
  const steps = new Int32Array(stream.buffer);
  const corners = new Float32Array(3 * count), faces = new Int32Array(3 * packed.faces);
  for (let axis = 0, at = 0; axis < 3; axis++) {
    for (let n = 0, value = 0; n < count; n++, at++) corners[3 * n + axis] = packed.origin[axis] + packed.step * (value += steps[at]);
  }
  for (let n = 0, at = 3 * count, value = 0; n < faces.length; n++, at++) faces[n] = value += steps[at];
  const normals = new Float32Array(3 * count);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [ux, uy, uz] = [corners[b] - corners[a], corners[b + 1] - corners[a + 1], corners[b + 2] - corners[a + 2]];
    const [vx, vy, vz] = [corners[c] - corners[a], corners[c + 1] - corners[a + 1], corners[c + 2] - corners[a + 2]];
    const normal = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const corner of [a, b, c]) for (let n = 0; n < 3; n++) normals[corner + n] += normal[n];
  }
  for (let n = 0; n < normals.length; n += 3) {
    const length = Math.hypot(normals[n], normals[n + 1], normals[n + 2]) || 1;
    for (let m = 0; m < 3; m++) normals[n + m] /= length;
  }
  return { corners, faces, normals };
}
