// What is printed: every finding with its axial pictures, then tables, on white.

const PICTURE_PX = [460, 400];
const MOST_PICTURES = 4;

// The first, the last and what lies evenly between, where there are too many.
function someOf(slices) {
  if (slices.length <= MOST_PICTURES) return slices;
  return Array.from({ length: MOST_PICTURES }, (_, n) => slices[Math.round((n * (slices.length - 1)) / (MOST_PICTURES - 1))]);
}

// The slices of a finding; where it names none, the middle of its ROI.
function slicesOf(flag, roi) {
  if (flag.slices.length) return someOf(flag.slices);
  const middle = roi && middleOf(roi);
  return middle ? [middle.k] : [];
}

function printedFinding(flag) {
  const roi = rois.find((one) => one.name === flag.roi), axial = views[0];
  const pictures = slicesOf(flag, roi).map((k) => {
    const picture = axial.picture(k, ...PICTURE_PX);
    return element("figure", {}, picture, element("figcaption", {}, `${axial.name} ${k + 1} of ${axial.count}, ${axial.label(k)}`));
  });
  const words = [flag.reason, flag.figure].filter(Boolean).join(" · ");
  const rest = flag.slices.length > MOST_PICTURES ? ` (${pictures.length} of ${flag.slices.length} slices shown)` : "";
  return element("article", {}, element("h3", {}, `${flag.roi || "whole scan"}: ${words}${rest}`), element("div", { className: "pictures" }, ...pictures));
}

function preparePrint() {
  if (!views.length) return;
  const found = data.flags.map(printedFinding);
  byId("paper-findings").replaceChildren(...(found.length ? found : [element("p", {}, data.flagsKnown ? "No flags." : "Flags were not looked for.")]));
  const lines = rois.map((roi) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = roi.color;
    return element("tr", {}, element("td", {}, swatch, roi.name), element("td", {}, roi.verdict), element("td", {}, roi.figure));
  });
  byId("paper-rois").replaceChildren(element("thead", {}, element("tr", {}, element("th", {}, "ROI"), element("th", {}, rois.some((roi) => roi.verdict) ? "verdict" : ""), element("th", {}, data.figure))), element("tbody", {}, ...lines));
}

window.addEventListener("beforeprint", preparePrint);
