// Parallel coordinates: one line for each configuration across the axes of the searched fields and of the score.

import { caption } from "./answer.js";
import { make, soft, svg } from "./elements.js";
import { drawnTo, limitsOf, scaleOf, ticksOf } from "./scale.js";
import { early, figure } from "./text.js";

const HEIGHT = 320;
const AXIS_WIDTH = 84;
const TOP = 40;
const SHADES = 5;

export function coordinates({ configurations, parameters, sweep }) {
  const rows = configurations.filter((row) => row.positions && row.score !== null);
  const axes = parameters.filter((one) => one.limits);
  if (rows.length < 2 || !axes.length) return [soft("At least two configurations with a score are needed.")];
  const readout = make("p", { class: "readout soft", "aria-live": "polite" });
  const plot = make("div", { class: "plot coordinates" });
  const scores = rows.map((row) => row.score);
  const last = { label: `score${sweep.unit && ` (${sweep.unit})`}`, limits: limitsOf(scores, sweep.unit) };
  last.ticks = ticksOf(...last.limits, 5).map((tick) => [tick, figure(tick)]);
  let chosen = 0;
  const text = () => {
    const row = rows[chosen];
    readout.textContent = `${row.place}. ${figure(row.score, sweep.unit)}${sweep.unit && ` ${sweep.unit}`}${early(row) && `, ${early(row)}`}: ${caption(row, parameters)}`;
  };
  const choose = (at) => { chosen = at; redraw(); text(); };
  const redraw = drawnTo(plot, (width) => draw(Math.max(width, (axes.length + 1) * AXIS_WIDTH), rows, [...axes, last], chosen, choose));
  const move = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(Math.min(rows.length - 1, Math.max(0, chosen + step)));
  };
  text();
  return [
    soft("One line for each configuration, stronger for better, dashed and with its epoch if it did not train to its end. Point at a line, or move by the arrow keys, to read it."), readout,
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Parallel coordinates. Arrow keys move along the ranking.", onkeydown: move }, plot),
  ];
}

function draw(width, rows, axes, chosen, choose) {
  const height = HEIGHT;
  const x = (at) => 40 + at * ((width - 80) / (axes.length - 1));
  const scales = axes.map((axis) => scaleOf(widened(axis.limits), height - 16, TOP));
  const path = (row) => [...row.positions, row.score].map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${scales[at](value).toFixed(1)}`).join("");
  const shade = (at) => `shade${SHADES - 1 - Math.min(SHADES - 1, Math.floor((at / rows.length) * SHADES))}`;
  const order = [...rows.keys()].reverse().filter((at) => at !== chosen);
  const lines = [...order, chosen].map((at) => svg("path", { class: `way ${at === chosen ? "chosen" : shade(at)}${early(rows[at]) && " early"}`, d: path(rows[at]),
    onpointerenter: () => { if (at !== chosen) choose(at); } }));
  const frames = axes.map((axis, at) => svg("g", {},
    svg("line", { class: "axis", x1: x(at), x2: x(at), y1: TOP, y2: height - 16 }),
    svg("text", { class: "label", x: x(at), y: 16, "text-anchor": at === 0 ? "start" : at === axes.length - 1 ? "end" : "middle", dx: at === 0 ? -36 : at === axes.length - 1 ? 36 : 0 }, axis.label),
    axis.ticks.map(([value, name]) => [scales[at](value), name]).filter(([y]) => y >= TOP - 1 && y <= height - 15).map(([y, name]) =>
      svg("text", { class: "tick", x: x(at) + 6, y: y + 4 }, name))));
  const epochs = rows.filter(early).map((row) =>
    svg("text", { class: "tick", x: x(axes.length - 1) - 6, y: scales.at(-1)(row.score) + 4, "text-anchor": "end" }, `epoch ${row.epochs_done}`));
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, lines, frames, epochs);
}

const widened = ([low, high]) => (high > low ? [low, high] : [low - 0.5, low + 0.5]);
