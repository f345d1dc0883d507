// The page: signs in, follows the overview as it changes, and shows one view at a time.

import { Refusal, ask, events, key } from "./api.js";
import { batchView } from "./batch.js";
import { deadView, letterView } from "./dead.js";
import { h, say } from "./dom.js";
import { overviewView } from "./overview.js";
import { resultView } from "./result.js";
import { signIn } from "./sign-in.js";

/** Seconds until the connection is made again after so many failures. */
const AGAIN_AFTER_S = [1, 2, 5, 10];
/** Without news for so long, what is shown is called old. */
const SILENCE_MS_MAX = 15_000;
/** Batches listed. */
const BATCHES = 20;

const main = document.getElementById("main");
const ways = document.getElementById("ways");
const who = document.getElementById("who");
const link = document.getElementById("link");

let latest = null;
let isOld = false;
let listed = new Map();
let view = null;
let following = null;

/** What the views may know and do. */
const app = {
  latest: () => latest,
  may: (scope) => latest.scopes.includes(scope),
  /** Whether it may be looked into. */
  owns: (batch) => latest.scopes.includes("read") && (!batch.tenant || batch.tenant === latest.tenant),
  batch: (id) => listed.get(id) ?? null,
  /** The newest first; ids begin with the time they were made at. */
  batches: () => [...listed.values()].sort((a, b) => (a.id < b.id ? 1 : -1)),
  /** Looks for batches that the overview does not show: older ones, and those that were over at once. */
  async list() {
    if (!app.may("read")) return;
    const { data } = await ask(`v1/batches?limit=${BATCHES}`);
    for (const batch of data) listed.set(batch.id, { ...listed.get(batch.id), ...batch });
  },
  know(batch) {
    listed.set(batch.id, { ...listed.get(batch.id), ...batch });
    view?.overview(latest);
  },
  complain(error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refusal && error.status === 401) return leave(error.message);
    // Where all of it is old, that is what there is to say.
    if (!isOld) warn(error.message);
  },
};

function warn(text) {
  link.hidden = !text;
  say(link, text ?? "");
}

const VIEWS = [
  [/^#\/batches\/([\w-]+)$/, (id) => batchView(id, app)],
  [/^#\/results\/([\w-]+)$/, (id) => resultView(id, app)],
  [/^#\/dead\/([\w-]+)$/, (id) => letterView(id, app)],
  [/^#\/dead$/, () => deadView(app)],
  [/^/, () => overviewView(app)],
];

async function route() {
  if (!latest) return;
  const [pattern, make] = VIEWS.find(([pattern]) => pattern.test(location.hash));
  const made = make(pattern.exec(location.hash)[1]);
  const isFirst = view === null;
  view = made;
  document.title = `${made.title} – Lapidary`;
  main.replaceChildren(made.element);
  for (const way of ways.children) {
    const isHere = (location.hash || "#/").startsWith(way.hash) && (way.hash !== "#/" || made.title === "Overview");
    if (isHere) way.setAttribute("aria-current", "page");
    else way.removeAttribute("aria-current");
  }
  if (!isFirst) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  warn(null);
  try {
    await made.start();
  } catch (error) {
    if (view !== made) return;
    if (error instanceof Refusal && error.status === 404) main.replaceChildren(h("section", { class: "panel" }, h("h1", {}, "Not there"), h("p", {}, error.message), h("p", {}, h("a", { href: "#/" }, "← Overview"))));
    else app.complain(error);
  }
}

function take(overview) {
  if (isOld) warn(null);
  isOld = false;
  latest = overview;
  for (const batch of overview.batches) listed.set(batch.id, batch);
  view?.overview(overview);
}

/** Nobody says how it goes: then it does not go well, whatever was seen last. */
function silent(why) {
  if (!latest || isOld) return;
  isOld = true;
  warn(`What is shown is old: ${why}. Trying again …`);
  latest = { ...latest, concerns: [{ kind: "gateway_silent", level: "problem", message: why }] };
  view?.overview(latest);
}

/** Follows the overview until the key is refused or somebody leaves. */
async function follow() {
  following?.abort();
  const stop = (following = new AbortController());
  for (let failures = 0; !stop.signal.aborted; ) {
    try {
      for await (const { name, data } of events("v1/overview/events", stop.signal)) {
        if (name === "error") throw new Refusal(401, data.error);
        failures = 0;
        lastNews = Date.now();
        take(data);
      }
    } catch (error) {
      if (stop.signal.aborted) return;
      if (error instanceof Refusal && error.status === 401) return leave(error.message);
    }
    if (stop.signal.aborted) return;
    const seconds = AGAIN_AFTER_S[Math.min(failures, AGAIN_AFTER_S.length - 1)];
    failures += 1;
    if (failures > 1) silent("the gateway does not answer");
    await new Promise((again) => setTimeout(again, seconds * 1000));
  }
}

let lastNews = Date.now();
setInterval(() => {
  if (Date.now() - lastNews > SILENCE_MS_MAX) silent("there has been no news for a while");
}, 1000);

/** Forgets the key and everything seen with it. */
function leave(why) {
  following?.abort();
  following = null;
  key.forget();
  [latest, view, isOld] = [null, null, false];
  listed = new Map();
  ways.hidden = who.hidden = true;
  warn(null);
  signIn(main, why, enter);
}

async function enter(overview) {
  latest = overview;
  lastNews = Date.now();
  await app.list().catch(app.complain);
  take(overview);
  const dead = app.may("operate") ? [h("a", { href: "#/dead" }, "Dead letters")] : [];
  ways.replaceChildren(h("a", { href: "#/" }, "Overview"), ...dead);
  ways.hidden = who.hidden = false;
  const out = key.get() ? [h("button", { type: "button", class: "quiet", onclick: () => leave() }, "Sign out")] : [];
  who.replaceChildren(h("span", {}, `tenant ${overview.tenant}`), ...out);
  await Promise.all([route(), follow()]);
}

window.addEventListener("hashchange", route);

async function start() {
  const isAsked = document.documentElement.dataset.keys === "asked";
  if (isAsked && !key.get()) return leave();
  try {
    await enter(await ask("v1/overview"));
  } catch (error) {
    if (error instanceof Refusal && [401, 403].includes(error.status)) return leave(error.message);
    warn(`${error.message}. Trying again …`);
    setTimeout(start, AGAIN_AFTER_S[1] * 1000);
  }
}

start();
