"""Model folders: `models/<name>/model.toml` and the optional `model.py` beside it.

Every mistake in a folder is reported at once, each with file, key and fix.
"""

from __future__ import annotations

import codecs
import difflib
import hashlib
import importlib.util
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from refit import costs, schedule
from refit.contract import FILE_RULES, NUMERIC, Column, ColumnType, Contract, Dialect
from refit.errors import ConfigError, UnknownModel
from refit.metrics import METRICS, Task

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
CANDIDATES = ("full", "recent", "continual", "transfer", "search")
CONTINUED = ("continual", "transfer")  # those that go on from the champion
REFRESHING = ("full", "recent")  # those that learn anew, and always by the same recipe
# What others call a type.
OTHER_WORDS = {
    "float": ColumnType.NUMBER,
    "double": ColumnType.NUMBER,
    "decimal": ColumnType.NUMBER,
    "int": ColumnType.INTEGER,
    "string": ColumnType.CATEGORY,
    "str": ColumnType.CATEGORY,
    "object": ColumnType.CATEGORY,
    "date": ColumnType.TIMESTAMP,
    "datetime": ColumnType.TIMESTAMP,
    "time": ColumnType.TIMESTAMP,
}
REFRESH_SHARE = 0.2  # of what the champion has over the best trivial baseline: what a refresh may lose
APPROVAL = ("none", "required")
DAY = 86_400


@dataclass(frozen=True)
class Triggers:
    """What starts a retraining besides a person. Rows are labelled rows the champion has not learned from."""

    drift: bool = True
    drift_budget: float = 0.01  # share of batches without drift that may be called drifted
    drift_effect: float = 1.0  # multiplies the distances from which a column counts as drifted
    quality: bool = True  # scores below what the champion showed when it was tested
    new_rows: int = 0  # this many new rows are reason enough; 0 is off
    every: str = ""  # "12 hours", "30 days", or a cron expression; empty is off
    alarms: tuple[str, ...] = ()  # CloudWatch alarms of people's own
    min_new_rows: int = 0  # more than the gates need to prove a gain
    growth: float = 1.0  # new rows as a share of those at the last run that start one; adapts; 0 is off
    cooldown: str = ""  # after a run, of the data's time where there is one; empty is off
    budget_runs: int = 0  # a calendar month; 0 is no limit
    budget_usd: float = 0.0  # likewise, estimated


@dataclass(frozen=True)
class Gates:
    """What a challenger must show on rows that neither model has seen."""

    metric: str
    min_score: float | None = None  # absolute; decides alone for a first model
    margin: float = 0.0  # the gain's lower bound must exceed it
    confidence: float = 0.95  # one-sided
    min_test_rows: int = 100
    refresh_margin: float | None = None  # what the champion's own recipe on newer data may lose; see may_lose
    slices: tuple[str, ...] = ()  # columns whose slices are always looked at
    slice_margin: float | None = (
        None  # what a slice may lose; None: 2 % of the metric's range or of the score
    )
    max_calibration_error: float | None = None
    max_megabytes: float | None = None
    max_latency_ms: float | None = None  # of one row

    def may_lose(self, lift: float | None) -> float:
        """What a refresh may lose: as declared, else a share of the champion's lift, unless `margin` asks for a gain.

        `lift` is what the champion scores above the best trivial baseline; None when it is not known.
        """
        if self.refresh_margin is not None:
            return self.refresh_margin
        return 0.0 if self.margin or lift is None else REFRESH_SHARE * max(lift, 0.0)


@dataclass(frozen=True)
class Search:
    """Where hyperparameters are looked for."""

    iterations: int
    # Of each parameter a list of choices, or {"min", "max", "log", "whole"}.
    space: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    candidates: tuple[str, ...] = ("full",)
    recent_rows: int | None = None  # what the candidate "recent" learns from; None: the newest quarter
    test_share: float = 0.4  # newest share of the rows new to the champion
    selection_share: float = 0.2  # the share before it; only with several candidates
    seed: int = 0
    weights: str = ""  # column that says how much a row counts
    half_life: str = ""  # "90 days" of the data's time: after which a row counts half
    search: Search | None = None
    learning_curve: bool = True  # measured for the report; chooses nothing


