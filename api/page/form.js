// The form that submits a job, made from the service's schemas: a control for each field, with its bounds and its help.

import { make, replace, soft } from "./elements.js";
import { fieldsOf } from "./schema.js";
import { newKey, post, read } from "./service.js";

const NAMES = { train: ["recipes", "run"], linear: ["recipes", "run"], sweep: ["searches", "search"], table: ["suites", "suite"] };
const KINDS = {
  sweep: "sweep: search for the best configuration", train: "train: one run of a recipe", table: "table: every row of a published table",
  linear: "linear: classify frozen features", export: "export: networks of a job's run", evaluate: "evaluate: a job's run on the test images",
};
const FROM_SOURCE = ["linear", "export", "evaluate"];
const OPEN = ["", "space", "losses", "cohort", "schedule", "run"];
const SECTIONS = { "": "Search", space: "Search space" };
const CHECK_AFTER_MS = 400;

export async function showForm(main, address, guarded) {
  const form = new Form(await read("/schema"), guarded);
  replace(main, form.element);
  await form.open(address);
  return () => form.close();
}

class Form {
  constructor(schema, guarded) {
    Object.assign(this, { schema, guarded, controls: new Map(), sections: new Map(), known: {}, timer: null, key: newKey(), sent: "" });
    const job = Object.fromEntries(fieldsOf(schema.job).map((field) => [field.path, field]));
    this.kind = make("select", { name: "kind" }, Object.entries(KINDS).map(([value, text]) => make("option", { value }, text)));
    this.name = make("select", { name: "name" });
    this.about = soft();
    this.problem = make("div", { class: "error", role: "alert", tabindex: "-1" });
    this.estimate = make("p", { class: "estimate", role: "status" });
    this.find = make("input", { type: "search", name: "find", placeholder: "alpha, epochs, learning …", oninput: () => this.filter() });
    this.spec = make("div");
    this.named = make("div", {}, this.fieldOf("Name", this.name), this.about);
    this.sourced = make("div", {}, this.control(job.source, "Job whose run is used: its id"), this.control(job.run, "Run; its best one if empty"));
    this.peer = this.control(job.peer, "Network: best, ensemble, or a peer's number");
    this.fields = make("div", {}, make("h2", {}, "Fields"), soft("What is left empty keeps the value that is shown in grey."),
      this.fieldOf("Find a field", this.find), this.spec);
    const execution = make("details", {}, make("summary", {}, "Workers and devices"),
      make("div", { class: "grid" }, Object.keys(job).filter((path) => path.startsWith("execution.")).map((path) => this.control(job[path]))));
    this.element = make("div", { class: "narrow" }, make("h1", {}, "Submit a job"),
      make("form", { novalidate: "", onsubmit: guarded((event) => this.submit(event)) },
        make("div", { class: "card" }, this.fieldOf("Kind", this.kind), this.named, this.sourced, this.peer,
          this.control(job.label, "Label to find the job by")),
        this.fields, execution, make("div", { class: "send" }, this.problem, this.estimate,
          make("div", { class: "actions" }, make("button", { class: "primary" }, "Submit")))));
    this.kind.addEventListener("change", guarded(() => this.changeKind()));
    this.name.addEventListener("change", guarded(() => this.changeName()));
    this.element.addEventListener("input", (event) => { if (event.target !== this.find) this.checkSoon(); });
  }

  async open(address) {
    this.kind.value = address.get("kind") in KINDS ? address.get("kind") : "sweep";
    for (const path of ["source", "run"]) this.controls.get(path).input.value = address.get(path) ?? "";
    await this.changeKind();
  }

  close() {
    clearTimeout(this.timer);
  }

  fieldOf = (text, control, ...more) => make("label", { class: "field" }, make("span", {}, text), control, ...more);

