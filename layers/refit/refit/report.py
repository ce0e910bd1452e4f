"""The page of a run: one HTML file that needs nothing else, from the document that says what happened.

Verdict and reasons first. What the document lacks is left out, with a word where a reader would look for it. Names
and categories come from people's files: all that is shown is escaped, and the page may load and run nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from refit import plots
from refit.prose import signed

Document = Mapping[str, Any]

MOST_ROWS = 25  # of a table; the document has all
MOST_SLICES = 14  # drawn
STATES = {
    "promoted": ("Promoted", "good"),
    "kept": ("Champion kept", "even"),
    "failed": ("Failed", "bad"),
    "waiting": ("Waits for approval", "even"),
    "running": ("Still running", "even"),
}
TRIGGERS = {
    "data": "new data",
    "alarm": "an alarm",
    "interval": "the clock",
    "on_demand": "a person",
}

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #69737d; --line: #d5dae0; --back: #ffffff; --card: #f5f7f9;
  --new: #1f6fb2; --old: #b8610f; --good: #1b7a43; --bad: #b3261e; --even: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ac; --line: #3a424a; --back: #15191d;
  --card: #1e2429; --new: #6cb2f0; --old: #f0a457; --good: #63c98b; --bad: #ff8a80; --even: #e3c25c; } }
@media print { :root { color-scheme: light; --ink: #000000; --soft: #555555; --line: #cccccc; --back: #ffffff;
  --card: #ffffff; --new: #1f6fb2; --old: #b8610f; --good: #1b7a43; --bad: #b3261e; --even: #7a5b00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
h2 { border-top: 1px solid var(--line); padding-top: 1rem; } p { margin: .4rem 0; max-width: 46rem; }
.soft { color: var(--soft); } .badge { display: inline-block; border: 2px solid; border-radius: .4rem;
  padding: .05rem .6rem; font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.even { color: var(--even); } .verdict { font-size: 1.1rem; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
dl.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .7rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; } dl.tiles dd { font-size: 1.15rem; font-weight: 600; }
dl.facts { display: grid; grid-template-columns: minmax(7rem, 12rem) 1fr; gap: .2rem 1rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem; }
figure { margin: .6rem 0; break-inside: avoid; } figcaption { font-weight: 600; font-size: .95rem; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; font-family: system-ui, sans-serif;
  stroke-linejoin: round; stroke-linecap: butt; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--soft); font-weight: 500; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.hash { font-family: monospace; font-size: .8rem; white-space: normal; min-width: 17ch; }
@media (max-width: 32rem) { dl.facts { display: block; } dl.facts dd { margin-bottom: .4rem; }
  th { white-space: normal; overflow-wrap: normal; } th, td { padding-right: .6rem; } td.hash { min-width: 33ch; } }
h2, h2 + p { break-after: avoid; } tr, p { break-inside: avoid; }
@page { margin: 14mm; }
@media print { html { font-size: 12px; } body { font-size: 1rem; } main { padding: 0; max-width: none; } h2 { margin-top: 1.4rem; }
  .figures { grid-template-columns: 1fr 1fr; } .wide { overflow: visible; }
  th, td { white-space: normal; overflow-wrap: normal; padding-right: .5rem; }
  td.text, td.hash { min-width: 0; overflow-wrap: anywhere; } td.hash { font-size: .7rem; } }
code { font-size: .85em; } ul { padding-left: 1.2rem; margin: .4rem 0; }
footer { margin: 3rem 0 1rem; color: var(--soft); font-size: .85rem; }
"""


