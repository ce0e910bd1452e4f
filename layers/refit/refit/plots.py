"""The drawings of a report, as SVG to stand inside of its page, which has their titles.

Colours are the page's own (CSS variables), so that one drawing serves on light and dark. Text stays text. The same
document gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Names of the page's colours, by what stands for them while matplotlib draws.
COLOURS = {
    "#010101": "--ink",
    "#020202": "--line",
    "#030303": "--new",
    "#040404": "--old",
    "#050505": "--bad",
    "#060606": "--soft",
}
INK, LINE, NEW, OLD, BAD, SOFT = COLOURS
WIDTH = 5.6  # inches: 403 CSS pixels, so that text stays readable on a telephone
ROW = 0.27  # inches for each line of a list

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "refit",
        "text.parse_math": False,  # a dollar sign in a column's name is a dollar sign
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths everywhere
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "legend.frameon": False,
        "legend.fontsize": 9,
        **{name: INK for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")},
        **{name: LINE for name in ("axes.edgecolor", "grid.color")},
    }
)


def forest(
    name: str, title: str, axis: str, rows: Sequence[Mapping[str, Any]], marks: Mapping[str, float]
) -> str:
    """One line each: `name`, `value`, and `low` and `high` where there is an interval; the first is drawn larger.

    `marks` are named upright lines, the axis's zero among them.
    """
    figure, axes = _axes(0.95 + ROW * len(rows))
    places = list(range(len(rows)))[::-1]
    for place, row in zip(places, rows, strict=True):
        colour = BAD if row.get("bad") else NEW
        value, low, high = row["value"], row.get("low"), row.get("high")
        if low is not None or high is not None:
            ends = (value if low is None else low, value if high is None else high)
            axes.plot(ends, (place, place), color=colour, linewidth=2, solid_capstyle="butt")
        size = 8 if row.get("whole") else 5.5
        axes.plot([value], [place], "D" if row.get("whole") else "o", color=colour, markersize=size)
    for i, (text, value) in enumerate(marks.items()):
        axes.axvline(value, color=SOFT, linewidth=1, linestyle=("-", "--", ":")[i % 3], zorder=0, label=text)
    axes.set_yticks(places, [short(row["name"]) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    if marks:
        _legend(figure, len(marks))
    return _finished(figure, axes, name, title, axis, "")


def dots(name: str, title: str, axis: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores side by side: `name`, `value`, `low` where known, `marked` for the one that it is about."""
    figure, axes = _axes(0.85 + ROW * len(rows))
    for place, row in zip(range(len(rows))[::-1], rows, strict=True):
        colour = NEW if row.get("marked") else OLD
        if row.get("low") is not None:
            axes.plot(
                (row["low"], row["value"]), (place, place), color=colour, linewidth=2, solid_capstyle="butt"
            )
        axes.plot([row["value"]], [place], "o" if row.get("marked") else "s", color=colour, markersize=6.5)
        axes.annotate(
            f"{row['value']:.4g}",
            (row["value"], place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            size=8,
        )
    axes.set_yticks(list(range(len(rows)))[::-1], [short(row["name"]) for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.2)
    axes.margins(x=0.12)
    return _finished(figure, axes, name, title, axis, "")


def quality(name: str, title: str, metric: str, scores: Sequence[Mapping[str, Any]]) -> str:
    """The champion's score on each batch in order, and the floor below which it is raised as an alarm."""
    figure, axes = _axes(2.5)
    at = list(range(len(scores)))
    floors = [(i, each["floor"]) for i, each in zip(at, scores, strict=True) if each["floor"] is not None]
    found = [(i, each) for i, each in zip(at, scores, strict=True) if each["score"] is not None]
    if floors:
        axes.plot(*zip(*floors, strict=True), "_--", color=SOFT, markersize=12, linewidth=1.3, label="floor")
    axes.plot([i for i, _ in found], [e["score"] for _, e in found], color=NEW, linewidth=1.3, label="score")
    for below, marker, colour, text in ((False, "o", NEW, ""), (True, "X", BAD, "below the floor")):
        some = [(i, e["score"]) for i, e in found if _below(e) == below]
        if some:
            axes.plot(*zip(*some, strict=True), marker, color=colour, markersize=6, label=text or None)
    step = max(1, -(-len(scores) // 6))
    axes.set_xticks(
        at[::step],
        [short(each["name"].partition(".")[0], 12) for each in scores[::step]],
        rotation=25,
        ha="right",
    )
    axes.grid(axis="y", linewidth=0.6)
    _legend(figure, 3)
    return _finished(figure, axes, name, title, "batch, oldest first", metric)


def distribution(name: str, title: str, column: Mapping[str, Any]) -> str:
    """Shares of one column's values before and now."""
    before, now = column["reference"], column["batch"]
    labels = ("champion learned from", "newest batch")
    if column["drawn"] == "range":
        figure, axes = _axes(2.2)
        edges = column["edges"]
        axes.stairs(before, edges, fill=True, color=OLD, alpha=0.35, linewidth=0)
        axes.stairs(before, edges, color=OLD, linewidth=1.2, linestyle="--", label=labels[0], baseline=None)
        axes.stairs(now, edges, color=NEW, linewidth=1.8, label=labels[1], baseline=None)
        axes.set_ylim(bottom=0)
        _legend(figure, 2)
        return _finished(figure, axes, name, title, short(column["column"]), "% of values")
    names = column["names"]
    figure, axes = _axes(0.95 + 0.36 * len(names))
    places = list(range(len(names)))[::-1]
    axes.barh([p + 0.2 for p in places], before, 0.36, color=OLD, alpha=0.55, label=labels[0])
    axes.barh([p - 0.2 for p in places], now, 0.36, color=NEW, label=labels[1])
    axes.set_yticks(places, [short(each, 22) for each in names])
    _legend(figure, 2)
    return _finished(figure, axes, name, title, "% of values", "")


def learning(
    name: str, title: str, metric: str, points: Sequence[Mapping[str, Any]], counted: str = "rows"
) -> str:
    """Score by rows to learn from; `counted` says which."""
    figure, axes = _axes(2.3)
    known = [(each["rows"], each["score"]) for each in points if each["score"] is not None]
    axes.plot(*zip(*known, strict=True), "o-", color=NEW, linewidth=1.5, markersize=6)
    axes.set_xscale("log", base=2)
    axes.set_xticks([rows for rows, _ in known], [f"{rows:,}" for rows, _ in known])
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.2)
    axes.grid(axis="y", linewidth=0.6)
    return _finished(figure, axes, name, title, f"{counted} learned from (each step doubles them)", metric)


def short(text: str, most: int = 30) -> str:
    """A name that fits; what cannot be printed, marks that turn the direction of writing included, is shown as such."""
    clean = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def _below(each: Mapping[str, Any]) -> bool:
    return each["floor"] is not None and each["score"] < each["floor"]


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(figure: Figure, columns: int) -> None:
    figure.legend(loc="outside lower left", ncols=columns, labelcolor=INK)


def _finished(figure: Figure, axes: Axes, name: str, title: str, x: str, y: str) -> str:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.tick_params(length=3)
    if axes.get_xscale() == "linear" and "batch" not in x:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripts that the font lacks: the reader's own fonts draw the text
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue(), name, f"{title}; {x}{f' by {y}' if y else ''}")


def _inline(svg: str, name: str, label: str) -> str:
    """Without the head of a file of its own; identifiers that differ from those of the page's other drawings."""
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", found[0])
        text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
        text = re.sub(r" font-family: [^;\"]+;?", "", text)
        for drawn, ours in COLOURS.items():
            text = re.sub(rf"(fill|stroke): {drawn}", rf"\1: var({ours})", text)
        return re.sub(r"\s+", " ", text)

    # In text, every < is escaped: what looks like a tag is one.
    body = re.sub(r"<[^>]*>", tag, body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg role="img" aria-label="{escape(short(label, 300))}" {box[0]}>\n{body}</svg>'
