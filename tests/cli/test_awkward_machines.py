"""The commands on machines that are not as one would like them: closed streams, full disks, other people's settings."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest

from refit_cli.deployment import Deployment, NoStack

REFIT = Path(sys.executable).with_name("refit")
ROOT = Path(__file__).parents[2]
STACK = ROOT / "tests/local/project/template.yaml"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which $REFIT is the command."""
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "REFIT": str(REFIT), **environment},
        cwd=ROOT,
    )


def test_a_full_disk_under_the_output_is_said_in_a_line() -> None:
    done = shell('"$REFIT" check > /dev/full')
    assert done.returncode == 1
    assert done.stderr.startswith("refit check: [Errno 28] No space left on device; look at")
    assert done.stderr.count("\n") == 1


def test_the_demo_says_where_it_cannot_write(tmp_path: Path) -> None:
    """A folder without room for its files, or a file in the way, is named with a way out; nothing is started."""
    limited = shell(f'cd {tmp_path} && ulimit -f 1 && "$REFIT" demo')
    assert limited.returncode == 1
    assert f"refit demo: {tmp_path}/.refit/demo cannot be written: File too large." in limited.stderr
    assert "run this command from another folder" in limited.stderr
    in_the_way = tmp_path / "b"
    in_the_way.mkdir()
    (in_the_way / ".refit").touch()
    taken = shell(f'cd {in_the_way} && "$REFIT" demo')
    assert taken.returncode == 1
    assert f"refit demo: {in_the_way}/.refit/demo cannot be written: Not a directory." in taken.stderr
    assert "Traceback" not in limited.stderr + taken.stderr


def test_a_disk_that_runs_full_is_told_with_what_is_left_where(tmp_path: Path) -> None:
    """Both folders that are written to are named: it may be either."""
    script = f"""
import errno
from pathlib import Path
from refit_cli.local import DiskFull, local_stack
try:
    with local_stack(template=Path({str(STACK)!r}), models=Path({str(ROOT / "models")!r})):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
except DiskFull as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert f"A disk ran full: {tmp_path} has " in done.stdout, done.stderr
    assert "set TMPDIR" in done.stdout


def test_the_stack_starts_with_its_standard_streams_closed(tmp_path: Path) -> None:
    """The engine's socket must not take the number of the closed standard input."""
    log = tmp_path / "log"
    script = f'exec "$REFIT" local --port "$PORT" --models {ROOT}/models > {log} 2>&1 <&-'
    closed = shell(f"({script}) & sleep 20; kill $!; wait $!; cat {log}", PORT="4840")
    assert "Refit serves flights at http://127.0.0.1:4840" in closed.stdout
    assert "nothing is left running" in closed.stdout


def test_a_terminal_that_speaks_ascii_is_given_what_it_can_show() -> None:
    """Progress and words of other alphabets end as escapes, never as an error."""
    script = """
from refit_cli.main import _ready_streams
from refit_cli.demo.replay import Screen
import time
_ready_streams()
screen = Screen()
screen.console._force_terminal = True
with screen.doing("größe"):
    time.sleep(0.3)
screen.line("größe")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "xterm", "FORCE_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe" in done.stdout and b"\\u28" not in done.stdout


class NoSuchStack(BaseHTTPRequestHandler):
    """CloudFormation's answer about a stack that it does not know, to every request."""

    def do_POST(self) -> None:
        assert "/us-east-1/" in self.headers["Authorization"]  # where the local stack is
        answer = b"<ErrorResponse><Error><Code>ValidationError</Code><Message>unheard of</Message></Error></ErrorResponse>"
        self.send_response(400)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def somewhere() -> Iterator[str]:
    """The endpoint of a stack on this machine, which is not named refit."""
    with HTTPServer(("127.0.0.1", 0), NoSuchStack) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "setting",
    [
        {"AWS_PROFILE": "no-such-profile"},
        {"AWS_DEFAULT_PROFILE": "no-such-profile"},
        {"AWS_CONFIG_FILE": "broken"},
        {"AWS_DEFAULT_REGION": "eu-west-3"},
        {"AWS_ENDPOINT_URL_CLOUDFORMATION": "http://127.0.0.1:9"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "example.org"},
    ],
)
def test_settings_for_aws_do_not_concern_the_local_stack(
    somewhere: str, setting: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is asked, and knows none of that name: not a profile that is missing, nor a proxy that is down."""
    (tmp_path / "broken").write_text("[default\nno")
    monkeypatch.chdir(tmp_path)
    for name, value in (dict(os.environ) | setting | {"AWS_ENDPOINT_URL": somewhere}).items():
        monkeypatch.setenv(name, value)  # so that all of them are as before afterwards
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(NoStack, match="unheard of"):
        Deployment.find(tmp_path)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4566", "http://127.0.0.1:99999", "http://", "http://[::1"])
def test_an_endpoint_that_is_no_url_is_named(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(NoStack, match="which is no URL; such as http"):
        Deployment.find(tmp_path)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's Makefile, and a Python that makes environments of nothing and tells of each."""
    folder = tmp_path / "a clone"
    (folder / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "scripts").mkdir()
    for name in ("alone", "setup"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts")
    for name in ("requirements/dev.txt", "pyproject.toml"):
        (folder / name).touch()
    python = tmp_path / "python"
    python.write_text(
        f"""#!/usr/bin/env bash
[ "$1" != scripts/alone ] || exec {shlex.quote(sys.executable)} "$@"
[ "$1 $2" = "-m venv" ] || exit 0
sleep 0.5
mkdir -p .venv/bin
cp "$0" .venv/bin/python
echo "path: ${{PYTHONPATH:-none}}" >> made
"""
    )
    python.chmod(0o755)
    return folder


def setup(clone: Path, python: str = "") -> subprocess.CompletedProcess[str]:
    return shell(
        f'make -C "{clone}" setup PYTHON="{python or clone.parent / "python"}"', PYTHONPATH="/theirs"
    )


def test_an_environment_is_made_once_and_anew_where_its_clone_was_moved_or_copied(clone: Path) -> None:
    """The old one would run the code at the old place, or nothing at all; nobody's PYTHONPATH is looked into."""
    for _ in range(2):
        assert setup(clone).returncode == 0
    assert (clone / "made").read_text() == "path: none\n"
    copied = clone.with_name("copy")
    shutil.copytree(clone, copied)
    for _ in range(2):
        assert setup(copied).returncode == 0
    assert (copied / "made").read_text() == "path: none\n" * 2
    (copied / ".venv/bin/python").unlink()  # the interpreter it pointed to is gone
    assert setup(copied).returncode == 0
    assert (copied / "made").read_text() == "path: none\n" * 3


def test_two_at_a_time_make_one_environment(clone: Path) -> None:
    """The second would clear away what the first is filling."""
    command = f'make -C "{clone}" setup PYTHON="{clone.parent / "python"}"'
    done = shell(f"{command} & first=$!; {command} && wait $first")
    assert done.returncode == 0, done.stderr
    assert "Another make is setting up here; waiting" in done.stdout
    assert (clone / "made").read_text() == "path: none\n"


def test_a_missing_python_is_named_with_a_way_out(clone: Path) -> None:
    done = setup(clone, "no-such-python")
    assert done.returncode == 2
    assert "There is no no-such-python on PATH. Refit needs Python 3.11 or newer" in done.stderr
