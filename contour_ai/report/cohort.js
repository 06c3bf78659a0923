// The report of many patients: box plots, summary, comparison, and links to the patients behind them.

const data = JSON.parse(document.getElementById("data").textContent);
const SIDES = ["first", "second"];
let figure = data.figures[0];

const number = (value) => (value === "inf" ? Infinity : value);
const shown = (value, decimals = figure.decimals) => {
  const v = number(value);
  return v === null || v === undefined ? "–" : v === Infinity ? "∞" : v.toFixed(decimals);
};
const probability = (p) => (p !== null && p < 0.0001 ? "< 0.0001" : shown(p, 4));
const linked = (patient, ...content) => (data.links[patient] ? element("a", { href: data.links[patient] }, ...content) : element("span", {}, ...content));
const worseFirst = (a, b) => (figure.higherIsBetter ? a.value - b.value : b.value - a.value);

// {patient, value} of all scored patients of a ROI on one side.
function valuesOf(roi, side) {
  return data.rows.filter((row) => row.roi === roi && row.side === side && row.scored)
    .map((row) => ({ patient: row.patient, value: number(row.values[figure.name]) })).filter((v) => v.value !== null);
}

function quantile(ordered, share) {
  const place = share * (ordered.length - 1), low = Math.floor(place);
  const below = ordered[low], above = ordered[Math.min(low + 1, ordered.length - 1)];
  return below === above || place === low ? below : below + (place - low) * (above - below);
}

function boxOf(values) {
  const ordered = values.map((v) => v.value).sort((a, b) => a - b);
  const [q1, median, q3] = [0.25, 0.5, 0.75].map((share) => quantile(ordered, share));
  const reach = 1.5 * (q3 - q1), inside = ordered.filter((v) => !(v < q1 - reach) && !(v > q3 + reach) && v !== Infinity);
  return { q1, median, q3, low: inside[0], high: inside[inside.length - 1], isOutlier: (v) => v < q1 - reach || v > q3 + reach };
}

// -- box plots ---------------------------------------------------------------------------------------------------

function ticks(low, high) {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(Number(v.toPrecision(10)));
  return found;
}

