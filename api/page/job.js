// One job: its state and what can be done about it, its answer, curves, ranking and log, followed while it is live.

import { caption, runAnswer, sweepAnswer } from "./answer.js";
import { chart } from "./chart.js";
import { coordinates } from "./coordinates.js";
import { runCurves } from "./curves.js";
import { ask } from "./dialog.js";
import { bar, make, replace, section, soft } from "./elements.js";
import { fronts } from "./front.js";
import { importances } from "./importance.js";
import { stateOf } from "./jobs.js";
import { jobLog } from "./log.js";
import { ranking } from "./ranking.js";
import { API, ENDED, post, read, readIfAny } from "./service.js";
import { NONE, when } from "./text.js";

const LOOKS_EVERY_MS = 2000;
const SEARCHING = ["sweep", "table"];
const WITHOUT_RUNS = ["export", "evaluate"];
const MOST_FILES = 40;

/** Show a job; return the function that stops following it. */
export async function showJob(main, id, guarded) {
  const view = new JobView(id, guarded);
  replace(main, view.element);
  await view.start();
  return () => view.stop();
}

/** Draws a part again only when its content has changed, so that nothing flickers and the focus stays. */
class Part {
  constructor(title, note) {
    this.body = make("div");
    this.element = title ? section(title, note ? soft(note) : "", this.body) : this.body;
    this.seen = null;
  }

  show(content, children) {
    const key = JSON.stringify(content);
    if (key === this.seen) return;
    this.seen = key;
    const focused = this.body.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    const drawn = children();
    this.element.hidden = drawn === null;
    replace(this.body, drawn ?? []);
    if (focused) [...this.body.querySelectorAll("a, button, select, [tabindex]")].find((one) => nameOf(one) === focused)?.focus();
  }
}

const nameOf = (element) => `${element.tagName} ${element.getAttribute("aria-label") ?? element.textContent}`;

class JobView {
  constructor(id, guarded) {
    Object.assign(this, { id, guarded, isOpen: true, isWhole: false, run: null, job: null, timer: null });
    this.head = new Part();
    this.answer = new Part();
    this.ranking = new Part("Ranking");
    this.importances = new Part("What matters");
    this.fronts = new Part("Score against cost");
    this.coordinates = new Part("Parallel coordinates");
    this.files = new Part("Files");
    this.curves = runCurves();
    this.all = chart("All configurations");
    this.choice = make("select", { name: "run", onchange: guarded(() => { this.run = this.choice.value; return this.update(); }) });
    this.log = jobLog(id);
    this.changes = make("ol", { class: "changes" });
    this.choiceField = make("label", { class: "field" }, make("span", {}, "Run"), this.choice);
    this.curvesPart = section("Learning curves", this.choiceField, this.curves.element);
    this.allPart = section("Progress of the search", this.all.element);
    this.element = make("div", {}, this.head.element, this.answer.element, this.curvesPart, this.allPart, this.ranking.element,
      this.importances.element, this.fronts.element, this.coordinates.element, section("Log", this.log.element),
      section("History", this.changes), this.files.element);
    for (const part of [this.curvesPart, this.allPart, ...["ranking", "importances", "fronts", "coordinates", "files"].map((name) => this[name].element)]) part.hidden = true;
  }

  async start() {
    const look = this.update();
    this.source = new EventSource(`${API}/jobs/${this.id}/events`);
    this.source.addEventListener("state", this.guarded(async (event) => {
      const change = JSON.parse(event.data);
      this.changes.append(make("li", {}, make("time", {}, when(change.at)), " ", stateOf(change.state), ` attempt ${change.attempt}`, change.reason && `: ${change.reason}`));
      if (ENDED.includes(change.state)) this.source.close();
      if (this.job && !ENDED.includes(this.job.state) && change.state !== this.job.state) this.lookSoon();
    }));
    try {
      await look;
    } catch (error) {
      this.stop();
      throw error;
    }
    this.follow();
  }

  /** Look once after several events, which come together when the stream opens. */
  lookSoon() {
    this.soon ??= setTimeout(this.guarded(() => { this.soon = null; return this.update(); }), 100);
  }

  stop() {
    this.isOpen = false;
    this.source?.close();
    clearTimeout(this.soon);
    clearTimeout(this.timer);
  }

  /** Look again after a pause that grows with the time a look takes. */
  follow() {
    if (!this.isOpen || ENDED.includes(this.job.state)) return;
    const pause = Math.max(LOOKS_EVERY_MS, 5 * this.took);
    this.timer = setTimeout(this.guarded(async () => {
      try {
        await this.update();
      } finally {
        this.follow();
      }
    }), pause);
  }

