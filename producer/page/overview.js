// The first view: does it go well, how fast, what runs, what came of it.

import { ask } from "./api.js";
import { batchRow } from "./batch.js";
import { chart } from "./chart.js";
import { announce, h, keep, say } from "./dom.js";
import { resultCard } from "./result.js";
import { about, count, lasting, many } from "./words.js";

const RECENT = 8;
const HEADLINES = { problem: "Something is wrong", attention: "Worth a look", good: "All is well" };
const SIGNS = { problem: "✕", attention: "!", good: "✓" };

const going = (batch) => ["validating", "in_progress", "cancelling", "finalizing"].includes(batch.status);

/** Whether it goes well, in one line, and what does not. */
function verdict() {
  const sign = h("span", { class: "sign", "aria-hidden": "true" });
  const headline = h("h1", { id: "verdict" });
  const rest = h("p", {});
  const list = h("ul", { class: "concerns" });
  const element = h("section", { class: "verdict panel", "aria-labelledby": "verdict" }, sign, h("div", {}, headline, rest, list));
  return {
    element,
    update(overview) {
      const level = overview.concerns[0]?.level ?? "good";
      if (element.dataset.level !== level) announce(HEADLINES[level]);
      element.dataset.level = level;
      say(sign, SIGNS[level]);
      say(headline, HEADLINES[level]);
      say(rest, summary(overview));
      keep(list, overview.concerns, (one) => `${one.level} ${one.message}`, (one) => ({
        element: h("li", { "data-level": one.level }, linked(one)),
      }));
    },
  };
}

/** A concern, with the way to what it is about. */
function linked({ kind, message, batch_id: batch }) {
  const way = batch ? `#/batches/${batch}` : kind === "dead_letters" ? "#/dead" : null;
  return way ? h("a", { href: way }, message) : message;
}

function summary(overview) {
  const running = overview.batches.filter(going).length;
  const parts = [running ? `${many(running, "batch", "batches")} in progress` : "no batch in progress"];
  if (overview.workers) parts.unshift(overview.workers.length ? many(overview.workers.length, "worker") : "no workers");
  return parts.join(", ");
}

/** The sum of the last stretches, as a rate a second. */
function rate(column, stretch, over = 60) {
  const last = column.slice(-Math.ceil(over / stretch));
  return last.length ? last.reduce((sum, n) => sum + n, 0) / (last.length * stretch) : 0;
}

const FIGURES = {
  "Finished a minute": ({ history }) => about(60 * (rate(history.succeeded, history.stretch_s) + rate(history.failed, history.stretch_s))),
  "Tokens a second": ({ history }) => about(rate(history.output_tokens, history.stretch_s)),
  "Time for a request": ({ history }) => lasting(history.seconds_median.findLast((value) => value !== null)),
  "Not finished": ({ batches }) => {
    const left = batches.filter(going).map(({ request_counts: counts }) => counts.total - counts.completed - counts.failed);
    return count(left.reduce((sum, n) => sum + n, 0));
  },
  "Time left": ({ batches }) => {
    const left = batches.filter(going).map((batch) => batch.seconds_left);
    return left.length && left.every((seconds) => seconds) ? lasting(Math.max(...left)) : "–";
  },
};

function figures() {
  const values = Object.entries(FIGURES).map(([name, read]) => ({ name, read, value: h("dd", {}, "–") }));
  return {
    element: h("dl", { class: "figures" }, values.map(({ name, value }) => h("div", {}, h("dt", {}, name), value))),
    update: (overview) => values.forEach(({ read, value }) => say(value, read(overview))),
  };
}

function curves() {
  const throughput = chart("Finished a minute", [
    { name: "answered", tone: "one", tell: (n) => `${n} answered` },
    { name: "without answer", tone: "bad", tell: (n) => `${n} without answer` },
  ], about);
  const tokens = chart("Tokens a second", [{ name: "tokens", tone: "one", tell: (n) => n }], about);
  const latency = chart("Time for a request", [
    { name: "median", tone: "one", tell: (time) => `median ${time}` },
    { name: "95 %", tone: "two", tell: (time) => `95 % ${time}` },
  ], lasting);
  return {
    element: h("div", { class: "charts" }, [throughput, tokens, latency].map(({ element }) => element)),
    update({ history }) {
      const { stretch_s: stretch, begins_at: begins } = history;
      const per = (column, seconds) => column.map((n) => (n * seconds) / stretch);
      throughput.update([per(history.succeeded, 60), per(history.failed, 60)], begins, stretch);
      tokens.update([per(history.output_tokens, 1)], begins, stretch);
      latency.update([history.seconds_median, history.seconds_p95], begins, stretch);
    },
  };
}

