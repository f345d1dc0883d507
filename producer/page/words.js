// Numbers, times and states in words.

const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A whole number, short where it is long. */
export const count = (n) => (n < 100_000 ? number.format(n) : short.format(n));

/** A rate or a size with about three digits. */
export function about(x) {
  if (x === null || x === undefined) return "–";
  if (x >= 1000) return short.format(x);
  return Number.isInteger(x) || x >= 100 ? x.toFixed(0) : x.toFixed(x >= 10 ? 1 : 2);
}

/** So many of something. */
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

/** A stretch of time. */
export function lasting(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 99.5) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.round(seconds / 3600);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} d`;
}

/** How long ago a moment (in seconds since 1970) was. */
export function ago(moment) {
  const seconds = Date.now() / 1000 - moment;
  return seconds < 5 ? "just now" : `${lasting(seconds)} ago`;
}

/** A moment on the clock. */
export const clock = (moment) =>
  new Date(moment * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** A moment, whole. */
export const when = (moment) => new Date(moment * 1000).toLocaleString();

/** A state of a batch or a result, and how it looks. */
export function state(status) {
  const tone =
    { completed: "good", succeeded: "good", failed: "bad", filtered: "warn", expired: "warn" }[status] ??
    (["in_progress", "validating", "cancelling", "finalizing"].includes(status) ? "busy" : "calm");
  return { tone, text: status.replace("_", " ") };
}

/** What to call a batch: the name its submitter gave it, or the end of its id. */
export function batchName(batch) {
  const named = batch.metadata?.name ?? batch.metadata?.description ?? batch.metadata?.run;
  return named ?? `batch …${batch.id.slice(-8)}`;
}
