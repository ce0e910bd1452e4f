"""`refit init`: a model.toml from what sample files show.

Types, presence and the null limit are hard in every contract. All else that
is learned here is soft and generous: a sample shows what is usual, and only a
person knows what is impossible.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refit.contract import Column, ColumnType, Contract, Dialect
from refit.errors import RefitError, UnreadableFile
from refit.metrics import METRICS, Task
from refit.models import NAME, parse_model
from refit.prose import counted
from refit.validation import validate_file
from refit_cli.samples import MOST_VALUES, Facts, Sample, look_at, merged
from refit_cli.usage import UsageError, files, near

METRIC = {
    Task.BINARY: "roc_auc",
    Task.MULTICLASS: "neg_log_loss",
    Task.REGRESSION: "neg_mean_absolute_error",
}
LISTED = 30  # more categories are not listed, their number is limited
MOST_CLASSES = 1000
NULL_SLACK = 0.05
LEFT_OUT = 0.001  # of the rows may break a hard rule
MUCH_LEFT_OUT = 0.05  # from here on a column that breaks one is not learned from
DAY = 86_400_000_000_000
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ID = re.compile(r"(?i)(^|[^a-z])(id|ids|key|uuid|guid|nr|no|number|index)$|[a-z](Id|ID|Key)$")


@dataclass(frozen=True)
class Wish:
    """What a person asked for; the rest is found out."""

    name: str
    target: str
    time: str | None = None
    keys: tuple[str, ...] = ()
    task: Task | None = None
    metric: str | None = None
    dialect: Dialect = field(default_factory=Dialect)


@dataclass
class Learned:
    """A contract with the words that explain it."""

    task: Task
    metric: str
    contract: Contract
    facts: dict[str, Facts]
    labels: str  # what the target looks like
    words: dict[str, str] = field(default_factory=dict)  # by column
    look_first: list[str] = field(default_factory=list)
    suggested_time: str = ""
    suggested_keys: tuple[str, ...] = ()
    min_test_rows: int = 200


def init(wish: Wish, paths: Sequence[Path], models: Path, force: bool) -> tuple[str, bool]:
    """Write models/NAME/model.toml.

    Returns
    -------
    text
        What to tell the person.
    accepted
        Whether every sample file is accepted under it.

    Raises
    ------
    UsageError
        When an argument cannot be meant so.
    RefitError
        When no contract fits the files; nothing is written.
    """
    if not NAME.fullmatch(wish.name):
        raise UsageError(
            f"{wish.name!r} is no name for a model: lower-case letters, digits and dashes, 63 at most"
        )
    target = models / wish.name / "model.toml"
    if target.exists() and not force:
        raise UsageError(f"{target} exists; choose another name, or replace it with --force")
    samples = [_sample(path, wish.dialect) for path in files(paths)]
    learned = learn(wish, samples)
    text = render(learned, wish, samples)
    contract = parse_model(text, target).contract
    refused = []
    for sample in samples:
        verdict = validate_file(sample.path, contract)
        if not verdict.accepted:
            refused += [f"{sample.path}: {reason.code}: {reason.message}" for reason in verdict.reasons[:5]]
    _write(target, text)
    return _told(learned, samples, target, models, refused), not refused


def _sample(path: Path, dialect: Dialect) -> Sample:
    try:
        sample = look_at(path, dialect)
    except UnreadableFile as error:
        told = str(error).replace('such as "latin-1", in model.toml', "such as --encoding latin-1")
        raise RefitError(f"{path}: {told}") from error
    if sample.doubled:
        named = ", ".join(map(repr, sample.doubled[:5]))
        raise RefitError(f"{path} has columns of the same name: {named}; rename or drop one of each")
    if not sample.rows:
        raise RefitError(f"{path} has no rows; nothing can be learned from it, leave it out")
    return sample


def _write(path: Path, text: str) -> None:
    """All of it or nothing, also when the disk is full."""
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        if made:
            path.parent.rmdir()
        raise


# ---------------------------------------------------------------- learning
def learn(wish: Wish, samples: Sequence[Sample]) -> Learned:
    """What the files show, as a contract; pure."""
    _same_names(samples)
    names = list(samples[0].columns)
    _named(wish, names)
    facts = {name: merged([sample.columns[name] for sample in samples]) for name in names}
    dialect = _dialect(wish.dialect, facts, samples)
    for name in names:
        if facts[name].comma and dialect.decimal != ",":
            facts[name].fits -= {ColumnType.NUMBER}
        _same_type(name, facts[name], samples)
    if wish.time and ColumnType.TIMESTAMP not in facts[wish.time].fits:
        raise UsageError(
            f"--time {wish.time}: it is not times but {_stored(facts[wish.time])}; "
            "write them as ISO 8601, such as 2026-01-31 12:00:00, or leave --time out: then uploads are in order "
            "of their arrival"
        )
    task, labels = _task(wish, facts[wish.target])
    metric = wish.metric or METRIC[task]
    if metric not in METRICS or task not in METRICS[metric].tasks:
        known = ", ".join(name for name, each in METRICS.items() if task in each.tasks)
        raise UsageError(f"--metric {metric}: for a {task} target it must be one of {known}")
    learned = Learned(task, metric, Contract((), wish.target), facts, labels)
    if task is not Task.REGRESSION and facts[wish.target].distinct <= 1:
        guess = "" if wish.task else f"; that the task is {task} is a guess"
        learned.look_first.append(f"{wish.target!r} is one class alone{guess}: give files with all classes")
    bad_share, columns = LEFT_OUT, []
    for name in names:
        columns.append(_column(name, wish, task, facts[name], samples, learned))
        if columns[-1].type is not ColumnType.TEXT:
            bad_share += max(s.columns[name].infinite / s.rows for s in samples) * 2
    rows = [sample.rows for sample in samples]
    shares = [_rarest(s.columns[wish.target], facts[wish.target]) for s in samples]
    learned.contract = Contract(
        columns=tuple(columns),
        target=wish.target,
        time=wish.time,
        keys=wish.keys,
        min_rows=max(1, min(rows) // 10),
        max_rows=max(1_000_000, _nice(10 * sum(rows))),
        max_bad_rows=min(0.5, _up(bad_share, 3)),
        fresh_seconds=_fresh(wish.time, samples),
        min_class_share=0.0 if task is Task.REGRESSION else _down(min(shares) / 2, 2),
        constant_label=any(sample.columns[wish.target].distinct <= 1 for sample in samples),
        csv=dialect,
    )
    if not learned.contract.features:
        raise RefitError(
            "nothing is left to learn from: beside target, time and keys there are only times and text"
        )
    labelled = facts[wish.target].present
    learned.min_test_rows = min(1000, max(20, labelled // 10))
    _suggest(wish, learned, sum(rows))
    return learned


def _same_names(samples: Sequence[Sample]) -> None:
    first = samples[0]
    for sample in samples[1:]:
        missing = [name for name in first.columns if name not in sample.columns]
        extra = [name for name in sample.columns if name not in first.columns]
        if missing or extra:
            lacks = f" lacks {_quoted(missing)}" if missing else ""
            has = f"{' and' if missing else ''} has {_quoted(extra)}" if extra else ""
            hint = "; was it renamed?" if len(missing) == len(extra) == 1 else ""
            raise RefitError(
                f"{sample.path}{lacks}{has}, unlike {first.path}{hint or ';'} all files of a model have the same columns"
            )


def _named(wish: Wish, names: Sequence[str]) -> None:
    told = [("--target", wish.target), *(("--key", key) for key in wish.keys)]
    if wish.time:
        told.append(("--time", wish.time))
    for option, name in told:
        if name not in names:
            known = f"; there are: {_quoted(names)}" if not near(name, names) else near(name, names)
            raise UsageError(f"{option} {name!r} is no column of the files{known}")
    if wish.target == wish.time or wish.target in wish.keys:
        raise UsageError(f"{wish.target!r} is the target; it cannot be the time or a key as well")


def _dialect(told: Dialect, facts: dict[str, Facts], samples: Sequence[Sample]) -> Dialect:
    """With a decimal comma, where numbers are written so and none with a point."""
    commas = any(each.comma for each in facts.values())
    points = any(each.point and ColumnType.NUMBER in each.fits for each in facts.values())
    # Between quotes in a file with commas, 1,234 is rather a thousand and more.
    apart = all(sample.delimiter != "," for sample in samples)
    return replace(told, decimal=",") if commas and apart and not points else told


def _same_type(name: str, facts: Facts, samples: Sequence[Sample]) -> None:
    """Widening that loses nothing is fine; else the files are named."""
    kinds = {sample.path: sample.columns[name] for sample in samples if sample.columns[name].present}
    one_by_one = {path: each.type for path, each in kinds.items()}
    if facts.type is ColumnType.TEXT and ColumnType.TEXT not in one_by_one.values():
        told = ", ".join(f"{path}: {_stored(kinds[path])}" for path in list(kinds)[:4])
        raise RefitError(
            f"column {name!r} differs between the files ({told}); make it the same in all of them"
        )


def _task(wish: Wish, facts: Facts) -> tuple[Task, str]:
    """The task, and what the target looks like in words."""
    name = wish.target
    classes = facts.distinct if facts.values is None else len(facts.tally(facts.type))
    if not facts.present:
        raise UsageError(f"--target {name!r}: no row has a value in it")
    numeric = facts.type in (ColumnType.NUMBER, ColumnType.INTEGER)
    if facts.type is ColumnType.TIMESTAMP or not (numeric or facts.fits & {ColumnType.CATEGORY}):
        raise UsageError(
            f"--target {name!r} holds {_stored(facts)}; it must be numbers, words, or true and false"
        )
    whole = facts.type is ColumnType.INTEGER or (
        numeric and facts.values is not None and all(value.is_integer() for value in facts.tally(facts.type))
    )
    many = classes > MOST_CLASSES or (classes > 20 and classes > facts.present / 2)
    if wish.task:
        task = wish.task
    elif not numeric or (whole and classes <= 2):
        task = Task.BINARY if classes <= 2 else Task.MULTICLASS
    else:
        task = Task.MULTICLASS if whole and classes <= min(20, facts.present // 5) else Task.REGRESSION
    if task is Task.REGRESSION and not numeric:
        raise UsageError(f"--target {name!r} holds {_stored(facts)}; a regression needs numbers")
    if task is Task.BINARY and classes > 2:
        raise UsageError(f"--target {name!r} has {_many(classes)} classes; use --task multiclass")
    if task is not Task.REGRESSION and many:
        instead = ", or use --task regression" if numeric else ""
        raise UsageError(
            f"--target {name!r} has {_many(classes)} different values in {facts.present} rows, "
            f"too many for classes; name another column{instead}"
        )
    return task, "numbers" if task is Task.REGRESSION else f"{_many(classes)} classes"


def _column(
    name: str, wish: Wish, task: Task, facts: Facts, samples: Sequence[Sample], learned: Learned
) -> Column:
    """One column's rules, and the words that explain them."""
    kind, words = facts.type, []
    aside = name == wish.target or name == wish.time or name in wish.keys
    if name == wish.time:
        kind = ColumnType.TIMESTAMP
    if not facts.present:
        learned.words[name] = "always empty in the samples; give it a type when it has values"
        learned.look_first.append(f"{name!r} is always empty")
        return Column(name, ColumnType.TEXT, nulls=1.0)
    if name == wish.target:
        words.append("the label")
    elif kind is ColumnType.CATEGORY and (why := _why_text(facts, name in wish.keys)):
        kind = ColumnType.TEXT
        words.append(why)
        if not aside:
            learned.look_first.append(f"{name!r}: {why}, so it is not learned from")
    elif kind is ColumnType.INTEGER and not aside and _is_id(name, facts):
        kind = ColumnType.TEXT
        words.append("an id by its name and values; as an integer it would be learned from")
        learned.look_first.append(f"{name!r} looks like an id, so it is not learned from")
    elif facts.type is ColumnType.TEXT:
        words.append(f"{_stored(facts)}, which no other type holds")
        learned.look_first.append(f"{name!r} holds {_stored(facts)}, so it is not learned from")
    worst = max(s.columns[name].infinite / s.rows for s in samples)
    if worst > MUCH_LEFT_OUT and not aside:
        kind = ColumnType.TEXT
        words.append(f"{worst:.0%} are infinite")
        learned.look_first.append(
            f"{name!r} is infinite in {worst:.0%} of the rows, so it is not learned from"
        )
    elif worst:
        words.append(f"{facts.infinite} are infinite: those rows are left out")
    if facts.zeros and not facts.fits & {ColumnType.INTEGER}:
        words.append("digits that begin with 0: no numbers")
    if len({s.columns[name].type for s in samples if s.columns[name].present}) > 1:
        learned.look_first.append(f"{name!r} is {_stored(facts)} in different files; taken as {kind}")
    share = max(sample.columns[name].null_share for sample in samples)
    column = Column(name, kind, nulls=_nulls(share, wish, name))
    if kind is ColumnType.CATEGORY:
        column = _category(column, facts, words)
    elif kind in (ColumnType.NUMBER, ColumnType.INTEGER) and facts.low is not None and facts.high is not None:
        words.append(f"from {facts.low:.6g} to {facts.high:.6g} in the samples")
        if name not in wish.keys:
            classes = name == wish.target and task is not Task.REGRESSION
            low, high = (facts.low, facts.high) if classes else _wider(facts.low, facts.high)
            if kind is ColumnType.INTEGER:
                low, high = math.floor(low), math.ceil(high)
            if abs(low) < 1e300 and abs(high) < 1e300:
                column = replace(column, min=low, max=high)
    elif kind is ColumnType.TIMESTAMP and facts.first is not None and facts.last is not None:
        words.append(f"{_day(facts.first)} to {_day(facts.last)} in the samples")
    if facts.distinct == 1 and name != wish.target:
        words.append("always the same")
        learned.look_first.append(f"{name!r} is always the same; nothing can be learned from it")
    if facts.nulls:
        words.append(f"up to {share:.1%} empty")
    learned.words[name] = "; ".join(words)
    return column


