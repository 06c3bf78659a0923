// The page of contours that may be wrong: one after the other, with what a click copies for the next training.

const data = JSON.parse(document.getElementById("data").textContent);
const DECISIONS = { accepted: "the contour is right", absent: "the organ is certainly not there", exclude: "leave the patient out" };
const KEYS = { a: "accepted", b: "absent", x: "exclude" };
const key = (patient, roi) => patient + "/" + roi;
const suspicionOf = new Map(data.suspicions.map((s, n) => [key(s.patient, s.roi), n]));
const contoursOf = new Map(data.rois.map((_, r) => [r, []]));
for (const c of data.contours) contoursOf.get(c[1]).push(c);
const decided = new Map();  // number of a suspicion or "p" + number of a patient: decision
const history = [];
let shown = [], at = 0;

const link = (text, go) => element("button", { className: "link", onclick: go }, text);
const number = (value, figure) => (value === null ? "–" : value.toFixed(data.figures[figure].decimals));

// -- what is copied ------------------------------------------------------------------------------------------------

// {place: [ROIs]} of one decision, as YAML lines.
function linesOf(decision) {
  const rois = new Map();
  for (const [n, d] of decided) {
    if (d !== decision) continue;
    const s = data.suspicions[n], place = data.patients[s.patient].place;
    rois.set(place, [...(rois.get(place) || []), data.rois[s.roi].yaml]);
  }
  return [...rois].map(([place, names]) => `  ${place}: [${[...new Set(names)].join(", ")}]`);
}

function excludeLines() {
  const reasons = new Map();
  for (const [n, d] of decided) {
    if (d !== "exclude") continue;
    const [patient, reason] = typeof n === "string" ? [Number(n.slice(1)), '""'] : [data.suspicions[n].patient, data.suspicions[n].yaml];
    const place = data.patients[patient].place;
    if (!reasons.get(place) || reasons.get(place) === '""') reasons.set(place, reason);
  }
  return [...reasons].map(([place, reason]) => `${place}: ${reason === '""' ? '"looked at"' : reason}`);
}

function mapText() {
  return ["accepted", "absent"].map((d) => [d, linesOf(d)]).filter(([, lines]) => lines.length).map(([d, lines]) => [`${d}:`, ...lines].join("\n")).join("\n");
}

function copy(text, what) {
  const byHand = () => {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(byHand); else byHand();
  byId("copied").textContent = `copied: ${what}`;
  document.body.dataset.copied = text;
}

function decide(decision) {
  const n = shown[at], s = data.suspicions[n];
  if (s === undefined || !data.patients[s.patient].place) return;
  decided.set(n, decision);
  history.push(n);
  const place = data.patients[s.patient].place;
  const lines = decision === "exclude" ? excludeLines() : linesOf(decision);
  const line = lines.find((l) => l.trimStart().startsWith(place + ":"));
  copy(line, decision === "exclude" ? "a line of the list for --exclude, and of data.exclude" : `a line to stand under ${decision} in the ROI map`);
  draw();
}

function undo() {
  const n = history.pop();
  if (n === undefined) return;
  decided.delete(n);
  if (shown.includes(n)) at = shown.indexOf(n);
  draw();
}

// -- distributions -------------------------------------------------------------------------------------------------

function strip(roi, figure, here) {
  const every = contoursOf.get(roi).filter((c) => c[2 + figure] !== null), values = every.map((c) => c[2 + figure]);
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)], x = (v) => (high === low ? 325 : 6 + (638 * (v - low)) / (high - low));
  const svg = drawn("svg", { viewBox: "0 0 650 26", role: "img", "aria-label": `${data.rois[roi].name}: ${data.figures[figure].label}` });
  svg.append(drawn("line", { class: "grid-line", x1: 0, x2: 650, y1: 13, y2: 13 }));
  const rank = (c) => (c[0] === here ? 2 : suspicionOf.has(key(c[0], c[1])) ? 1 : 0);
  for (const c of [...every].sort((a, b) => rank(a) - rank(b))) {
    const n = suspicionOf.get(key(c[0], c[1])), v = c[2 + figure], y = 13 + (((c[0] * 7) % 11) - 5);
    const kind = c[0] === here ? "here" : n === undefined ? "" : data.suspicions[n].leftOut ? "left-out" : "suspicious";
    const title = drawn("title", {}, `${data.patients[c[0]].label}: ${number(v, figure)}`);
    // What is suspicious has another form, too: a square.
    const dot = n === undefined && kind !== "here" ? drawn("circle", { class: "dot", cx: x(v), cy: y, r: 3 }, title)
      : drawn("rect", { class: `dot ${kind}`, x: x(v) - 4, y: y - 4, width: 8, height: 8 }, title);
    dot.addEventListener("click", () => goTo(c[0], c[1]));
    svg.append(dot);
  }
  const end = (v, side) => element("span", { className: side }, number(v, figure));
  return element("div", { className: "strip" }, element("span", { title: data.figures[figure].definition }, data.figures[figure].label), end(low, "low"), svg, end(high, "high"));
}

const strips = (roi, here) => data.figures.map((_, f) => strip(roi, f, here)).filter(Boolean);

// -- one contour ---------------------------------------------------------------------------------------------------

