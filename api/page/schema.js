// Fields of a JSON schema as a flat list: what a control needs to know of each.

const HIDDEN = ["version", "recipe", "name", "pretraining", "study", "warm_start", "built_on", "kind", "overrides"];

/** Return the fields of a model: path, label, help, type, options, bounds, and the value that `own` has. */
export function fieldsOf(schema, own = {}) {
  return [...walk(schema, schema.$defs ?? {}, own, "")];
}

function* walk(node, defs, own, prefix) {
  for (const [name, given] of Object.entries(node.properties ?? {})) {
    if (prefix === "" && HIDDEN.includes(name)) continue;
    if (prefix === "run." && HIDDEN.includes(name)) continue;
    const path = prefix + name;
    const { found, isNullable } = resolved(given, defs);
    const preset = own?.[name];
    if (found.properties) yield* walk(found, defs, preset, `${path}.`);
    else if (found.type === "object") yield* entries(found, path, preset, given.description);
    else yield describe(path, found, given, preset, isNullable);
  }
}

/** A mapping, such as a search space, has a field for each of its entries. */
function* entries(node, path, preset, help) {
  for (const [name, value] of Object.entries(preset ?? {})) {
    const shown = Object.fromEntries(Object.entries(value).filter(([, part]) => part !== null && part !== false && JSON.stringify(part) !== "{}"));
    yield { path: `${path}.${name}`, label: name, help: "Values that are tried, as JSON; null takes the field out of the search.", type: "any", preset: shown };
  }
}

function resolved(node, defs) {
  let found = follow(node, defs);
  const choices = found.anyOf ?? found.oneOf ?? found.allOf;
  const isNullable = Boolean(choices?.some((one) => one.type === "null"));
  if (choices) {
    const real = choices.filter((one) => one.type !== "null");
    found = real.length === 1 ? { ...follow(real[0], defs), description: found.description } : { ...found, type: "any" };
  }
  return { found, isNullable };
}

function follow(node, defs) {
  let found = node;
  while (found.$ref) found = { ...found, ...defs[found.$ref.split("/").at(-1)], $ref: defs[found.$ref.split("/").at(-1)].$ref };
  return found;
}

function describe(path, found, given, preset, isNullable) {
  const type = found.type ?? "any";
  return {
    path, type, preset: preset ?? given.default,
    label: path.split(".").at(-1).replaceAll("_", " "),
    help: (given.description ?? found.description ?? "").replaceAll("`", "").replace(/\s+/g, " "),
    options: found.enum ?? null,
    isNumber: type === "number" || type === "integer",
    bounds: [boundsOf(found), type === "integer" ? "whole" : "", isNullable ? "or null" : ""].filter(Boolean).join(", "),
  };
}

function boundsOf({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }) {
  const low = minimum ?? exclusiveMinimum, high = maximum ?? exclusiveMaximum;
  if (low !== undefined && high !== undefined) return `${low} ${exclusiveMinimum === undefined ? "≤" : "<"} … ${exclusiveMaximum === undefined ? "≤" : "<"} ${high}`;
  if (low !== undefined) return `${exclusiveMinimum === undefined ? "≥" : ">"} ${low}`;
  return high === undefined ? "" : `${exclusiveMaximum === undefined ? "≤" : "<"} ${high}`;
}
