// The gateway's addresses: every request carries the key of this session, if there is one.

const KEY = "lapidary.key";
/** Bytes of an event that has not ended; more is no event of ours. */
const EVENT_CHARS_MAX = 1 << 22;

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (written) => sessionStorage.setItem(KEY, written),
  /** With it goes what was seen with it. */
  forget() {
    sessionStorage.removeItem(KEY);
    pictures.forEach(revoke);
    pictures.clear();
  },
};

/** Pictures by their reference, as addresses that an image can show; the last ones stay at hand. */
const pictures = new Map();
const PICTURES_MAX = 200;

const revoke = (address) => address.then(URL.revokeObjectURL, () => {});

/** What the gateway refused, in its own words. */
export class Refusal extends Error {
  constructor(status, error) {
    super(error?.message ?? `the gateway answered ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

async function answered(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  const answer = await fetch(path, { ...options, headers, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the gateway does not answer");
  });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  throw new Refusal(answer.status, body?.error);
}

/** An answer of JSON; a body that is a text is sent as it is. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const options = { method, signal };
  if (body !== undefined) {
    options.body = typeof body === "string" ? body : JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  return (await answered(path, options)).json();
}

/** The events of a stream, each its name and its data, until it ends. */
export async function* events(path, signal) {
  const answer = await answered(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    if (rest.length > EVENT_CHARS_MAX) throw new Error("an event does not end");
    for (const part of parts) {
      const event = { name: "message", data: "" };
      for (const line of part.split("\n")) {
        if (line.startsWith("event:")) event.name = line.slice(6).trim();
        if (line.startsWith("data:")) event.data += line.slice(5);
      }
      if (event.data) yield { name: event.name, data: JSON.parse(event.data) };
    }
  }
}

/** What an image shows for a picture of a request; none for what is on another host. */
export async function picture(reference) {
  if (reference.startsWith("data:image/")) return reference;
  if (!reference.startsWith("media:")) return null;
  let known = pictures.get(reference);
  if (!known) {
    known = answered(`v1/media/${encodeURIComponent(reference)}`)
      .then((answer) => answer.blob())
      .then((blob) => URL.createObjectURL(blob));
    pictures.set(reference, known);
    known.catch(() => pictures.delete(reference));
    for (const [oldest, address] of pictures) {
      if (pictures.size <= PICTURES_MAX) break;
      pictures.delete(oldest);
      revoke(address);
    }
  }
  return known;
}

/** Bytes of a picture in the media store, as its reference says. */
export function pictureBytes(reference) {
  return reference.startsWith("media:") ? Number(reference.split(":")[2]) : reference.length;
}