def _why_text(facts: Facts, key: bool) -> str:
    """Why words are text and no category; empty when they are one."""
    if key:
        return "names a row"
    if facts.values is None:
        return f"more than {MOST_VALUES} different values"
    if facts.distinct == facts.present > 5:
        return "every value differs"
    if facts.distinct > 20 and facts.distinct > facts.present / 2:
        return f"{facts.distinct} different values in {facts.present} rows"
    return "long texts" if facts.longest > 200 else ""


def _is_id(name: str, facts: Facts) -> bool:
    if facts.values is not None and (facts.distinct < facts.present or facts.nulls or facts.present < 20):
        return False
    if facts.low is None or facts.high is None or facts.nulls:
        return False
    counted = facts.high - facts.low + 1 == facts.present and facts.low in (0, 1)
    index = name == "" or re.fullmatch(r"Unnamed: \d+|level_\d+|__index_level_\d+__", name) is not None
    return bool(_ID.search(name)) or (index and counted)


def _category(column: Column, facts: Facts, words: list[str]) -> Column:
    if facts.values is not None and len(facts.values) <= LISTED and facts.longest <= 200:
        return replace(column, categories=tuple(sorted(_words(facts))))
    words.append(f"{_many(facts.distinct)} categories in the samples")
    return replace(column, max_categories=_nice(max(2 * facts.distinct, facts.distinct + 20)))


