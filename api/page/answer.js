// The answer of a sweep: which configuration to use, and how sure that is, in words that do not claim more than is known.

import { make } from "./elements.js";
import { figure, interval, member, setting, signed, spread } from "./text.js";

/** Return the words on a difference: whether it can be told from the noise of the seeds. */
export function significance(best, other) {
  if (other.state === "running") return { text: `cannot be told: it runs, at epoch ${other.epochs_done}`, mark: "unsure" };
  if (best.n < 2 || other.n < 2) return { text: "cannot be told from one seed", mark: "unsure" };
  if (!other.paired) return { text: "cannot be told: no seeds in common", mark: "unsure" };
  return other.paired.excludes_zero ? { text: "more than the noise", mark: "sure" } : { text: "within the noise", mark: "unsure" };
}

function certainty({ best, runner_up: second, own_point: own, baseline }, isEnded) {
  const when = isEnded ? "" : " The sweep goes on, so that this may change.";
  if (best.n < 2) {
    return `How sure: not known. ${best.num_planned > 1 ? "Only one of its seeds has a value" : "Each configuration was trained with one seed"}, ` +
      `so nothing is known of the noise${isEnded ? "; repeats=3 would tell" : ""}.${when}`;
  }
  const parts = [second && !second.is_best && ["the runner-up", second], own && !own.is_best && [`the ${ownName(own)}`, own],
    baseline && ["the baseline", baseline]].filter(Boolean);
  const unsure = parts.filter(([, other]) => significance(best, other).mark === "unsure").map(([name]) => name);
  if (!parts.length) return `How sure: there is nothing to compare it with.${when}`;
  if (!unsure.length) return `How sure: over ${best.n} seeds it differs from ${parts.map(([name]) => name).join(" and ")} by more than the noise.${when}`;
  return `How sure: not very. Over ${best.n} seeds its lead on ${unsure.join(" and on ")} is within the noise, so either may be as good.${when}`;
}

const ownName = (own) => (own?.is_published ? "published weights" : "recipe's own values");

export const fields = (row, parameters) => make("dl", { class: "fields" }, parameters
  .filter(({ name }) => name in row.searched)
  .map(({ name, label }) => make("div", {}, make("dt", { title: name }, label), make("dd", {}, setting(row.searched[name])))));

export const caption = (row, parameters) => parameters.filter(({ name }) => name in row.searched)
  .map(({ name, label }) => `${label} ${setting(row.searched[name])}`).join(", ");

/** Return the card of a sweep's answer. */
export function sweepAnswer(summary, isEnded, exporting) {
  const { answer, sweep, parameters } = summary;
  const { best } = answer;
  const unit = sweep.unit;
  const rows = [["best", best, null], ["runner-up", answer.runner_up, answer.runner_up], [ownName(answer.own_point), answer.own_point, answer.own_point],
    ["baseline", answer.baseline, answer.baseline]]
    .filter(([name, row]) => row && !(name !== "best" && row.is_best));
  return make("section", { class: "card answer", "aria-labelledby": "answer" },
    make("div", { class: "choice" },
      make("h2", { id: "answer" }, isEnded ? "Use this configuration" : "Best so far"),
      fields(best, parameters),
      answer.own_point?.is_best && make("p", { class: "soft" }, `These are the ${ownName(answer.own_point)}.`),
      make("p", { class: "value" }, make("strong", {}, figure(best.value, unit)),
        best.std === null ? "" : ` ± ${figure(best.std, unit)}`, unit && ` ${unit}`,
        make("span", { class: "soft" }, ` n = ${best.n} ${best.n === 1 ? "seed" : "seeds"}`)),
      make("p", { class: "soft" }, sweep.label, best.interval ? `; 95 % interval of the mean ${interval(best.interval, unit)}` : "", ".",
        sweep.configurations > 2 && ` It was picked as the best of ${sweep.configurations} by this very figure, which flatters it.`),
      answer.test.length > 0 && make("p", {}, "On the test images, read once, for it alone: ",
        answer.test.map((score) => `${score.member} ${spread(score, "%")} %`).join(", "), ` (n = ${answer.test[0].n}).`)),
    make("div", { class: "sureness" },
      make("p", { class: "certainty" }, certainty(answer, isEnded)),
      answer.no_own_point && make("p", { class: "soft" }, `Not compared with the recipe's own values: ${answer.no_own_point}.`),
      rows.length > 1 && make("div", { class: "scroll" }, comparison(rows, best, unit, parameters))),
    exporting);
}

function comparison(rows, best, unit, parameters) {
  const difference = (other) => {
    const value = other.paired ? other.paired.mean : other.difference;
    const range = other.paired && ` (${signed(other.paired.low, unit)} … ${signed(other.paired.high, unit)})`;
    return [make("span", {}, signed(value, unit)), range && make("span", { class: "soft" }, range)];
  };
  return make("table", { class: "comparison" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), make("th", { scope: "col", class: "number" }, `value${unit && ` (${unit})`}`),
      make("th", { scope: "col", class: "number" }, "n"), make("th", { scope: "col" }, "the best leads by"))),
    make("tbody", {}, rows.map(([name, row, other]) => make("tr", {},
      make("th", { scope: "row" }, name, name === "best" ? null : make("small", {}, caption(row, parameters), row.state === "finished" ? "" : ` (${row.state} after ${row.epochs_done} epochs)`)),
      make("td", { class: "number" }, spread(row, unit)), make("td", { class: "number n" }, String(row.n)),
      make("td", {}, other && difference(other), other && make("span", { class: `significance ${significance(best, other).mark}` }, significance(best, other).text))))));
}

/** Return the card of a run: its accuracies at the last epoch. */
export function runAnswer(rows, planned) {
  const scored = rows.filter((row) => row.metric.endsWith("top1") && row.value !== null);
  if (!scored.length) return null;
  const last = Math.max(...scored.map((row) => row.epoch));
  const split = scored.some((row) => row.epoch === last && row.split === "test") ? "test" : "validation";
  const now = scored.filter((row) => row.epoch === last && row.split === split);
  const shown = ["ensemble", "mean", "best"].flatMap((name) => now.filter((row) => row.member === name));
  return make("section", { class: "card answer", "aria-labelledby": "answer" },
    make("h2", { id: "answer" }, `Epoch ${last}${planned ? ` of ${planned}` : ""}: top-1 on the ${split} images`),
    make("dl", { class: "scores" }, shown.map((row) => make("div", {}, make("dt", {}, member(row.member)), make("dd", {}, `${row.value.toFixed(2)} %`)))));
}
