// Contours in the plane of a view: their paths, and the names written beside them.

function sliceAt(mm) {
  let k = 0;
  while (k < K - 1 && edges[k + 1] <= mm) k++;
  return k;
}

// A path, and the box [left, top, right, bottom] around it in mm; null where there is nothing.
function slicePath(polygons) {
  const path = new Path2D();
  let box = null;
  for (const points of polygons) {
    for (let n = 0; n < points.length; n += 2) {
      const x = (points[n + 1] + 0.5) * DJ, y = (points[n] + 0.5) * DI;
      if (n) path.lineTo(x, y); else path.moveTo(x, y);
      box = widened(box, x, y);
    }
    path.closePath();
  }
  return { path, box };
}

const widened = (box, x, y) => (box ? [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)] : [x, y, x, y]);

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
  let box = null;
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
  return { path, box };

  function spot([k, c]) {
    const [x, y] = [(c + 0.5) * pitch, stackY(edges[k])];
    box = widened(box, x, y);
    return [x, y];
  }
}

// -- names ---------------------------------------------------------------------------------------------------------

function writeText(context, text, color, [x, y], pixel, size = 12) {
  context.font = `600 ${size * pixel}px system-ui, sans-serif`;
  context.lineJoin = "round";
  context.lineWidth = 0.28 * size * pixel;
  context.strokeStyle = "rgba(0,0,0,.8)";
  context.strokeText(text, x, y);
  context.fillStyle = color;
  context.fillText(text, x, y);
}

// Every name beside its contour, where it covers no other name: above, below, right or left, or farther away.
function writeNames(context, names, view, ratio) {
  const { width, height } = view.canvas, scale = view.scale, size = (height < 240 * ratio ? 10 : 12) * ratio, high = 1.25 * size;
  // The places of the caption and of the letters.
  const letter = (x, y) => [x, y, x + 18 * ratio, y + 18 * ratio];
  const taken = [[0, 0, 230 * ratio, 26 * ratio], letter(width / 2, 28 * ratio), letter(width / 2, height - 54 * ratio), letter(6 * ratio, height / 2), letter(width - 24 * ratio, height / 2)];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const onScreen = ([left, top, right, bottom]) => [left, top, right, bottom].map((mm, n) => scale * (mm - view.middle[n % 2]) + (n % 2 ? height : width) / 2);
  view.namesAt = names.flatMap(({ text, color, box }) => {
    const [left, top, right, bottom] = onScreen(box), wide = context.measureText(text).width;
    if (right < 0 || bottom < 0 || left > width || top > height) return [];
    const middle = (left + right - wide) / 2, beside = (top + bottom - high) / 2, gap = 4 * ratio;
    const places = [[middle, top - high - gap], [middle, bottom + gap], [right + gap, beside], [left - wide - gap, beside]];
    for (let away = 1; away < 8; away++) places.push([right + gap, beside - away * high], [right + gap, beside + away * high]);
    const within = ([x, y]) => [Math.max(2, Math.min(width - wide - 2, x)), Math.max(2, Math.min(height - high - 2, y))];
    const isFree = ([x, y]) => taken.every(([l, t, r, b]) => x >= r || x + wide <= l || y >= b || y + high <= t);
    const [x, y] = within(places.find((place) => isFree(within(place))) || places[0]);
    taken.push([x, y, x + wide, y + high]);
    writeText(context, text, color, [x, y + size], 1, size);
    return [{ text, box: [x, y, x + wide, y + high] }];
  });
}
