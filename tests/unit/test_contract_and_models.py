"""The contract and the reader of model folders."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from refit.contract import Column, ColumnType, Contract, Dialect
from refit.errors import ConfigError, UnknownModel
from refit.metrics import METRICS, Task
from refit.models import Retention, build_function, find_models, get_model, load_model

GOOD = """
task = "binary"
target = "left"
time = "at"
keys = ["id"]
[contract]
min_rows = 5
[columns]
id = { type = "text" }
at = { type = "timestamp" }
left = { type = "boolean" }
age = { type = "integer", min = 0, max = 120, hard = true }
city = { type = "category", categories = ["Bonn", "Ulm"], nulls = 0.5 }
[gates]
metric = "roc_auc"
"""


def folder(tmp_path: Path, text: str = GOOD, name: str = "churn") -> Path:
    path = tmp_path / name
    path.mkdir(parents=True)
    (path / "model.toml").write_text(text, encoding="utf-8")
    return path


def mistakes(tmp_path: Path, text: str, name: str = "churn") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_model(folder(tmp_path, text, name))
    return str(caught.value).splitlines()


def test_a_declaration_becomes_a_spec(tmp_path):
    spec = load_model(folder(tmp_path))
    assert (spec.name, spec.task, spec.contract.target, spec.contract.time) == (
        "churn",
        Task.BINARY,
        "left",
        "at",
    )
    assert spec.contract.column("age") == Column("age", ColumnType.INTEGER, min=0, max=120, hard=True)
    assert spec.contract.column("city").categories == ("Bonn", "Ulm")
    assert spec.contract.min_rows == 5
    assert spec.gates.metric == "roc_auc"
    assert spec.code is None


def test_features_are_what_is_left_beside_target_time_keys_timestamps_and_text():
    kinds = {"id": "category", "at": "timestamp", "seen": "timestamp", "note": "text", "x": "number"}
    columns = (*(Column(name, ColumnType(kind)) for name, kind in kinds.items()), Column("y", "boolean"))
    contract = Contract(columns, target="y", time="at", keys=("id",))
    assert [column.name for column in contract.features] == ["x"]


def test_equal_contracts_have_equal_digests_and_any_rule_changes_it():
    one = Contract((Column("x", ColumnType.NUMBER), Column("y", ColumnType.NUMBER)), "y")
    assert (
        one.digest == Contract((Column("x", ColumnType.NUMBER), Column("y", ColumnType.NUMBER)), "y").digest
    )
    others = [
        replace(one, max_bad_rows=0.1),
        replace(one, keys=("x",)),
        replace(one, columns=(Column("x", ColumnType.INTEGER), one.columns[1])),
        replace(one, columns=(Column("x", ColumnType.NUMBER, max=3), one.columns[1])),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5


def test_every_mistake_is_reported_at_once_with_file_key_and_fix(tmp_path):
    """A person who must fix twelve things is told of twelve, not of one a time."""
    text = """
