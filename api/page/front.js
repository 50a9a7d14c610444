// The score against each cost, with the configurations that no other one beats in both.

import { caption } from "./answer.js";
import { make, soft, svg } from "./elements.js";
import { drawnTo, frame, limitsOf } from "./scale.js";
import { count, duration, early, figure } from "./text.js";

const HEIGHT = 280;
const LOG_FROM_RATIO = 20;

export function fronts({ configurations, costs, parameters, sweep }) {
  const panels = costs.map((cost) => [cost, configurations.filter((row) => row.score !== null && !row.is_compared && cost.name in row.costs)])
    .filter(([, rows]) => rows.length > 1);
  if (!panels.length) return [soft("Every configuration costs the same, so that there is nothing to trade.")];
  return [
    soft("Filled points are on the front: no other configuration has a better score at this cost or less. The number is the place in the ranking; a configuration that did not train to its end has its epoch beside it."),
    make("div", { class: "charts" }, panels.map(([cost, rows]) => panel(cost, rows, sweep, parameters))),
  ];
}

function panel(cost, rows, sweep, parameters) {
  const plot = make("div", { class: "plot" });
  const format = cost.is_time ? duration : count;
  const best = rows.filter((row) => row.front.includes(cost.name));
  const listed = best.map((row) => [`place ${row.place}: ${figure(row.score, sweep.unit)} at ${format(row.costs[cost.name])}`, early(row)].filter(Boolean).join(", ")).join("; ");
  drawnTo(plot, (width) => draw(width, cost, rows, sweep, parameters, format));
  return make("figure", { class: "chart", role: "group", "aria-label": `Score against ${cost.label}. On the front: ${listed}` },
    make("figcaption", {}, `Score${sweep.unit && ` (${sweep.unit})`} against ${cost.label.toLowerCase()}`), plot);
}

function draw(width, cost, rows, sweep, parameters, format) {
  const prices = rows.map((row) => row.costs[cost.name]);
  const isLog = Math.min(...prices) > 0 && Math.max(...prices) / Math.min(...prices) > LOG_FROM_RATIO;
  const { elements, across, up } = frame({
    width, height: HEIGHT,
    x: { limits: limitsOf(prices, "", isLog), label: cost.label.toLowerCase(), isLog, format },
    y: { limits: limitsOf(rows.map((row) => row.score), sweep.unit), unit: sweep.unit },
  });
  const isOn = (row) => row.front.includes(cost.name);
  const sign = sweep.mode === "max" ? 1 : -1;
  const line = rows.filter(isOn).sort((a, b) => a.costs[cost.name] - b.costs[cost.name] || sign * (a.score - b.score));
  const steps = line.map((row, at) => `${at ? `H${across(row.costs[cost.name]).toFixed(1)}V` : `M${across(row.costs[cost.name]).toFixed(1)} `}${up(row.score).toFixed(1)}`).join("");
  const point = (row) => svg("circle", { class: isOn(row) ? "point on-front" : "point", cx: across(row.costs[cost.name]), cy: up(row.score), r: isOn(row) ? 5 : 4 },
    svg("title", {}, `place ${row.place}: ${figure(row.score, sweep.unit)}, ${format(row.costs[cost.name])}; ${[early(row), caption(row, parameters)].filter(Boolean).join("; ")}`));
  const epoch = (row) => svg("text", { class: "place", x: across(row.costs[cost.name]) + 8, y: up(row.score) + 4 }, `epoch ${row.epochs_done}`);
  const label = (row) => svg("text", { class: "place", x: across(row.costs[cost.name]) - 8, y: up(row.score) - 7, "text-anchor": "end" }, String(row.place));
  return svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" }, elements,
    line.length > 1 && svg("path", { class: "front", d: steps }), rows.filter((row) => !isOn(row)).map(point), line.map(point),
    line.length <= 12 && line.map(label), rows.filter(early).map(epoch));
}
