// The page of the service: jobs, one job, and the form that submits one. All text is set as text, never as HTML.

const API = "api/v1";
const ENDED = ["succeeded", "failed", "cancelled"];
const main = document.getElementById("main");
const notice = document.getElementById("notice");
let stop = () => {};

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function send(path, options = {}) {
  const answer = await fetch(`${API}${path}`, { credentials: "same-origin", ...options });
  if (answer.status === 401) { showSignIn(); throw new Error("sign in first"); }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ title: answer.statusText }));
    const parts = (problem.errors || []).map((part) => `${part.pointer} ${part.detail}`);
    throw Object.assign(new Error([problem.detail || problem.title, ...parts].join("; ")), { status: answer.status });
  }
  return answer;
}

const read = async (path) => (await send(path)).json();
const readRows = (path) => read(path).then((found) => found.rows, (error) => { if (error.status === 404) return []; throw error; });
const post = (path, body) => send(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
  body: body === undefined ? undefined : JSON.stringify(body),
});

const guarded = (action) => async (event) => {
  event?.preventDefault?.();
  notice.textContent = "";
  try { await action(event); } catch (error) { notice.textContent = error.message; }
};

function showSignIn() {
  stop();
  document.getElementById("dashboards").replaceChildren();
  const key = make("input", { type: "password", autocomplete: "current-password", required: "", name: "key" });
  main.replaceChildren(
    make("h1", {}, "Sign in"),
    make("form", { onsubmit: guarded(async () => {
      await send("/session", { method: "POST", headers: { Authorization: `Bearer ${key.value}` } });
      route();
    }) }, make("label", {}, "API key", key), make("button", { class: "main" }, "Sign in")),
  );
  key.focus();
}

const stateOf = (job) => make("span", { class: `state ${job.state}` }, job.state);
const when = (seconds) => new Date(seconds * 1000).toLocaleString();

function table(headers, rows, numbers = []) {
  const cell = (name, value, column) => make(name, numbers.includes(column) ? { class: "number" } : {}, value);
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...headers.map((text, column) => cell("th", text, column)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, column) => cell("td", value, column))))),
  ));
}

async function showJobs() {
  const state = new URLSearchParams(location.hash.split("?")[1]).get("state") || "";
  const choice = make("select", { onchange: () => { location.hash = `#/?state=${choice.value}`; } },
    ...["", "queued", "starting", "running", ...ENDED].map((name) => make("option", { value: name }, name || "every state")));
  choice.value = state;
  const body = make("div");
  main.replaceChildren(make("h1", {}, "Jobs"), make("label", {}, "State", choice), body);
  const rows = [];
  const more = async (token) => {
    const query = new URLSearchParams({ page_size: 50, ...(state && { state }), ...(token && { page_token: token }) });
    const page = await read(`/jobs?${query}`);
    for (const job of page.jobs) {
      rows.push([make("a", { href: `#/jobs/${job.id}` }, job.id.slice(0, 8)), job.kind, job.name || "–", stateOf(job),
        String(job.attempt), job.owner, job.label, when(job.created)]);
    }
    body.replaceChildren(rows.length
      ? table(["job", "kind", "name", "state", "attempt", "owner", "label", "submitted"], rows, [4])
      : make("p", { class: "soft" }, "There are no jobs yet. Submit one with the form, with curl, or with mcl submit."),
    page.next_page_token ? make("button", { onclick: guarded(() => more(page.next_page_token)) }, "More") : "");
  };
  await more();
}

async function showJob(id) {
  let job = await read(`/jobs/${id}`);
  const head = make("div"), answer = make("div"), charts = make("div", { class: "charts" });
  const ranking = make("div"), log = make("pre", { tabindex: "0", "aria-label": "Log" }), changes = make("ul");
  main.replaceChildren(head, answer, make("h2", {}, "Curves"), charts, ranking, make("h2", {}, "States"), changes,
    make("h2", {}, "Log"), log);
  let isOpen = true;
  const source = new EventSource(`${API}/jobs/${id}/events`);
  const refresh = async () => {
    job = await read(`/jobs/${id}`);
    showHead(head, job);
    const [metrics, trials, text] = await Promise.all([
      readRows(`/jobs/${id}/metrics`), job.kind === "sweep" || job.kind === "table" ? readRows(`/jobs/${id}/trials`) : [],
      send(`/jobs/${id}/logs`).then((found) => found.text()),
    ]);
    if (!isOpen) return;
    showAnswer(answer, job, trials, metrics);
    showCurves(charts, metrics, trials);
    showRanking(ranking, trials);
    log.textContent = text || "The log is empty.";
  };
  source.addEventListener("state", guarded(async (event) => {
    const change = JSON.parse(event.data);
    changes.append(make("li", {}, `${when(change.at)}: ${change.state}, attempt ${change.attempt}${change.reason ? `: ${change.reason}` : ""}`));
    if (ENDED.includes(change.state)) source.close();
    await refresh();
  }));
  await refresh();
  const timer = setInterval(guarded(async () => { if (!ENDED.includes(job.state)) await refresh(); }), 3000);
  stop = () => { isOpen = false; source.close(); clearInterval(timer); };
}