def _words(facts: Facts) -> set[str]:
    """Categories as validation reads them."""
    values: Iterable[Any] = facts.values or ()
    return {str(value).lower() if isinstance(value, bool) else str(value) for value in values}


def _nulls(share: float, wish: Wish, name: str) -> float:
    if share == 0 and (name == wish.time or name in wish.keys):
        return 0.0
    return min(1.0, _up(max(2 * share, share + NULL_SLACK), 2))


def _wider(low: float, high: float) -> tuple[float, float]:
    """Half as far again on both sides, to two digits; what was never below or above 0 stays so."""
    slack = (high / 2 - low / 2) or max(abs(low), 1.0)
    below = 0.0 if low >= 0 else _two_digits(low - slack, math.floor)
    above = 0.0 if high <= 0 else _two_digits(high + slack, math.ceil)
    return min(below, low), max(above, high)


def _two_digits(value: float, rounded: Any) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    digits = 1 - math.floor(math.log10(abs(value)))
    if digits > 300:  # smaller than any scale
        return value
    step = 10.0**-digits
    return float(f"{rounded(value / step) * step:.3g}")


def _rarest(facts: Facts, of_all: Facts) -> float:
    """Share of the labelled rows of one file that the rarest class of all files has in it."""
    if facts.values is None or of_all.values is None or not facts.present:
        return 0.0
    tally = facts.tally(of_all.type)
    return min(tally[value] for value in of_all.tally(of_all.type)) / facts.present


