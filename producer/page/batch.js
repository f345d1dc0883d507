// Batches: a row of the list, and the view of one with its newest results.

import { ask } from "./api.js";
import { announce, confirmed, h, keep, say } from "./dom.js";
import { resultCard } from "./result.js";
import { about, ago, batchName, count, lasting, many, state, when } from "./words.js";

const RESULTS = 24;

const going = (batch) => ["validating", "in_progress", "cancelling", "finalizing"].includes(batch.status);
const finished = ({ request_counts: counts }) => counts.completed + counts.failed;

/** Requests that failed, besides those that were filtered, cancelled or too late. */
const broken = ({ request_counts: counts }) => counts.failed - counts.filtered - counts.cancelled - counts.expired;

/** A bar of what is through. */
function bar() {
  const [good, bad, calm] = ["good", "bad", "calm"].map((tone) => h("span", { class: tone }));
  const element = h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, good, bad, calm);
  return {
    element,
    update(batch) {
      const counts = batch.request_counts;
      const share = (n) => (counts.total ? (100 * n) / counts.total : 0);
      good.style.width = `${share(counts.completed)}%`;
      bad.style.width = `${share(broken(batch))}%`;
      calm.style.width = `${share(counts.failed - broken(batch))}%`;
      element.setAttribute("aria-valuenow", Math.floor(share(finished(batch))));
      element.setAttribute("aria-label", `Progress of ${batchName(batch)}`);
    },
  };
}

/** How far, how fast and how much longer. */
function pace(batch) {
  const counts = batch.request_counts;
  const parts = [`${count(finished(batch))} of ${count(counts.total)}`];
  if (broken(batch)) parts.push(`${count(broken(batch))} failed`);
  for (const kind of ["filtered", "cancelled", "expired"]) if (counts[kind]) parts.push(`${count(counts[kind])} ${kind}`);
  if (batch.paused) parts.push("paused");
  if (going(batch) && batch.requests_per_second) parts.push(`${about(batch.requests_per_second)} a second`);
  if (going(batch) && batch.seconds_left) parts.push(`${lasting(batch.seconds_left)} left`);
  const ended = batch.completed_at ?? batch.failed_at ?? batch.expired_at ?? batch.cancelled_at;
  if (ended) parts.push(`took ${lasting(Math.max(0, ended - batch.created_at))}`);
  return parts.join(" · ");
}

function badge() {
  const element = h("span", { class: "badge" });
  return {
    element,
    update(batch) {
      const { tone, text } = state(batch.paused ? "paused" : batch.status);
      element.dataset.tone = tone;
      say(element, text);
    },
  };
}

/** A button for a batch that is under way: `word` says what it does to it, `act` does it. */
function batchButton(app, kind, word, act) {
  let batch = null;
  const element = h("button", { type: "button", class: kind });
  element.addEventListener("click", async () => {
    try {
      await act(batch);
    } catch (error) {
      app.complain(error);
    }
  });
  return {
    element,
    update(next) {
      batch = next;
      const may = app.may("submit") && app.owns(batch);
      element.hidden = !may || !["validating", "in_progress"].includes(batch.status);
      say(element, word(batch));
      element.setAttribute("aria-label", `${word(batch)} ${batchName(batch)}`);
    },
  };
}

/** A button that cancels, after asking. */
function cancelButton(app) {
  return batchButton(app, "quiet", () => "Cancel", async (batch) => {
    const left = batch.request_counts.total - finished(batch);
    const question = `Cancel ${batchName(batch)}? ${many(left, "request")} will not be worked on; finished results stay.`;
    if (!(await confirmed(question, "Cancel it", "Go on"))) return;
    app.know(await ask(`v1/batches/${batch.id}/cancel`, { method: "POST" }));
    announce(`${batchName(batch)} is cancelled`);
  });
}

/** A button that pauses, and lets go on what is paused. */
function pauseButton(app) {
  const word = (batch) => (batch.paused ? "Resume" : "Pause");
  return batchButton(app, "quiet pause", word, async (batch) => {
    const { paused } = batch;
    app.know(await ask(`v1/batches/${batch.id}/${paused ? "resume" : "pause"}`, { method: "POST" }));
    announce(`${batchName(batch)} ${paused ? "goes on" : "is paused"}`);
  });
}