task = "binary"
target = "gone"
time = "age"
keys = ["nope", ["nested"]]
version = 3
[contract]
min_rows = 0
max_bad_rows = 1.0
[columns]
plain = 7
age = { type = "number", min = 5, max = 1, nulls = 2 }
flag = { type = "boolean", max = 1, categories = ["a"] }
odd = { type = "float" }
[triggers]
drfit = true
new_rows = -1
[training]
candidates = ["full", "full"]
test_share = 1.5
recent_rows = 0
[gates]
metric = "r2"
confidence = 0.3
min_test_rows = 5
margin = -0.1
[retention]
versions = 1
audit_days = -1
report_days = 0.5
"""
    found = mistakes(tmp_path, text)
    path = str(tmp_path / "churn" / "model.toml")
    assert all(line.startswith(path + ": ") for line in found)
    by_key = dict(line[len(path) + 2 :].split(": ", 1) for line in found)
    assert {key: by_key.get(key) for key in EXPECTED} == EXPECTED
    assert set(by_key) == set(EXPECTED)
    assert sum("keys" in line.split(": ")[1] for line in found) == 2


EXPECTED = {
    "version": "unknown key; did you mean 'decision'?",
    "retention.versions": "must be 0 for all, or at least 2: a rollback needs the one before",
    "retention.audit_days": "must be 0 for ever, or at least 1",
    "retention.report_days": "must be a whole number, not 0.5",
    "target": "'gone' is not declared under [columns]",
    "time": "'age' must be declared with type = \"timestamp\"",
    "keys": "['nested'] is not declared under [columns]",
    "contract.min_rows": "must be at least 1 and at most contract.max_rows",
    "contract.max_bad_rows": "must be a share: 0 or more and below 1",
    "columns.plain": 'must be a table such as { type = "number" }',
    "columns.age.nulls": "must be a share between 0 and 1",
    "columns.age.min": "5 is above max 1",
    "columns.flag": "min and max are for numbers, not for a boolean",
    "columns.flag.categories": "are for a category, not for a boolean",
    "columns.odd.type": "must be one of number, integer, category, boolean, timestamp, text, not 'float'; did you "
    "mean 'number'?",
    "triggers.drfit": "unknown key; did you mean 'drift'?",
    "triggers.new_rows": "must not be negative",
    "training.candidates": "must name some of full, recent, continual, transfer, search, each once",
    "training.test_share": "must lie between 0 and 1",
    "training.selection_share": "must be above 0 and leave rows beside test_share",
    "training.recent_rows": "must be at least 1",
    "gates.metric": "must be one of accuracy, average_precision, balanced_accuracy, f1, f1_macro, f1_micro, "
    "f1_weighted, jaccard, jaccard_macro, jaccard_micro, jaccard_weighted, matthews_corrcoef, neg_brier_score, "
    "neg_log_loss, precision, precision_macro, precision_micro, precision_weighted, recall, recall_macro, "
    "recall_micro, recall_weighted, roc_auc for task binary, not 'r2'",
    "gates.confidence": "must be at least 0.5 and below 1",
    "gates.min_test_rows": "must be at least 20; fewer rows prove nothing",
    "gates.margin": "must not be negative: it is the gain a challenger must show",
}


@pytest.mark.parametrize(
    ("word", "meant"), [("int", "integer"), ("Boolean", "boolean"), ("datetime", "timestamp"), ("blob", None)]
)
def test_a_word_that_is_no_type_is_one_mistake_whatever_else_is_said_of_the_column(tmp_path, word, meant):
    """Held against a type that nobody declared, ranges, target and time would be wrong as well."""
    text = GOOD.replace('{ type = "boolean" }', f'{{ type = "{word}", min = 0 }}')
    (found,) = mistakes(tmp_path, text)
    assert found.endswith(f", not {word!r}" + (f"; did you mean {meant!r}?" if meant else ""))
    assert ": columns.left.type: must be one of number, " in found


@pytest.mark.parametrize(
    ("old", "new", "key", "fix"),
    [
        ('task = "binary"', "", "task", "missing"),
        ('task = "binary"', 'task = "ranking"', "task", "must be one of binary, multiclass, regression"),
        ('target = "left"', "", "target", "missing"),
        ('target = "left"', 'target = ""', "target", "'' is not declared"),
        ('target = "left"', 'target = "id"', "target", "is a text; it must be a category or a number"),
        ('task = "binary"', 'task = "regression"\n', "gates.metric", "neg_mean_absolute_error"),
        ("min_rows = 5", "min_rows = true", "contract.min_rows", "must be a whole number, not True"),
        ("min_rows = 5", 'min_rows = "5"', "contract.min_rows", "must be a whole number"),
        ("min_rows = 5", "max_rows = 0", "contract.min_rows", "at most contract.max_rows"),
        ("nulls = 0.5", "nulls = nan", "columns.city.nulls", "share between 0 and 1"),
        ('metric = "roc_auc"', "", "gates.metric", "must be one of"),
        ('[gates]\nmetric = "roc_auc"', "", "gates", "missing; at least"),
        (
            "[gates]",
            "[gates]\nmin_score = 1.0",
            "gates.min_score",
            "1 cannot be reached: roc_auc goes from 0 to 1",
        ),
        ("[gates]", "[training]\ntest_share = 1\n[gates]", "training.test_share", "such as 0.5"),
        ("max = 120", "max = 1" + "0" * 400, "columns.age.max", "64 bits"),
        ('["Bonn", "Ulm"]', '[["Bonn"], { b = 1 }]', "columns.city.categories", "texts or numbers"),
        ('["Bonn", "Ulm"]', '["1", 1]', "columns.city.categories", "each category once"),
        ("[columns]", '[columns]\n"" = { type = "number" }', "columns", "empty name"),
        ('keys = ["id"]', 'keys = ["id", "id"]', "keys", "each column once"),
        ("[gates]", "[triggers]\nalarms = [1]\n[gates]", "triggers.alarms", "as texts"),
        ("[gates]", "[training]\ncandidates = []\n[gates]", "training.candidates", "full, recent"),
        ('keys = ["id"]', 'keys = [""]', "keys", "'' is not declared"),
        ('keys = ["id"]', "approval = true", "approval", "must be text, not True"),
        ('keys = ["id"]', 'approval = "yes"', "approval", "must be one of none, required, not 'yes'"),
        ('keys = ["id"]', 'approval = "required"\napproval_days = 0', "approval_days", "from 1 to 90, not 0"),
        ('keys = ["id"]', 'approval = "required"\napproval_days = 91', "approval_days", "not 91"),
        (
            'keys = ["id"]',
            "approval_days = 3",
            "approval_days",
            'nobody is asked without approval = "required"',
        ),
    ],
)
def test_one_mistake_is_named(tmp_path, old, new, key, fix):
    assert old in GOOD
    found = mistakes(tmp_path, GOOD.replace(old, new))
    assert any(f"model.toml: {key}: " in line and fix in line for line in found), found


def test_a_regression_cannot_learn_a_category(tmp_path):
    """Its codes are numbers by accident: a model of them would be nonsense that nobody notices."""
    text = GOOD.replace('"binary"', '"regression"').replace('"left"', '"city"').replace('"roc_auc"', '"r2"')
    assert mistakes(tmp_path, text) == [
        f"{tmp_path / 'churn' / 'model.toml'}: target: 'city' is a category; a regression needs a number"
    ]


def test_nothing_to_learn_from_is_a_mistake(tmp_path):
    text = GOOD.replace("age = ", "# age = ").replace("city = ", "# city = ")
    assert any("no feature is left" in line for line in mistakes(tmp_path, text))


@pytest.mark.parametrize("name", ["Churn", "-churn", "a b", "x" * 64])
def test_a_folder_name_that_cannot_be_a_model_name_is_a_mistake(tmp_path, name):
    assert any("(folder name)" in line for line in mistakes(tmp_path, GOOD, name))


def test_toml_that_does_not_parse_and_a_missing_file_are_config_errors(tmp_path):
    assert "not valid TOML" in mistakes(tmp_path, "task = ")[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"model.toml: missing"):
        load_model(tmp_path / "empty")
    latin = folder(tmp_path, name="latin")
    (latin / "model.toml").write_bytes(b'task = "\xe9"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_model(latin)


def test_toml_of_a_depth_or_a_length_that_nobody_reads_is_no_toml(tmp_path):
    """Brackets beyond the reader's stack, and numbers beyond what Python converts."""
    assert "not valid TOML" in mistakes(tmp_path / "a", f"a = {'[' * 5000}{']' * 5000}")[0]
    assert "not valid TOML" in mistakes(tmp_path / "b", GOOD.replace("120", "1" * 5000))[0]


