"""The engine's own process: `python -m refit_cli.local.engine FD`, where FD is a listening socket.

It lives as long as its standard input stays open, so it cannot outlive whoever started it, however that ended.
On the way out it ends its workers and removes TMPDIR, which stack.py made for it alone.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

FILES = 4096  # open at a time; 398 were at the end of the demo, most of them connections kept alive

_ending = threading.Lock()


def end(*_: object) -> None:
    """End the whole process group and leave no file behind."""
    if not _ending.acquire(blocking=False):
        return
    # Workers have no handler for it; this process comes back here and is turned away above.
    os.killpg(0, signal.SIGTERM)
    scratch = Path(os.environ["TMPDIR"])
    for _attempt in range(10):  # a worker that was just starting may still be writing
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            break
    os.killpg(0, signal.SIGKILL)


def _allow_files() -> None:
    """Every worker holds three pipes and every caller a connection; some systems allow 256 files unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    end()


async def _serve(descriptor: str) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"

    async def over_tls(scope: Any, receive: Any, send: Any) -> None:
        # Loopback stands in for TLS, or the buckets' own policies would refuse every call.
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
        await app(scope, receive, send)

    async def until_ended() -> None:
        await asyncio.Event().wait()

    # With a trigger of our own hypercorn leaves the signals alone: its graceful way out waits for connections.
    await serve(over_tls, config, shutdown_trigger=until_ended)


def main() -> None:
    """Serve until standard input ends, or a signal comes."""
    if os.getpgrp() != os.getpid():
        sys.exit("This is started by `refit local`, in a process group of its own.")
    _allow_files()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from refit_cli.local import shims

    shims.apply()
    asyncio.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
