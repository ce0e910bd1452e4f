"""The command `refit`."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.errors import ConfigError, RefitError
from refit.models import ModelSpec, find_models, get_model
from refit.prose import counted
from refit_cli.usage import UsageError

if TYPE_CHECKING:
    from refit.aws.runtime import App
    from refit.records import Answered, Approval
    from refit.replay import Policy
    from refit_cli.deployment import Deployment

MODELS = Path("models")
TASKS = ("binary", "multiclass", "regression")
PREDICT_CHUNK = 2_000  # records a call: far below the 6 MB that an invocation may carry


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 refused or failed, 2 usage, 130 interrupted."""
    _ready_streams()
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return args.run(args) or 0
    except RefitError as error:
        print(f"refit {args.command}: {error}", file=sys.stderr)
        # A 1 of validate says that the file is rejected, and nothing else.
        return 2 if isinstance(error, UsageError) or args.command == "validate" else 1
    except KeyboardInterrupt:
        left = (
            "nothing is left running" if args.command in ("demo", "local") else "what was asked for goes on"
        )
        print(f"\ninterrupted; {left}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Their modules are looked at, for importing them costs every command its start.
        whose = type(error).__module__
        if whose == "refit_cli.local.errors":
            print(f"refit {args.command}: {error}", file=sys.stderr)
        elif whose.startswith("botocore"):
            print(f"refit {args.command}: AWS: {error}", file=sys.stderr)
        elif isinstance(error, OSError) and args.command in ("init", "validate"):
            print(f"refit {args.command}: {error}; look at the file and its rights", file=sys.stderr)
            return 2
        elif isinstance(error, OSError):
            way_out = "look at the file or folder, its rights, and the room on its disk"
            print(f"refit {args.command}: {error}; {way_out}", file=sys.stderr)
        elif args.command == "validate":
            traceback.print_exc()
            return 2
        else:
            raise
        return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _ready_streams() -> None:
    """Input and output that any command can be started with, also when some are closed or speak ASCII alone."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The next socket would get this number, and the engine would find its standard input in that place.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refit",
        description="Keeps scikit-learn models fresh: validates data, retrains, promotes what is better.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument(
            "--models",
            type=Path,
            default=MODELS,
            metavar="DIR",
            help="model folders (default: ./models)",
        )
        return command

    demo = add("demo", _demo, "Replay a year of real flights on this machine.")
    demo.add_argument("--port", type=_port, help="of the local stack (default: any free one)")
    demo.add_argument("--stay", action="store_true", help="keep the stack running at the end, until Ctrl-C")

    local = add("local", _local, "Run the stack on this machine, in the foreground.")
    local.add_argument("--port", type=_port, default=4566, help="on 127.0.0.1 (default: 4566)")

    init = add("init", _init, "Write a model.toml from what sample files show.")
    init.add_argument("name", metavar="NAME", help="of the model: lower-case letters, digits and dashes")
    init.add_argument("files", type=Path, nargs="+", metavar="FILE", help="Parquet or CSV")
    init.add_argument("--target", required=True, metavar="COL", help="what is to be predicted")
    init.add_argument("--time", metavar="COL", help="the timestamp that orders the rows")
    init.add_argument(
        "--key", action="append", default=[], metavar="COL", help="names a row once; repeatable"
    )
    init.add_argument("--task", choices=list(TASKS), help="default: found out from the target")
    init.add_argument("--metric", help="default: by the task")
    init.add_argument("--delimiter", help="of CSV files (default: found out)")
    init.add_argument("--encoding", help="of CSV files, such as latin-1 (default: UTF-8 or UTF-16)")
    init.add_argument("--force", action="store_true", help="replace a model.toml that is there")
    validate = add(
        "validate", _validate, "The verdict on files, offline: exit 0 accepted, 1 rejected, 2 usage."
    )
    validate.add_argument("files", type=Path, nargs="+", metavar="FILE", help="several form one batch")
    validate.add_argument("--model", required=True, metavar="NAME")
    validate.add_argument(
        "--reference",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="compare with this data file or profile.json as well; repeatable",
    )
    validate.add_argument(
        "--bad-rows", type=Path, metavar="FILE", help="write the rows that break rules here"
    )
    add("check", _check, "Check all model folders; exit 1 names every mistake.")

    status = add("status", _status, "Where a model stands, or all of them.")
    status.add_argument("model", nargs="?")
    history = add("history", _history, "All that happened to a model, in order.")
    history.add_argument("model")
    report = add("report", _report, "The page of a run: what was found, what was decided, and why.")
    report.add_argument("model")
    report.add_argument(
        "run_id", metavar="run", nargs="?", default="", help="such as run-00000007; default: the newest"
    )
    report.add_argument("--out", type=Path, metavar="FILE", help="default: MODEL-RUN.html, here")
    report.add_argument("--open", action="store_true", help="and show it in the browser")
    predict = add("predict", _predict, "Predict the rows of a CSV or Parquet file with the champion.")
    predict.add_argument("model")
    predict.add_argument("file", type=Path)
    retrain = add("retrain", _retrain, "Ask for a retraining, and say what was decided.")
    retrain.add_argument("model")
    retrain.add_argument("--reason", required=True, help="kept with the decision")
    retrain.add_argument(
        "--force", action="store_true", help="even on inputs that were tried, or too few rows"
    )
    retrain.add_argument("--wait", action="store_true", help="until the run has ended, or waits for approval")
    again = add("resume-run", _resume_run, "Run a failed run again, on the inputs that it had frozen.")
    again.add_argument("model")
    again.add_argument("run_id", metavar="run", help="such as run-00000007; see: refit history MODEL")
    again.add_argument("--reason", required=True, help="kept with the decision")
    again.add_argument("--wait", action="store_true", help="until the run has ended, or waits for approval")
    retract = add("retract", _retract, "Take an upload out of what is learned from.")
    retract.add_argument("model")
    retract.add_argument("upload", help="its file name under incoming/<model>/")
    retract.add_argument("--reason", required=True, help="kept with the upload")
    importing = add("import", _import, "Make an existing model the first champion.")
    importing.add_argument("model")
    importing.add_argument("file", type=Path, help="written with skops.io.dump")
    importing.add_argument("--reason", required=True, help="kept with the change")
    backfill = add("backfill", _backfill, "Upload many files and retrain once.")
    backfill.add_argument("model")
    backfill.add_argument("files", type=Path, nargs="+")
    replay = add("replay", _replay, "What Refit would have done with files of the past; needs no account.")
    replay.add_argument("--model", required=True, help="its model.toml holds the contract and the policy")
    replay.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="in the order of their data, or in any with a time column",
    )
    which = replay.add_mutually_exclusive_group()
    which.add_argument(
        "--policy",
        type=_policy,
        default="refit",
        help="refit (default), never, always or periodic:N (every N files)",
    )
    which.add_argument(
        "--compare", action="store_true", help="all policies and trivial baselines, side by side"
    )
    replay.add_argument("--json", action="store_true", help="print one JSON document")
    rollback = add("rollback", _rollback, "Put an earlier version back into service, and pause retraining.")
    rollback.add_argument("model")
    rollback.add_argument("--to", metavar="VERSION", help="default: the one before the champion")
    rollback.add_argument("--reason", required=True, help="kept with the change")
    pause = add("pause", _pause, "Let no retraining start until resumed; uploads are taken in all the same.")
    pause.add_argument("model")
    pause.add_argument("--reason", required=True)
    resume = add("resume", _resume, "Lift a pause; a knock that waited has its turn.")
    resume.add_argument("model")
    requeue = add(
        "requeue", _requeue, "Give what failed by our fault another try: dead letters, parked uploads."
    )
    requeue.add_argument("model", nargs="?", help="default: all")
    doctor = add("doctor", _doctor, "Look for broken promises, and repair what needs no decision of yours.")
    doctor.add_argument("--dry-run", action="store_true", help="only look")
    approvals = add(
        "approvals", _approvals, "Promotions that a person is asked about, and what was answered."
    )
    approvals.add_argument("model", nargs="?")
    approve = add("approve", _approve, "Let a version that waits be promoted.")
    reject = add("reject", _reject, "End the wait of a version with a no; the champion stays.")
    for command in (approve, reject):
        command.add_argument("model")
        command.add_argument("version", help="as `refit approvals` names it")
        command.add_argument("--comment", required=True, help="kept with the answer")
    retention = add("retention", _retention, "What the next daily prune would delete; deletes nothing.")
    retention.add_argument("model")
    reproduce = add(
        "reproduce", _reproduce, "Train a version again and compare; exit 1 when it is another model."
    )
    reproduce.add_argument("model")
    reproduce.add_argument("version", help="such as v7 or v7-full; see: refit history MODEL")
    of_people = (retract, importing, backfill, rollback, pause, resume, approvals, approve, reject)
    of_care = (again, requeue, doctor, retention, reproduce)
    for command in (validate, status, history, report, predict, retrain, *of_people, *of_care):
        command.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535")
    return int(text)


def _policy(text: str) -> Policy:
    from refit.replay import parse_policy

    found = parse_policy(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of refit, never, always, periodic:N with N from 1"
        )
    return found


def _specs(args: argparse.Namespace) -> dict[str, ModelSpec]:
    return find_models(args.models)


def _deployment(args: argparse.Namespace) -> Deployment:
    from refit_cli.deployment import Deployment

    return Deployment.find(args.models)


def _model(args: argparse.Namespace) -> ModelSpec:
    return get_model(_specs(args), args.model)


def _print(args: argparse.Namespace, document: Any, text: Callable[[], str]) -> None:
    print(json.dumps(document, indent=2) if args.json else text())


def _demo(args: argparse.Namespace) -> int:
    from refit_cli.demo.replay import replay

    return replay(port=args.port, stay=args.stay)


def _local(args: argparse.Namespace) -> int:
    from refit_cli.local import local_stack
    from refit_cli.rehearsal import rehearse_all

    specs = _specs(args)
    print("starting ...", flush=True)
    rehearse_all(specs.values())
    # What waits a quarter of an hour on AWS should be seen here while one looks.
    often = {"TickRate": "rate(1 minute)", "SweepAfterMinutes": "1"}
    with local_stack(models=args.models, port=args.port, parameters=often) as stack:
        bucket, name = stack.outputs["DataBucketName"], sorted(specs)[0]
        where = "" if args.models == MODELS else f" --models {shlex.quote(str(args.models))}"
        print(
            f"""Refit serves {", ".join(sorted(specs))} at {stack.endpoint}

In another terminal:
  export AWS_ENDPOINT_URL={stack.endpoint} AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1
  aws s3 cp data.parquet s3://{bucket}/incoming/{name}/
  refit status {name}{where}

The scheduled rule looks every minute. Everything lives in memory and is gone when this ends: Ctrl-C.""",
            flush=True,
        )
        stack.wait()
    return 0


def _init(args: argparse.Namespace) -> int:
    from refit.contract import Dialect
    from refit.metrics import Task
    from refit_cli.init import Wish, init

    wish = Wish(
        name=args.name,
        target=args.target,
        time=args.time,
        keys=tuple(args.key),
        task=Task(args.task) if args.task else None,
        metric=args.metric,
        dialect=Dialect(delimiter=args.delimiter, encoding=args.encoding),
    )
    told, accepted = init(wish, args.files, args.models, args.force)
    print(told)
    return 0 if accepted else 1


def _validate(args: argparse.Namespace) -> int:
    from refit_cli import usage, validate

    paths, references = usage.files(args.files), usage.files(args.reference)
    spec = usage.model(args.models, args.model)
    compared = validate.reference(references, spec) if references else None
    verdict = validate.judge(paths, spec, args.bad_rows)
    if args.json:
        print(json.dumps(validate.document(verdict, spec, compared), indent=2))
    else:
        print(validate.text(verdict, spec, compared))
    return 0 if verdict.accepted else 1


def _check(args: argparse.Namespace) -> int:
    from refit_cli.rehearsal import rehearse_all

    specs = _specs(args)

    def say(spec: ModelSpec) -> None:
        features = counted(len(spec.contract.features), "feature")
        print(
            f"{spec.name}: {spec.task}, {features}, target {spec.contract.target!r}, by {spec.gates.metric}",
            flush=True,
        )

    rehearse_all(specs.values(), say)
    wrong = _parameters()
    if wrong:
        raise ConfigError("\n".join(wrong))
    return 0


def _parameters() -> list[str]:
    """What is wrong with the parameters of the clone's template, and with those that its samconfig.toml gives."""
    from refit_cli.local.package import read_template
    from refit_cli.local.parameters import mistakes, of_samconfig
    from refit_cli.local.stack import project_template

    template = project_template()
    declared = read_template(template).get("Parameters", {})
    found = [f"{template}: Parameters.{each}" for each in mistakes(declared, {})]
    return found + of_samconfig(template.with_name("samconfig.toml"), declared)


def _status(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import view

    app = _deployment(args).app
    if args.model:
        found = view.status(app, get_model(app.models, args.model).name)
        _print(args, found, lambda: view.status_text(found))
        return 0
    models, strays = [view.status(app, name) for name in sorted(app.models)], view.strays(app)
    refused = [asdict(refusal) for refusal in app.registry.refusals()]
    tick = app.registry.last_tick()

    def text() -> str:
        return "\n".join(
            [
                *map(view.status_text, models),
                *map(view.stray_text, strays),
                *map(view.refusal_text, refused[-20:]),
                *([view.tick_text(tick)] if tick else []),
            ]
        )

    _print(
        args,
        {"models": models, "ignored": strays, "refused": refused, "tick": asdict(tick) if tick else None},
        text,
    )
    return 0


def _history(args: argparse.Namespace) -> int:
    from refit_cli import view

    found = view.history(_deployment(args).app, _model(args).name)
    _print(args, found, lambda: view.history_text(found))
    return 0


def _report(args: argparse.Namespace) -> int:
    from refit_cli import pages

    found = pages.find(_deployment(args).app, _model(args), args.run_id)
    if args.json and not args.out and not args.open:
        print(json.dumps(found.document, indent=2))
        return 0
    path = pages.save(found, args.out or Path(f"{args.model}-{found.run_id}.html"))
    _print(args, found.document, lambda: f"{found.run_id} of {args.model}: {path}{found.note}")
    if args.open:
        pages.show(path)
    return 0


def _predict(args: argparse.Namespace) -> int:
    from refit_cli import records

    spec, deployment = _model(args), _deployment(args)
    rows = records.read(args.file, deployment.features(spec), spec.contract.csv)
    for note in rows.notes:  # stdout is for what is predicted alone
        print(f"refit predict: note: {args.file}: {note}", file=sys.stderr)
    answers: dict[str, Any] = {"model": spec.name, "predictions": [], "probabilities": []}
    for chunk in _chunks(rows.records, PREDICT_CHUNK):
        answer = deployment.predict(spec.name, chunk)
        answers |= {"version": answer["version"], "generation": answer["generation"]}
        answers["predictions"] += answer["predictions"]
        answers["probabilities"] += answer.get("probabilities", [])

    def table() -> str:
        classes = list(answers["probabilities"][0]) if answers["probabilities"] else []
        lines = [",".join(["prediction", *(f"p_{name}" for name in classes)])]
        for i, prediction in enumerate(answers["predictions"]):
            shares = [f"{answers['probabilities'][i][name]:.6f}" for name in classes]
            lines.append(",".join([str(prediction), *shares]))
        return "\n".join(lines)

    _print(args, answers, table)
    return 0


def _chunks(rows: list[dict[str, Any]], size: int) -> Iterable[list[dict[str, Any]]]:
    return (rows[i : i + size] for i in range(0, len(rows), size)) if rows else [[]]


def _retrain(args: argparse.Namespace) -> int:
    from refit_cli import actions

    spec, app = _model(args), _deployment(args).app
    return _decided(args, app, actions.ask(app, spec.name, args.reason, force=args.force))


def _resume_run(args: argparse.Namespace) -> int:
    from refit_cli import actions

    spec, app = _model(args), _deployment(args).app
    return _decided(args, app, actions.resume_run(app, spec.name, args.run_id, args.reason))


def _reproduce(args: argparse.Namespace) -> int:
    from refit_cli.reproduce import reproduce

    spec = _model(args)
    found = reproduce(_deployment(args).app, spec, args.version)
    _print(args, found.document(), found.text)
    return 0 if found.agrees else 1


def _decided(args: argparse.Namespace, app: App, answered: Answered) -> int:
    """Show an answer, and with --wait what came of it."""
    from dataclasses import asdict

    from refit_cli import actions, view

    run, asked = None, None
    if args.wait and answered.run_id:
        run, asked = actions.wait_for_run(app, answered.model, answered.run_id)
    text = f"{answered.answer}{f' ({answered.run_id})' if answered.run_id else ''}: {'; '.join(answered.reasons)}"
    if asked:
        text += f"\n{asked.run_id} {view.waiting_text(asked)}"
    elif run:
        text += f"\n{run.run_id} {run.status}: {run.result}"
    document = {
        **asdict(answered),
        "run": asdict(run) if run else None,
        "approval": view.shown(asked) if asked else None,
    }
    _print(args, document, lambda: text)
    return 1 if run and run.status == "failed" else 0


def _retract(args: argparse.Namespace) -> int:
    from refit_cli import actions

    spec = _model(args)
    marked, learned = actions.retract(_deployment(args).app, spec.name, args.upload, args.reason)
    names = [upload.key for upload in marked]

    def text() -> str:
        lines = [f"retracted {name}" for name in names] or ["it was retracted before; nothing changed"]
        if learned:
            lines.append(f"versions that learned from it: {', '.join(learned)}")
            lines.append(f'to learn without it: refit retrain {spec.name} --reason "without {args.upload}"')
        return "\n".join(lines)

    _print(args, {"model": spec.name, "retracted": names, "versions": learned}, text)
    return 0


def _import(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import actions

    spec = _model(args)
    if not args.file.is_file():
        raise RefitError(f"{args.file}: no such file")
    change = actions.import_champion(_deployment(args).app, spec, args.file, args.reason)
    _print(args, asdict(change), lambda: f"{change.version} is the champion of {spec.name}, generation 1")
    return 0


def _rollback(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import actions

    spec = _model(args)
    change = actions.rollback(_deployment(args).app, spec, args.to, args.reason)
    text = (
        f"{change.version} is the champion of {spec.name}, generation {change.generation}; {change.previous} is not.\n"
        f"Retraining is paused; when it may go on: refit resume {spec.name}"
    )
    _print(args, asdict(change), lambda: text)
    return 0


def _pause(args: argparse.Namespace) -> int:
    from refit_cli import actions

    spec = _model(args)
    hold = actions.pause(_deployment(args).app, spec, args.reason)
    _print(args, hold, lambda: f"retraining of {spec.name} is paused until: refit resume {spec.name}")
    return 0


def _resume(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import actions

    spec = _model(args)
    answered = actions.resume(_deployment(args).app, spec)
    waited = f"; what waited: {answered.answer}: {'; '.join(answered.reasons)}" if answered else ""
    document = {"model": spec.name, "decision": asdict(answered) if answered else None}
    _print(args, document, lambda: f"retraining of {spec.name} goes on{waited}")
    return 0


def _requeue(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import repair

    model = _model(args).name if args.model else ""
    found = _deployment(args)
    done = repair.requeue(found.app, found.outputs["DeadLetterQueueUrl"], found.invoke, model)
    lines = [f"{each.what}: {each.became}" for each in done] or ["nothing waits for another try"]
    _print(args, [asdict(each) for each in done], lambda: "\n".join(lines))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import repair

    found = _deployment(args)
    findings, left = repair.examine(found.app, found.invoke, repair=not args.dry_run)

    def text() -> str:
        if not findings:
            return "every promise holds"
        lines = [
            f"promise {f.breach.promise}, {f.breach.model}: {f.breach.message}\n  {f.done}" for f in findings
        ]
        if not left:
            return "\n".join([*lines, "every promise holds now"])
        still = [f"promise {b.promise}, {b.model}: {b.message}" for b in left]
        return "\n".join([*lines, "still broken:", *still])

    document = {"findings": [asdict(each) for each in findings], "left": [asdict(each) for each in left]}
    _print(args, document, text)
    return 1 if left else 0


def _approvals(args: argparse.Namespace) -> int:
    from refit_cli import view

    app = _deployment(args).app
    names = [get_model(app.models, args.model).name] if args.model else sorted(app.models)
    found = [shown for name in names for shown in view.approvals(app, name)]
    _print(args, found, lambda: "\n".join(map(view.approval_text, found)) or "nobody was asked yet")
    return 0


def _approve(args: argparse.Namespace) -> int:
    from refit_cli import actions

    return _answered(args, actions.approve)


def _reject(args: argparse.Namespace) -> int:
    from refit_cli import actions

    return _answered(args, actions.reject)


def _answered(args: argparse.Namespace, answer: Callable[..., tuple[Approval, bool]]) -> int:
    from refit_cli import view

    approval, before = answer(_deployment(args).app, _model(args), args.version, args.comment)
    text = f"{approval.version} of {approval.model} is {approval.status}"
    if before:
        text += f", as {approval.answered_by} said on {approval.answered_at}; nothing was changed"
    _print(args, {**view.shown(approval), "answered_before": before}, lambda: text)
    return 0


def _retention(args: argparse.Namespace) -> int:
    from refit.aws.runtime import utc_now
    from refit_cli import view

    found = view.retention(_deployment(args).app, _model(args), utc_now())
    _print(args, found, lambda: view.retention_text(found))
    return 0


def _backfill(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from refit_cli import actions

    spec = _model(args)
    missing = [str(path) for path in args.files if not path.is_file()]
    if missing:
        raise RefitError(f"no such file: {', '.join(missing)}")
    names = [path.name for path in args.files]
    if len(set(names)) < len(names):
        raise RefitError("two files have the same name, and one would replace the other; rename one")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    uploads, answered = actions.backfill(_deployment(args).app, spec, args.files, say)
    document = {"uploads": [asdict(upload) for upload in uploads], "decision": asdict(answered)}
    _print(args, document, lambda: f"{answered.answer}: {'; '.join(answered.reasons)}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from refit.training import build
    from refit_cli import replay

    def note(line: str) -> None:  # the document alone goes to stdout
        print(line, file=sys.stderr, flush=True)

    def say(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    spec = _model(args)
    build(spec)  # a mistake in [estimator] or model.py is one of the model, not of each run
    files = replay.read(args.files, spec, note)
    if args.compare:
        document = replay.compare(files, spec, note)
        _print(args, document, lambda: replay.compare_text(document))
    else:
        document = replay.tell(files, spec, args.policy, say)
        _print(args, document, lambda: "\n" + replay.summary_text(document["summary"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
