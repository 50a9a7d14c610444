// Scales of axes, their ticks, and the frame that every plot shares.

import { svg } from "./elements.js";
import { count, figure } from "./text.js";

const STEPS = [1, 2, 2.5, 5, 10];

/** Return round numbers from `low` to `high`, about `most` of them. */
export function ticksOf(low, high, most, isWhole = false) {
  if (!(high > low)) return [low];
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = power * STEPS.find((part) => part * power >= raw * 0.999);
  if (isWhole) step = Math.max(1, Math.round(step));
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) ticks.push(Number((at * step).toPrecision(12)));
  return ticks;
}

/** Return the limits of an axis with a margin; those of a percentage stay within 0 and 100. */
export function limitsOf(values, unit = "", isLog = false) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (isLog) return [low, high > low ? high : low * 10];
  const margin = high > low ? (high - low) * 0.06 : Math.max(1e-9, Math.abs(high) * 0.05) || 1;
  [low, high] = [low - margin, high + margin];
  return unit === "%" ? [Math.max(0, low), Math.min(100, high)] : [low, high];
}

/** Return the function from a value to its place between `from` and `to`. */
export function scaleOf([low, high], from, to, isLog = false) {
  const place = isLog ? Math.log10 : (value) => value;
  const [start, end] = [place(low), place(high)];
  return (value) => from + (end > start ? (place(value) - start) / (end - start) : 0.5) * (to - from);
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const part of [1, 2, 5]) ticks.push(part * 10 ** power);
  }
  const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length > 6 ? inside.filter((tick) => /^1/.test(tick.toExponential())) : inside;
}

/** Draw both axes with their ticks; return the elements and the two scales. */
export function frame({ width, height, x, y }) {
  const box = { left: 46, right: width - 14, top: 10, bottom: height - 40 };
  const across = scaleOf(x.limits, box.left, box.right, x.isLog);
  const up = scaleOf(y.limits, box.bottom, box.top, y.isLog);
  const yTicks = y.isLog ? logTicks(...y.limits) : ticksOf(...y.limits, 5);
  const xTicks = x.isLog ? logTicks(...x.limits) : ticksOf(...x.limits, Math.max(2, Math.floor(width / 90)), x.isWhole);
  const text = (value, at, anchor) => svg("text", { ...at, "text-anchor": anchor }, value);
  return {
    box, across, up,
    elements: [
      ...yTicks.map((tick) => svg("line", { class: "grid", x1: box.left, x2: box.right, y1: up(tick), y2: up(tick) })),
      ...yTicks.map((tick) => text(y.unit === "%" ? String(tick) : count(tick), { x: box.left - 7, y: up(tick) + 4 }, "end")),
      ...xTicks.map((tick) => text(x.format ? x.format(tick) : figure(tick), { x: across(tick), y: box.bottom + 18 }, "middle")),
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
      text(x.label, { x: box.right, y: height - 5, class: "label" }, "end"),
    ],
  };
}

/** Draw again whenever the width of the element changes. */
export function drawnTo(element, draw) {
  let last = 0;
  const redraw = () => {
    const width = Math.floor(element.clientWidth);
    if (width > 0) element.replaceChildren(draw(width));
    last = width;
  };
  new ResizeObserver(() => { if (Math.floor(element.clientWidth) !== last) redraw(); }).observe(element);
  return redraw;
}