  /** Return the control of a field, with its help and a place for its error beside it. */
  control(field, text = field.label) {
    const id = `field-${field.path.replaceAll(".", "-")}`;
    const options = field.options ?? (field.type === "boolean" ? ["true", "false"] : null);
    const shared = { id, name: field.path, "aria-describedby": `${id}-help ${id}-error` };
    const preset = field.preset === undefined || field.preset === null ? "" : typeof field.preset === "string" ? field.preset : JSON.stringify(field.preset);
    const input = options
      ? make("select", shared, make("option", { value: "" }, preset ? `${preset} (unchanged)` : "unchanged"), options.map((value) => make("option", {}, value)))
      : make("input", { ...shared, type: "text", placeholder: preset, autocomplete: "off", spellcheck: "false",
        inputmode: field.isNumber ? "decimal" : null });
    const error = make("p", { class: "error", id: `${id}-error` });
    const element = make("div", { class: "field" }, make("label", { for: id }, text, field.bounds && make("small", {}, ` ${field.bounds}`)), input,
      make("p", { class: "help soft", id: `${id}-help` }, field.help), error);
    this.controls.set(field.path, { input, error, element, field });
    return element;
  }

  async changeKind() {
    const kind = this.kind.value, [list] = NAMES[kind] ?? [];
    this.named.hidden = this.fields.hidden = !list;
    this.sourced.hidden = !FROM_SOURCE.includes(kind);
    this.peer.hidden = kind !== "export";
    if (!list) {
      this.estimate.textContent = "";
      return this.check();
    }
    this.known[list] ??= await read(`/${list}`);
    replace(this.name, this.known[list].map((one) => make("option", {}, one.name)));
    const preferred = kind === "linear" ? "lincls" : "digits";
    if (this.known[list].some((one) => one.name === preferred)) this.name.value = preferred;
    return this.changeName();
  }

  /** Draw the fields of the named spec, with its own values where they can be had. */
  async changeName() {
    const kind = this.kind.value, [list, model] = NAMES[kind];
    this.about.textContent = this.known[list].find((one) => one.name === this.name.value)?.description ?? "";
    for (const path of [...this.controls.keys()]) if (this.controls.get(path).isSpec) this.controls.delete(path);
    this.sections.clear();
    let own = {};
    try {
      const { spec } = await post("/jobs?validate_only=true", this.body());
      own = model === "run" ? Object.values(spec)[0] : spec;
    } catch (error) {
      if (error.status !== 422) throw error;
    }
    const groups = new Map();
    for (const field of fieldsOf(this.schema[model], own)) {
      const [first, ...rest] = field.path.replace(/^run\./, "").split(".");
      const name = rest.length ? first : field.path.startsWith("run.") ? "run" : "";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(this.control(field));
      this.controls.get(field.path).isSpec = true;
    }
    const title = (name) => (name === "" && model === "run" ? "Run" : SECTIONS[name] ?? name.replaceAll("_", " "));
    replace(this.spec, [...groups].sort(([a], [b]) => order(a) - order(b)).map(([name, fields]) => {
      const error = make("p", { class: "error" });
      const details = make("details", OPEN.includes(name) ? { open: "" } : {}, make("summary", {}, title(name)), error, make("div", { class: "grid" }, fields));
      this.sections.set(name, { error, details });
      return details;
    }));
    this.filter();
    await this.check();
  }

  filter() {
    const words = this.find.value.trim().toLowerCase();
    for (const { details } of this.sections.values()) {
      let isAny = false;
      for (const element of details.querySelectorAll("div.field")) {
        element.hidden = Boolean(words) && !element.textContent.toLowerCase().includes(words);
        isAny ||= !element.hidden;
      }
      details.hidden = !isAny;
      if (words) details.open = isAny;
    }
  }