def test_the_mark_that_some_editors_put_first_is_no_mistake(tmp_path):
    path = folder(tmp_path)
    (path / "model.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_model(path).digest == load_model(folder(tmp_path / "plain")).digest


def test_what_is_no_file_is_named(tmp_path):
    """A folder, a link to itself, and a pipe, for which one would wait for ever; nor is a model.py passed over."""
    path = tmp_path / "churn"
    path.mkdir()
    toml, code = path / "model.toml", path / "model.py"
    for make, undo, words in (
        (toml.mkdir, toml.rmdir, "not a file"),
        (lambda: os.mkfifo(toml), toml.unlink, "not a file"),
        (lambda: toml.symlink_to(toml), toml.unlink, "cannot be read: Too many levels of symbolic links"),
    ):
        make()
        with pytest.raises(ConfigError, match=rf"model\.toml: {words}"):
            load_model(path)
        undo()
    toml.write_text(GOOD)
    for make, undo in (
        (code.mkdir, code.rmdir),
        (lambda: code.symlink_to("nowhere.py"), code.unlink),
        (lambda: code.symlink_to(code), code.unlink),
    ):
        make()
        with pytest.raises(ConfigError, match=r"model\.py: cannot be read as a file"):
            load_model(path)
        undo()


def test_categories_are_written_as_validation_reads_them(tmp_path):
    """Parquet's true is read as the word true and its 3 as the word 3."""
    spec = load_model(folder(tmp_path, GOOD.replace('["Bonn", "Ulm"]', '[true, 3, "Ulm"]')))
    assert spec.contract.column("city").categories == ("true", "3", "Ulm")


def test_all_mistakes_of_all_models_come_together(tmp_path):
    folder(tmp_path, GOOD.replace('"binary"', '"x"'), "one")
    folder(tmp_path, GOOD.replace('"boolean"', '"x"'), "two")
    folder(tmp_path, GOOD, "three")
    folder(tmp_path, "not read", "_draft")
    with pytest.raises(ConfigError) as caught:
        find_models(tmp_path)
    text = str(caught.value)
    assert "one/model.toml: task: " in text
    assert "two/model.toml: columns.left.type: " in text
    assert "three" not in text
    assert "_draft" not in text


def test_models_are_found_by_folder_name(tmp_path):
    folder(tmp_path, GOOD, "one")
    folder(tmp_path, GOOD, "two")
    (tmp_path / "README.md").write_text("no model")
    assert sorted(find_models(tmp_path)) == ["one", "two"]
    with pytest.raises(ConfigError, match="no such folder"):
        find_models(tmp_path / "gone")
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="no model in it"):
        find_models(tmp_path / "none")


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path):
    specs = {"churn": load_model(folder(tmp_path))}
    assert get_model(specs, "churn") is specs["churn"]
    with pytest.raises(
        UnknownModel, match=r"'chrun' is deployed; known models: churn. Did you mean 'churn'\?"
    ):
        get_model(specs, "chrun")
    with pytest.raises(UnknownModel, match="known models: none"):
        get_model({}, "x")


