"""Starting, failing to start, and ending: each failure says what to do, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from refit_cli.local import (
    DeployFailed,
    DiskFull,
    EngineDied,
    LocalStackError,
    PackageFailed,
    PortTaken,
    local_stack,
    shims,
    stack,
)
from refit_cli.local.package import read_template

PROJECT = Path(__file__).parent / "project" / "template.yaml"

# Deploys, calls a function so that a worker runs, says so, and goes on for a minute.
PARENT = """
import sys, time
from pathlib import Path
from refit_cli.local import local_stack

with local_stack(template=Path(sys.argv[1]), models=Path(sys.argv[2])) as stack:
    name = stack.outputs["ProbeFunctionName"]
    stack.client("lambda").invoke(FunctionName=name, Payload=b'{"do": "pid"}')
    stack.client("lambda").invoke(
        FunctionName=name, InvocationType="Event", Payload=b'{"do": "sleep", "seconds": 1.9}'
    )
    print(stack._process.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def scratch_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything temporary lands here, so a test can see what is left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def group(leader: int) -> set[int]:
    """Processes alive in the group that this one leads."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.add(int(folder.name))
    return found


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_the_parent_ends(
    ending: signal.Signals, tmp_path: Path, models: Path, scratch_root: Path
) -> None:
    """Engine, idle worker and busy worker are gone, and so are their files; also when the parent is killed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(PROJECT), str(models)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    )
    with parent:
        assert parent.stdout is not None
        engine = int(parent.stdout.readline())
        assert len(group(engine)) >= 2
        assert list(scratch_root.iterdir())
        parent.send_signal(ending)
    deadline = time.monotonic() + 10
    while (group(engine) or list(scratch_root.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group(engine) == set()
    assert list(scratch_root.iterdir()) == []


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path, models: Path, scratch_root: Path) -> None:
    """The message names the port, who holds it, and the way out; nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with (
            pytest.raises(PortTaken, match=rf"Port {port} .*process {os.getpid()}.*--port"),
            local_stack(template=PROJECT, models=models, port=port),
        ):
            pass
    assert list(scratch_root.iterdir()) == []


def test_the_port_asked_for_is_the_port_served_and_free_again_afterwards(
    tmp_path: Path, models: Path
) -> None:
    """One stack after another on the same port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(2):
        with local_stack(template=PROJECT, models=models, port=port) as running:
            assert running.endpoint == f"http://127.0.0.1:{port}"


def test_a_full_disk_is_said_before_anything_starts(
    tmp_path: Path, models: Path, scratch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than the room needed, or no room on the way: DiskFull, which names TMPDIR."""
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1, 1))
        with pytest.raises(DiskFull, match="TMPDIR"), local_stack(template=PROJECT, models=models):
            pass
    with pytest.raises(DiskFull, match="TMPDIR"), local_stack(template=PROJECT, models=models):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(scratch_root.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_said_to_who_waits(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a function would wait in vain: it has nowhere to write."""
    usage = namedtuple("usage", "total used free")
    with local_stack(template=PROJECT, models=models) as running:
        running.raise_if_unfit()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(DiskFull, match=r"has 1 MB left.*TMPDIR"):
            running.raise_if_unfit()


@pytest.mark.parametrize(
    ("limit", "said"),
    [("-n 64", "Only 64 files may be open .* needs 512"), ("-n 1024; ulimit -Sn 64", "^1024 of 1024$")],
)
def test_the_engine_opens_as_many_files_as_it_may_and_too_few_are_refused(
    models: Path, limit: str, said: str
) -> None:
    """A soft limit, such as 256 on macOS, is raised; one that cannot be raised is named before anything starts."""
    script = f"""
from pathlib import Path
from refit_cli.local import LocalStackError, local_stack
try:
    with local_stack(template=Path({str(PROJECT)!r}), models=Path({str(models)!r})) as stack:
        rows = Path(f"/proc/{{stack.process_id}}/limits").read_text().splitlines()
        soft, hard = next(row.split()[3:5] for row in rows if row.startswith("Max open files"))
        print(soft, "of", hard)
except LocalStackError as error:
    print(error)
"""
    command = f'ulimit {limit}; exec {shlex.quote(sys.executable)} -c "$SCRIPT"'
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "SCRIPT": script},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert re.search(said, done.stdout), done.stderr


def test_a_dead_engine_is_named_so(models: Path, scratch_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that finds no engine ends as EngineDied with the end of the log, not as a connection error."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # boto3 would try for some seconds
    with (
        pytest.raises(EngineDied, match=r"code -9(.|\n)*services available"),
        local_stack(template=PROJECT, models=models) as running,
    ):
        engine = running._process.pid
        busy = {"FunctionName": running.outputs["ProbeFunctionName"], "InvocationType": "Event"}
        running.client("lambda").invoke(**busy, Payload=b'{"do": "sleep", "seconds": 1.9}')
        deadline = time.monotonic() + 10
        while len(group(engine)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(engine, signal.SIGKILL)
        running._process.wait()
        running.client("s3").list_buckets()
    deadline = time.monotonic() + 1  # less than the busy worker would go on
    while group(engine) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert group(engine) == set()
    assert list(scratch_root.iterdir()) == []


def test_a_resource_that_cannot_be_made_is_named_with_its_reason(tmp_path: Path, models: Path) -> None:
    """DeployFailed lists the failed resources; a template that is refused says why."""
    broken = tmp_path / "template.yaml"
    broken.write_text(
        "Resources:\n  Odd: {Type: 'AWS::Lambda::Function', Properties: {Code: {ZipFile: x}, Layers: [nowhere]}}\n"
    )
    with (
        pytest.raises(DeployFailed, match=r"Odd: .*layer"),
        local_stack(template=broken, models=models),
    ):
        pass
    broken.write_text("Resources:\n  Odd: {Type: 'AWS::Nothing::AtAll'}\n")
    with (
        pytest.raises(DeployFailed, match="AWS::Nothing::AtAll"),
        local_stack(template=broken, models=models),
    ):
        pass


def test_a_layer_that_cannot_be_packed_is_named(tmp_path: Path, models: Path) -> None:
    """A failing make target, a missing folder and a missing template end as PackageFailed."""
    template = tmp_path / "template.yaml"
    layer = "Resources:\n  OddLayer: {Type: 'AWS::Serverless::LayerVersion', Properties: {ContentUri: odd}}\n"
    template.write_text(layer)
    with (
        pytest.raises(PackageFailed, match="odd, the folder of OddLayer"),
        local_stack(template=template, models=models),
    ):
        pass
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "Makefile").write_text("build-OddLayer:\n\t@echo no such thing >&2; false\n")
    with (
        pytest.raises(PackageFailed, match=r"OddLayer(.|\n)*no such thing"),
        local_stack(template=template, models=models),
    ):
        pass
    template.unlink()
    with (
        pytest.raises(PackageFailed, match="Cannot read the template"),
        local_stack(template=template, models=models),
    ):
        pass


def test_the_log_is_kept_where_asked(tmp_path: Path, models: Path, scratch_root: Path) -> None:
    """log_dir outlives the stack."""
    with local_stack(template=PROJECT, models=models, log_dir=tmp_path / "logs"):
        pass
    assert "services available" in (tmp_path / "logs" / "engine.log").read_text()
    assert list(scratch_root.iterdir()) == []


def test_short_tags_are_read_into_their_long_forms(tmp_path: Path) -> None:
    """!Ref, !GetAtt, !Sub and nested ones mean what CloudFormation means by them."""
    file = tmp_path / "t.yaml"
    file.write_text(
        "Resources: {A: [!Ref B, !GetAtt B.C.D, !Sub 'x${B}', !Join [',', [!Ref B]], !Condition E]}\n"
    )
    assert read_template(file)["Resources"]["A"] == [
        {"Ref": "B"},
        {"Fn::GetAtt": ["B", "C.D"]},
        {"Fn::Sub": "x${B}"},
        {"Fn::Join": [",", [{"Ref": "B"}]]},
        {"Condition": "E"},
    ]


def test_the_project_has_a_template() -> None:
    """It is found from where the package is, not from where it is called."""
    assert "RetrainingStateMachine" in read_template(stack.project_template())["Resources"]


def test_an_engine_that_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that is missing or ambiguous, or another version, is EngineChanged and names the remedy."""
    where = "ministack.core.lambda_runtime:_worker_script_extension"
    for edit in (
        shims.Edit(where, "", "no such text", ""),
        shims.Edit(where, "", 'return ".py"', ""),  # occurs twice
        shims.Edit("ministack.core.lambda_runtime:Worker.no_such_method", "", "", ""),
    ):
        with pytest.raises(shims.EngineChanged, match="make setup"):
            shims._apply(edit)
    monkeypatch.setattr(shims, "PINNED", "0.0.1")
    with pytest.raises(shims.EngineChanged, match=r"0\.0\.1"):
        shims.apply()


def test_errors_have_one_root() -> None:
    """A caller can catch them all."""
    for error in (PortTaken, DiskFull, EngineDied, DeployFailed, PackageFailed):
        assert issubclass(error, LocalStackError)
