"""The page of a run: what it shows, what it leaves out, and that nothing in it can do anything."""

import re
from copy import deepcopy
from functools import cache
from html.parser import HTMLParser

import pytest

from refit import plots, report

EVIL = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>"
MATHS = r"$\frac{a$ & 5 % \N{BULLET}"
TURNED = "abc\u202egpj.exe"
VOID = {"meta"}

DOCUMENT = {
    "format": 1,
    "document_key": "runs/flights/run-00000007/report.json",
    "model": "flights",
    "task": "binary",
    "run_id": "run-00000007",
    "state": "promoted",
    "run": {
        "trigger": "data",
        "requested_by": "check_drift",
        "reasons": ["drift in 2 columns", "3000 new rows"],
        "started_at": "2013-03-01T06:00:00Z",
        "ended_at": "2013-03-01T06:07:00Z",
        "champion": "v6",
        "rows": 7000,
        "result": "v7: gain +0.0123, 95% sure of +0.0041, above the margin 0.001",
        "resumes": "",
    },
    "gates": {"metric": "roc_auc", "margin": 0.001, "confidence": 0.95},
    "evaluation": {
        "promote": True,
        "metric": "roc_auc",
        "test_rows": 1234,
        "challenger_score": 0.7123,
        "challenger_low": 0.7001,
        "champion_score": 0.7,
        "baseline_score": 0.5,
        "gain": 0.0123,
        "gain_low": 0.0041,
        "gain_high": 0.0199,
        "gates": [
            {"name": "test_rows", "passed": True, "message": "1234 test rows, 1000 needed"},
            {"name": "gain", "passed": False, "message": "gain +0.0123"},
        ],
        "chosen": "recent",
        "selection": {"full": 0.6911, "recent": 0.7044},
        "rows": {"train": 5200, "selection": 600, "test": 1234},
        "trained": [
            {"candidate": "full", "version": "v7-full"},
            {"candidate": "recent", "version": "v7-recent"},
            {"candidate": "continual", "error": "TrainingError: no partial_fit"},
        ],
        "learning_curve": {
            "metric": "roc_auc",
            "points": [{"rows": 2600, "score": 0.6987}, {"rows": 5200, "score": 0.7123}],
            "message": "5,200 rows instead of 2,600 brought +0.0136: more data would still help",
        },
        "slices": [
            {
                "name": "origin = JFK",
                "rows": 411,
                "challenger_score": 0.66,
                "champion_score": 0.69,
                "gain": -0.03,
                "gain_high": -0.021,
                "worse": True,
                "declared": True,
            },
            {
                "name": "origin = EWR",
                "rows": 402,
                "challenger_score": 0.74,
                "champion_score": 0.7,
                "gain": 0.04,
                "gain_high": None,
                "worse": False,
                "declared": False,
            },
        ],
        "baselines": {"class shares": 0.5, "last label": None},
        "calibration_error": 0.0215,
    },
    "approval": None,
    "versions": {
        "promoted": {
            "version": "v7",
            "candidate": "recent",
            "parent": "v7-recent",
            "trained_rows": 6400,
            "artifact_sha256": "ab" * 32,
            "created_at": "2013-03-01T06:06:00Z",
            "seed": 2013,
            "spec_digest": "cd" * 32,
            "libraries": {"numpy": "2.4.6"},
        },
        "tested": None,
        "champion": None,
    },
    "inputs": {
        "key": "runs/flights/inputs/x.json",
        "rows": 7000,
        "new_rows": 3000,
        "period": ["2013-01-01T00:00:00Z", "2013-02-28T00:00:00Z"],
        "batches": [
            {
                "batch_id": "b1",
                "key": "incoming/flights/2013-02.parquet",
                "version_id": "o-version",
                "sha256": "ef" * 32,
                "rows": 3000,
                "seen": False,
                "period": ["2013-02-01", "2013-02-28"],
            }
        ],
    },
    "drift": [
        {
            "batch_id": "b1",
            "name": "2013-02.parquet",
            "rows": 3000,
            "compared": 6,
            "drifted": ["temperature"],
            "false_alarms_a_year": 0.12,
            "columns": [
                {"column": "temperature", "psi": 7.86, "drifted": True, "message": "temperature: moved"}
            ],
        }
    ],
    "distributions": {
        "name": "2013-02.parquet",
        "columns": [
            {
                "column": "temperature",
                "psi": 7.86,
                "drifted": True,
                "drawn": "range",
                "edges": [0.0, 1.0, 2.0],
                "reference": [75.0, 25.0],
                "batch": [25.0, 75.0],
                "nulls": [0.0, 12.5],
                "outside": [0.0, 3.0],
            },
            {
                "column": "carrier",
                "kind": "label",
                "psi": 0.2,
                "drifted": True,
                "drawn": "values",
                "names": ["AA", "UA"],
                "reference": [60.0, 40.0],
                "batch": [10.0, 90.0],
                "nulls": [0.0, 0.0],
            },
        ],
    },
    "quality": [
        {
            "name": "2013-01.csv",
            "version": "v6",
            "metric": "roc_auc",
            "score": 0.71,
            "floor": 0.69,
            "rows": 2000,
        },
        {
            "name": "2013-02.csv",
            "version": "v6",
            "metric": "roc_auc",
            "score": 0.6543,
            "floor": 0.69,
            "rows": 2999,
        },
    ],
}


