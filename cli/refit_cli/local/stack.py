"""Start the engine, deploy the project's own template to it, and leave nothing behind: see `local_stack`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from refit_cli.deployment import LOCAL_REGION
from refit_cli.local.errors import DeployFailed, DiskFull, EngineDied, LocalStackError, PortTaken
from refit_cli.local.package import package, read_template
from refit_cli.local.parameters import mistakes

ROOM_NEEDED = 500_000_000  # bytes; the workers' copies of the layers, and what the functions write
FILES_NEEDED = 512  # that the engine may open at a time
_ROOM_LEFT = 5_000_000  # bytes; with fewer the functions begin to fail
_ARTIFACTS = "refit-local-artifacts"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_START_SECONDS = 60
_DEPLOY_SECONDS = 120
_STOP_SECONDS = 10


def project_template() -> Path:
    """The template.yaml of the clone that this package was installed from. Raises LocalStackError."""
    template = Path(__file__).resolve().parents[3] / "template.yaml"
    if not template.is_file():
        raise LocalStackError(
            f"There is no {template}. The local stack runs from a clone of Refit: `make setup` there, then .venv/bin/refit."
        )
    return template


@contextmanager
def local_stack(
    *,
    models: Path,
    template: Path | None = None,
    port: int | None = None,
    stack_name: str = "refit",
    parameters: dict[str, str] | None = None,
    log_dir: Path | None = None,
) -> Iterator[LocalStack]:
    """Run the template on this machine until the block ends.

    Parameters
    ----------
    models : folder whose sub-folders are the models
    template : the template to deploy; None means the project's own
    port : on 127.0.0.1; None means any free one
    parameters : values for the template's parameters
    log_dir : where engine.log is kept; None means it goes when the stack goes

    Raises LocalStackError: PortTaken, DiskFull, EngineDied, PackageFailed or DeployFailed. Nothing is left
    running, and no file but the log, however the block or this process ends.
    """
    template = (template or project_template()).resolve()
    wrong = mistakes(read_template(template).get("Parameters", {}), parameters or {})
    if wrong:
        raise DeployFailed("\n".join(f"{template}: Parameters.{each}" for each in wrong))
    _refuse_without_room()
    _refuse_without_files()
    listener = _listen(port)
    scratch = Path(tempfile.mkdtemp(prefix="refit-local-"))
    stack: LocalStack | None = None
    try:
        with listener:
            stack = LocalStack(listener, scratch, stack_name, log_dir or scratch)
        stack.deploy(template=template, models=models, parameters=parameters or {})
        yield stack
    except (OSError, BotoCoreError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _ran_full() from error
        if stack is not None:
            stack.raise_if_dead(error)
        raise
    finally:
        if stack is not None:
            stack.stop()
        shutil.rmtree(scratch, ignore_errors=True)


class LocalStack:
    """A deployed stack. Use `local_stack`, which also ends it."""

    def __init__(self, listener: socket.socket, scratch: Path, stack_name: str, log_dir: Path) -> None:
        port = listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.name = stack_name
        self.outputs: dict[str, str] = {}
        self.log = log_dir / "engine.log"
        self._scratch = scratch
        self._deployed: dict[str, Any] = {}
        self._session = _blank_session()
        self._clients: dict[str, Any] = {}
        self._making_client = threading.Lock()  # a session is not safe to share between threads; clients are
        log_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "refit_cli.local.engine", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=scratch,
                env=_engine_environment(scratch, port),
                pass_fds=[listener.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is for us; we end the engine
            )

    @property
    def process_id(self) -> int:
        """Of the engine, which leads the process group of its workers."""
        return self._process.pid

    @property
    def env(self) -> dict[str, str]:
        """Variables that point the AWS CLI and SDKs here. Lay them over an environment without AWS_PROFILE."""
        return {
            **_CREDENTIALS,
            "AWS_SESSION_TOKEN": "",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": LOCAL_REGION,
            "AWS_REGION": LOCAL_REGION,
            "REFIT_STACK": self.name,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def client(self, service: str) -> Any:
        """A boto3 client for a service of this stack, deaf to the host's AWS configuration and proxies."""
        with self._making_client:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.endpoint,
                    region_name=LOCAL_REGION,
                    aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
                    config=Config(proxies={}, max_pool_connections=50, read_timeout=900),
                )
            return self._clients[service]

    def deploy(self, *, template: Path, models: Path, parameters: dict[str, str]) -> None:
        """Pack and create the stack, or update it. Raises PackageFailed or DeployFailed."""
        self._wait_until_serving()
        self._deployed = {"template": template, "models": models, "parameters": parameters}
        s3 = self.client("s3")
        s3.create_bucket(Bucket=_ARTIFACTS)

        def upload(content: bytes) -> dict[str, str]:
            key = hashlib.sha256(content).hexdigest()
            s3.put_object(Bucket=_ARTIFACTS, Key=key, Body=content)
            return {"Bucket": _ARTIFACTS, "Key": key}

        with tempfile.TemporaryDirectory(dir=self._scratch) as build_dir:
            body = package(template, models=models, build_dir=Path(build_dir), upload=upload)
        self._create_or_update(json.dumps(body, default=str), parameters)

    def redeploy(self, **changes: Any) -> None:
        """Deploy again, with other `models`, `template` or `parameters`. Ends invocations in flight."""
        self.deploy(**{**self._deployed, **changes})

    def wait(self) -> None:
        """Stay until the engine ends, which only a fault makes it do: raises EngineDied."""
        while True:
            self.raise_if_dead()
            time.sleep(0.5)

    def stop(self) -> None:
        """End the engine and its workers. May be called again."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # what a hung or killed engine left running
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def raise_if_unfit(self) -> None:
        """Raises EngineDied, or DiskFull when the functions have no room left to write to."""
        self.raise_if_dead()
        if shutil.disk_usage(self._scratch).free < _ROOM_LEFT:
            raise _ran_full()

    def raise_if_dead(self, cause: BaseException | None = None) -> None:
        """Raises EngineDied when the engine's process has ended."""
        if self._process.poll() is None:
            return
        said = self.log.read_text(errors="replace") if self.log.exists() else ""  # gone with TMPDIR
        tail = "\n".join(said.splitlines()[-15:])
        raise EngineDied(
            f"The local engine ended with code {self._process.returncode}. The end of its log:\n{tail}"
        ) from cause

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            self.raise_if_dead()
            try:
                with direct.open(f"{self.endpoint}/_ministack/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise EngineDied(f"The local engine did not answer within {_START_SECONDS} s.")

    def _create_or_update(self, body: str, parameters: dict[str, str]) -> None:
        cloudformation = self.client("cloudformation")
        request = {
            "StackName": self.name,
            "TemplateBody": body,
            "Parameters": [{"ParameterKey": k, "ParameterValue": str(v)} for k, v in parameters.items()],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        }
        try:
            if self.outputs:
                cloudformation.update_stack(**request)
            else:
                cloudformation.create_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" in str(error):
                return
            said = error.response["Error"].get("Message", error)
            raise DeployFailed(f"The template was refused: {said}") from error
        deadline = time.monotonic() + _DEPLOY_SECONDS
        while True:
            self.raise_if_dead()
            stack = cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
            status = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                break
            if time.monotonic() > deadline:
                raise DeployFailed(f"The stack is still {status} after {_DEPLOY_SECONDS} s; see {self.log}.")
            time.sleep(0.1)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise DeployFailed(f"The stack ended as {status}:\n{self._reasons(cloudformation, stack)}")
        self.outputs = {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}

    def _reasons(self, cloudformation: Any, stack: dict[str, Any]) -> str:
        events = cloudformation.describe_stack_events(StackName=stack["StackId"])["StackEvents"]
        failed = [e for e in reversed(events) if e["ResourceStatus"].endswith("_FAILED")]
        reasons = [
            f"  {e['LogicalResourceId']}: {e.get('ResourceStatusReason', 'no reason')}" for e in failed
        ]
        return "\n".join(reasons or [f"  {stack.get('StackStatusReason', 'no reason')}"])


def _blank_session() -> boto3.Session:
    """A session that reads neither profiles nor configuration files of the host."""
    return boto3.Session(
        botocore_session=botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
    )


def _engine_environment(scratch: Path, port: int) -> dict[str, str]:
    """All that the engine, and so every handler, sees of this machine's environment."""
    kept = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if k in os.environ}
    return {
        **kept,
        **_CREDENTIALS,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": LOCAL_REGION,
        "AUTH": "true",  # a function may do what its role in the template allows, as on AWS
        "IOT_MTLS_ENABLED": "0",  # it would listen on every interface
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(scratch / "state"),
        "S3_DATA_DIR": str(scratch / "s3"),
        "DOCKER_HOST": f"unix://{scratch}/no-docker",  # at start it would remove containers it takes for its own
        "LAMBDA_WARM_TTL_SECONDS": "30",
        "LAMBDA_ACCOUNT_CONCURRENCY": "0",  # what waits for a worker would count; AWS queues that, refusing none
        "LOG_LEVEL": "INFO",
    }