def _fresh(time: str | None, samples: Sequence[Sample]) -> int | None:
    """Seconds: twice the longest time between files, or what one file spans; whole days, two at least."""
    if time is None:
        return None
    spans = [sample.columns[time] for sample in samples]
    ends = sorted({facts.last for facts in spans if facts.last is not None})
    longest = max((f.last - f.first for f in spans if f.last is not None and f.first is not None), default=0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends)]
    days = math.ceil(2 * max([longest, *gaps]) / DAY)
    return min(max(days, 2), 3650) * 86_400


def _suggest(wish: Wish, learned: Learned, rows: int) -> None:
    times = [column.name for column in learned.contract.columns if column.type is ColumnType.TIMESTAMP]
    if not wish.time and len(times) == 1:
        learned.suggested_time = times[0]
        learned.look_first.insert(0, f"rows have no order in time; if {times[0]!r} gives it: --time")
    if not wish.keys:
        unique = [
            name
            for name, facts in learned.facts.items()
            if name not in (wish.target, wish.time, "")
            and facts.distinct == rows == facts.present > 5
            and facts.type in (ColumnType.CATEGORY, ColumnType.INTEGER)
        ]
        learned.suggested_keys = tuple(unique[:1])
        if unique:
            learned.look_first.insert(0, f"{unique[0]!r} names every row once; if it is to stay so: --key")