function plot() {
  const wide = 1180, left = 76, top = 14, high = 330, pitch = (wide - left) / Math.max(1, data.rois.length);
  const slanted = pitch < 90, bottom = slanted ? 90 : 30;
  const groups = data.rois.map((roi) => SIDES.map((side) => valuesOf(roi, side)));
  const finite = groups.flat(2).map((v) => v.value).filter(Number.isFinite);
  let [low, most] = [Math.min(...finite, figure.higherIsBetter ? 1 : 0), Math.max(...finite, figure.higherIsBetter ? 1 : 0)];
  if (!finite.length || low === most) [low, most] = [0, 1];
  const anyInfinite = groups.flat(2).some((v) => v.value === Infinity), offset = anyInfinite ? 22 : 0;
  const y = (v) => (v === Infinity ? top + 6 : top + offset + ((most - v) / (most - low)) * (high - offset));
  const svg = drawn("svg", { viewBox: `0 0 ${wide} ${top + high + bottom}`, role: "img" });
  svg.append(drawn("text", { x: 12, y: top + high / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${top + high / 2})` }, figure.label));
  for (const tick of ticks(low, most)) {
    svg.append(drawn("line", { class: "grid-line", x1: left, x2: wide, y1: y(tick), y2: y(tick) }), drawn("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  if (anyInfinite) svg.append(drawn("text", { x: left - 8, y: y(Infinity) + 4, "text-anchor": "end" }, "∞"));
  const sides = data.labels.length;
  data.rois.forEach((roi, n) => {
    const middle = left + (n + 0.5) * pitch;
    svg.append(drawn("text", { class: "roi-name", x: middle, y: top + high + 20, "text-anchor": slanted ? "end" : "middle", transform: slanted ? `rotate(-35 ${middle} ${top + high + 20})` : "" }, roi));
    const width = Math.min(54, (pitch * 0.7) / sides);
    SIDES.slice(0, sides).forEach((side, s) => {
      if (groups[n][s].length) svg.append(boxPlot(groups[n][s], roi, side, middle + (s - (sides - 1) / 2) * (width + 6), width, y));
    });
  });
  byId("plot").replaceChildren(svg);
}

function boxPlot(values, roi, side, x, width, y) {
  const group = drawn("g", { class: side, "data-roi": roi }), box = boxOf(values), half = width / 2;
  if (box.low !== undefined) {
    for (const [a, b] of [[box.low, box.q1], [box.q3, box.high]]) group.append(drawn("line", { class: "whisker", x1: x, x2: x, y1: y(a), y2: y(b) }));
  }
  group.append(drawn("rect", { class: "box", x: x - half, width, y: y(box.q3), height: Math.max(1, y(box.q1) - y(box.q3)) }));
  group.append(drawn("line", { class: "median", x1: x - half, x2: x + half, y1: y(box.median), y2: y(box.median) }));
  values.forEach((v, n) => {
    const outlier = box.isOutlier(v.value) || v.value === Infinity;
    const dot = drawn("circle", { class: outlier ? "outlier" : "point", cx: x + (((n * 7) % 11) / 11 - 0.5) * half, cy: y(v.value), r: outlier ? 4.5 : 2.5 }, drawn("title", {}, `${v.patient}, ${roi}: ${figure.label} ${shown(v.value)}`));
    group.append(data.links[v.patient] ? drawn("a", { href: data.links[v.patient] }, dot) : dot);
  });
  return group;
}

// -- tables ------------------------------------------------------------------------------------------------------

const headOf = (...names) => element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { className: name.startsWith("worst three") ? "words" : "" }, name))));

const interval = (low, high) => (low === null && high === null ? "–" : `${shown(low)} – ${shown(high)}`);

function summary() {
  const lines = data.summary.map((s) => {
    const spread = s.spread[figure.name];
    const worst = valuesOf(s.roi, s.side).sort(worseFirst).slice(0, 3).flatMap((v, n) => [n ? ", " : "", linked(v.patient, v.patient), ` ${shown(v.value)}`]);
    const name = data.labels.length > 1 ? `${s.roi} (${data.labels[SIDES.indexOf(s.side)]})` : s.roi;
    return element("tr", {}, ...[name, s.n, s.prediction_missing, s.reference_missing,
      `${shown(spread.median)} [${shown(spread.q1)}, ${shown(spread.q3)}]`, interval(spread.median_low, spread.median_high),
      shown(spread.mean), interval(spread.mean_low, spread.mean_high)].map((text) => element("td", {}, String(text))), element("td", { className: "words" }, ...worst));
  });
  byId("summary").replaceChildren(headOf("ROI", "n", "no prediction", "no reference", `${figure.label}: median [first, third quartile]`, "95 % interval of the median", `mean ${figure.label}`, "95 % interval of the mean", `worst three, ${figure.label}`), element("tbody", {}, ...lines));
}

function comparison() {
  byId("comparison-section").hidden = !data.comparison.length;
  byId("comparison-text").textContent = data.comparisonText;
  const lines = data.comparison.filter((c) => c.figure === figure.name).map((c) => element("tr", {}, ...[c.roi, c.n, shown(c.first_median), shown(c.second_median), shown(c.median_difference), c.first_better, c.second_better, c.equal, probability(c.p), probability(c.p_holm)].map((text) => element("td", {}, String(text)))));
  const names = ["ROI", "n", ...data.labels.map((l) => `median ${figure.label}, ${l}`), `median difference of ${figure.label}`, ...data.labels.map((l) => `better: ${l}`), "equal", "p", "p (Holm)"];
  byId("comparison").replaceChildren(headOf(...names), element("tbody", {}, ...(lines.length ? lines : [element("tr", {}, element("td", { colSpan: names.length }, `${figure.label} is not compared`))])));
}

// From orange (poor) over white to blue (good): also told apart without red and green.
function heat(value) {
  const [poor, good] = figure.colored, share = Math.max(0, Math.min(1, (value - poor) / (good - poor)));
  const mix = (color, much) => color.map((c) => Math.round(255 + (c - 255) * much));
  const [red, green, blue] = share < 0.5 ? mix([240, 140, 40], 1 - 2 * share) : mix([120, 180, 235], 2 * share - 1);
  return `rgb(${red} ${green} ${blue})`;
}

// Every patient and ROI: coloured by what the figure is, or, where that says nothing by itself, outliers alone.
function patients() {
  const names = [...new Set(data.rows.map((row) => row.patient))];
  const boxes = Object.fromEntries(data.rois.map((roi) => [roi, valuesOf(roi, "first")]).filter(([, values]) => values.length).map(([roi, values]) => [roi, boxOf(values)]));
  byId("colors").textContent = (figure.colored
    ? `${figure.label} in the cells. Colours: ${figure.colored[0]} and ${figure.higherIsBetter ? "less" : "more"} orange, ${figure.colored[1]} and ${figure.higherIsBetter ? "more" : "less"} blue, whatever other patients have`
    : `${figure.label} in the cells. Orange: outliers, more than 1.5 box heights from the box of their ROI`) + "; –: no reference.";
  const lines = names.map((patient) => element("tr", {}, element("td", {}, linked(patient, patient)), ...data.rois.map((roi) => {
    const row = data.rows.find((r) => r.patient === patient && r.roi === roi && r.side === "first");
    const cell = element("td", {}, row?.scored ? shown(row.values[figure.name]) : "–");
    if (!row?.scored) return cell;
    const value = number(row.values[figure.name]);
    cell.title = `${patient}, ${roi}: ${figure.label} ${shown(value)}${row.status === "both" ? "" : `, ${row.status}`}`;
    if (value === null) return cell;
    if (figure.colored) cell.style.background = heat(value);
    else if (boxes[roi].isOutlier(value) || value === Infinity) cell.style.background = "rgb(240 140 40)";
    return cell;
  })));
  byId("patients").replaceChildren(headOf("patient", ...data.rois), element("tbody", {}, ...lines));
}

function choose(wanted) {
  figure = wanted;
  data.figures.forEach((f, n) => byId("figures").children[n].classList.toggle("on", f === wanted));
  byId("definition").textContent = `${wanted.label}: ${wanted.definition}`;
  plot();
  summary();
  comparison();
  patients();
}

const described = (entries) => Object.entries(entries).flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]);
byId("figures").append(...data.figures.map((f) => element("button", { onclick: () => choose(f) }, f.label)));
if (data.labels.length > 1) data.labels.forEach((label, n) => byId("legend").append(element("i", { style: `background: var(--${["accent", "other"][n]})` }), label));
byId("notes-section").hidden = !data.notes.length;
byId("notes").append(...data.notes.map((note) => element("li", {}, note)));
byId("definitions").append(...described(data.definitions));
choose(figure);
document.body.dataset.ready = "1";
