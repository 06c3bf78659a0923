// The page of the ROI names of an archive: three tables, and a click that copies a name as the ROI map takes it.

const data = JSON.parse(document.getElementById("data").textContent);

function copy(text) {
  const byHand = () => {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(byHand); else byHand();
  byId("copied").textContent = `copied: ${text.trim()}`;
  document.body.dataset.copied = text;
}

// Volumes on the logarithmic scale that all names of a table share.
function volumes(name, low, high) {
  if (name.median === null) return element("td", { className: "volumes" });
  const x = (v) => 5 + (240 * Math.log(v / low)) / Math.max(Math.log(high / low), 1e-9);
  const svg = drawn("svg", { viewBox: "0 0 250 18", role: "img", "aria-label": `volumes of ${name.name}` });
  svg.append(drawn("line", { class: "grid-line", x1: 0, x2: 250, y1: 9, y2: 9 }));
  for (const [n, v] of name.volumes.entries()) svg.append(drawn("circle", { class: "volume", cx: x(v), cy: 9 + ((n * 7) % 9) - 4, r: 2.5 }, drawn("title", {}, `${v} cm³`)));
  svg.append(drawn("line", { class: "middle", x1: x(name.median), x2: x(name.median), y1: 1, y2: 17 }));
  return element("td", { className: "volumes" }, svg);
}

function table(names, third, thirdOf) {
  const measured = names.flatMap((n) => n.volumes), [low, high] = [Math.min(...measured), Math.max(...measured)];
  const heads = ["name", data.of, third, ...(measured.length ? ["median cm³", `${low} to ${high} cm³`] : [])];
  const rows = names.map((n) => element("tr", { className: "row" },
    element("td", {}, element("button", { className: "name", title: "copy for the ROI map", onclick: () => copy(`    - ${n.yaml}`) }, n.name)),
    element("td", {}, String(n.count)), element("td", { className: "words" }, thirdOf(n)),
    ...(measured.length ? [element("td", {}, n.median === null ? "–" : String(n.median)), volumes(n, low, high)] : [])));
  rows.forEach((row, n) => { row.dataset.text = `${names[n].name} ${names[n].roi} ${names[n].rule}`.toLowerCase(); });
  return element("div", { className: "scroll" }, element("table", {}, element("tr", {}, ...heads.map((h) => element("th", { className: h === third ? "words" : "" }, h))), ...rows));
}

function setAside(names) {
  const rules = new Map();
  for (const n of names) rules.set(`${n.kind}: ${n.rule}`, [...(rules.get(`${n.kind}: ${n.rule}`) || []), n]);
  return [...rules].sort((a, b) => b[1].length - a[1].length).map(([rule, of]) => element("details", { className: "rule" }, element("summary", {}, `${rule} (${of.length})`), table(of, "", () => "")));
}

const of = (fate) => data.names.filter((n) => n.fate === fate);
const section = (title, names, content) => (names.length ? [element("h2", {}, `${title} (${names.length})`), ...content(names)] : []);
byId("sections").append(
  ...section("To decide", of("decide"), (names) => [table(names, "why", (n) => n.rule + (n.organs.length && !n.rule.includes(n.organs[0]) ? `: ${n.organs.join(", ")}?` : ""))]),
  ...section("Mapped", of("map"), (names) => [table(names, "ROI", (n) => n.roi + (n.rule === "an organ" ? "" : ` (${n.rule})`))]),
  ...section("Set aside", of("set aside"), setAside));
byId("remarks").append(...data.remarks.map((text) => element("li", {}, text)));
byId("remarks-section").hidden = !data.remarks.length;
byId("find").addEventListener("input", () => {
  const wanted = byId("find").value.toLowerCase();
  for (const row of document.querySelectorAll(".row")) row.hidden = !row.dataset.text.includes(wanted);
  for (const rule of document.querySelectorAll(".rule")) {
    const found = rule.querySelector(".row:not([hidden])") !== null;
    rule.hidden = !found;
    rule.open = wanted !== "" && found;
  }
});
document.body.dataset.ready = "1";
