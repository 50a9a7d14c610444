// The curves of one run: accuracies of each peer, their mean and the ensemble, the terms of the loss, and the peers' spread.

import { chart } from "./chart.js";
import { make, soft } from "./elements.js";
import { member } from "./text.js";

const LOSSES = {
  loss: "total (weighted)", cross_entropy: "cross-entropy", vcl: "VCL (alpha)", icl: "ICL (beta)",
  soft_vcl: "Soft-VCL (gamma)", soft_icl: "Soft-ICL (lam)", logit_distillation: "logit distillation",
};
const SPLITS = ["validation", "test"];
const PEER_MARKS = 7;

const rank = (name) => (name.startsWith("peer") ? 1 + Number(name.slice(4)) : { mean: 0, ensemble: 1000 }[name] ?? 999);
const mark = (name) => (name.startsWith("peer") ? `peer c${Number(name.slice(4)) % PEER_MARKS}` : name);

/** Return the curves of a run: its element, and `update(rows)` for rows of the table of epochs. */
export function runCurves() {
  const accuracy = Object.fromEntries(SPLITS.map((split) => [split, chart(`Top-1 accuracy, ${split} (%)`, { unit: "%" })]));
  const losses = chart("Training loss and its terms", { mayBeLog: true });
  const agreement = chart("Images on which two peers agree, mean over pairs (%)", { unit: "%" });
  const apart = chart("Between the peers (percentage points)");
  const empty = soft("No epoch has ended yet. Curves appear here with the first one.");
  const charts = [...SPLITS.map((split) => accuracy[split]), losses, agreement, apart];
  const element = make("div", { class: "charts" }, charts.map((one) => one.element), empty);
  const update = (rows) => {
    const sorted = [...rows].sort((a, b) => a.epoch - b.epoch);
    for (const split of SPLITS) {
      const found = sorted.filter((row) => row.split === split && row.metric.endsWith("top1") && row.member !== "best");
      const isOneOfTwo = split === "test" && sorted.some((row) => row.split === SPLITS[0]) && new Set(found.map((row) => row.epoch)).size < 2;
      accuracy[split].update(isOneOfTwo ? [] : linesOf(found, (row) => row.member));  // a single point is no curve
    }
    losses.update(Object.entries(LOSSES).map(([metric, name], at) => ({ name, mark: metric === "loss" ? "ensemble" : `peer c${at - 1}`,
      points: pointsOf(sorted, (row) => row.split === "train" && row.member === "cohort" && row.metric === metric) })));
    agreement.update(SPLITS.map((split, at) => ({ name: split, mark: `peer c${at}`,
      points: pointsOf(sorted, (row) => row.split === split && row.metric.endsWith("agreement")) })));
    apart.update(apartOf(sorted));
    empty.hidden = rows.length > 0;
  };
  update([]);
  return { element, update };
}

const pointsOf = (rows, fits) => rows.filter(fits).map((row) => [row.epoch, row.value]);

function linesOf(rows, key) {
  const names = [...new Set(rows.map(key))].sort((a, b) => rank(a) - rank(b));
  return names.map((name) => ({ name: member(name), mark: mark(name), points: pointsOf(rows, (row) => key(row) === name) }));
}

/** Return how far the peers are apart, and what their ensemble gains over their mean, on the first scored split. */
function apartOf(rows) {
  const split = SPLITS.find((name) => rows.some((row) => row.split === name && row.metric.endsWith("top1")));
  const byEpoch = new Map();
  for (const row of rows) {
    if (row.split !== split || !row.metric.endsWith("top1") || row.value === null) continue;
    if (!byEpoch.has(row.epoch)) byEpoch.set(row.epoch, {});
    byEpoch.get(row.epoch)[row.member] = row.value;
  }
  const peers = (values) => Object.entries(values).filter(([name]) => name.startsWith("peer")).map(([, value]) => value);
  const entries = [...byEpoch].filter(([, values]) => peers(values).length > 1);
  return [
    { name: `best − worst peer, ${split}`, mark: "peer c0", points: entries.map(([epoch, values]) => [epoch, Math.max(...peers(values)) - Math.min(...peers(values))]) },
    { name: `ensemble − mean of peers, ${split}`, mark: "peer c1", points: entries.filter(([, values]) => "ensemble" in values).map(([epoch, values]) => [epoch, values.ensemble - values.mean]) },
  ];
}
