// Dead letters: jobs that will not come back by themselves. They are shown, mended and brought back.

import { ask } from "./api.js";
import { announce, confirmed, h, keep, say } from "./dom.js";
import { ago, many, when } from "./words.js";

const name = (letter) => letter.custom_id ?? letter.id;

function row(letter) {
  const from = [letter.model, letter.tenant && `tenant ${letter.tenant}`, many(letter.attempts, "attempt"), ago(letter.died_at)];
  return {
    element: h("li", { class: "letter", "data-id": letter.id },
      h("a", { href: `#/dead/${letter.id}` }, h("strong", {}, name(letter)), h("span", { class: "text" }, letter.reason)),
      h("span", { class: "soft" }, from.filter(Boolean).join(" · "))),
  };
}

/** The list. */
export function deadView(app) {
  const list = h("ul", { class: "letters", id: "letters" });
  const none = h("p", { class: "soft", hidden: true }, "No dead letters: every job came to an end by itself.");
  const more = h("button", { type: "button", hidden: true }, "Show older ones");
  const element = h("article", {},
    h("section", { class: "panel" },
      h("h1", {}, "Dead letters"),
      h("p", { class: "soft" }, "Jobs that failed for good. Look why, mend the request if need be, and bring them back."),
      none, list, h("div", { class: "buttons" }, more)));
  let letters = [];
  let cursor = "";
  let newest = null;

  async function page(after) {
    const answer = await ask(`v1/dead-letters?after=${encodeURIComponent(after)}`);
    letters = after ? [...letters, ...answer.data] : answer.data;
    cursor = answer.after;
    more.hidden = !answer.has_more;
    none.hidden = letters.length > 0;
    keep(list, letters, (letter) => letter.id, row);
  }
  more.addEventListener("click", () => page(cursor).catch(app.complain));

  return {
    element,
    title: "Dead letters",
    start: () => page(""),
    overview(overview) {
      const now = overview.dead_letter?.id ?? null;
      if (now === newest) return;
      newest = now;
      page("").catch(app.complain);
    },
  };
}

/** One letter. */
export function letterView(id, app) {
  const element = h("article", {}, h("p", { class: "soft" }, "…"));

  function show(letter) {
    const written = letter.request_text;
    const request = h("textarea", { id: "request", rows: 16, spellcheck: "false", "aria-describedby": "request-help request-wrong" });
    request.value = written ?? "";
    const wrong = h("p", { id: "request-wrong", class: "wrong", role: "alert" });
    const button = h("button", { type: "button", class: "strong", id: "replay" }, "Bring it back");
    const forget = h("button", { type: "button", id: "forget" }, "Forget it");
    const fact = (name, value) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value));

    async function replay() {
      say(wrong, "");
      const isMended = request.value !== written;
      try {
        JSON.parse(request.value);
      } catch (error) {
        say(wrong, `The request is no JSON: ${error.message}`);
        request.focus();
        return;
      }
      // As it is written: read and written again, a large seed would be another one.
      const body = isMended ? `{"request":${request.value}}` : "{}";
      const how = isMended ? "with the mended request" : "as it was";
      if (!(await confirmed(`Bring ${name(letter)} back ${how}?`, "Bring it back", "Not now"))) return;
      button.disabled = true;
      try {
        const job = await ask(`v1/dead-letters/${id}/replay`, { method: "POST", body });
        announce(`${name(letter)} is back as ${job.id}`);
        done(job);
      } catch (error) {
        say(wrong, error.message);
        button.disabled = false;
      }
    }

    async function drop() {
      say(wrong, "");
      const question = `Forget ${name(letter)}? Its job stays failed, and cannot be brought back any more.`;
      if (!(await confirmed(question, "Forget it", "Not now"))) return;
      forget.disabled = true;
      try {
        await ask(`v1/dead-letters/${id}`, { method: "DELETE" });
        announce(`${name(letter)} is forgotten`);
        location.hash = "#/dead";
      } catch (error) {
        say(wrong, error.message);
        forget.disabled = false;
      }
    }

    function done(job) {
      element.replaceChildren(
        h("p", {}, h("a", { href: "#/dead" }, "← Dead letters")),
        h("section", { class: "panel", id: "replayed" },
          h("h1", {}, "It is back"),
          h("p", {}, `${name(letter)} waits again, as `, h("code", {}, job.id), "."),
          job.batch_id && app.owns(letter)
            ? h("p", {}, h("a", { href: `#/batches/${job.batch_id}` }, "See its batch"))
            : null));
      element.querySelector("a").focus();
    }

    button.addEventListener("click", replay);
    forget.addEventListener("click", drop);
    element.replaceChildren(
      h("p", {}, h("a", { href: "#/dead" }, "← Dead letters")),
      h("section", { class: "panel" },
        h("h1", {}, name(letter)),
        h("p", { class: "said" }, letter.reason),
        h("dl", { class: "facts" },
          fact("Died", when(letter.died_at)),
          fact("Attempts", String(letter.attempts)),
          fact("Model", letter.model),
          fact("Tenant", letter.tenant),
          fact("Batch", letter.batch_id),
          fact("Id", letter.id))),
      written === null
        ? h("section", { class: "panel" },
            h("h2", {}, "Its message"),
            h("p", { class: "soft" }, "It could not be read, so it cannot be brought back."),
            h("pre", { tabindex: "0" }, letter.body ?? ""),
            wrong, h("div", { class: "buttons" }, forget))
        : h("section", { class: "panel" },
            h("h2", {}, h("label", { for: "request" }, "Its request")),
            h("p", { id: "request-help", class: "soft" }, "Change it to mend it; it is checked before it goes."),
            request, wrong, h("div", { class: "buttons" }, forget, button)));
  }

  return {
    element,
    title: "Dead letter",
    async start() {
      show(await ask(`v1/dead-letters/${id}`));
    },
    overview() {},
  };
}