def _listen(port: int | None) -> socket.socket:
    """The engine inherits this socket, so no one can take the port between choosing and serving."""
    try:
        listener = socket.create_server(("127.0.0.1", port or 0), backlog=1024)
    except PermissionError as error:
        raise PortTaken(f"Port {port} needs privileges. Use --port with a number above 1023.") from error
    except OverflowError as error:
        raise PortTaken(f"{port} is not a port. Use --port with a number from 1024 to 65535.") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = _holder(port or 0)
        raise PortTaken(
            f"Port {port} on 127.0.0.1 is taken{f' by {holder}' if holder else ''}. "
            "Choose another with --port."
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _holder(port: int) -> str:
    """Who listens on the port, where Linux tells; else the empty string."""
    try:
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if str(link.readlink()).removeprefix("socket:[").removesuffix("]") in inodes:
                    process = link.parents[1]
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    except OSError:
        pass
    return ""


def _refuse_without_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the engine goes up to it by itself
    if hard != resource.RLIM_INFINITY and hard < FILES_NEEDED:
        raise LocalStackError(
            f"Only {hard} files may be open at a time here, and the local stack needs {FILES_NEEDED}. "
            f"Start it from a shell that allows more (`ulimit -Hn` tells), or ask for more in /etc/security/limits.conf."
        )


def _refuse_without_room() -> None:
    if shutil.disk_usage(tempfile.gettempdir()).free < ROOM_NEEDED:
        raise _no_room()


def _ran_full() -> DiskFull:
    free = {
        str(folder): shutil.disk_usage(folder).free // 1_000_000
        for folder in (tempfile.gettempdir(), Path.cwd())
    }
    told = ", ".join(f"{folder} has {megabytes:,} MB left" for folder, megabytes in free.items())
    return DiskFull(
        f"A disk ran full: {told}. Free some, set TMPDIR to a folder on a larger disk, or run from another folder."
    )


def _no_room() -> DiskFull:
    return DiskFull(
        f"{tempfile.gettempdir()} has less than {ROOM_NEEDED // 1_000_000} MB free. "
        "Free some, or set TMPDIR to a folder on a larger disk."
    )