def test_the_digest_tells_all_that_shapes_a_training(tmp_path):
    spec = load_model(folder(tmp_path / "a"))
    assert load_model(folder(tmp_path / "b")).digest == spec.digest
    seeded = load_model(folder(tmp_path / "c", GOOD + "[training]\nseed = 1\n"))
    coded = folder(tmp_path / "d")
    (coded / "model.py").write_text("def build(): ...\n")
    one = load_model(coded)
    (coded / "model.py").write_text("def build(): ... # changed\n")
    assert len({spec.digest, seeded.digest, one.digest, load_model(coded).digest}) == 4


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        ("", 0),
        ('approval = "none"', 0),
        ('approval = "required"', 7),
        ('approval = "required"\napproval_days = 90', 90),
    ],
)
def test_approval_is_a_wait_that_changes_nothing_of_the_training(tmp_path, lines, days):
    spec = load_model(folder(tmp_path, f"{lines}\n{GOOD}"))
    assert spec.approval_seconds == days * 86_400
    assert spec.digest == load_model(folder(tmp_path / "plain")).digest


def test_what_is_kept_shapes_no_training_and_by_default_everything_is(tmp_path):
    spec = load_model(folder(tmp_path / "a"))
    assert spec.retention == Retention(versions=0, audit_days=0, quarantine_days=0, report_days=0)
    days = "audit_days = 90\nquarantine_days = 30\nreport_days = 1\n"
    kept = load_model(folder(tmp_path / "b", f"{GOOD}[retention]\nversions = 2\n{days}"))
    assert kept.retention == Retention(versions=2, audit_days=90, quarantine_days=30, report_days=1)
    assert kept.digest == spec.digest


