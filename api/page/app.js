// The page of the service: what the address names is shown in <main>. All text is set as text, never as HTML.

import { replace } from "./elements.js";
import { showForm } from "./form.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";
import { endSession, showDashboards, showSignIn } from "./session.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const dashboards = document.getElementById("dashboards");
const links = { jobs: document.getElementById("to-jobs"), submit: document.getElementById("to-submit") };
let stop = () => {};
let route = 0;

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
    if (!error.status) tell(`The service does not answer (${error.message}).`, true);
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
  let stopThis;
  if (page === "jobs" && /^[0-9a-f]{32}$/.test(id ?? "")) stopThis = await showJob(main, id, guarded);
  else if (page === "submit") stopThis = await showForm(main, address, guarded);
  else stopThis = await showJobs(main, address, guarded);
  if (own !== route) {
    stopThis();
    return;
  }
  stop = stopThis;
  if (!dashboards.hasChildNodes()) await showDashboards(dashboards);
  document.title = `${main.querySelector("h1")?.firstChild.textContent.trim() ?? ""} – mcl-ray`;
}

const start = guarded(show);
addEventListener("signed-out", () => {
  route += 1;
  stop();
  stop = () => {};
  replace(dashboards);
  showSignIn(main, start);
});
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("sign-out").addEventListener("click", guarded(async () => {
  route += 1;
  stop();
  stop = () => {};
  replace(dashboards);
  await endSession(main, start);
}));
addEventListener("hashchange", async () => {
  replace(main);
  await start();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
start();
