// The ranking of a sweep: one row for each configuration, with the interval of its mean drawn on a common axis.

import { make, soft, svg, table } from "./elements.js";
import { limitsOf, scaleOf } from "./scale.js";
import { figure, interval, NONE, setting, spread } from "./text.js";

const WIDTH = 150;
const SHOWN_AT_FIRST = 25;

export function ranking({ configurations, parameters, sweep }, isWhole, onWhole) {
  const unit = sweep.unit;
  const scored = configurations.filter((row) => row.value !== null);
  const ends = scored.flatMap((row) => row.interval ?? [row.value]);
  const x = ends.length ? scaleOf(limitsOf(ends, unit), 4, WIDTH - 4) : null;
  const headers = ["", ...parameters.map(({ label }) => label), `mean ± std${unit && ` (${unit})`}`, "n", "95 % interval", "epochs", "state"];
  const shown = isWhole ? configurations : configurations.slice(0, SHOWN_AT_FIRST);
  const rows = shown.map((row) => [
    row.place === null ? NONE : String(row.place),
    ...parameters.map(({ name }) => setting(row.searched[name])),
    spread(row, unit),
    `${row.n}${row.n === row.num_planned ? "" : ` of ${row.num_planned}`}`,
    row.value === null ? NONE : drawn(row, x, unit),
    String(row.epochs_done),
    make("span", { class: `state ${row.state}`, title: row.reason }, row.state, row.is_own_point && make("small", {}, " the recipe's own values"),
      row.is_compared && make("small", {}, ` ${row.trial_id}, for comparison`),
      row.reason && make("small", { class: "reason" }, row.reason)),
  ]);
  const last = parameters.length;
  const hidden = configurations.length - shown.length;
  return [
    soft(`${sweep.label}, at the last epoch of each run; ${sweep.mode === "max" ? "highest" : "lowest"} ${sweep.score === "mean" ? "" : `${sweep.score} `}first. `,
      "A bar is the 95 % interval of the mean over seeds; a single dot is one seed, of which nothing is known of the noise."),
    table("Ranking", headers, rows, [0, ...parameters.map((_, at) => at + 1), last + 1, last + 2, last + 4]),
    hidden > 0 && make("button", { type: "button", onclick: onWhole }, `Show ${hidden} more`),
  ];
}

function drawn(row, x, unit) {
  const label = row.interval ? interval(row.interval, unit) : `${figure(row.value, unit)}, one seed`;
  const within = (value) => (unit === "%" ? Math.min(100, Math.max(0, value)) : value);
  return svg("svg", { class: "interval", width: WIDTH, height: 16, role: "img", "aria-label": label },
    svg("title", {}, label),
    row.interval && svg("line", { class: "range", x1: x(within(row.interval[0])), x2: x(within(row.interval[1])), y1: 8, y2: 8 }),
    svg("circle", { class: row.place === 1 ? "point best" : "point", cx: x(row.value), cy: 8, r: 4 }));
}
