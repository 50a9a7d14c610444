// The page of the service: what the address names is shown in <main>. All text is set as text, never as HTML.

import { make, replace } from "./elements.js";
import { showForm } from "./form.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";
import { endSession, showDashboards, showSignIn } from "./session.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const dashboards = document.getElementById("dashboards");
const links = { jobs: document.getElementById("to-jobs"), submit: document.getElementById("to-submit") };
const AGAIN_AFTER_MS = 4000;
let stop = () => {};
let route = 0;

/** Return whether the service answered and refused, so that asking again would not help. */
const isRefusal = (error) => error.status < 500;

/**
 * Return an event handler, or the work of a timer, whose error is shown until the next event. A timer, which has no
 * event, takes back only that the service did not answer. A missing sign-in shows the form for it.
 */
const guarded = (action) => async (event) => {
  const tell = (text, isOffline = false) => { notice.textContent = text; notice.classList.toggle("offline", isOffline); };
  if (event) tell("");
  try {
    await action(event);
    if (notice.classList.contains("offline")) tell("");
  } catch (error) {
    if (!isRefusal(error)) tell(`The service does not answer (${error.message}).`, true);
    else if (error.status !== 401) tell(error.message);
  }
};

async function show() {
  const own = ++route;
  const [path, query] = location.hash.slice(1).split("?");
  const [, page, id] = path.split("/");
  const address = new URLSearchParams(query);
  stop();
  stop = () => {};
  const current = page === "submit" ? links.submit : links.jobs;
  for (const link of Object.values(links)) link.removeAttribute("aria-current");
  current.setAttribute("aria-current", "page");
  const view = make("div");  // one that is left before it is drawn draws into its own element, which is no longer shown
  replace(main, view);
  main.setAttribute("aria-busy", "true");
  let stopThis;
  try {
    if (page === "jobs" && /^[0-9a-f]{32}$/.test(id ?? "")) stopThis = await showJob(view, id, guarded);
    else if (page === "submit") stopThis = await showForm(view, address, guarded);
    else stopThis = await showJobs(view, address, guarded);
  } catch (error) {
    if (own !== route) return;
    if (!isRefusal(error)) stop = laterAgain();
    throw error;
  } finally {
    if (own === route) main.removeAttribute("aria-busy");
  }
  if (own !== route) {
    stopThis();
    return;
  }
  stop = stopThis;
  document.title = `${view.querySelector("h1")?.firstChild.textContent.trim() ?? ""} – mcl-ray`;
  if (!dashboards.hasChildNodes()) await showDashboards(dashboards);
}

const start = guarded(show);
const laterAgain = () => {
  const timer = setTimeout(start, AGAIN_AFTER_MS);
  return () => clearTimeout(timer);
};
const leave = () => {
  route += 1;
  stop();
  stop = () => {};
  replace(dashboards);
  main.removeAttribute("aria-busy");
};
addEventListener("signed-out", () => {
  if (main.querySelector(".sign-in")) return;  // of several requests that are refused, the first one shows the form
  leave();
  showSignIn(main, start);
});
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("sign-out").addEventListener("click", guarded(async () => {
  leave();
  await endSession(main, start);
}));
addEventListener("hashchange", async (event) => {
  await start(event);
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
start();