function draw() {
  const n = shown[at], s = data.suspicions[n], card = byId("card");
  byId("place").textContent = shown.length ? `${at + 1} of ${shown.length}` : "none";
  byId("map").textContent = mapText() || "(nothing yet)";
  byId("exclude").textContent = excludeLines().join("\n") || "(nobody yet)";
  if (s === undefined) {
    card.replaceChildren(element("div", { className: "nothing" }, "nothing suspicious here"));
    return;
  }
  const patient = data.patients[s.patient], others = data.suspicions.filter((o) => o.patient === s.patient).length - 1;
  const picture = s.picture ? element("img", { src: `data:image/jpeg;base64,${s.picture}`, alt: `${data.rois[s.roi].name}: axial, coronal and sagittal plane` })
    : element("div", { className: "nothing" }, "no picture: nothing of it lies in the body on this CT, or there are too many to look at");
  const buttons = Object.entries(KEYS).map(([letter, d]) => element("button", { id: `decide-${d}`, className: decided.get(n) === d ? "on" : "", title: DECISIONS[d], disabled: !patient.place, onclick: () => decide(d) }, element("kbd", {}, letter), ` ${d}`));
  card.replaceChildren(
    element("h2", {}, element("span", {}, `${data.rois[s.roi].name} of `, link(patient.label, () => openPatient(s.patient))), element("span", { className: `badge ${s.leftOut ? "stop" : "look"}` }, s.leftOut ? "left out" : "look at")),
    picture,
    element("ul", {}, ...s.reasons.map((r) => element("li", {}, r))),
    element("div", { className: "buttons" }, ...buttons, element("span", { className: "faint" }, patient.place ? "" : "no patient ID and no folder of its own: give it one first", others > 0 ? ` ${others} more of this patient` : "")),
    ...strips(s.roi, s.patient));
  document.body.dataset.shown = n;
}

function goTo(patient, roi) {
  const n = suspicionOf.get(key(patient, roi));
  if (n === undefined) { openPatient(patient); return; }
  if (!shown.includes(n)) { byId("roi").value = byId("patient").value = ""; filter(); }
  at = shown.indexOf(n);
  draw();
  window.scrollTo({ top: 0 });
}

function openPatient(patient) {
  const panel = byId(`patient-${patient}`);
  panel.open = true;
  panel.scrollIntoView({ block: "center" });
}

function filter() {
  const [roi, patient] = [byId("roi").value, byId("patient").value];
  shown = data.suspicions.map((_, n) => n).filter((n) => (roi === "" || data.suspicions[n].roi === Number(roi)) && (patient === "" || data.suspicions[n].patient === Number(patient)));
  at = 0;
}

function move(by) {
  at = Math.max(0, Math.min(shown.length - 1, at + by));
  draw();
}

// -- the page ------------------------------------------------------------------------------------------------------

function choices(id, names, all) {
  const counted = names.map((name, n) => [name, n, data.suspicions.filter((s) => s[id] === n).length]).filter(([, , count]) => count);
  byId(id).append(element("option", { value: "" }, `${all} (${data.suspicions.length})`), ...counted.map(([name, n, count]) => element("option", { value: String(n) }, `${name} (${count})`)));
  byId(id).addEventListener("change", () => { filter(); draw(); });
}

function lazily(summary, id, content) {
  const panel = element("details", { id }, element("summary", {}, summary));
  panel.addEventListener("toggle", () => { if (panel.open && panel.children.length === 1) panel.append(...content()); });
  return panel;
}

function patientContent(p) {
  const patient = data.patients[p], mine = data.contours.filter((c) => c[0] === p);
  const head = element("tr", {}, ...["ROI", ...data.figures.map((f) => f.label), ""].map((text) => element("th", {}, text)));
  const rows = mine.map((c) => element("tr", {}, element("td", {}, data.rois[c[1]].name), ...data.figures.map((_, f) => element("td", {}, number(c[2 + f], f))),
    element("td", { className: "words" }, suspicionOf.has(key(p, c[1])) ? link("look at it", () => goTo(p, c[1])) : "")));
  const exclude = element("button", { className: "copy", disabled: !patient.place, onclick: () => { decided.set(`p${p}`, "exclude"); history.push(`p${p}`); copy(excludeLines().find((l) => l.startsWith(patient.place + ":")), "a line of the list for --exclude"); draw(); } }, "exclude");
  return [element("ul", {}, ...patient.findings.map((f) => element("li", {}, `${f.leftOut ? "left out: " : ""}${f.text}`))), element("p", {}, exclude), element("div", { className: "scroll" }, element("table", {}, head, ...rows))];
}

choices("roi", data.rois.map((r) => r.name), "all");
choices("patient", data.patients.map((p) => p.label), "all");
byId("definitions").textContent = data.figures.map((f) => `${f.label}: ${f.definition}`).join("; ") + ". Squares are suspicious, filled ones left out; a click opens the contour or its patient.";
byId("distributions").append(...data.rois.map((roi, r) => lazily(`${roi.name}: ${contoursOf.get(r).length} patients, ${data.suspicions.filter((s) => s.roi === r).length} suspicious`, `roi-${r}`, () => strips(r, -1))));
byId("patients").append(...data.patients.map((patient, p) => lazily(patient.label + (patient.findings.length ? `: ${patient.findings.map((f) => f.text).join("; ")}` : ""), `patient-${p}`, () => patientContent(p))));
byId("next").addEventListener("click", () => move(1));
byId("previous").addEventListener("click", () => move(-1));
byId("copy-map").addEventListener("click", () => copy(mapText(), "accepted and absent, for the ROI map"));
byId("copy-exclude").addEventListener("click", () => copy(excludeLines().join("\n"), "the list for --exclude"));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  if (event.key === "ArrowRight" || event.key === "n") move(1);
  else if (event.key === "ArrowLeft" || event.key === "p") move(-1);
  else if (event.key === "u") undo();
  else if (KEYS[event.key]) decide(KEYS[event.key]);
  else return;
  event.preventDefault();
});
filter();
draw();
document.body.dataset.ready = "1";
