// Figures and times as text: one way of writing each everywhere.

export const NONE = "–";

export const when = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

export function ago(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (passed >= size) return `${Math.floor(passed / size)} ${unit} ago`;
  }
  return "just now";
}

export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Return a figure: two decimals for a percentage, four significant digits otherwise. */
export function figure(value, unit) {
  if (value === null || value === undefined) return NONE;
  return unit === "%" ? value.toFixed(2) : String(Number(value.toPrecision(4)));
}

export const spread = (row, unit) =>
  row.value === null ? NONE : `${figure(row.value, unit)}${row.std === null ? "" : ` ± ${figure(row.std, unit)}`}`;

/** Return where a configuration ended if it did not train to the end: figures of other epochs are not alike. */
export const early = (row) => (row.state === "finished" ? "" : `${row.state} at epoch ${row.epochs_done}`);

export const signed = (value, unit) =>
  value === null ? NONE : `${value < 0 ? "−" : "+"}${figure(Math.abs(value), unit)}`;

/** Return the 95 % interval of a mean; a percentage ends at 0 and at 100. */
export function interval([low, high], unit) {
  const [least, most] = unit === "%" ? [Math.max(0, low), Math.min(100, high)] : [low, high];
  return `${figure(least, unit)} … ${figure(most, unit)}`;
}

/** Return the value of a field as text. */
export function setting(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  if (Array.isArray(value)) return value.map(setting).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function count(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

export const MEMBERS = { mean: "mean of peers", best: "best peer", ensemble: "ensemble", cohort: "cohort" };
export const member = (name) => MEMBERS[name] ?? name.replace(/^peer(\d+)$/, "peer $1");