  async update() {
    const started = performance.now();
    const job = await read(`/jobs/${this.id}`);
    const isEnded = ENDED.includes(job.state);
    if (!this.isOpen) return;
    this.job = job;
    this.head.show({ ...job, rev: null }, () => this.drawHead(job));
    if (this.answer.seen === null && !WITHOUT_RUNS.includes(job.kind)) this.answer.show("loading", () => [soft("Loading…")]);
    const work = [this.log.update(job.attempt), SEARCHING.includes(job.kind) ? this.updateSweep(job, isEnded) : this.updateRuns(job, isEnded)];
    if (job.state === "succeeded") work.push(this.updateFiles());
    await Promise.all(work);
    this.took = performance.now() - started;
  }

  drawHead(job) {
    const act = (verb, body) => post(`/jobs/${job.id}/${verb}`, body).then((found) => {
      if (found.id === job.id) return this.update();
      location.hash = `#/jobs/${found.id}`;
      return null;
    });
    const name = `${job.kind} ${job.name ?? ""}`.trim();
    const button = (text, action, look = "") => make("button", { type: "button", class: look, onclick: this.guarded(action) }, text);
    const isEnded = ENDED.includes(job.state);
    const isStopping = !isEnded && job.desired === "cancelled";
    return [
      make("div", { class: "title" }, make("h1", {}, name, " ", stateOf(job.state)),
        make("div", { class: "actions" },
          !isEnded && !isStopping && button("Cancel", async () => {
            if (await ask("Cancel this job?", `${name} stops, and keeps what it has recorded. A retry goes on from there.`, "Cancel the job")) await act("cancel");
          }, "danger"),
          ["failed", "cancelled"].includes(job.state) && button("Retry", async () => {
            if (await ask("Retry this job?", "A new job continues in the same results, from the last checkpoints.", "Retry")) await act("retry");
          }, "primary"),
          job.kind === "sweep" && isEnded && button("Extend", async () => {
            const trials = await ask("Extend this sweep?", "A new job tries more configurations, and ranks them together with those it has.", "Extend", { label: "More trials", value: "8" });
            if (trials) await act("extend", { trials });
          }))),
      make("p", { class: "soft facts" }, job.label && make("span", {}, job.label), make("span", {}, `by ${job.owner}`), make("span", {}, when(job.created)),
        make("span", {}, `attempt ${job.attempt}${job.lost ? `, ${job.lost} lost` : ""}`), make("code", {}, job.id),
        job.parent && make("a", { href: `#/jobs/${job.parent}` }, "continues an earlier job"),
        job.state === "succeeded" && ["train", "linear", ...SEARCHING].includes(job.kind) && make("a", { href: `${API}/jobs/${job.id}/report`, target: "_blank", rel: "noopener" }, "report")),
      isStopping && make("p", { class: "notice" }, "It was asked to stop, and ends when its driver has."),
      job.reason && make("p", { class: "notice" }, job.reason),
    ];
  }

  async updateSweep(job, isEnded) {
    const summary = await readIfAny(`/jobs/${this.id}/summary`, null);
    if (!this.isOpen) return;
    if (!summary) {
      this.answer.show([job.state], () => this.waiting(job));
      return;
    }
    const isFinished = isEnded && summary.sweep.state === "finished";
    this.answer.show([summary.answer, summary.sweep, isEnded], () => [
      !isFinished && progress(summary.sweep, isEnded),
      summary.answer ? sweepAnswer(summary, isFinished, isFinished && job.state === "succeeded" && this.exporting(summary.answer.best.run_ids[0]))
        : soft("No configuration has a score yet."),
    ]);
    this.showAll(summary);
    const ranked = [summary.configurations.map((row) => ({ ...row, curve: null, wall_time_s: null })), this.isWhole];
    const again = () => { this.isWhole = true; this.ranking.show([...ranked.slice(0, 1), true], () => ranking(summary, true)); };
    this.ranking.show(ranked, () => ranking(summary, this.isWhole, again));
    this.importances.show(summary.importances, () => importances(summary));
    this.fronts.show([ranked, summary.costs], () => (summary.costs.length ? fronts(summary) : null));
    this.coordinates.show(ranked[0], () => coordinates(summary));
    await this.updateCurves(runsOf(summary), isEnded);
  }

  showAll({ configurations, sweep, parameters }) {
    const drawn = configurations.filter((row) => row.curve.length && !row.is_compared);
    const running = drawn.find((row) => row.state === "running");
    const baseline = configurations.find((row) => row.trial_id === "baseline" && row.curve.length);
    const lines = drawn.filter((row) => row.place !== 1 && row !== running).map((row) => ({ name: "", points: row.curve, mark: "quiet", isQuiet: true }));
    const best = drawn.find((row) => row.place === 1);
    if (baseline) lines.push({ name: `baseline: ${caption(baseline, parameters)}`, points: baseline.curve, mark: "peer c2" });
    if (running && running !== best) lines.push({ name: `running: ${caption(running, parameters)}`, points: running.curve, mark: "peer c1" });
    if (best) lines.push({ name: `best: ${caption(best, parameters)}`, points: best.curve, mark: "ensemble" });
    this.all.update(lines);
    this.allPart.hidden = !lines.length;
    this.all.element.querySelector("figcaption").firstChild.textContent = `${sweep.label}, one line for each of ${drawn.length} configurations`;
  }

