// Signing in by an API key, which becomes a cookie that scripts cannot read, signing out, and what a key opens.

import { make, replace, soft } from "./elements.js";
import { read, signIn, signOut } from "./service.js";

export function showSignIn(main, onSignedIn) {
  const key = make("input", { type: "password", autocomplete: "current-password", required: "", name: "key",
    "aria-describedby": "key-error" });
  const error = make("p", { class: "error", id: "key-error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    error.textContent = "";
    try {
      await signIn(key.value.trim());
      onSignedIn(event);
    } catch (problem) {
      error.textContent = problem.status === 401 ? "The service does not know this key, or it has expired or was revoked."
        : problem.message;
      key.select();
    }
  };
  replace(main, make("div", { class: "sign-in" }, make("h1", {}, "Sign in"),
    soft("With an API key of this service. It is kept in a cookie until you sign out, for 12 hours at most."),
    make("form", { class: "card", onsubmit: submit }, make("label", { class: "field" }, make("span", {}, "API key"), key), error,
      make("div", { class: "actions" }, make("button", { class: "primary" }, "Sign in")))));
  key.focus();
}

export async function endSession(main, onSignedIn) {
  await signOut();
  showSignIn(main, onSignedIn);
}

const DASHBOARDS = { optuna: "Optuna", ray: "Ray" };

/** Show links to the dashboards that are open to the key: an admin's, and nobody else's. */
export async function showDashboards(place) {
  const { dashboards } = await read("/session");
  replace(place, ...Object.entries(dashboards).map(([name, address]) =>
    make("a", { href: address, target: "_blank", rel: "noreferrer" }, DASHBOARDS[name])));
}
