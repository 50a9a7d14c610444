// A chart of lines over epochs. Its legend has the values at the cursor, which the pointer or the arrow keys move.

import { make, replace, svg } from "./elements.js";
import { drawnTo, frame, limitsOf } from "./scale.js";
import { figure } from "./text.js";

const LOG_FROM_RATIO = 20;

/**
 * Return a chart: its element, and `update(lines)`, which draws it again.
 * A line has a `name`, `points` as [epoch, value], a `mark` (class of its stroke), and `isQuiet` if the legend leaves it out.
 */
export function chart(title, { unit = "", mayBeLog = false } = {}) {
  const plot = make("div", { class: "plot" });
  const legend = make("table", { class: "legend" });
  const scaleNote = make("span", { class: "soft" });
  const element = make("figure", { class: "chart", tabindex: "0", role: "group", "aria-label": `${title}. Left and right arrow keys move along the epochs.` },
    make("figcaption", {}, title, " ", scaleNote), plot, legend);
  let lines = [], cursor = null, view = null;
  const epochs = () => [...new Set(lines.flatMap((line) => line.points.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  const redraw = drawnTo(plot, (width) => {
    view = draw(width, lines, unit, mayBeLog, cursor);
    scaleNote.textContent = view.isLog ? "logarithmic" : "";
    return view.element;
  });
  const show = (at) => {
    cursor = at;
    redraw();
    replace(legend, legendRows(lines, unit, cursor));
  };
  plot.addEventListener("pointermove", (event) => {
    const known = epochs();
    if (!view || !known.length) return;
    const x = event.clientX - plot.getBoundingClientRect().left;
    const nearest = known.reduce((a, b) => (Math.abs(view.across(b) - x) < Math.abs(view.across(a) - x) ? b : a));
    if (nearest !== cursor) show(nearest);
  });
  plot.addEventListener("pointerleave", () => show(null));
  element.addEventListener("blur", () => show(null));
  element.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const known = epochs();
    if (event.key === "Escape") show(null);
    if (!step || !known.length) return;
    event.preventDefault();
    const at = cursor === null ? known.length : known.indexOf(cursor);
    show(known[Math.min(known.length - 1, Math.max(0, at + step))]);
  });
  const update = (next) => {
    lines = next.filter((line) => line.points.length);
    element.hidden = !lines.length;
    show(cursor);
  };
  update([]);
  return { element, update };
}

function legendRows(lines, unit, cursor) {
  const named = lines.filter((line) => !line.isQuiet);
  if (!named.length) return [];
  const last = Math.max(...named.map((line) => line.points.at(-1)[0]));
  const at = cursor ?? last;
  const value = (line) => (cursor === null ? line.points.at(-1) : line.points.find(([epoch]) => epoch === cursor))?.[1];
  return [
    make("thead", {}, make("tr", {}, make("th", { scope: "col", colspan: "2" }, "epoch"), make("td", { class: "number" }, String(at)))),
    make("tbody", {}, named.map((line) => make("tr", {},
      make("td", {}, svg("svg", { class: "swatch", width: 30, height: 10, "aria-hidden": "true" },
        svg("line", { class: `stroke ${line.mark}`, x1: 1, x2: 29, y1: 5, y2: 5 }))),
      make("th", { scope: "row" }, line.name), make("td", { class: "number" }, figure(value(line), unit))))),
  ];
}

function draw(width, lines, unit, mayBeLog, cursor) {
  const height = width < 480 ? 210 : 260;
  const drawn = lines.map((line) => ({ ...line, points: line.points.filter(([, value]) => value !== null) }));
  const values = drawn.flatMap((line) => line.points.map(([, value]) => value));
  const epochs = drawn.flatMap((line) => line.points.map(([epoch]) => epoch));
  const element = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (!values.length) return { element, isLog: false };
  const isLog = mayBeLog && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > LOG_FROM_RATIO;
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const { elements, across, up, box } = frame({
    width, height,
    x: { limits: [first, last], label: "epoch", isWhole: true },
    y: { limits: limitsOf(values, unit, isLog), unit, isLog },
  });
  element.append(...elements);
  for (const line of drawn) {
    const path = line.points.map(([epoch, value], at) => `${at ? "L" : "M"}${across(epoch).toFixed(1)} ${up(value).toFixed(1)}`).join("");
    element.append(svg("path", { class: `stroke ${line.mark}`, d: path }));
    if (line.points.length === 1) element.append(svg("circle", { class: `dot ${line.mark}`, cx: across(first), cy: up(line.points[0][1]), r: 3.5 }));
  }
  if (cursor !== null && cursor >= first && cursor <= last) {
    element.append(svg("line", { class: "cursor", x1: across(cursor), x2: across(cursor), y1: box.top, y2: box.bottom }));
    for (const line of drawn.filter((one) => !one.isQuiet)) {
      const point = line.points.find(([epoch]) => epoch === cursor);
      if (point) element.append(svg("circle", { class: `dot ${line.mark}`, cx: across(cursor), cy: up(point[1]), r: 3.5 }));
    }
  }
  return { element, isLog, across };
}