  async updateRuns(job, isEnded) {
    if (WITHOUT_RUNS.includes(job.kind)) return;
    const runs = (await readIfAny(`/jobs/${this.id}/runs`, { rows: [] })).rows;
    if (!this.isOpen) return;
    if (!runs.length) {
      this.answer.show([job.state], () => this.waiting(job));
      return;
    }
    const known = runs.map((run) => ({ id: run.run_id, text: `${run.run_id}, seed ${run.seed}`, state: run.state }));
    const rows = await this.updateCurves(known, isEnded);
    const run = runs.find((one) => one.run_id === this.shown);
    this.answer.show([rows.length, this.shown, run?.state], () => [
      !isEnded && run && meter(run.epochs_done, run.epochs_planned, `epoch ${run.epochs_done} of ${run.epochs_planned}`),
      runAnswer(rows, run?.epochs_planned),
      run?.error && !job.reason.includes(run.error) && make("p", { class: "notice" }, `${run.error_type}: ${run.error}`),
    ]);
  }

  /** Show the curves of the chosen run; without a choice, of the newest one that is live, or of the first, the best one. */
  async updateCurves(runs, isEnded) {
    const live = isEnded ? null : runs.filter((run) => run.state === "running").at(-1);
    this.shown = runs.some((run) => run.id === this.run) ? this.run : (live ?? runs[0])?.id;
    const options = runs.map((run) => [run.id, run.text].join());
    if (options.join("\n") !== this.options) {
      this.options = options.join("\n");
      this.choiceField.hidden = runs.length < 2;
      replace(this.choice, runs.map((run) => make("option", { value: run.id }, run.text)));
    }
    if (!this.shown) return [];
    if (document.activeElement !== this.choice) this.choice.value = this.shown;
    const { rows } = await readIfAny(`/jobs/${this.id}/metrics?run=${encodeURIComponent(this.shown)}`, { rows: [] });
    if (this.isOpen) this.curves.update(rows);
    this.curvesPart.hidden = false;
    return rows;
  }

  async updateFiles() {
    const files = (await read(`/jobs/${this.id}/artifacts`)).filter((file) => !/\/runs\/|checkpoints/.test(file.path));
    this.files.show(files, () => (files.length ? make("ul", { class: "files" }, files.slice(0, MOST_FILES).map((file) => make("li", {},
      make("a", { href: `${API}/jobs/${this.id}/artifacts/${file.path.split("/").map(encodeURIComponent).join("/")}`, download: "" }, file.path),
      make("span", { class: "soft number" }, `${(file.bytes / 1024).toFixed(1)} KiB`)))) : null));
  }

  exporting(run) {
    const command = `mcl submit export --from ${this.id} --run ${run} --server ${location.origin}`;
    const copied = make("span", { role: "status" });
    return make("div", { class: "export" }, make("p", {}, "Export its best network:"), make("pre", { tabindex: "0" }, command),
      make("div", { class: "actions" },
        make("button", { type: "button", onclick: this.guarded(async () => {
          await navigator.clipboard.writeText(command);
          copied.textContent = "Copied.";
        }) }, "Copy the command"),
        make("a", { class: "button", href: `#/submit?kind=export&source=${this.id}&run=${run}` }, "Export by the form"), copied));
  }

  waiting(job) {
    const texts = { queued: "It waits for a free place.", starting: "Its driver starts.", running: "Its driver runs; nothing is recorded yet." };
    return make("div", { class: "card empty" }, make("p", {}, texts[job.state] ?? "It recorded no results."));
  }
}

/** Return the runs of a sweep, the best configuration's first, with what they are called. */
const runsOf = ({ configurations, parameters }) => configurations.flatMap((row) => row.run_ids.map((id, at) => ({
  id, state: row.state,
  text: `${row.place ?? NONE}. ${caption(row, parameters)}${row.run_ids.length > 1 ? `, run ${at + 1} of ${row.run_ids.length}` : ""}${row.state === "finished" ? "" : ` (${row.state})`}`,
})));

function progress(sweep, isEnded) {
  const { trials_ended: done, trials_planned: planned } = sweep;
  const parts = Object.entries(sweep.runs).map(([state, number]) => `${number} ${state}`);
  const runs = parts.length ? `; runs: ${parts.join(", ")}` : "";
  return meter(done, planned, `${done} of ${planned} configurations have ended${runs}${isEnded ? `; the sweep is ${sweep.state}` : ""}`);
}

const meter = (done, planned, text) => make("div", { class: "meter", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": planned, "aria-valuenow": done, "aria-label": text },
  bar(planned ? done / planned : 0), make("span", { class: "soft" }, text));