/** A table that keeps its rows in step. */
function table(id, caption, columns, key, nothing) {
  const body = h("tbody", {});
  const head = h("tr", {}, columns.map(([name, , tone]) => h("th", { scope: "col", class: tone }, name)));
  const empty = h("p", { class: "soft" }, nothing);
  const whole = h("table", { id }, h("caption", { class: "unseen" }, caption), h("thead", {}, head), body);
  const cells = (row) => columns.map(([, read]) => String(read(row)));
  return {
    element: h("div", { class: "wide" }, whole, empty),
    update(rows) {
      empty.hidden = rows.length > 0;
      whole.hidden = !rows.length;
      keep(body, rows, key, (row) => {
        const made = cells(row).map((text, i) => h("td", { class: columns[i][2] }, text));
        return {
          element: h("tr", {}, made),
          update: (next) => cells(next).forEach((text, i) => say(made[i], text)),
        };
      });
    },
  };
}

const queues = () =>
  table("queues", "Queues", [
    ["Model", (row) => row.model],
    ["Class", (row) => row.class],
    ["Waiting", (row) => count(row.waiting), "number"],
  ], (row) => `${row.model} ${row.class}`, "No model is served, and nothing waits.");

const workers = () =>
  table("workers", "Workers", [
    ["Worker", (row) => row.id],
    ["Model", (row) => `${row.model} ${row.quantization}`],
    ["Slots", (row) => count(row.slots), "number"],
    ["Up", (row) => lasting(Math.max(0, Date.now() / 1000 - row.started_at)), "number"],
  ], (row) => row.id, "No worker is here.");

/** The newest results of the batches that moved last. */
function recent(app) {
  const list = h("ul", { class: "results", id: "recent" });
  const empty = h("p", { class: "soft" }, "No results yet.");
  let seen = "";
  let looking = false;
  return {
    element: h("section", { class: "panel" }, h("h2", {}, "Latest results"), empty, list),
    async update() {
      const batches = app.batches().filter((batch) => app.owns(batch) && batch.request_counts.completed + batch.request_counts.failed).slice(0, 3);
      const now = batches.map((batch) => `${batch.id} ${batch.request_counts.completed + batch.request_counts.failed}`).join();
      if (now === seen || looking) return;
      looking = true;
      try {
        const pages = await Promise.all(batches.map((batch) => ask(`v1/batches/${batch.id}/latest?limit=${RECENT}`)));
        const results = pages.flatMap((page) => page.data).filter((one) => one.status !== "cancelled").sort((a, b) => b.finished_at - a.finished_at).slice(0, RECENT);
        empty.hidden = results.length > 0;
        keep(list, results, (one) => one.id, (one) => ({ element: resultCard(one) }));
        seen = now;
      } catch (error) {
        app.complain(error);
      } finally {
        looking = false;
      }
    },
  };
}

/** The view. */
export function overviewView(app) {
  const parts = { verdict: verdict(), figures: figures(), curves: curves(), queues: queues(), workers: workers(), recent: recent(app) };
  const list = h("ul", { class: "batches", id: "batches" });
  const none = h("p", { class: "soft" }, "No batches yet. ", h("code", {}, "lapidary submit"), " and ", h("code", {}, "POST /v1/batches"), " make them.");
  const place = h("div", { class: "pair" },
    h("section", { class: "panel" }, h("h2", {}, "Queues"), parts.queues.element),
    h("section", { class: "panel" }, h("h2", {}, "Workers"), parts.workers.element));
  const element = h("article", { class: "overview" },
    parts.verdict.element,
    parts.figures.element,
    h("section", { class: "panel" }, h("h2", {}, "Batches"), none, list),
    h("section", { class: "panel" }, h("h2", {}, "The last minutes"), parts.curves.element),
    place,
    parts.recent.element,
  );

  function update(overview) {
    for (const name of ["verdict", "figures", "curves"]) parts[name].update(overview);
    place.hidden = overview.queues === null;
    parts.queues.update(overview.queues ?? []);
    parts.workers.update(overview.workers ?? []);
    const batches = app.batches();
    none.hidden = batches.length > 0;
    keep(list, batches, (batch) => batch.id, (batch) => batchRow(batch, app));
    parts.recent.update();
  }

  return {
    element,
    title: "Overview",
    async start() {
      update(app.latest());
      await app.list();
      update(app.latest());
    },
    overview: update,
  };
}