def page(document: Document) -> str:
    """The HTML of a run's document; the same document gives the same page."""
    sections = (_gain, _slices, _candidates, _drift, _quality, _learning_curve, _lineage)
    name = f"{document['model']}, {document['run_id']}"
    body = "\n".join(filter(None, [_verdict(document), *(section(document) for section in sections)]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>{_text(f"{name}: {STATES[document['state']][0].lower()}")}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
<footer>Written by Refit from <code>{_text(document["document_key"])}</code>, which has every number of this page.</footer>
</main>
</body>
</html>
"""


# ---------------------------------------------------------------- sections
def _verdict(document: Document) -> str:
    run, evaluation = document["run"], _evaluation(document)
    word, colour = STATES[document["state"]]
    lines = [
        f'<p class="soft">Refit, run <code>{_text(document["run_id"])}</code></p>',
        f"<h1>{_text(document['model'])}</h1>",
        f'<p><span class="badge {colour}">{word}</span></p>',
        f'<p class="verdict">{_text(_sentence(document))}</p>',
    ]
    metric = str(evaluation.get("metric", ""))
    gain = _interval(evaluation, "gain")
    tiles = {
        f"challenger, {metric}": _score(evaluation.get("challenger_score")),
        f"champion, {metric}": _score(evaluation.get("champion_score")),
        "gain": gain,
        "rows it was tested on": _count(evaluation.get("test_rows")),
        "rows to learn from": _count(run.get("rows")),
    }
    shown = {name: value for name, value in tiles.items() if value}
    lines.append(
        f'<dl class="tiles">{"".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in shown.items())}</dl>'
    )
    gates = evaluation.get("gates", [])
    if gates:
        rows = [
            (bool(gate.get("passed")), gate.get("name", "").replace("_", " "), gate.get("message", ""))
            for gate in gates
        ]
        lines += ["<h2>Why</h2>", _table(("", "condition", "how it came out"), rows, text="2")]
    else:
        lines += ["<h2>Why</h2>", _said("Nothing was tested: the run ended before that.")]
    trigger = TRIGGERS.get(str(run.get("trigger")), str(run.get("trigger")))
    lines.append(
        _facts(
            {
                "started by": f"{trigger} ({run['requested_by']}), {_when(run.get('started_at'))}",
                "because": "; ".join(run.get("reasons", ())),
                "ended": _when(run.get("ended_at")),
                "goes on from": run.get("resumes"),
                **_approval(document),
            }
        )
    )
    return _section(lines)


def _sentence(document: Document) -> str:
    run, evaluation = document["run"], _evaluation(document)
    if document["state"] == "waiting":
        return (
            f"The test is passed. Nothing is promoted until a person says so: {evaluation.get('reason', '')} "
            f"Answer with: refit approve, or refit reject {document['model']} {_promoted(document)} --comment WHY"
        )
    return str(run.get("result") or evaluation.get("reason") or "no result was recorded yet")


def _promoted(document: Document) -> str:
    return str((document["versions"].get("promoted") or {}).get("version", "VERSION"))


def _approval(document: Document) -> dict[str, str]:
    asked = document.get("approval")
    if not asked:
        return {}
    said = f"{asked['status']}"
    if asked.get("answered_by"):
        said += f" by {asked['answered_by']}, {_when(asked.get('answered_at'))}: {asked.get('comment', '')}"
    return {"approval": said}


def _gain(document: Document) -> str:
    evaluation = _evaluation(document)
    if evaluation.get("challenger_score") is None:
        return ""
    metric, rows = evaluation["metric"], _count(evaluation.get("test_rows"))
    margin = (
        evaluation.get("margin", document["gates"].get("margin")) or 0.0
    )  # below 0: what a refresh may lose
    figures = []
    if evaluation.get("gain") is not None:
        line = {
            "name": "all test rows",
            "value": evaluation["gain"],
            "low": evaluation.get("gain_low"),
            "high": evaluation.get("gain_high"),
            "whole": True,
            "bad": evaluation["gain"] < 0,
        }
        marks = {"no gain": 0.0} | ({f"margin {margin:g}": margin} if margin else {})
        title = f"Gain over the champion on {rows} rows that neither had seen"
        figures.append(_figure(title, plots.forest, "gain", f"gain in {metric}", [line], marks))
    scores = [
        {
            "name": "challenger",
            "value": evaluation["challenger_score"],
            "low": evaluation.get("challenger_low"),
            "marked": True,
        },
        {"name": "champion", "value": evaluation.get("champion_score")},
    ]
    trivial = evaluation.get("baselines") or {"trivial baseline": evaluation.get("baseline_score")}
    scores += [{"name": name, "value": value} for name, value in trivial.items()]
    known = [each for each in scores if each["value"] is not None]
    figures.append(_figure("Scores on the same rows", plots.dots, "scores", metric, known))
    confidence = document["gates"].get("confidence")
    said = []
    if evaluation.get("gain") is None:
        said.append("There was no champion to compare with: the absolute conditions decided.")
    elif confidence:
        said.append(
            f"Each end of the interval is one-sided: {confidence:.0%} sure that the gain is not below, not above it."
        )
    said += [
        f"{what}: {value:.4g}{unit}"
        for what, key, unit in (
            ("Calibration error", "calibration_error", ""),
            ("Size of the model", "megabytes", " MB"),
            ("One prediction", "latency_ms", " ms"),
        )
        if (value := evaluation.get(key)) is not None
    ]
    return _section(["<h2>Gain</h2>", *map(_said, said), _figures(figures)])


def _slices(document: Document) -> str:
    evaluation = _evaluation(document)
    found = [each for each in evaluation.get("slices") or () if each.get("gain") is not None]
    if not found:
        return ""
    metric = evaluation["metric"]
    ranked = sorted(found, key=lambda each: (not each.get("worse"), each["gain"]))
    best = [each for each in ranked[MOST_SLICES // 2 :]][-MOST_SLICES // 2 :]
    drawn = [*ranked[: MOST_SLICES // 2], *best]
    lines = [
        {"name": each["name"], "value": each["gain"], "high": each.get("gain_high"), "bad": each.get("worse")}
        for each in drawn
    ]
    title = f"Gain by slice: {'the worst and the best' if len(found) > len(drawn) else 'all'} of {len(found)}"
    figure = _figure(title, plots.forest, "slices", f"gain in {metric}", lines, {"no gain": 0.0})
    rows = [
        (
            "proved worse" if each.get("worse") else "",
            plots.short(each["name"], 80),
            signed(each["gain"]),
            _score(each.get("challenger_score")),
            _score(each.get("champion_score")),
            _count(each.get("rows")),
            "declared" if each.get("declared") else "found",
        )
        for each in ranked
    ]
    head = ("", "slice", "gain", "challenger", "champion", "rows", "")
    worse = sum(bool(each.get("worse")) for each in found)
    said = (
        f"{worse} of {len(found)} slices proved worse than they may."
        if worse
        else f"None of {len(found)} slices is proved worse than it may be."
    )
    return _section(
        ["<h2>Slices</h2>", _said(said), _figures([figure]), _table(head, rows, "2345", text="1")]
    )


def _candidates(document: Document) -> str:
    evaluation = _evaluation(document)
    trained = evaluation.get("trained") or ()
    if not trained:
        return ""
    more, selection = evaluation.get("candidates") or {}, evaluation.get("selection") or {}
    rows = []
    for each in trained:
        name = str(each.get("candidate", ""))
        facts = more.get(name, {})
        beside = {
            "went on from": facts.get("base"),
            "threshold": facts.get("threshold"),
            "parameters": ", ".join(f"{k} {v}" for k, v in (facts.get("parameters") or {}).items()),
        }
        said = "; ".join(f"{what} {value}" for what, value in beside.items() if value not in (None, ""))
        if "error" in each or facts.get("failed"):
            said = f"failed: {each.get('error') or facts['failed']}"
        chosen = name == evaluation.get("chosen")
        rows.append(
            (
                "chosen" if chosen else "",
                name,
                str(each.get("version", "")),
                _count(facts.get("trained_rows")),
                _score(selection.get(name, facts.get("selection_score"))),
                said,
            )
        )
    blocks = evaluation.get("rows") or {}
    said = ", ".join(
        f"{_count(blocks[name])} {text}"
        for name, text in (
            ("train", "rows to learn from"),
            ("selection", "to choose one candidate on"),
            ("test", "to test that one on, once"),
            ("left_out", "left out as known"),
            ("repeats", "repeats of known rows"),
        )
        if blocks.get(name)
    )
    known = [
        {"name": name, "value": value, "marked": name == evaluation.get("chosen")}
        for name, value in selection.items()
        if value is not None
    ]
    figures = (
        [_figure("Candidates on the selection block", plots.dots, "candidates", evaluation["metric"], known)]
        if len(known) > 1
        else []
    )
    head = ("", "candidate", "version", "rows learned from", "score on the selection block", "")
    return _section(
        [
            "<h2>Candidates</h2>",
            _said(f"In order of time: {said}.") if said else "",
            _figures(figures),
            _table(head, rows, "34", text="5"),
        ]
    )


def _drift(document: Document) -> str:
    reports, drawn = document.get("drift") or (), document.get("distributions")
    lines = ["<h2>Drift</h2>"]
    if not reports:
        lines.append(
            _said(
                "Nothing was compared with what the champion learned from: there was no champion, no batch came "
                "while it served, or it is not known what it learned from."
            )
        )
        return _section(lines)
    lines.append(
        _said(
            f"What came since, beside what the champion {document['run'].get('champion', '')} learned from; the newest batch first."
        )
    )
    rows = []
    for each in reversed(reports):
        drifted = each.get("drifted") or ()
        told = [str(c.get("message") or c.get("column")) for c in each.get("columns", ()) if c.get("drifted")]
        rows.append(
            (
                each.get("name", ""),
                _count(each.get("rows")),
                f"{len(drifted)} of {each.get('compared', 0)}",
                "; ".join(told[:6]) + (f"; and {len(told) - 6} more" if len(told) > 6 else "") or "none",
            )
        )
    lines.append(_table(("batch", "rows", "columns drifted", "how"), rows, "12", text="03"))
    alarms = reports[-1].get("false_alarms_a_year")
    if alarms is not None:
        lines.append(_said(f"Without any drift, about {alarms:g} false alarms a year are to be expected."))
    if drawn and drawn.get("columns"):
        lines.append(_said(f"The columns that lie farthest away in {drawn['name']}:"))
        figures = []
        for i, column in enumerate(drawn["columns"]):
            figures.append(_figure(_column_title(column), plots.distribution, f"column{i}", column))
        lines.append(_figures(figures))
    return _section(lines)


def _column_title(column: Mapping[str, Any]) -> str:
    told = [
        f"{name} {column[key]:.2f}"
        for name, key in (("effect", "effect"), ("PSI", "psi"))
        if column.get(key) is not None
    ]
    before, now = column.get("nulls") or (0, 0)
    if round(before, 1) != round(now, 1):
        told.append(f"missing {before:.1f} % before, {now:.1f} % now")
    outside = max(column.get("outside") or (0.0,))
    if outside >= 2:
        told.append(f"up to {outside:.1f} % beyond the edges")
    drifted = "drifted" if column.get("drifted") else "not drifted"
    kind = f" ({column['kind']})" if column.get("kind", "feature") != "feature" else ""
    return f"{plots.short(column['column'], 60)}{kind}: {', '.join([drifted, *told])}"


def _quality(document: Document) -> str:
    scores = [each for each in document.get("quality") or () if each.get("score") is not None]
    if not scores:
        return ""
    lines = [
        "<h2>The champion on each new batch</h2>",
        _said(
            "Each batch was predicted before anyone learned from it. The floor is what sampling alone may make of the tested score."
        ),
    ]
    metric = scores[-1]["metric"]
    same = [each for each in scores if each["metric"] == metric]
    lines.append(_figures([_figure(f"{metric} by batch", plots.quality, "quality", metric, same)]))
    rows = [
        (each["name"], each["version"], _count(each["rows"]), _score(each["score"]), _score(each["floor"]))
        for each in reversed(scores)
    ]
    lines.append(_table(("batch", "version", "rows", metric, "floor"), rows, "234", text="0"))
    return _section(lines)


def _learning_curve(document: Document) -> str:
    curve = _evaluation(document).get("learning_curve")
    if not curve:
        return ""
    lines = ["<h2>Would more data still help?</h2>", _said(f"{curve['message']}.")]
    points = [each for each in curve.get("points") or () if each.get("score") is not None]
    if len(points) > 1:
        base = curve.get("base")
        new = "new rows" if base else "rows"
        if base:
            lines.append(
                _said(
                    f"It goes on from {base}: counted are the rows that were new to that one, and with none of them it "
                    "would be that one."
                )
            )
        title = f"The chosen candidate, fitted on parts of its {new} and scored on the test block"
        lines.append(_figures([_figure(title, plots.learning, "learning", curve["metric"], points, new)]))
        rows = [(_count(each["rows"]), _score(each["score"])) for each in points]
        lines.append(_table((new, curve["metric"]), rows, "01"))
        lines.append(_said("For reading only: it chose nothing."))
    return _section(lines)


def _lineage(document: Document) -> str:
    lines = ["<h2>Lineage</h2>"]
    words = {
        "promoted": "made of the winner, on all rows",
        "tested": "tested",
        "champion": "champion at the start",
    }
    rows = []
    for role, words_of in words.items():
        version = document["versions"].get(role)
        if version:
            rows.append(
                (
                    words_of,
                    version["version"],
                    version.get("candidate", ""),
                    version.get("parent") or "",
                    _count(version.get("trained_rows")),
                    _when(version.get("created_at")),
                    str(version.get("artifact_sha256", "")),
                )
            )
    if rows:
        lines.append(
            _table(
                ("", "version", "candidate", "parent", "rows", "made", "SHA-256 of the artifact"),
                rows,
                "4",
                hashes="6",
            )
        )
    made = document["versions"].get("promoted") or document["versions"].get("tested") or {}
    inputs = document.get("inputs") or {}
    lines.append(
        _facts(
            {
                "seed": None if made.get("seed") is None else str(made["seed"]),
                "code": str(made.get("code_version") or ""),
                "declaration and code": made.get("spec_digest"),
                "canonical digest": made.get("canonical"),
                "libraries": ", ".join(
                    f"{name} {version}" for name, version in (made.get("libraries") or {}).items()
                ),
                "frozen inputs": inputs.get("key"),
                "data": _span(inputs),
            }
        )
    )
    batches = inputs.get("batches") or ()
    if batches:
        told = (
            f"The newest {MOST_ROWS} of {len(batches)} batches:"
            if len(batches) > MOST_ROWS
            else "Batches, newest first:"
        )
        files = [
            (
                each.get("key", ""),
                _count(each.get("rows")),
                " to ".join(map(_when, each.get("period") or ())),
                "yes" if each.get("seen") else "no",
                each.get("version_id", ""),
                each.get("sha256", ""),
            )
            for each in list(reversed(batches))[:MOST_ROWS]
        ]
        head = ("file", "rows", "period", "known to the champion", "object version", "SHA-256")
        lines += [_said(told), _table(head, files, "1", text="02", hashes="45")]
    return _section(lines)


# ---------------------------------------------------------------- pieces
def _section(lines: Sequence[str]) -> str:
    return "<section>\n" + "\n".join(line for line in lines if line) + "\n</section>"


def _figure(title: str, draw: Callable[..., str], name: str, *given: Any) -> str:
    return f"<figure><figcaption>{_text(title)}</figcaption>\n{draw(name, title, *given)}</figure>"


def _figures(figures: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | bool]],
    numbers: str = "",
    text: str = "",
    hashes: str = "",
) -> str:
    """Columns by digit: `numbers` are set to the right, `text` is long and may be broken anywhere, `hashes` too."""

    def kind(i: int) -> str:
        kinds = {"number": numbers, "text": text, "hash": hashes}
        name = next((kind for kind, columns in kinds.items() if str(i) in columns), "")
        return f' class="{name}"' if name else ""

    def cell(i: int, value: str | bool) -> str:
        return f"<td{kind(i)}>{MARKS[value] if isinstance(value, bool) else _text(value)}</td>"

    top = "".join(f'<th scope="col"{kind(i)}>{_text(name)}</th>' for i, name in enumerate(head))
    lines = ["".join(cell(i, value) for i, value in enumerate(row)) for row in rows[:MOST_ROWS]]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    more = _said(f"{len(rows) - MOST_ROWS} more are in the document.") if len(rows) > MOST_ROWS else ""
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>{more}'
    )


MARKS = {True: '<span class="good">passed</span>', False: '<span class="bad">failed</span>'}


def _facts(facts: Mapping[str, str | None]) -> str:
    told = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in facts.items() if v)
    return f'<dl class="facts">{told}</dl>' if told else ""


def _said(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _text(value: Any) -> str:
    """Escaped, on one line; marks that turn the direction of writing, and the like, are shown as such."""
    return escape(plots.short(" ".join(str(value).split()), 2000))


def _evaluation(document: Document) -> Mapping[str, Any]:
    return document.get("evaluation") or {}


def _score(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _interval(found: Mapping[str, Any], name: str) -> str:
    value, low, high = (found.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return ""
    return (
        signed(value) if low is None or high is None else f"{signed(value)} ({signed(low)} to {signed(high)})"
    )


def _when(moment: Any) -> str:
    return str(moment or "").replace("T", " ").replace("Z", " UTC")


def _span(inputs: Mapping[str, Any]) -> str:
    rows, period = inputs.get("rows"), inputs.get("period")
    told = f"{_count(rows)} rows in {len(inputs.get('batches') or ())} batches"
    return f"{told}, from {_when(period[0])} to {_when(period[1])}" if period else told
