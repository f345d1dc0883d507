// Asking for an API key. It is kept for this tab only, and forgotten with it.

import { ask, key } from "./api.js";
import { h, say } from "./dom.js";

/** Asks until a key is accepted; `why` says what was wrong with the last one. */
export function signIn(main, why, done) {
  const input = h("input", {
    id: "key",
    name: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-help key-wrong",
  });
  const wrong = h("p", { id: "key-wrong", class: "wrong", role: "alert" }, why ?? "");
  const button = h("button", { class: "strong" }, "Sign in");
  const form = h(
    "form",
    { class: "sign-in panel" },
    h("h1", {}, "Sign in"),
    h("label", { for: "key" }, "API key"),
    input,
    h("p", { id: "key-help", class: "soft" }, "Made with ", h("code", {}, "lapidary keys create"), ". ",
      "This tab forgets it when it is closed."),
    wrong,
    button,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    say(wrong, "");
    key.set(input.value.trim());
    try {
      done(await ask("v1/overview"));
    } catch (error) {
      key.forget();
      say(wrong, error.message);
      input.select();
      button.disabled = false;
    }
  });
  main.replaceChildren(form);
  input.focus();
}
