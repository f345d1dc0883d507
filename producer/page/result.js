// Results: a card with its picture, and the view of one with everything that is known of it.

import { ask, picture, pictureBytes } from "./api.js";
import { h } from "./dom.js";
import { about, count, lasting, state, when } from "./words.js";

/** Bytes of a picture that is fetched without being asked for. */
const THUMBNAIL_BYTES_MAX = 2 << 20;

/** Loads pictures once they come near the screen. */
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(entry.target);
      load(entry.target);
    }
  },
  { rootMargin: "200px" },
);

async function load(image) {
  try {
    const address = await picture(image.dataset.reference);
    if (address) image.src = address;
  } catch {
    image.replaceWith(h("span", { class: "no-picture" }, "picture gone"));
  }
}

function shown(reference, words) {
  const image = h("img", { alt: words, "data-reference": reference, decoding: "async" });
  near.observe(image);
  return image;
}

/** The first picture, small; a sign where there is none or it is elsewhere. */
function thumbnail(result) {
  const [first] = result.pictures;
  if (!first) return h("span", { class: "no-picture", "aria-hidden": "true" }, "¶");
  if (!/^(media|data):/.test(first)) return h("span", { class: "no-picture" }, "on the web");
  if (pictureBytes(first) > THUMBNAIL_BYTES_MAX) return h("span", { class: "no-picture" }, "large picture");
  return shown(first, "");
}

/** What the answer is, or why there is none. */
function answer(result) {
  if (result.text) return result.text;
  if (result.tool_calls?.length) return result.tool_calls.map((call) => `${call.function.name}(…)`).join(", ");
  return result.failure ? `${result.failure.code}: ${result.failure.message}` : "";
}

function badge(status) {
  const { tone, text } = state(status);
  return h("span", { class: "badge", "data-tone": tone }, text);
}

/** What the filter found: `allow` is no news. */
export const verdicts = (result) => (result.filter ?? []).filter((verdict) => verdict.action !== "allow");

function flags(result) {
  return verdicts(result).map((verdict) =>
    h("span", { class: "badge", "data-tone": verdict.action === "block" ? "bad" : "warn" },
      `${verdict.action}: ${verdict.detector}${verdict.shadow ? " (shadow)" : ""}`),
  );
}

/** Where in its batch a result is: an older one is found only there. */
const place = ({ batch_id: batch, item }) => (batch && item !== undefined ? `?batch_id=${batch}&item=${item}` : "");

/** A result in a list. */
export function resultCard(result) {
  return h(
    "li",
    { class: "result", "data-id": result.id },
    h(
      "a",
      { href: `#/results/${result.id}${place(result)}` },
      h("span", { class: "thumbnail" }, thumbnail(result)),
      h("span", { class: "answer" },
        h("strong", {}, result.custom_id ?? result.id),
        h("span", { class: "text" }, answer(result)),
        result.status === "succeeded" && !flags(result).length
          ? null
          : h("span", { class: "badges" }, result.status === "succeeded" ? null : badge(result.status), flags(result))),
    ),
  );
}

function fact(name, value) {
  return value === null || value === undefined ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/** A request with its data cut to where it can be told what it is. */
const shorter = (text) =>
  text.replace(/"data:[^"]{100,}"/g, (data) => `${data.slice(0, 40)}… (${count(data.length - 2)} characters)"`);

/** Stages of its time, each with its share. */
function timings(result) {
  const { queue, media, filter, prefill, decode } = result.timings;
  const stages = { waiting: queue, media, filter, "reading the prompt": prefill, writing: decode };
  return h("dl", { class: "facts" }, Object.entries(stages).map(([name, seconds]) => fact(name, lasting(seconds))));
}

function verdictRows(result) {
  const rows = (result.filter ?? []).map((verdict) =>
    h("tr", {},
      h("td", {}, verdict.stage.replace("_", " ")),
      h("td", {}, verdict.detector),
      h("td", {}, h("span", { class: "badge", "data-tone": { allow: "good", block: "bad" }[verdict.action] ?? "warn" }, verdict.action),
        verdict.shadow ? " (shadow)" : ""),
      h("td", {}, Object.keys(verdict.detail?.categories ?? {}).join(", ") || verdict.detail?.error || "")),
  );
  if (!rows.length) return h("p", { class: "soft" }, "No filter looked at it.");
  const head = h("tr", {}, ["Stage", "Detector", "Verdict", "Found"].map((name) => h("th", { scope: "col" }, name)));
  return h("div", { class: "wide" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows)));
}

/** The view of one result, named as in its address. */
export function resultView(name, app) {
  const element = h("article", {}, h("p", { class: "soft" }, "…"));

  function show(result) {
    const back = result.batch_id
      ? h("a", { href: `#/batches/${result.batch_id}` }, "← Its batch")
      : h("a", { href: "#/" }, "← Overview");
    const pictures = result.pictures.map((reference, i) =>
      /^(media|data):/.test(reference)
        ? shown(reference, `Picture ${i + 1} of ${result.pictures.length} that was asked about`)
        : h("p", {}, "A picture on the web: ", h("code", {}, reference)),
    );
    const usage = result.usage;
    element.replaceChildren(
      h("p", {}, back),
      h("section", { class: "panel" },
        h("div", { class: "line" }, h("h1", {}, result.custom_id ?? result.id), badge(result.status)),
        pictures.length ? h("div", { class: "pictures" }, pictures) : null,
        h("p", { class: "said", id: "said" }, answer(result)),
        h("dl", { class: "facts" },
          fact("Ended", when(result.finished_at)),
          fact("Why", result.finish_reason),
          fact("Model", result.model && `${result.model.name}, ${result.model.quantization}`),
          fact("Attempt", count(result.attempt)),
          fact("Tokens", `${count(usage.prompt_tokens)} read (${count(usage.image_tokens)} of pictures, ${count(usage.cached_tokens)} known before), ${count(usage.completion_tokens)} written`),
          fact("Tokens a second", result.tokens_per_second && about(result.tokens_per_second)),
          fact("Worker", result.worker),
          fact("Id", result.id))),
      h("section", { class: "panel" }, h("h2", {}, "Where its time went"), timings(result)),
      h("section", { class: "panel" }, h("h2", {}, "What the filter said"), verdictRows(result)),
      h("section", { class: "panel" },
        h("h2", {}, "What was asked"),
        result.request_text
          ? h("pre", { tabindex: "0" }, shorter(result.request_text))
          : h("p", { class: "soft" }, "The request is not kept any more.")),
    );
  }

  return {
    element,
    title: "Result",
    async start() {
      show(await ask(`v1/results/${name}`));
    },
    overview() {},
  };
}