# ---------------------------------------------------------------- writing
def render(learned: Learned, wish: Wish, samples: Sequence[Sample]) -> str:
    """The model.toml."""
    contract, rows = learned.contract, sum(sample.rows for sample in samples)
    lines = [
        f"# Learned by `refit init` from {counted(len(samples), 'sample file')}, {counted(rows, 'row')}.",
        "# Hard, always: the columns, their types, and the share of empty values (nulls). A file that breaks them is",
        "# quarantined. Soft, for a sample shows what is usual and not what is possible: ranges and categories. What",
        "# breaks them is reported, counted and left to drift. What cannot be, you know: add hard = true to a column,",
        "# and what breaks its min, max or categories is quarantined as well.",
        f"task = {_toml(learned.task.value)} # by the target, which holds {learned.labels}",
        f"target = {_toml(wish.target)} # what is predicted; rows without it are kept, not learned from",
    ]
    if wish.time:
        lines.append(f"time = {_toml(wish.time)} # puts the rows in order: a model is tested on the newest")
    elif learned.suggested_time:
        lines.append(
            f"# time = {_toml(learned.suggested_time)} # the only timestamp; does it put the rows in order?"
        )
    else:
        lines.append("# no time column: files are in order of their upload")
    if wish.keys:
        lines.append(f"keys = {_toml(list(wish.keys))} # name a row once; a repeated row breaks a hard rule")
    elif learned.suggested_keys:
        lines.append(f"# keys = {_toml(list(learned.suggested_keys))} # named every row of the samples once")
    lines += ["", "[contract]", "version = 1 # count up when columns are added or changed"]
    lines += [f"min_rows = {contract.min_rows} # a tenth of the smallest sample"]
    lines += [f"max_rows = {contract.max_rows} # ten times the samples, or a million"]
    lines += [
        f"max_bad_rows = {_toml(contract.max_bad_rows)} # share of rows that may break a hard rule; they are left out"
    ]
    if contract.fresh_seconds:
        days = contract.fresh_seconds // 86_400
        lines.append(f'fresh = "{days} days" # how old the newest row may be when a file arrives; soft')
    if contract.min_class_share:
        share = _toml(contract.min_class_share)
        lines.append(f"min_class_share = {share} # half of what the rarest class had; soft")
    if contract.constant_label:
        lines.append(
            "constant_label = true # a sample has one label only; without this such files are refused"
        )
    learned_rules = {"fresh": contract.fresh_seconds, "min_class_share": contract.min_class_share}
    settable = [rule for rule, value in learned_rules.items() if value]
    if settable:
        lines.append(f"# hard = {_toml(settable)} # would quarantine what breaks these")
    lines += _csv_lines(contract.csv)
    lines += ["", "[columns] # a file must have exactly these", *_column_lines(learned)]
    new_rows = math.ceil(learned.min_test_rows / 0.4)
    lines += [
        "",
        "[triggers] # what starts a retraining",
        "drift = true # a column that moved away from what the champion learned from",
        "quality = true # the champion scores lower on new data than when it was tested",
        '# every = "30 days" # or an interval',
        f"min_new_rows = {new_rows} # fewer could not prove a gain",
        "",
        "[training]",
        'candidates = ["full"] # from all history; "recent" beside it learns from the newest rows only',
        "test_share = 0.4 # newest share of the new rows, which no model has seen",
        "",
        "[gates] # what a new model must show to be promoted",
        f"metric = {_toml(learned.metric)} # a scikit-learn scorer's name; higher is better",
        "margin = 0.0 # the gain must be above it, beyond doubt",
        f"min_test_rows = {learned.min_test_rows} # fewer prove nothing",
        "# min_score = # what a first model must reach; without it, better than guessing is enough",
    ]
    return "\n".join(lines) + "\n"