@cache
def plain():
    """The page of the document as it is; a page takes half a second."""
    return report.page(DOCUMENT)


class Reader(HTMLParser):
    """Reads strictly: every element is closed where it should be. Keeps tags, attributes and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def changed(**parts):
    return {**deepcopy(DOCUMENT), **parts}


def evaluation(**parts):
    return changed(evaluation={**deepcopy(DOCUMENT["evaluation"]), **parts})


def test_a_page_shows_the_numbers_of_its_document():
    text = Reader(plain()).text
    for shown in (
        "0.7123", "0.7000", "+0.0123 (+0.0041 to +0.0199)", "1,234", "7,000",  # scores, gain, rows
        "v7: gain +0.0123", "1234 test rows, 1000 needed", "drift in 2 columns; 3000 new rows",
        "origin = JFK", "411", "-0.0300", "proved worse", "1 of 2 slices proved worse",
        "0.6911", "0.7044", "failed: TrainingError: no partial_fit", "5,200 rows to learn from",
        "temperature: moved", "1 of 6", "0.12 false alarms a year", "carrier (label): drifted", "temperature: drifted, PSI 7.86, missing 0.0 % before, 12.5 % now",
        "0.6543", "2,999", "more data would still help", "2,600", "0.6987",
        "ab" * 32, "cd" * 32, "ef" * 32, "numpy 2.4.6", "o-version", "2013-02-01 to 2013-02-28", "0.0215",
    ):  # fmt: skip
        assert shown in text, shown


def test_the_verdict_comes_first_then_the_reasons():
    text = Reader(plain()).text
    places = [text.index(part) for part in ("Promoted", "v7: gain", "1234 test rows", "Slices", "Lineage")]
    assert places == sorted(places)


def test_every_drawing_has_its_title_its_axes_and_words_for_those_who_cannot_see_it():
    page = plain()
    drawings = re.findall(
        r"<figure><figcaption>(.*?)</figcaption>\n<svg role=\"img\" aria-label=\"(.*?)\".*?</svg>", page, re.S
    )
    assert len(drawings) == page.count("<svg") == 8
    assert all(label.startswith(title) for title, label in drawings)
    text = Reader(page).text
    for axis in ("gain in roc_auc", "% of values", "rows learned from", "batch, oldest first"):
        assert axis in text


def test_a_curve_of_what_goes_on_from_the_champion_says_which_rows_it_counts():
    said = "It goes on from v6: counted are the rows that were new to that one"
    curve = {**DOCUMENT["evaluation"]["learning_curve"], "base": "v6"}
    text = Reader(report.page(evaluation(learning_curve=curve))).text
    assert said in text
    assert "new rows learned from" in text
    assert said not in Reader(plain()).text


def test_on_paper_no_table_is_cut_off():
    """What scrolls on a screen is lost in print: there cells wrap, and hashes break where they must."""
    page = plain()
    on_paper = page[page.index("@media print { html") : page.index("code {")]
    assert ".wide { overflow: visible; }" in on_paper and "th, td { white-space: normal;" in on_paper
    hashes = re.findall(r'<td class="hash">([^<]*)</td>', page)
    assert {"ab" * 32, "o-version"} <= set(hashes)


def test_the_same_document_gives_the_same_bytes():
    assert plain() == report.page(deepcopy(DOCUMENT))


def test_no_two_parts_of_the_page_share_an_identifier():
    found = [value for name, value in Reader(plain()).attributes if name == "id"]
    assert found and len(found) == len(set(found))


def test_a_page_needs_and_reaches_nothing_but_itself():
    page = plain()
    reader = Reader(page)
    assert "://" not in page and "@import" not in page and "@font-face" not in page
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(reader.tags)
    assert {value[0] for name, value in reader.attributes if name.endswith("href")} == {"#"}
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


def hostile(value, evil):
    """The document with every text in it, and every name of people's, replaced."""
    kept = {"state", "drawn", "trigger", "metric"}
    if isinstance(value, dict):
        return {k: each if k in kept else hostile(each, evil) for k, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, f"{evil}{i}") for i, each in enumerate(value)]
    return evil if isinstance(value, str) else value


