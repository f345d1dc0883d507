#!/usr/bin/env python3
"""Draws the boards without Grafana: one page of HTML with the lines of every panel, from a Prometheus.

    draw.py http://127.0.0.1:9090 boards.html --window 3600 --rate 60
"""

import argparse
import html
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path

BOARDS = Path(__file__).parent / "boards"
WIDTH, HEIGHT, MARGIN = 560, 180, 64
COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#76b7b2", "#9c755f", "#ff9da7"]
# Lines of a panel that are drawn, and seconds that an answer may take.
LINES_MAX, ANSWER_MAX = 40, 30


def step(start, end):
    return max((end - start) / 200, 0.25)


def points(prometheus, expression, start, end):
    """Label sets and (time, value) pairs of an expression; no pair where there is no number."""
    query = {"query": expression, "start": start, "end": end, "step": step(start, end)}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=ANSWER_MAX) as answer:
        found = json.load(answer)["data"]["result"]
    for series in found[:LINES_MAX]:
        numbers = [(float(at), float(value)) for at, value in series["values"]]
        yield series["metric"], [(at, value) for at, value in numbers if abs(value) < float("inf")]


def legend(template, labels):
    if template == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    for name in labels:
        template = template.replace("{{%s}}" % name, labels[name])
    return template


def written(value, unit):
    """A figure as people read it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.4g}" + (" s" if unit == "s" else "")


def stretches(line, start, end):
    """A line in pieces, parted where something is missing."""
    piece = []
    for at, value in line:
        if piece and at - piece[-1][0] > 1.5 * step(start, end):
            yield piece
            piece = []
        piece.append((at, value))
    if piece:
        yield piece


def drawn_lines(lines, unit, start, end):
    """The marks of lines, what each of them is, and what stands at the top."""
    highest = max((value for _, line in lines for _, value in line), default=0) or 1
    across = (WIDTH - MARGIN) / (end - start)
    marks, names = [], []
    for number, (name, line) in enumerate(lines):
        colour = "#d62728" if name == "limit" else COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="6 4"' if name == "limit" else ""
        for piece in stretches(line, start, end):
            # A lone point is seen, too.
            piece = piece if len(piece) > 1 else [piece[0], (piece[0][0] + step(start, end), piece[0][1])]
            at = " ".join(
                f"{MARGIN + (when - start) * across:.1f},{HEIGHT - value / highest * (HEIGHT - 10):.1f}" for when, value in piece
            )
            marks.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        last = written(line[-1][1], unit) if line else "none"
        names.append(f'<span style="color:{colour}">{html.escape(name or "value")} {last}</span>')
    return marks, names, written(highest, unit)


def drawn_heat(lines, unit, start, end):
    """The same of a histogram's buckets, which count what is below them: a row each, the fuller the darker."""
    rows = sorted((float(bound), dict(line)) for bound, line in lines)
    counts = []
    for number, (_, line) in enumerate(rows):
        below = rows[number - 1][1] if number else {}
        counts.append({at: max(value - below.get(at, 0), 0) for at, value in line.items()})
    most = max((value for row in counts for value in row.values()), default=0) or 1
    across, height = (WIDTH - MARGIN) / (end - start), HEIGHT / max(len(rows), 1)
    marks = [
        f'<rect x="{MARGIN + (at - start) * across:.1f}" y="{HEIGHT - (row + 1) * height:.1f}"'
        f' width="{step(start, end) * across:.1f}" height="{height:.1f}" fill="#e6550d" opacity="{value / most:.2f}"/>'
        for row, line in enumerate(counts)
        for at, value in line.items()
        if value > 0
    ]
    bounds = [written(bound, unit) for bound, _ in rows if bound < float("inf")]
    names = [f"rows from {bounds[0]} to {bounds[-1]} and above, darkest {most:.3g} a second"] if bounds else []
    return marks, names, "above"


def drawn(panel, lines, start, end):
    """A panel's title and description, what it shows, and what each line is."""
    unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
    draw = drawn_heat if panel["type"] == "heatmap" else drawn_lines
    marks, names, top = draw(lines, unit, start, end)
    return (
        f'<figure><b>{html.escape(panel["title"])}</b> <small>{unit}</small>'
        f'<svg width="{WIDTH}" height="{HEIGHT + 4}"><path d="M{MARGIN} 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#888"/>'
        f'<text x="2" y="14" font-size="11">{top}</text><text x="2" y="{HEIGHT}" font-size="11">0</text>'
        f'{"".join(marks)}</svg><div>{" · ".join(names) or "no data"}</div>'
        f'<small>{html.escape(panel["description"])}</small></figure>'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus")
    parser.add_argument("out", type=Path)
    parser.add_argument("--window", type=float, default=3600, help="seconds to show")
    parser.add_argument("--rate", type=int, default=60, help="seconds that rates are taken over")
    said = parser.parse_args()
    end = time.time()
    start = end - said.window
    page = []
    for path in sorted(BOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        page.append(f'<h2>{html.escape(board["title"])}</h2><p>{html.escape(board["description"])}</p><main>')
        for panel in board["panels"]:
            lines = []
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", f"{said.rate}s").replace("$instance", ".+")
                for labels, line in points(said.prometheus, expression, start, end):
                    lines.append((legend(target["legendFormat"], labels), line))
            page.append(drawn(panel, lines, start, end))
        page.append("</main>")
    style = "body{font:13px sans-serif}main{display:flex;flex-wrap:wrap}figure{width:560px;margin:8px}svg{display:block}"
    said.out.write_text(f"<!doctype html><meta charset=utf-8><title>Lapidary</title><style>{style}</style>{''.join(page)}")


main()