@dataclass(frozen=True)
class Retention:
    """What is kept; 0 is everything, for ever."""

    versions: int = 0  # artifacts of so many newest versions that served, and of so many newest runs
    audit_days: int = 0
    quarantine_days: int = 0
    report_days: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """One declared model."""

    name: str
    task: Task
    contract: Contract
    triggers: Triggers
    gates: Gates
    training: Training
    estimator: Mapping[str, Any] = field(default_factory=dict)  # parameters of the default estimator
    code: str | None = None  # path of model.py
    file: str = ""  # path of model.toml
    code_sha256: str = ""
    approval_seconds: int = 0  # how long a promotion waits for a person's approval; 0: none is needed
    retention: Retention = Retention()
    threshold: float | str | None = None  # probability from which the second class is said, or "tuned"

    @property
    def recipe(self) -> str:
        """Hex digest of how rows become a model: of one recipe and candidate, models differ by their data alone."""
        training = self.training
        own = (training.recent_rows, training.seed, training.weights, training.half_life)
        columns = [(column.name, column.type) for column in self.contract.features]
        shape = (
            self.task,
            self.contract.target,
            columns,
            own,
            self.estimator,
            self.code_sha256,
            self.threshold,
        )
        return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def declared_in(self) -> str:
        """The model.toml, for messages about it."""
        return self.file or f"models/{self.name}/model.toml"

    @property
    def digest(self) -> str:
        """Hex digest of all that shapes a training: declaration and code."""
        besides = ("code", "file", "approval_seconds", "retention")
        shape = {k: v for k, v in asdict(self).items() if k not in besides}
        del shape["training"]["learning_curve"]
        return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode()).hexdigest()