@pytest.mark.parametrize(
    "evil", [EVIL, QUOTES, MATHS, TURNED, "\x00\x1b[31m", "\ud800", "]]> <!-- ", "&#x3c;b"]
)
def test_no_name_and_no_category_is_more_than_text(evil):
    bad, good = report.page(hostile(DOCUMENT, evil)), Reader(plain())
    reader = Reader(bad)
    assert set(reader.tags) == set(good.tags)
    assert {name for name, _ in reader.attributes} == {name for name, _ in good.attributes}
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", bad)
    assert "<!--" not in bad
    if evil in (EVIL, QUOTES):
        assert evil in reader.text


def test_names_of_the_search_are_text_too():
    found = evaluation(candidates={"full": {"parameters": {EVIL: EVIL}}}, selection={EVIL: 0.5, "full": 0.4})
    assert "<script" not in report.page(found)


def test_a_long_name_is_cut_where_it_is_drawn():
    found = changed()
    found["distributions"]["columns"][1]["names"] = ["x" * 5000, "UA"]
    assert "x" * 100 not in report.page(found)


def test_a_first_model_has_no_gain_and_says_why():
    first = evaluation(gain=None, gain_low=None, gain_high=None, champion_score=None, slices=[])
    first |= {"drift": [], "distributions": None, "quality": []}
    text = Reader(report.page(first)).text
    assert "There was no champion to compare with" in text
    assert "Nothing was compared with what the champion learned from: there was no champion, no batch" in text
    assert "Gain over the champion" not in text and "Slices" not in text and "on each new batch" not in text


def test_a_run_that_failed_before_its_test_shows_what_there_is():
    failed = changed(
        state="failed", evaluation=None, drift=[], distributions=None, quality=[], inputs=None,
        versions={"promoted": None, "tested": None, "champion": None},
    )  # fmt: skip
    failed["run"]["result"] = "NotEnoughData: 60 labelled rows are new to the champion"
    reader = Reader(report.page(failed))
    assert "Failed" in reader.text and "60 labelled rows" in reader.text
    assert "Nothing was tested" in reader.text
    assert "svg" not in reader.tags


def test_who_is_asked_is_told_how_to_answer():
    waiting = changed(state="waiting")
    waiting["run"] |= {"result": "", "ended_at": ""}
    text = Reader(report.page(waiting)).text
    assert "Waits for approval" in text
    assert "refit reject flights v7 --comment WHY" in text


def test_a_margin_is_drawn_below_zero_where_a_refresh_may_lose_something():
    assert "margin 0.001" in Reader(plain()).text
    refreshed = evaluation(refresh=True, margin=-0.005)
    assert "margin -0.005" in Reader(report.page(refreshed)).text


def test_an_evaluation_of_an_older_or_a_newer_release_is_shown_as_far_as_it_goes():
    old = evaluation()
    for name in ("learning_curve", "slices", "baselines", "calibration_error", "rows"):
        del old["evaluation"][name]
    old["evaluation"]["something_new"] = {"of": ["any", "shape"]}
    text = Reader(report.page(old)).text
    assert "trivial baseline" in text and "Would more data" not in text


def test_what_is_undefined_is_left_out_and_never_drawn():
    found = evaluation(challenger_score=None, gain=None, champion_score=None, learning_curve={
        "metric": "roc_auc", "points": [{"rows": 10, "score": None}], "message": "not measured: too few"})  # fmt: skip
    found["quality"][0]["score"] = None
    page = report.page(found)
    assert "not measured: too few." in page and "nan" not in page.lower().replace("finance", "")


def test_of_very_many_batches_columns_and_slices_the_page_shows_some_and_says_so():
    many = changed()
    many["inputs"]["batches"] *= 1000
    many["evaluation"]["slices"] *= 50
    many["quality"] *= 30
    page = report.page(many)
    assert len(page) < 400_000
    assert "The newest 25 of 1000 batches" in page
    assert "75 more are in the document" in page


def test_a_short_name_shows_what_cannot_be_printed():
    assert plots.short("a\tb\u202ec") == "a\ufffdb\ufffdc"
    assert plots.short("x" * 31) == "x" * 29 + "…"
