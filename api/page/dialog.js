// A question before something is changed. Escape and "Keep" answer no; focus returns to where it was.

import { make } from "./elements.js";

/** Ask; return whether the answer is yes, or the number that was entered if `number` names one. */
export function ask(title, text, verb, number = null) {
  const input = number && make("input", { type: "number", name: "number", min: "1", max: "100000", value: number.value, required: "" });
  const dialog = make("dialog", { "aria-labelledby": "question" },
    make("form", { method: "dialog" }, make("h2", { id: "question" }, title), make("p", {}, text),
      input && make("label", { class: "field" }, make("span", {}, number.label), input),
      make("div", { class: "actions" },
        make("button", { value: "yes", class: "primary" }, verb),
        make("button", { value: "no", type: "button", onclick: () => dialog.close("no") }, "Go back"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      const isYes = dialog.returnValue === "yes";
      resolve(isYes && input ? Number(input.value) : isYes);
    });
  });
}