def find_models(folder: Path) -> dict[str, ModelSpec]:
    """Read every model folder below `folder`.

    Raises
    ------
    ConfigError
        With all mistakes of all models, one a line.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; make it, or name another with --models DIR")
    specs, mistakes = {}, []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith((".", "_")):
            continue
        try:
            specs[path.name] = load_model(path)
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    if not specs:
        raise ConfigError(f"{folder}: no model in it; a model is a folder with a model.toml")
    return specs


def get_model(specs: Mapping[str, ModelSpec], name: str) -> ModelSpec:
    """The model of that name, or UnknownModel naming the known ones."""
    try:
        return specs[name]
    except KeyError:
        known = ", ".join(sorted(specs)) or "none"
        near = difflib.get_close_matches(name, specs, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownModel(f"no model {name[:80]!r} is deployed; known models: {known}.{hint}") from None


def load_model(folder: Path) -> ModelSpec:
    """Read one model folder; raises ConfigError with all its mistakes."""
    path, code = folder / "model.toml", folder / "model.py"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ConfigError(f"{path}: not a file; a model folder needs a model.toml that is one")
        text = path.read_text(encoding="utf-8-sig")
        own_code = _is_code(code)
    except FileNotFoundError:
        raise ConfigError(f"{path}: missing; a model folder needs a model.toml") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; look at the file and its rights"
        ) from None
    return parse_model(text, path, code if own_code else None)


def _is_code(path: Path) -> bool:
    """Whether there is a model.py; one that is there and cannot be read would leave the default in its place."""
    if not path.is_symlink() and not path.exists():
        return False
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ConfigError(f"{path}: cannot be read as a file; look at it and its rights, or remove it")
    return True


def parse_model(text: str, path: Path, code: Path | None = None) -> ModelSpec:
    """The model that the text of a model.toml declares; `path` is where it lies, or is to lie.

    Raises
    ------
    ConfigError
        With all its mistakes, one a line.
    """
    try:
        document = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # of TOML itself, of numbers of thousands of digits, of brackets
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    reader, name = _Reader(path), path.parent.name
    if not NAME.fullmatch(name):
        reader.mistake("(folder name)", f"{name!r} must be lower-case letters, digits and dashes, 63 at most")
    spec = reader.spec(name, document, code)
    if reader.mistakes:
        raise ConfigError("\n".join(reader.mistakes))
    return spec


def build_function(spec: ModelSpec) -> Any:
    """`build` of the model's model.py, or None when there is no model.py."""
    if spec.code is None:
        return None
    module_spec = importlib.util.spec_from_file_location(f"refit_model_{spec.name}", spec.code)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{spec.code}: cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # sys.exit() in it ends no command, and no function
        raise ConfigError(f"{spec.code}: fails on import: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "build", None)):
        raise ConfigError(f"{spec.code}: define build() that returns a scikit-learn estimator or Pipeline")
    return module.build


def _no_type(word: str) -> str:
    """What is said of a word that is no type, with the type that may be meant."""
    near = difflib.get_close_matches(word.lower(), list(ColumnType), n=1)
    meant = OTHER_WORDS.get(word.lower(), near[0] if near else None)
    return f", not {word!r}" + (f"; did you mean {str(meant)!r}?" if meant else "")


class _Reader:
    """Reads one document and collects its mistakes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[str] = []
        self.untyped: set[str] = set()  # columns whose type is none

    def mistake(self, key: str, text: str) -> None:
        self.mistakes.append(f"{self.path}: {key}: {text}")

    def take(
        self, table: Mapping[str, Any], prefix: str, allowed: Mapping[str, type | tuple[type, ...]]
    ) -> dict:
        """The table's known keys of the right type; everything else is a mistake."""
        taken = {}
        for key, value in table.items():
            label = f"{prefix}{key}"
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1)
                fix = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(allowed))}"
                self.mistake(label, f"unknown key; {fix}")
            elif not _is(value, allowed[key]):
                self.mistake(label, f"must be {_type_name(allowed[key])}, not {value!r}")
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                self.mistake(label, "is too large; the whole numbers of TOML have 64 bits")
            else:
                taken[key] = value
        return taken

    def finite(self, table: Mapping[str, Any], prefix: str) -> None:
        """TOML knows nan and inf, with which every comparison comes out somehow."""
        for key, value in table.items():
            if isinstance(value, float) and not math.isfinite(value):
                self.mistake(f"{prefix}{key}", f"must be finite, not {value}")

    def spec(self, name: str, document: Mapping[str, Any], code: Path | None) -> ModelSpec:
        sections = {
            "contract": dict,
            "csv": dict,
            "columns": dict,
            "triggers": dict,
            "training": dict,
            "gates": dict,
            "decision": dict,
            "estimator": dict,
            "retention": dict,
        }
        words = dict.fromkeys(("task", "target", "time", "approval"), str)
        top = self.take(document, "", {**words, "keys": list, "approval_days": int, **sections})
        for key in ("task", "target"):
            if key not in document:
                self.mistake(key, "missing")
        try:
            task = Task(top.get("task", "binary"))
        except ValueError:
            task = Task.BINARY
            self.mistake("task", f"must be one of {', '.join(Task)}, not {top['task']!r}")
        contract = self.contract(top, task)
        if task is Task.REGRESSION and contract.target in contract.names:
            kind = contract.column(contract.target).type
            if kind is ColumnType.CATEGORY:
                self.mistake("target", f"{contract.target!r} is a {kind}; a regression needs a number")
        training = self.training(top.get("training", {}), contract, own_code=code is not None)
        triggers = self.triggers(top.get("triggers", {}))
        gates = self.gates(top.get("gates"), task)
        self.agree(gates, contract)
        if training.weights in contract.names:
            contract = replace(contract, weight=training.weights)
        return ModelSpec(
            name=name,
            task=task,
            contract=contract,
            triggers=triggers,
            gates=gates,
            training=training,
            estimator=top.get("estimator", {}),
            code=str(code) if code else None,
            file=str(self.path),
            code_sha256=hashlib.sha256(code.read_bytes()).hexdigest() if code else "",
            approval_seconds=self.approval(top),
            retention=self.retention(top.get("retention", {})),
            threshold=self.decision(top.get("decision", {}), task, gates.metric),
        )

    def approval(self, top: Mapping[str, Any]) -> int:
        """Seconds that a promotion waits for a person."""
        wanted, days = top.get("approval", "none"), top.get("approval_days", 7)
        if wanted not in APPROVAL:
            self.mistake("approval", f"must be one of {', '.join(APPROVAL)}, not {wanted!r}")
        if not 1 <= days <= 90:
            self.mistake("approval_days", f"must be from 1 to 90, not {days}")
        if "approval_days" in top and "approval" not in top:
            self.mistake("approval_days", 'nobody is asked without approval = "required"')
        return days * DAY if wanted == "required" else 0

    def contract(self, top: Mapping[str, Any], task: Task) -> Contract:
        number = (int, float)
        allowed: dict[str, type | tuple[type, ...]] = {
            "version": int,
            "min_rows": int,
            "max_rows": int,
            "max_bad_rows": number,
            "fresh": str,
            "min_class_share": number,
            "constant_label": bool,
            "hard": list,
        }
        table = top.get("contract", {})
        rules = self.take(table, "contract.", allowed)
        version = rules.get("version", 1)
        columns = tuple(self.column(key, value, version) for key, value in top.get("columns", {}).items())
        names = [column.name for column in columns]
        if not columns:
            self.mistake("columns", 'missing; declare each as: name = { type = "number" }')
        target, time, keys = top.get("target", ""), top.get("time"), top.get("keys", [])
        told = [(key, top[key]) for key in ("target", "time") if key in top]
        by_name = {column.name: column for column in columns}
        for key, value in [*told, *(("keys", k) for k in keys)]:
            if value not in names:
                self.mistake(key, f"{value!r} is not declared under [columns]")
            elif by_name[value].since > 1:
                self.mistake(
                    f"columns.{value}.since",
                    "not for target, time or keys: a batch without them is of no use; remove since",
                )
        if len(set(map(str, keys))) < len(keys):
            self.mistake("keys", "must name each column once")
        if (
            target in names
            and target not in self.untyped
            and by_name[target].type in (ColumnType.TIMESTAMP, ColumnType.TEXT)
        ):
            self.mistake(
                "target", f"{target!r} is a {by_name[target].type}; it must be a category or a number"
            )
        if time in names and time not in self.untyped and by_name[time].type is not ColumnType.TIMESTAMP:
            self.mistake("time", f'{time!r} must be declared with type = "timestamp"')
        if version < 1:
            self.mistake(
                "contract.version", f"must be 1 or more, not {version}; count up when columns change"
            )
        if not 0 <= rules.get("max_bad_rows", 0) < 1:
            self.mistake("contract.max_bad_rows", "must be a share: 0 or more and below 1")
        fresh = self.fresh(rules.pop("fresh", None), time)
        share = rules.get("min_class_share", 0)
        if not 0 <= share <= 0.5:
            self.mistake("contract.min_class_share", "must be a share from 0 to 0.5: of the rarest class")
        elif share and task is Task.REGRESSION:
            self.mistake("contract.min_class_share", "is for classes; a regression has none, remove it")
        hard = self.hard_rules(rules.pop("hard", []), table)
        contract = Contract(
            columns=columns,
            target=target,
            time=time,
            keys=tuple(map(str, keys)),
            fresh_seconds=fresh,
            hard=hard,
            csv=self.csv(top.get("csv", {})),
            **rules,
        )
        if contract.min_rows < 1 or contract.max_rows < contract.min_rows:
            self.mistake("contract.min_rows", "must be at least 1 and at most contract.max_rows")
        if columns and not contract.features:
            self.mistake("columns", "no feature is left beside target, time, keys, timestamps and text")
        return contract

    def fresh(self, words: str | None, time: str | None) -> int | None:
        """Seconds that the newest row of a file may be old."""
        if words is None:
            return None
        length = schedule.length(words)
        if length is None:
            self.mistake("contract.fresh", f'{words!r} is no length of time; such as "12 hours" or "40 days"')
        if time is None:
            self.mistake("contract.fresh", "needs a time column; declare time, or remove it")
        return int(length.total_seconds()) if length else None

    def hard_rules(self, rules: list[Any], table: Mapping[str, Any]) -> tuple[str, ...]:
        unknown = [rule for rule in rules if rule not in FILE_RULES]
        if unknown or len(set(map(str, rules))) != len(rules):
            self.mistake("contract.hard", f"must name some of {', '.join(FILE_RULES)}, each once")
            return ()
        for rule in rules:
            if rule not in table:
                self.mistake("contract.hard", f"{rule!r} is hard but not set; set contract.{rule} as well")
        return tuple(rules)

    def csv(self, table: Mapping[str, Any]) -> Dialect:
        taken = self.take(table, "csv.", {each.name: str for each in fields(Dialect)})
        dialect = Dialect(**taken)
        for key in ("delimiter", "quote"):
            value = taken.get(key)
            if value is not None and (len(value) != 1 or value in "\r\n\0" or ord(value) > 127):
                self.mistake(f"csv.{key}", f"must be one ASCII character and no line break, not {value!r}")
        if dialect.decimal not in (".", ","):
            self.mistake("csv.decimal", f'must be "." or ",", not {dialect.decimal!r}')
        used = [sign for sign in (dialect.delimiter, dialect.quote, dialect.decimal) if sign is not None]
        if len(set(used)) < len(used):
            self.mistake("csv", "delimiter, quote and decimal must be three different characters")
        if dialect.encoding is not None and not _is_encoding(dialect.encoding):
            self.mistake(
                "csv.encoding",
                f"{dialect.encoding!r} is no text encoding that Python knows; such as latin-1 or cp1252",
            )
        return dialect

    def column(self, name: str, table: Any, version: int) -> Column:
        prefix = f"columns.{name}"
        if not name:
            self.mistake("columns", 'a column has the empty name ""; name it as its files do')
        if not isinstance(table, dict):
            self.mistake(prefix, 'must be a table such as { type = "number" }')
            return Column(name, ColumnType.TEXT)
        number = (int, float)
        taken = self.take(
            table,
            f"{prefix}.",
            {
                "type": str,
                "nulls": number,
                "min": number,
                "max": number,
                "categories": list,
                "max_categories": int,
                "hard": bool,
                "since": int,
                "fill": (str, int, float, bool),
            },
        )
        wanted = taken.pop("type", None)
        try:
            kind = ColumnType(wanted)
        except ValueError:
            told = _no_type(wanted) if isinstance(wanted, str) else ""
            self.mistake(f"{prefix}.type", f"must be one of {', '.join(ColumnType)}{told}")
            # What else is declared of it is held against no type: one mistake is told once.
            self.untyped.add(name)
            return Column(name, ColumnType.TEXT)
        listed = taken.pop("categories", ())
        if any(isinstance(value, list | dict) for value in listed):
            self.mistake(f"{prefix}.categories", "must be texts or numbers, not lists or tables")
        categories = tuple(map(_word, listed))
        if len(set(categories)) < len(categories):
            self.mistake(f"{prefix}.categories", "must name each category once")
        fill = self.fill(prefix, taken.pop("fill", None), kind, categories)
        column = Column(name, kind, categories=categories, fill=fill, **taken)
        if not 1 <= column.since <= max(version, 1):
            self.mistake(
                f"{prefix}.since",
                f"must be from 1 to contract.version, which is {version}; raise that when a column is added",
            )
        if fill is not None and column.since == 1:
            self.mistake(
                f"{prefix}.fill", "is what older batches are given; say since which version, as since = 2"
            )
        if not 0 <= column.nulls <= 1:
            self.mistake(f"{prefix}.nulls", "must be a share between 0 and 1")
        self.finite(taken, f"{prefix}.")
        if column.max_categories < 1:
            self.mistake(f"{prefix}.max_categories", f"must be at least 1, not {column.max_categories}")
        if (column.min is not None or column.max is not None) and kind not in (
            ColumnType.NUMBER,
            ColumnType.INTEGER,
        ):
            self.mistake(prefix, f"min and max are for numbers, not for a {kind}")
        if column.min is not None and column.max is not None and column.min > column.max:
            self.mistake(f"{prefix}.min", f"{column.min} is above max {column.max}")
        if categories and kind is not ColumnType.CATEGORY:
            self.mistake(f"{prefix}.categories", f"are for a category, not for a {kind}")
        return column

    def fill(
        self, prefix: str, value: Any, kind: ColumnType, categories: tuple[str, ...]
    ) -> float | str | None:
        """What batches without the column are given, in the form that a shard holds."""
        if value is None:
            return None
        key = f"{prefix}.fill"
        if kind is ColumnType.CATEGORY:
            if categories and _word(value) not in categories:
                self.mistake(key, f"{value!r} is not among its categories; add it there, or choose one")
            return _word(value)
        if kind not in NUMERIC:
            self.mistake(key, f"is not for a {kind}, which is not learned from; remove it")
        elif kind is ColumnType.BOOLEAN:
            if not isinstance(value, bool):
                self.mistake(key, f"must be true or false, not {value!r}")
        elif isinstance(value, bool | str):
            self.mistake(key, f"must be a number, not {value!r}")
        elif not math.isfinite(value) or (kind is ColumnType.INTEGER and value != int(value)):
            what = "a whole number" if kind is ColumnType.INTEGER else "a finite number"
            self.mistake(key, f"must be {what}, not {value!r}")
        else:
            return float(value)
        return float(value) if isinstance(value, bool) else None

    def triggers(self, table: Mapping[str, Any]) -> Triggers:
        if "drift_psi" in table:
            table = {key: value for key, value in table.items() if key != "drift_psi"}
            self.mistake(
                "triggers.drift_psi", "is drift_effect now, in other units: 1 is usual; see docs/drift.md"
            )
        taken = self.take(
            table,
            "triggers.",
            {
                "drift": bool,
                "drift_budget": (int, float),
                "drift_effect": (int, float),
                "quality": bool,
                "new_rows": int,
                "every": str,
                "alarms": list,
                "min_new_rows": int,
                "growth": (int, float),
                "cooldown": str,
                "budget_runs": int,
                "budget_usd": (int, float),
            },
        )
        self.finite(taken, "triggers.")
        if not all(isinstance(name, str) for name in taken.get("alarms", ())):
            self.mistake("triggers.alarms", "must be names of CloudWatch alarms, as texts")
        triggers = Triggers(**{**taken, "alarms": tuple(map(str, taken.get("alarms", ())))})
        if not 0 < triggers.drift_budget <= 0.5:
            self.mistake("triggers.drift_budget", "must be above 0 and at most 0.5; 0.01 is 1 batch in 100")
        if triggers.drift_effect <= 0:
            self.mistake(
                "triggers.drift_effect", "must be above 0; 1 is usual, 2 asks for twice the distance"
            )
        if problem := schedule.problem(triggers.every):
            self.mistake("triggers.every", problem)
        if triggers.cooldown and not schedule.length(triggers.cooldown):
            text = f'must be hours or days such as "12 hours" or "7 days", not {triggers.cooldown!r}'
            self.mistake("triggers.cooldown", text)
        for key in ("new_rows", "min_new_rows", "growth", "budget_runs", "budget_usd"):
            if getattr(triggers, key) < 0:
                self.mistake(f"triggers.{key}", "must not be negative")
        least = costs.of_run(0).usd
        if 0 < triggers.budget_usd < least:
            self.mistake(
                "triggers.budget_usd",
                f"{triggers.budget_usd:g} pays for no run: the smallest costs about {least:.4f}; 0 is no limit",
            )
        return triggers

    def training(self, table: Mapping[str, Any], contract: Contract, own_code: bool) -> Training:
        taken = self.take(
            table,
            "training.",
            {
                "candidates": list,
                "recent_rows": int,
                "test_share": float,
                "selection_share": float,
                "seed": int,
                "weights": str,
                "half_life": str,
                "search": dict,
                "learning_curve": bool,
            },
        )
        candidates = tuple(taken.pop("candidates", ("full",)))
        unknown = [c for c in candidates if c not in CANDIDATES]
        if unknown or not candidates or len(set(candidates)) != len(candidates):
            self.mistake("training.candidates", f"must name some of {', '.join(CANDIDATES)}, each once")
        if "continual" in candidates and not own_code:
            self.mistake(
                "training.candidates",
                "continual needs an estimator with partial_fit, which the default one does not have; write a "
                "model.py whose build() returns one (SGDClassifier, MLPClassifier, GaussianNB) or drop it",
            )
        search = self.search(taken.pop("search", None), candidates)
        training = Training(candidates=candidates, search=search, **taken)
        if not 0 < training.test_share < 1:
            self.mistake("training.test_share", "must lie between 0 and 1")
        if not 0 < training.selection_share < 1 - training.test_share:
            self.mistake("training.selection_share", "must be above 0 and leave rows beside test_share")
        if training.recent_rows is not None and training.recent_rows < 1:
            self.mistake("training.recent_rows", "must be at least 1")
        if not 0 <= training.seed < 2**32:
            self.mistake("training.seed", "must be from 0 to 4294967295")
        if training.weights:
            self.weights(training.weights, contract)
        if training.half_life and schedule.length(training.half_life) is None:
            self.mistake("training.half_life", f'must be such as "90 days", not {training.half_life!r}')
        if training.half_life and not contract.time:
            self.mistake("training.half_life", "is of the data's time: name the timestamp column as time")
        return training

    def weights(self, name: str, contract: Contract) -> None:
        if name not in contract.names:
            self.mistake("training.weights", f"{name!r} is not declared under [columns]")
            return
        column = contract.column(name)
        if name in (contract.target, contract.time, *contract.keys):
            self.mistake(
                "training.weights", f"{name!r} is target, time or key; weights are a column of their own"
            )
        elif column.type not in (ColumnType.NUMBER, ColumnType.INTEGER):
            self.mistake("training.weights", f"{name!r} is a {column.type}; weights are numbers")
        elif column.nulls:
            self.mistake("training.weights", f"every row needs its weight: columns.{name}.nulls must be 0")
        elif len(contract.features) == 1 and contract.features[0].name == name:
            self.mistake("training.weights", f"without {name!r} no feature is left")

    def search(self, table: Mapping[str, Any] | None, candidates: tuple[str, ...]) -> Search | None:
        if table is None:
            if "search" in candidates:
                self.mistake(
                    "training.search",
                    "missing; such as: [training.search] iterations = 20, space = { learning_rate = { min = 0.01, "
                    "max = 0.3, log = true } }",
                )
            return None
        taken = self.take(table, "training.search.", {"iterations": int, "space": dict})
        if "search" not in candidates:
            self.mistake("training.search", 'is used by the candidate "search", which is not declared')
        search = Search(taken.get("iterations", 0), taken.get("space", {}))
        if not 1 <= search.iterations <= 500:
            self.mistake("training.search.iterations", "must be from 1 to 500")
        if not search.space:
            self.mistake("training.search.space", "must name at least one parameter")
        for name, choices in search.space.items():
            label = f"training.search.space.{name}"
            if isinstance(choices, list):
                if not choices:
                    self.mistake(label, "must offer at least one choice")
            elif isinstance(choices, dict):
                number = (int, float)
                kinds: dict[str, Any] = {"min": number, "max": number, "log": bool, "whole": bool}
                span = self.take(choices, f"{label}.", kinds)
                self.finite(span, f"{label}.")
                low, high = span.get("min"), span.get("max")
                if low is None or high is None or not low < high:
                    self.mistake(label, "must have a min below its max")
                elif span.get("log") and low <= 0:
                    self.mistake(label, "must begin above 0 to be searched by its logarithm")
            else:
                self.mistake(label, "must be a list of choices, or { min = ..., max = ... }")
        return search

    def decision(self, table: Mapping[str, Any], task: Task, metric: str) -> float | str | None:
        taken = self.take(table, "decision.", {"threshold": (int, float, str)})
        threshold = taken.get("threshold")
        if threshold is None:
            return None
        if task is not Task.BINARY:
            self.mistake("decision.threshold", f"is for a binary task, not for {task}")
        elif isinstance(threshold, str):
            if threshold != "tuned":
                self.mistake("decision.threshold", f'must be a probability or "tuned", not {threshold!r}')
            elif metric in METRICS and METRICS[metric].needs != "label":
                of_labels = sorted(n for n, m in METRICS.items() if task in m.tasks and m.needs == "label")
                self.mistake(
                    "decision.threshold",
                    f"{metric} does not depend on it; tune it for one of {', '.join(of_labels)}, or give a number",
                )
        elif not 0 < threshold < 1:
            self.mistake("decision.threshold", f"must lie between 0 and 1, not {threshold}")
        return threshold

    def gates(self, table: Mapping[str, Any] | None, task: Task) -> Gates:
        known = sorted(name for name, metric in METRICS.items() if task in metric.tasks)
        if table is None:
            self.mistake("gates", f"missing; at least: [gates] metric = one of {', '.join(known)}")
            return Gates(metric="")
        number = (int, float)
        limits = ("max_calibration_error", "max_megabytes", "max_latency_ms")
        taken = self.take(
            table,
            "gates.",
            {
                "metric": str,
                "min_score": number,
                "margin": number,
                "confidence": float,
                "min_test_rows": int,
                "refresh_margin": number,
                "slices": dict,
                **dict.fromkeys(limits, number),
            },
        )
        self.finite(taken, "gates.")
        metric = taken.pop("metric", "")
        if metric not in known:
            near = difflib.get_close_matches(metric, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.mistake(
                "gates.metric", f"must be one of {', '.join(known)} for task {task}, not {metric!r}{hint}"
            )
        slices = self.take(taken.pop("slices", {}), "gates.slices.", {"columns": list, "margin": number})
        self.finite(slices, "gates.slices.")
        if len(set(map(str, slices.get("columns", ())))) < len(slices.get("columns", ())):
            self.mistake("gates.slices.columns", "must name each feature once")
        gates = Gates(
            metric=metric,
            slices=tuple(map(str, slices.get("columns", ()))),
            slice_margin=slices.get("margin"),
            **taken,
        )
        if not 0.5 <= gates.confidence < 1:
            self.mistake("gates.confidence", "must be at least 0.5 and below 1")
        if gates.min_test_rows < 20:
            self.mistake("gates.min_test_rows", "must be at least 20; fewer rows prove nothing")
        if gates.margin < 0:
            self.mistake("gates.margin", "must not be negative: it is the gain a challenger must show")
        if gates.slice_margin is not None and gates.slice_margin < 0:
            self.mistake("gates.slices.margin", "must not be negative: it is what a slice may lose")
        if gates.refresh_margin is not None and gates.refresh_margin < 0:
            self.mistake(
                "gates.refresh_margin",
                "must not be negative: it is what a refresh may lose at most; 0 asks it for a gain",
            )
        for name in limits:
            value = getattr(gates, name)
            if value is not None and value <= 0:
                self.mistake(f"gates.{name}", "must be above 0; nothing could pass")
        if gates.max_calibration_error is not None and task is Task.REGRESSION:
            self.mistake("gates.max_calibration_error", "is of probabilities; a regression has none")
        elif gates.max_calibration_error is not None and gates.max_calibration_error >= 1:
            self.mistake("gates.max_calibration_error", "must be below 1; everything would pass")
        if metric in known:
            self.reachable(gates)
        return gates

    def reachable(self, gates: Gates) -> None:
        """Scores that no challenger can show, and those that each one shows."""
        best, worst = METRICS[gates.metric].best, METRICS[gates.metric].worst
        ends = f"{gates.metric} goes from {worst:g} to {best:g}"
        least = worst if gates.min_score is None else gates.min_score
        if least >= best:
            self.mistake("gates.min_score", f"{least:g} cannot be reached: {ends}")
        elif least < worst:
            self.mistake("gates.min_score", f"{least:g} keeps nobody out: {ends}")
        elif gates.margin >= best - least:
            left = "" if gates.min_score is None else f", and who has min_score has {best - least:g} to gain"
            self.mistake("gates.margin", f"{gates.margin:g} cannot be gained: {ends}{left}")
        for key, lost in (("refresh_margin", gates.refresh_margin), ("slices.margin", gates.slice_margin)):
            if lost is not None and lost >= best - worst:
                self.mistake(f"gates.{key}", f"{lost:g} allows any loss: {ends}")

    def agree(self, gates: Gates, contract: Contract) -> None:
        """Gates that the rest of the declaration contradicts."""
        features = [column.name for column in contract.features]
        for name in gates.slices:
            if name not in features:
                near = difflib.get_close_matches(name, features, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"features: {', '.join(features[:20])}"
                self.mistake("gates.slices.columns", f"{name!r} is no feature; {hint}")

    def retention(self, table: Mapping[str, Any]) -> Retention:
        names = [each.name for each in fields(Retention)]
        retention = Retention(**self.take(table, "retention.", dict.fromkeys(names, int)))
        if retention.versions < 0 or retention.versions == 1:
            self.mistake(
                "retention.versions", "must be 0 for all, or at least 2: a rollback needs the one before"
            )
        for name in names[1:]:
            if getattr(retention, name) < 0:
                self.mistake(f"retention.{name}", "must be 0 for ever, or at least 1")
        return retention


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds)


def _is_encoding(name: str) -> bool:
    """Whether it is a codec between text and bytes: base64 and rot13 are codecs, too."""
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def _word(value: Any) -> str:
    """A category as validation reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
    if isinstance(kind, tuple):
        return "a number, a text, true or false" if str in kind else "a number"
    return names.get(kind, "a number such as 0.5")