function showHead(head, job) {
  const act = (verb, body) => guarded(async () => {
    const found = await (await post(`/jobs/${job.id}/${verb}`, body)).json();
    if (found.id === job.id) route(); else location.hash = `#/jobs/${found.id}`;
  });
  const button = (text, verb, body) => make("button", { onclick: act(verb, body) }, text);
  head.replaceChildren(
    make("h1", {}, `${job.kind} ${job.name || ""} `, stateOf(job)),
    make("p", { class: "soft" }, `${job.id}, attempt ${job.attempt}, submitted by ${job.owner} at ${when(job.created)}`),
    job.reason ? make("p", {}, job.reason) : "",
    make("div", { class: "actions" },
      ENDED.includes(job.state) ? null : button("Cancel", "cancel"),
      ["failed", "cancelled"].includes(job.state) ? button("Retry", "retry") : null,
      job.kind === "sweep" && ENDED.includes(job.state) ? button("Extend by 8 trials", "extend", { trials: 8 }) : null,
      make("a", { href: `${API}/jobs/${job.id}/report`, target: "_blank", rel: "noopener" }, "Report"),
    ));
}

const settings = (row) => Object.entries(JSON.parse(row.searched)).map(([name, value]) =>
  `${name.split(".").pop()} = ${typeof value === "number" ? Number(value.toPrecision(4)) : JSON.stringify(value)}`).join(", ");
const figure = (value, std) => value === null ? "–" : `${value.toFixed(2)}${std === null ? "" : ` ± ${std.toFixed(2)}`}`;

function certainty(best, second) {
  if (best.n < 2) return `One seed was trained, so that nothing is known of its spread: repeats=3 tells how sure it is.`;
  if (!second || second.n < 2) return `Mean and standard deviation over ${best.n} seeds.`;
  const error = Math.sqrt(best.std ** 2 / best.n + second.std ** 2 / second.n);
  const gap = Math.abs(best.value - second.value);
  return gap > 2 * error
    ? `It is ahead of the second by ${gap.toFixed(2)}, more than two standard errors (${(2 * error).toFixed(2)}; ${best.n} seeds).`
    : `It is ahead of the second by ${gap.toFixed(2)} only, within two standard errors (${(2 * error).toFixed(2)}; ${best.n} seeds): the difference is not significant.`;
}

function showAnswer(answer, job, trials, metrics) {
  const scored = trials.filter((row) => row.score !== null);
  if (scored.length) {
    const [best, second] = scored;
    const note = ENDED.includes(job.state) ? "Use" : "Best so far";
    answer.replaceChildren(make("section", { class: "card" },
      make("p", { class: "answer" }, `${note}: ${settings(best)} — ${figure(best.value, best.std)} (${best.objective})`),
      make("p", { class: "soft" }, certainty(best, second))));
  } else if (metrics.length && !trials.length) {
    const last = Math.max(...metrics.map((row) => row.epoch));
    const rows = metrics.filter((row) => row.epoch === last && row.metric.endsWith("top1"));
    answer.replaceChildren(make("section", { class: "card" }, make("p", { class: "answer" },
      `Epoch ${last}: ${rows.map((row) => `${row.split} ${row.member} ${row.value?.toFixed(2)}`).join(", ") || "not scored yet"}`)));
  } else answer.replaceChildren();
}

function showRanking(ranking, trials) {
  if (!trials.length) { ranking.replaceChildren(); return; }
  const rows = trials.map((row) => [row.place === null ? "–" : String(row.place), row.trial_id || "–", settings(row),
    figure(row.value, row.std), String(row.n), String(row.epochs_done), row.state, row.reason || ""]);
  ranking.replaceChildren(make("h2", {}, "Ranking"),
    table(["place", "trial", "configuration", "mean ± std", "seeds", "epochs", "state", "reason"], rows, [0, 3, 4, 5]));
}