def test_model_py_is_loaded_or_says_what_is_wrong(tmp_path):
    path = folder(tmp_path)
    assert build_function(load_model(path)) is None
    (path / "model.py").write_text("def build():\n    return 7\n")
    assert build_function(load_model(path))() == 7
    (path / "model.py").write_text("import no_such_module\n")
    with pytest.raises(ConfigError, match=r"model.py: fails on import: ModuleNotFoundError"):
        build_function(load_model(path))
    (path / "model.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"model.py: fails on import: SystemExit: 0"):
        build_function(load_model(path))
    (path / "model.py").write_text("build = 3\n")
    with pytest.raises(ConfigError, match=r"define build\(\)"):
        build_function(load_model(path))


def test_every_metric_belongs_to_a_task_and_can_be_declared():
    assert all(metric.tasks and metric.needs in ("proba", "label", "value") for metric in METRICS.values())


# --- triggers


def test_triggers_are_read(tmp_path):
    text = (
        GOOD
        + '[triggers]\nevery = "30 days"\nalarms = ["pager"]\nquality = false\ndrift_budget = 0.02\ndrift_effect = 2\n'
    )
    triggers = load_model(folder(tmp_path, text)).triggers
    assert (triggers.every, triggers.alarms, triggers.quality) == ("30 days", ("pager",), False)
    assert (triggers.drift_budget, triggers.drift_effect) == (0.02, 2)


@pytest.mark.parametrize("every", ["soon", "0 days", "1 week", "99999999999 days", "0 0 31 2 *", "* * *"])
def test_an_interval_that_means_nothing_is_refused_with_what_it_could_be(tmp_path, every):
    (mistake,) = mistakes(tmp_path, f'{GOOD}[triggers]\nevery = "{every}"\n')
    assert "triggers.every: " in mistake
    assert 'neither "12 hours", "30 days" nor a cron expression such as "0 6 * * 1"' in mistake


def test_a_distance_that_any_batch_has_is_refused(tmp_path):
    found = mistakes(tmp_path, f"{GOOD}[triggers]\ndrift_effect = 0\ndrift_budget = 0.9\n")
    assert "triggers.drift_budget: must be above 0" in found[0]
    assert "triggers.drift_effect: must be above 0" in found[1]


def test_the_older_key_of_drift_names_the_new_one(tmp_path):
    (mistake,) = mistakes(tmp_path, f"{GOOD}[triggers]\ndrift_psi = 0.2\n")
    assert "triggers.drift_psi: is drift_effect now" in mistake


# --- rules of the file, the dialect, columns that came later


def with_contract(lines: str) -> str:
    return GOOD.replace("min_rows = 5", lines)


def test_rules_of_a_file_are_read(tmp_path):
    text = with_contract('fresh = "40 days"\nmin_class_share = 0.01\nconstant_label = true\nhard = ["fresh"]')
    contract = load_model(folder(tmp_path, text)).contract
    assert contract.fresh_seconds == 40 * 86_400
    assert (contract.min_class_share, contract.constant_label, contract.hard) == (0.01, True, ("fresh",))
    hours = load_model(folder(tmp_path / "b", with_contract('fresh = "1 hour"'))).contract
    assert hours.fresh_seconds == 3600


def test_a_dialect_is_read_and_by_default_found_out(tmp_path):
    assert load_model(folder(tmp_path)).contract.csv == Dialect(None, None, None, ".")
    text = GOOD + "[csv]\ndelimiter = ';'\nquote = \"'\"\nencoding = 'latin-1'\ndecimal = ','\n"
    assert load_model(folder(tmp_path / "b", text)).contract.csv == Dialect(";", "'", "latin-1", ",")


def test_a_column_that_came_later_says_since_when_and_what_older_batches_are_given(tmp_path):
    text = with_contract("version = 3").replace(
        "[gates]",
        """seats = { type = "integer", since = 2, fill = 4 }
open = { type = "boolean", since = 2, fill = true }
kind = { type = "category", since = 3, categories = ["a", "b"], fill = "b" }
cost = { type = "number", since = 3 }
[gates]""",
    )
    contract = load_model(folder(tmp_path, text)).contract
    assert contract.version == 3
    found = {name: (contract.column(name).since, contract.column(name).fill) for name in contract.names[-4:]}
    assert found == {"seats": (2, 4.0), "open": (2, 1.0), "kind": (3, "b"), "cost": (3, None)}


@pytest.mark.parametrize(
    ("lines", "key", "fix"),
    [
        ("version = 0", "contract.version", "must be 1 or more, not 0"),
        ("version = true", "contract.version", "must be a whole number"),
        ('fresh = "soon"', "contract.fresh", '"12 hours" or "40 days"'),
        ('fresh = "0 6 * * 1"', "contract.fresh", "is no length of time"),
        ("fresh = 40", "contract.fresh", "must be text, not 40"),
        ("min_class_share = 0.6", "contract.min_class_share", "from 0 to 0.5"),
        ("min_class_share = -0.1", "contract.min_class_share", "from 0 to 0.5"),
        ("min_class_share = nan", "contract.min_class_share", "from 0 to 0.5"),
        ("constant_label = 1", "contract.constant_label", "must be true or false"),
        ('hard = ["stale"]', "contract.hard", "must name some of fresh, min_class_share, each once"),
        ('fresh = "1 day"\nhard = ["fresh", "fresh"]', "contract.hard", "each once"),
        ("hard = [[1]]", "contract.hard", "each once"),
        ('hard = ["fresh"]', "contract.hard", "'fresh' is hard but not set; set contract.fresh as well"),
    ],
)
def test_a_mistake_in_the_rules_of_a_file_is_named(tmp_path, lines, key, fix):
    found = mistakes(tmp_path, with_contract(lines))
    assert [f"{tmp_path / 'churn' / 'model.toml'}: {key}: " in line and fix in line for line in found] == [
        True
    ]


@pytest.mark.parametrize(
    ("line", "key", "fix"),
    [
        ("delimiter = ';;'", "csv.delimiter", "one ASCII character"),
        ("delimiter = ''", "csv.delimiter", "one ASCII character"),
        ('delimiter = "\\n"', "csv.delimiter", "no line break"),
        ("quote = '»'", "csv.quote", "one ASCII character"),
        ("decimal = ';'", "csv.decimal", 'must be "." or ","'),
        ("delimiter = ','\ndecimal = ','", "csv", "three different characters"),
        ("delimiter = ';'\nquote = ';'", "csv", "three different characters"),
        ("encoding = 'klingon'", "csv.encoding", "such as latin-1 or cp1252"),
        ("encoding = 'base64'", "csv.encoding", "no text encoding"),
        ('encoding = "a\\u0000b"', "csv.encoding", "no text encoding"),
        ("delimitr = ';'", "csv.delimitr", "did you mean 'delimiter'?"),
    ],
)
def test_a_mistake_in_the_dialect_is_named(tmp_path, line, key, fix):
    found = mistakes(tmp_path, f"{GOOD}[csv]\n{line}\n")
    assert [f"model.toml: {key}: " in each and fix in each for each in found] == [True]


@pytest.mark.parametrize(
    ("column", "key", "fix"),
    [
        ('type = "number", since = 3', "columns.x.since", "from 1 to contract.version, which is 2"),
        ('type = "number", since = 0', "columns.x.since", "from 1 to contract.version"),
        ('type = "number", fill = 1', "columns.x.fill", "since which version, as since = 2"),
        ('type = "number", since = 2, fill = "1"', "columns.x.fill", "must be a number, not '1'"),
        ('type = "number", since = 2, fill = inf', "columns.x.fill", "must be a finite number, not inf"),
        ('type = "integer", since = 2, fill = 1.5', "columns.x.fill", "must be a whole number, not 1.5"),
        ('type = "boolean", since = 2, fill = 1', "columns.x.fill", "must be true or false, not 1"),
        ('type = "text", since = 2, fill = "a"', "columns.x.fill", "is not for a text"),
        (
            'type = "category", since = 2, categories = ["a"], fill = "b"',
            "columns.x.fill",
            "'b' is not among its categories",
        ),
    ],
)
def test_a_mistake_in_a_column_that_came_later_is_named(tmp_path, column, key, fix):
    text = with_contract("version = 2").replace("[gates]", f"x = {{ {column} }}\n[gates]")
    found = mistakes(tmp_path, text)
    assert [f"model.toml: {key}: " in each and fix in each for each in found] == [True]


@pytest.mark.parametrize("name", ["left", "at", "id"])
def test_target_time_and_keys_cannot_come_later(tmp_path, name):
    text = with_contract("version = 2").replace(f"\n{name} = {{ type = ", f"\n{name} = {{ since = 2, type = ")
    (mistake,) = mistakes(tmp_path, text)
    assert f"columns.{name}.since: not for target, time or keys" in mistake


def test_a_regression_has_no_classes_and_freshness_needs_a_time_column(tmp_path):
    text = (
        with_contract("min_class_share = 0.1").replace('"binary"', '"regression"').replace('"left"', '"age"')
    )
    (mistake,) = mistakes(tmp_path, text.replace('"roc_auc"', '"r2"'))
    assert "contract.min_class_share: is for classes" in mistake
    text = with_contract('fresh = "1 day"').replace('time = "at"', "")
    (mistake,) = mistakes(tmp_path / "b", text)
    assert "contract.fresh: needs a time column" in mistake


def test_what_changes_reading_changes_the_digest():
    one = Contract((Column("x", ColumnType.NUMBER), Column("y", ColumnType.NUMBER)), "y")
    later = replace(one.columns[0], since=2)
    others = [
        replace(one, version=2),
        replace(one, fresh_seconds=60),
        replace(one, min_class_share=0.1),
        replace(one, constant_label=True),
        replace(one, hard=("fresh",)),
        *(replace(one, csv=Dialect(**{key: "x"})) for key in ("delimiter", "quote", "encoding", "decimal")),
        replace(one, columns=(later, one.columns[1])),
        replace(one, columns=(replace(later, fill=1.0), one.columns[1])),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == len(others) + 1


OLDER = {"x": "integer", "c": "category", "at": "timestamp", "note": "text", "y": "boolean"}


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({}, ""),
        ({"x": "boolean"}, ""),  # numbers all
        ({"c": "text"}, ""),  # no longer learned from
        ({"new": "category"}, ""),  # given its fill, or missing
        ({"note": "category"}, ""),  # was not in the batch: as new
        ({"x": "category"}, "column 'x' was an integer"),
        ({"c": "number"}, "column 'c' was a category"),
    ],
)
def test_older_batches_are_usable_unless_a_column_became_something_else(changes, gap):
    types = OLDER | changes
    contract = Contract(tuple(Column(n, ColumnType(t)) for n, t in types.items()), target="y", time="at")
    assert contract.gap(OLDER) == gap


def test_older_batches_without_target_or_time_are_of_no_use():
    columns = tuple(Column(name, ColumnType(kind)) for name, kind in OLDER.items())
    contract = Contract(columns, target="y", time="at")
    assert contract.gap({k: v for k, v in OLDER.items() if k != "y"}) == "column 'y' is missing"
    assert contract.gap({k: v for k, v in OLDER.items() if k != "at"}) == "column 'at' is missing"
    assert contract.gap(OLDER | {"at": "text"}) == "column 'at' is missing"
    assert contract.gap(OLDER | {"at": "number"}) == "column 'at' was a number"
    assert contract.gap(OLDER | {"y": "category"}) == "column 'y' was a category"
