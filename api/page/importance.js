// Importances of the searched fields, as the report of the sweep recorded them.

import { bar, make, soft } from "./elements.js";

export function importances({ importances: found, parameters, sweep }) {
  const shares = Object.entries(found.values).sort(([, a], [, b]) => b - a);
  if (!shares.length) return [soft(`There are no importances: ${found.reason ?? "none was found"}.`)];
  const names = Object.fromEntries(parameters.map(({ name, label }) => [name, label]));
  return [
    soft(`Share of the variance of ${sweep.objective} over all configurations that each field explains (fANOVA).`),
    make("table", { class: "importances" }, make("tbody", {}, shares.map(([name, share]) => make("tr", {},
      make("th", { scope: "row", title: name }, names[name] ?? name), make("td", { class: "wide" }, bar(share)),
      make("td", { class: "number" }, `${(100 * share).toFixed(1)} %`))))),
  ];
}
