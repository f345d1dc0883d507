// A curve over the last minutes: small, calm, and told in words to those who do not see it.

import { h, say } from "./dom.js";
import { clock } from "./words.js";

const [WIDTH, HEIGHT, TOP, BOTTOM] = [320, 120, 8, 18];

/** A round number at or above the largest value, so that the scale does not tremble. */
function ceiling(largest) {
  if (largest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= largest);
}

/** A chart of series of numbers, each `{ name, tone, tell }`, where `tell` makes a phrase of a written value;
 *  `write` puts a value in words. */
export function chart(title, series, write) {
  const lines = series.map(({ tone }) => h("path", { class: `curve ${tone}`, "vector-effect": "non-scaling-stroke" }));
  const area = h("path", { class: `area ${series[0].tone}` });
  const top = h("text", { class: "scale", x: 0, y: TOP + 3 });
  const [from, to] = [0, WIDTH].map((x) =>
    h("text", { class: "scale", x, y: HEIGHT - 3, "text-anchor": x ? "end" : "start" }),
  );
  const pointer = h("line", { class: "pointer", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const rule = (y) => h("line", { class: "rule", x1: 0, x2: WIDTH, y1: y, y2: y });
  const svg = h(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0" },
    rule(TOP), rule(HEIGHT - BOTTOM), area, lines, pointer, top, from, to,
  );
  const readout = h("p", { class: "readout" });
  const legend = series.length > 1 &&
    h("p", { class: "legend" }, series.map(({ name, tone }) => h("span", { class: tone }, name)));
  const element = h("figure", { class: "chart" }, h("figcaption", {}, title), readout, svg, legend || null);

  let shown = { columns: [[]], begins: 0, stretch: 1 };
  let chosen = null;

  const told = (at) => {
    const values = series.map(({ tell }, i) => tell(write(shown.columns[i][at])));
    return values.join(", ");
  };

  const choose = (at) => {
    const length = shown.columns[0].length;
    chosen = at === null || !length ? null : Math.max(0, Math.min(length - 1, at));
    draw();
  };

  function draw() {
    const { columns, begins, stretch } = shown;
    const length = columns[0].length;
    const largest = ceiling(Math.max(0, ...columns.flat().filter((value) => value !== null)));
    const x = (i) => (length < 2 ? WIDTH : (i / (length - 1)) * WIDTH);
    const y = (value) => HEIGHT - BOTTOM - (value / largest) * (HEIGHT - BOTTOM - TOP);
    columns.forEach((column, i) => {
      let pen = "M";
      let path = "";
      column.forEach((value, at) => {
        if (value === null) return void (pen = "M");
        // A value between two gaps is a point.
        path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}${pen === "M" ? "h0" : ""}`;
        pen = "L";
      });
      lines[i].setAttribute("d", path);
    });
    const whole = columns[0].every((value) => value !== null) && length > 1;
    const outline = columns[0].map((value, i) => `L${x(i).toFixed(1)} ${y(value ?? 0).toFixed(1)}`).join("");
    area.setAttribute("d", whole ? `M0 ${y(0)}${outline}L${WIDTH} ${y(0)}Z` : "");
    say(top, write(largest));
    say(from, length ? clock(begins) : "");
    say(to, length ? clock(begins + length * stretch) : "");
    const at = chosen ?? length - 1;
    pointer.setAttribute("visibility", chosen === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, x(at));
    const moment = chosen === null ? "" : ` at ${clock(begins + (at + 1) * stretch)}`;
    say(readout, length ? told(at) + moment : "nothing yet");
    svg.setAttribute("aria-label", `${title}: ${length ? `${told(length - 1)} now, scale to ${write(largest)}` : "nothing yet"}`);
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    choose(Math.round(((event.clientX - box.left) / box.width) * (shown.columns[0].length - 1)));
  });
  svg.addEventListener("pointerleave", () => choose(null));
  svg.addEventListener("blur", () => choose(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((chosen ?? shown.columns[0].length - 1) + step);
  });

  return {
    element,
    /** Shows these columns, one a series, from a moment on. */
    update(columns, begins, stretch) {
      shown = { columns, begins, stretch };
      draw();
    },
  };
}
