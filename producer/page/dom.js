// Making elements, and keeping lists of them in step with data without losing focus or selection.

const SVG = "http://www.w3.org/2000/svg";
const OF_SVG = new Set(["svg", "path", "line", "text", "g", "circle", "rect"]);

/** An element. Attributes that begin with `on` are listeners, `false` and `null` leave one out; text is
 *  always text, never markup. */
export function h(tag, attributes = {}, ...children) {
  const element = OF_SVG.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an element's text where it differs: what does not change is not read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Lets an element have one child for each item, in order: those of known keys are updated, others are
 *  made or removed. `make` answers an object with `element` and, if it can change, `update`. */
export function keep(parent, items, key, make) {
  const known = parent.kept ?? (parent.kept = new Map());
  const gone = new Set(known.keys());
  let before = null;
  for (const item of items) {
    const name = key(item);
    gone.delete(name);
    let one = known.get(name);
    if (one) one.update?.(item);
    else known.set(name, (one = make(item)));
    const next = before ? before.nextElementSibling : parent.firstElementChild;
    if (next !== one.element) parent.insertBefore(one.element, next);
    before = one.element;
  }
  for (const name of gone) {
    known.get(name).element.remove();
    known.delete(name);
  }
}

/** Asks whether to go on; answers when the dialog closes. */
export function confirmed(question, yes, no) {
  return new Promise((done) => {
    const dialog = h(
      "dialog",
      { class: "ask", "aria-label": question },
      h("p", {}, question),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close("no") }, no),
        h("button", { type: "button", class: "strong", onclick: () => dialog.close("yes") }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Says something to those who do not see the page. */
export function announce(text) {
  say(document.getElementById("news"), text);
}