def _csv_lines(dialect: Dialect) -> list[str]:
    told = {
        "delimiter": dialect.delimiter,
        "quote": dialect.quote,
        "encoding": dialect.encoding,
        "decimal": dialect.decimal if dialect.decimal != "." else None,
    }
    if not any(told.values()):
        return []
    head = ["", "[csv] # how CSV files are written; what is not said here is found out"]
    return head + [f"{key} = {_toml(value)}" for key, value in told.items() if value]


def _column_lines(learned: Learned) -> Iterable[str]:
    for column in learned.contract.columns:
        rules: dict[str, Any] = {"type": column.type.value}
        if column.nulls:
            rules["nulls"] = column.nulls
        if column.min is not None:
            rules |= {"min": column.min, "max": column.max}
        if column.categories:
            rules["categories"] = list(column.categories)
        elif column.type is ColumnType.CATEGORY:
            rules["max_categories"] = column.max_categories
        inside = ", ".join(f"{key} = {_toml(value)}" for key, value in rules.items())
        words = learned.words.get(column.name, "")
        name = column.name if _BARE.fullmatch(column.name) else _toml(column.name)
        yield f"{name} = {{ {inside} }}{f' # {words}' if words else ''}"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # JSON's strings are TOML's, but for one character that TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _told(
    learned: Learned, samples: Sequence[Sample], target: Path, models: Path, refused: Sequence[str]
) -> str:
    contract = learned.contract
    lines = [
        f"wrote {target}: {learned.task} by {learned.metric}, {len(contract.columns)} columns, "
        f"{len(contract.features)} features"
    ]
    first = learned.look_first or ["the ranges, and which of them are hard"]
    more = f" (and {len(first) - 4} more, see the comments)" if len(first) > 4 else ""
    lines += ["look first at:", *(f"  {line}" for line in first[:4])]
    lines[-1] += more
    folder = "" if models == Path("models") else f" --models {models}"
    name = target.parent.name
    if refused:
        lines += ["under it the samples are NOT all accepted:", *(f"  {line}" for line in refused[:10])]
    else:
        lines.append(
            f"all {len(samples)} sample files are accepted under it"
            if len(samples) > 1
            else "the sample is accepted under it"
        )
    return "\n".join([*lines, f"next: refit validate FILE --model {name}{folder}"])


def _stored(facts: Facts) -> str:
    return " and ".join(sorted(facts.stored)) or "nothing"


def _quoted(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(name[:60]) for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _many(count: int) -> str:
    return f"more than {MOST_VALUES}" if count > MOST_VALUES else str(count)


def _day(nanoseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def _nice(count: int) -> int:
    """A round number, not below."""
    step = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / step) * step


def _up(share: float, digits: int) -> float:
    return math.ceil(round(share * 10**digits, 9)) / 10**digits


def _down(share: float, digits: int) -> float:
    """To so many significant digits."""
    if share <= 0:
        return 0.0
    place = digits - 1 - math.floor(math.log10(share))
    return math.floor(share * 10**place) / 10**place
