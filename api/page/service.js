// Requests to the service. The key is in a cookie that scripts cannot read.

export const API = "api/v1";
export const LIVE = ["queued", "starting", "running"];
export const ENDED = ["succeeded", "failed", "cancelled"];

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title);
    Object.assign(this, { status, parts: problem.errors ?? [] });
  }
}

export async function send(path, options = {}) {
  const answer = await fetch(`${API}${path}`, { credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ title: answer.statusText }));
  if (answer.status === 401 && !options.headers?.Authorization) dispatchEvent(new Event("signed-out"));
  throw new Refused(answer.status, problem);
}

export const read = async (path) => (await send(path)).json();

/** Return the answer, or `missing` while there is none: a job that waits has no results. */
export async function readIfAny(path, missing) {
  try {
    return await read(path);
  } catch (error) {
    if (error.status === 404) return missing;
    throw error;
  }
}

/** Return a new idempotency key; `crypto.randomUUID` is missing where the page came over plain HTTP. */
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const post = async (path, body, key = newKey()) => (await send(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", "Idempotency-Key": key },
  body: body === undefined ? undefined : JSON.stringify(body),
})).json();

export const signIn = (key) => send("/session", { method: "POST", headers: { Authorization: `Bearer ${key}` } });
export const signOut = () => send("/session", { method: "DELETE" });