/** A row of the list of batches. */
export function batchRow(batch, app) {
  const [progress, status, pause, cancel] = [bar(), badge(), pauseButton(app), cancelButton(app)];
  const name = h("a", {}, "");
  const about = h("span", { class: "soft" });
  const how = h("p", { class: "pace" });
  const element = h(
    "li",
    { class: "batch" },
    h("div", { class: "line" }, h("h3", {}, name), status.element, about, pause.element, cancel.element),
    progress.element,
    how,
  );
  const row = {
    element,
    update(batch) {
      say(name, batchName(batch));
      if (app.owns(batch)) name.setAttribute("href", `#/batches/${batch.id}`);
      else name.removeAttribute("href");
      element.dataset.id = batch.id;
      status.update(batch);
      const whose = app.owns(batch) ? "" : ` · tenant ${batch.tenant}`;
      say(about, `${batch.model}${whose} · ${ago(batch.created_at)}`);
      progress.update(batch);
      pause.update(batch);
      cancel.update(batch);
      say(how, pace(batch));
    },
  };
  row.update(batch);
  return row;
}

/** The view of one batch. */
export function batchView(id, app) {
  const [progress, status, pause, cancel] = [bar(), badge(), pauseButton(app), cancelButton(app)];
  const title = h("h1", {}, "Batch");
  const how = h("p", { class: "pace" });
  const facts = h("dl", { class: "facts" });
  const list = h("ul", { class: "results", id: "results" });
  const empty = h("p", { class: "soft" }, "No results yet.");
  const older = h("button", { type: "button", hidden: true }, "Show older ones");
  const element = h(
    "article",
    {},
    h("p", {}, h("a", { href: "#/" }, "← Overview")),
    h("section", { class: "panel" },
      h("div", { class: "line" }, title, status.element, pause.element, cancel.element), progress.element, how, facts),
    h("section", { class: "panel" },
      h("h2", {}, "Results, the newest first"), empty, list, h("div", { class: "buttons" }, older)),
  );
  let results = [];
  let cursor = null;
  let through = -1;
  let looking = false;

  const show = () => {
    empty.hidden = results.length > 0;
    keep(list, results, (one) => one.id, (one) => ({ element: resultCard(one) }));
  };

  /** Takes in what is new; what is older than the first page is asked for by hand. */
  async function look() {
    if (looking) return;
    looking = true;
    try {
      const page = await ask(`v1/batches/${id}/latest?limit=${RESULTS}`);
      const known = new Set(results.map((one) => one.id));
      const fresh = page.data.filter((one) => !known.has(one.id));
      // Where more came than a page holds, the gap would be silent: begin again.
      const joined = fresh.length < page.data.length || !results.length;
      if (!joined || cursor === null) cursor = page.after;
      results = joined ? [...fresh, ...results] : page.data;
      older.hidden = !page.data.length || results.length >= through;
      show();
    } catch (error) {
      app.complain(error);
    } finally {
      looking = false;
    }
  }

  older.addEventListener("click", async () => {
    try {
      const page = await ask(`v1/batches/${id}/latest?limit=${RESULTS}&after=${encodeURIComponent(cursor)}`);
      cursor = page.after;
      const known = new Set(results.map((one) => one.id));
      results.push(...page.data.filter((one) => !known.has(one.id)));
      older.hidden = !page.has_more;
      show();
    } catch (error) {
      app.complain(error);
    }
  });

  function update(batch) {
    say(title, batchName(batch));
    status.update(batch);
    progress.update(batch);
    pause.update(batch);
    cancel.update(batch);
    say(how, pace(batch));
    const usage = batch.usage;
    const rows = [
      ["Id", batch.id],
      ["Model", batch.model],
      ["Made", when(batch.created_at)],
      ["Tokens", `${count(usage.input_tokens)} read, ${count(usage.output_tokens)} written`],
      ...Object.entries(batch.metadata ?? {}),
    ];
    if (batch.expires_at) rows.splice(3, 0, [going(batch) ? "Expires" : "Would have expired", when(batch.expires_at)]);
    keep(facts, rows, ([name]) => name, ([name, value]) => {
      const said = h("dd", {}, value);
      return { element: h("div", {}, h("dt", {}, name), said), update: ([, next]) => say(said, next) };
    });
    if (finished(batch) !== through) {
      through = finished(batch);
      look();
    }
  }

  return {
    element,
    title: "Batch",
    async start() {
      update(await ask(`v1/batches/${id}`));
    },
    overview() {
      const batch = app.batch(id);
      if (batch) update(batch);
    },
  };
}
