// The list of jobs.

import { make, replace, soft, table } from "./elements.js";
import { ENDED, LIVE, read } from "./service.js";
import { ago, NONE, when } from "./text.js";

const KINDS = ["train", "sweep", "table", "linear", "export", "evaluate"];
const PAGE = 50;
const LOOK_EVERY_MS = 4000;

export const stateOf = (state) => make("span", { class: `state badge ${state}` }, state);

/** Show the jobs that the address selects; return the function that stops following them. */
export async function showJobs(main, address, guarded) {
  const filters = { state: address.get("state") ?? "", kind: address.get("kind") ?? "", label: address.get("label") ?? "" };
  const go = () => {
    const query = new URLSearchParams(Object.entries({ state: state.value, kind: kind.value, label: label.value.trim() }).filter(([, value]) => value));
    location.hash = `#/?${query}`;
  };
  const choice = (name, values) => {
    const select = make("select", { name, onchange: go }, ["", ...values].map((value) => make("option", { value }, value || "any")));
    select.value = filters[name];
    return select;
  };
  const state = choice("state", [...LIVE, ...ENDED]), kind = choice("kind", KINDS);
  const label = make("input", { name: "label", value: filters.label, maxlength: "64", size: "16", onchange: go });
  const field = (text, control) => make("label", { class: "field" }, make("span", {}, text), control);
  const body = make("div", {}, soft("Loading…"));
  replace(main, make("div", { class: "title" }, make("h1", {}, "Jobs"), make("a", { class: "button primary", href: "#/submit" }, "Submit a job")),
    make("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); go(); } },
      field("State", state), field("Kind", kind), field("Label", label)), body);
  let pages = 1, timer = null, isOpen = true;
  const load = async () => {
    const jobs = [];
    let token = null;
    for (let page = 0; page < pages; page += 1) {
      const query = new URLSearchParams({ page_size: PAGE, ...Object.fromEntries(Object.entries(filters).filter(([, value]) => value)), ...(token && { page_token: token }) });
      const found = await read(`/jobs?${query}`);
      jobs.push(...found.jobs);
      token = found.next_page_token;
      if (!token) break;
    }
    if (isOpen) draw(jobs, token);
  };
  const draw = (jobs, token) => {
    const focused = document.activeElement?.getAttribute?.("href");
    const rows = jobs.map((job) => [
      make("a", { href: `#/jobs/${job.id}` }, `${job.kind} ${job.name ?? ""}`.trim()), stateOf(job.state), job.label || NONE, job.owner,
      String(job.attempt), make("time", { title: when(job.created) }, ago(job.created)), make("code", {}, job.id.slice(0, 8))]);
    const isFiltered = Object.values(filters).some(Boolean);
    const empty = isFiltered ? soft("No job matches. ", make("a", { href: "#/" }, "Show all jobs")) : make("div", { class: "card empty" },
      make("p", {}, "There are no jobs yet."),
      soft("Submit one by the ", make("a", { href: "#/submit" }, "form"), ", or from a terminal:"),
      make("pre", {}, `mcl submit sweep digits trials=8 --server ${location.origin}`));
    replace(body, rows.length ? table("Jobs", ["job", "state", "label", "owner", "attempt", "submitted", "id"], rows, [4]) : empty,
      token && make("button", { type: "button", onclick: guarded(async () => { pages += 1; await load(); }) }, "More"));
    if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  };
  const follow = () => {
    timer = setTimeout(guarded(async () => {
      try {
        await load();
      } finally {
        if (isOpen) follow();
      }
    }), LOOK_EVERY_MS);
  };
  await load();
  follow();
  return () => { isOpen = false; clearTimeout(timer); };
}
