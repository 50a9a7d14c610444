// The log of an attempt as text, followed while the job runs.

import { make, soft } from "./elements.js";
import { send } from "./service.js";

const PART_BYTES = 65536;
const KEPT_CHARACTERS = 400_000;

/** Return the log of a job: its element, and `update(attempt)`, which adds what is new. */
export function jobLog(id) {
  const text = make("pre", { class: "log", tabindex: "0", "aria-label": "Log" });
  const follow = make("input", { type: "checkbox", checked: "" });
  const attempt = make("select", { "aria-label": "Attempt" });
  const note = soft();
  let offset = null, shown = 0, decoder = null, busy = Promise.resolve();
  const element = make("div", {}, make("div", { class: "actions" },
    make("label", { class: "inline" }, follow, "Follow"), make("label", { class: "inline" }, "Attempt", attempt)), note, text);
  text.addEventListener("scroll", () => {
    if (text.scrollTop + text.clientHeight < text.scrollHeight - 40) follow.checked = false;
  });
  attempt.addEventListener("change", () => { shown = 0; fetchMore().catch(() => {}); });
  follow.addEventListener("change", () => { if (follow.checked) text.scrollTop = text.scrollHeight; });
  const fetchMore = () => {
    busy = busy.catch(() => {}).then(fetchParts);  // one at a time: two would add the same part twice
    return busy;
  };
  async function fetchParts() {
    const wanted = Number(attempt.value);
    if (wanted !== shown) [offset, shown, decoder, text.textContent] = [null, wanted, new TextDecoder(), ""];
    for (let parts = 0; parts < 16; parts += 1) {
      const query = new URLSearchParams({ attempt: wanted, count: PART_BYTES, ...(offset !== null && { offset }) });
      const answer = await send(`/jobs/${id}/logs?${query}`);
      const part = decoder.decode(await answer.arrayBuffer(), { stream: true });
      if (Number(attempt.value) !== wanted) return;
      const size = Number(answer.headers.get("X-Log-Size"));
      const isFirst = offset === null;
      offset = Number(answer.headers.get("X-Next-Offset"));
      if (isFirst) note.textContent = size > PART_BYTES ? `The last ${Math.round(PART_BYTES / 1024)} KiB of ${Math.round(size / 1024)} KiB.` : "";
      if (part) text.append(document.createTextNode(part));
      if (offset >= size) break;
    }
    if (text.textContent.length > KEPT_CHARACTERS) text.textContent = text.textContent.slice(-KEPT_CHARACTERS);
    if (!text.textContent) note.textContent = "The log is empty: the driver has written nothing yet.";
    else if (note.textContent.startsWith("The log is empty")) note.textContent = "";
    if (follow.checked) text.scrollTop = text.scrollHeight;
  }
  async function update(attempts) {
    if (attempt.options.length !== attempts) {
      const isNewest = !attempt.value || Number(attempt.value) === attempt.options.length;
      const chosen = isNewest ? attempts : Number(attempt.value);
      attempt.replaceChildren(...Array.from({ length: attempts }, (_, at) => make("option", {}, String(at + 1))));
      attempt.value = String(chosen);
    }
    await fetchMore();
  }
  return { element, update };
}