  body() {
    const kind = this.kind.value, overrides = {}, execution = {}, top = {};
    for (const [path, { input, field, isSpec }] of this.controls) {
      const text = input.value.trim();
      if (text === "") continue;
      if (isSpec) overrides[path] = valueOf(text, field);
      else if (path.startsWith("execution.")) execution[path.slice("execution.".length)] = valueOf(text, field);
      else if (path === "label" || (path === "peer" && kind === "export") || (["source", "run"].includes(path) && FROM_SOURCE.includes(kind))) top[path] = text;
    }
    return { kind, ...(kind in NAMES && { name: this.name.value, overrides }), ...top, ...(Object.keys(execution).length && { execution }) };
  }

  checkSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.guarded(() => this.check()), CHECK_AFTER_MS);
  }

  /** Ask the service whether it would take the job; show what it would run, or each error beside its field. */
  async check() {
    clearTimeout(this.timer);
    const body = this.body(), text = JSON.stringify(body);
    let found = null, problem = null;
    try {
      found = await post("/jobs?validate_only=true", body);
    } catch (error) {
      if (error.status !== 422) throw error;
      problem = error;
    }
    if (text !== JSON.stringify(this.body())) return false;
    this.showErrors(problem);
    this.estimate.textContent = found?.runs ? `${found.runs} ${found.runs === 1 ? "run" : "runs"} of up to ${found.epochs} epochs.` : "";
    return !problem;
  }

  showErrors(problem) {
    for (const { input, error } of this.controls.values()) {
      error.textContent = "";
      input.removeAttribute("aria-invalid");
    }
    for (const { error } of this.sections.values()) error.textContent = "";
    const rest = [];
    let count = 0, place = null;
    for (const sentence of problem ? sentencesOf(problem) : []) {
      const [, path, rule] = /^([\w.]+):? (.*)$/s.exec(sentence) ?? [null, "", sentence];
      const named = this.placeOf(path);
      const text = named ? rule : sentence;  // a sentence that names no field goes on with the one before
      if (named && named !== place) count += 1;
      place = named ?? place;
      if (!place) { rest.push(sentence); continue; }
      place.error.textContent = [place.error.textContent, text].filter(Boolean).join("; ");
      place.input?.setAttribute("aria-invalid", "true");
      const details = place.details ?? place.element.closest("details");
      if (details) details.open = true;
    }
    const summary = count ? [`${count} ${count === 1 ? "value breaks" : "values break"} a rule; see beside the fields.`] : [];
    replace(this.problem, [...summary, ...rest].map((line) => make("p", {}, line)));
  }

  /** Return the control, or the section, that an error names: `losses.alpha`, `space.losses.alpha.float`, `batch`. */
  placeOf(path) {
    const names = [...this.controls.keys()].filter((name) => [path, `run.${path}`].some((one) => one === name || one.startsWith(`${name}.`)));
    const longest = names.sort((a, b) => b.length - a.length)[0];
    const control = this.controls.get(longest);
    if (control && !control.element.closest("[hidden]:not(.field)")) return control;
    return this.sections.get(path.replace(/^run\./, "").split(".")[0]) ?? null;
  }

  async submit(event) {
    event.preventDefault();
    if (!(await this.check())) {
      (this.element.querySelector("[aria-invalid]") ?? this.problem).focus();
      return;
    }
    const body = this.body(), text = JSON.stringify(body);
    if (text !== this.sent) [this.key, this.sent] = [newKey(), text];  // sending the same form again is the same job
    const job = await post("/jobs", body, this.key);
    location.hash = `#/jobs/${job.id}`;
  }
}

/** Return the sentences of a refusal, each of which begins with the field that it is about, if it is about one. */
function sentencesOf({ parts, message }) {
  if (!parts.length) return message.split("; ");
  return parts.map(({ pointer, detail }) => [pointer.slice(1).replaceAll("/", "."), detail.replace("Value error, ", "")].filter(Boolean).join(": "));
}

const order = (name) => (OPEN.includes(name) ? OPEN.indexOf(name) : OPEN.length);

/** Return a value as it is sent: numbers, lists and mappings as JSON has them, else text. */
function valueOf(text, field) {
  if (field.type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