function showCurves(charts, metrics, trials) {
  const best = trials.find((row) => row.run_ids.length)?.run_ids[0];
  const run = best || metrics[metrics.length - 1]?.run_id;
  const own = metrics.filter((row) => row.run_id === run && row.value !== null);
  const accuracy = own.filter((row) => row.metric.endsWith("top1"));
  const losses = own.filter((row) => row.split === "train" && row.member === "cohort" && !/time|per_s|rate|norm/.test(row.metric));
  const drawn = [["Top-1 accuracy (%)", accuracy, (row) => `${row.split} ${row.member}`], ["Losses", losses, (row) => row.metric]]
    .filter(([, rows]) => rows.length).map(([title, rows, name]) => chart(`${title}, ${run}`, rows, name));
  charts.replaceChildren(...(drawn.length ? drawn : [make("p", { class: "soft" }, "There are no figures yet.")]));
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function chart(title, rows, nameOf) {
  const lines = Map.groupBy ? Map.groupBy(rows, nameOf) : rows.reduce((map, row) =>
    map.set(nameOf(row), [...(map.get(nameOf(row)) || []), row]), new Map());
  const epochs = rows.map((row) => row.epoch), values = rows.map((row) => row.value);
  const [left, right, low, high] = [Math.min(...epochs), Math.max(...epochs), Math.min(...values), Math.max(...values)];
  const x = (epoch) => 44 + (right > left ? (epoch - left) / (right - left) : 0.5) * 344;
  const y = (value) => 188 - (high > low ? (value - low) / (high - low) : 0.5) * 176;
  const drawn = [...lines].map(([, points], number) => svg("polyline", { class: `c${number % 8}`,
    points: points.sort((a, b) => a.epoch - b.epoch).map((row) => `${x(row.epoch)},${y(row.value)}`).join(" ") }));
  const label = (text, at) => svg("text", at, text);
  return make("figure", {}, make("figcaption", {}, title),
    svg("svg", { viewBox: "0 0 400 210", role: "img", "aria-label": title },
      svg("line", { class: "axis", x1: 44, y1: 188, x2: 388, y2: 188 }), svg("line", { class: "axis", x1: 44, y1: 12, x2: 44, y2: 188 }),
      label(high.toPrecision(4), { x: 2, y: 18 }), label(low.toPrecision(4), { x: 2, y: 188 }),
      label(`epoch ${left}`, { x: 44, y: 204 }), label(`${right}`, { x: 388, y: 204, "text-anchor": "end" }), ...drawn),
    make("ul", { class: "legend" }, ...[...lines.keys()].map((name, number) => make("li", { class: `c${number % 8}` }, `— ${name}`))));
}

async function showSubmit() {
  const names = { train: "/recipes", linear: "/recipes", sweep: "/searches", table: "/suites" };
  const kind = make("select", { name: "kind" }, ...Object.keys(names).map((name) => make("option", {}, name)));
  const name = make("select", { name: "name" }), about = make("p", { class: "soft" });
  const overrides = make("textarea", { name: "overrides", spellcheck: "false", placeholder: "trials=8\nepochs=5" });
  const label = make("input", { name: "label", maxlength: "64" }), result = make("pre", { tabindex: "0" });
  let known = [];
  const describe = () => { about.textContent = known.find((one) => one.name === name.value)?.description || ""; };
  const fill = async () => {
    known = await read(names[kind.value]);
    name.replaceChildren(...known.map((one) => make("option", {}, one.name)));
    describe();
  };
  const body = () => ({ kind: kind.value, name: name.value, label: label.value, overrides: Object.fromEntries(
    overrides.value.split("\n").filter((line) => line.trim()).map((line) => {
      const [field, ...rest] = line.split("=");
      const text = rest.join("=").trim();
      try { return [field.trim(), JSON.parse(text)]; } catch { return [field.trim(), text]; }
    })) });
  kind.addEventListener("change", guarded(fill));
  name.addEventListener("change", describe);
  main.replaceChildren(make("h1", {}, "Submit a job"), make("form", { onsubmit: guarded(async () => {
    const job = await (await post("/jobs", body())).json();
    location.hash = `#/jobs/${job.id}`;
  }) }, make("label", {}, "Kind", kind), make("label", {}, "Name", name), about,
  make("label", {}, "Fields, one field=value a line", overrides), make("label", {}, "Label", label),
  make("div", { class: "actions" }, make("button", { class: "main" }, "Submit"), make("button", { type: "button",
    onclick: guarded(async () => { result.textContent = JSON.stringify(await (await post("/jobs?validate_only=true", body())).json(), null, 1); }) }, "Check"))), result);
  kind.value = "sweep";
  await fill();
}

async function showDashboards() {
  const links = Object.entries((await read("/session")).dashboards).flatMap(([name, address]) => [
    make("a", { href: address, target: "_blank", rel: "noreferrer" }, { optuna: "Optuna", ray: "Ray" }[name]), " "]);
  document.getElementById("dashboards").replaceChildren(...links);
}

const route = guarded(async () => {
  stop();
  stop = () => {};
  const [, page, id] = location.hash.split("?")[0].split("/");
  if (page === "jobs" && /^[0-9a-f]{32}$/.test(id || "")) await showJob(id);
  else if (page === "submit") await showSubmit();
  else await showJobs();
  await showDashboards();
});

document.getElementById("sign-out").addEventListener("click", guarded(async () => {
  await send("/session", { method: "DELETE" });
  showSignIn();
}));
addEventListener("hashchange", () => { route(); main.focus(); });
route();
