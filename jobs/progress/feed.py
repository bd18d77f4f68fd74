"""The driver's end of a pipe to the reporter, a process of its own.

What is written are sums so far, as lines of JSON: news that a full pipe cannot take is dropped, and the next one says
all that it said. So the reporter may be slow, stopped or dead, and the driver waits for none of it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("licet.progress")

_LAST_LINE_S = 5.0
_END_WAIT_S = 60.0
"""Longest wait at the end for the reporter's last words to TensorBoard and W&B."""


class Feed:
    """Starts a reporter; `send` never waits."""

    def __init__(self, settings: Mapping[str, Any], log_file: Path) -> None:
        """`settings` are the fields of `jobs.progress.reporter.Settings`; the reporter's errors go to `log_file`."""
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs.progress.reporter"],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the driver; the reporter ends when the pipe does
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        assert self.process.stdin is not None
        self._log_file = log_file
        self._pipe = self.process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self.dropped = 0
        """News that the pipe could not take."""
        self.send({"settings": dict(settings)})

    def send(self, news: Mapping[str, Any]) -> bool:
        """Hand over one line, now or not at all; says whether it was taken."""
        if not self._flush():
            self.dropped += 1
            return False
        self._rest = json.dumps(news).encode() + b"\n"
        self._flush()
        return True

    def close(self, news: Mapping[str, Any]) -> None:
        """Hand over the last line and wait for the reporter's end, for a bounded time."""
        deadline = time.monotonic() + _LAST_LINE_S
        while not self.send(news) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code:
            log.warning("the reporter of the progress ended with %d, the run did not need it: %s", code, self._log_file)
        else:
            self._log_file.unlink(missing_ok=True)

    def _flush(self) -> bool:
        """Write what is left of the last line; says whether nothing is left."""
        while self._rest:
            try:
                written = os.write(self._pipe, self._rest)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                self._rest = b""
                return True  # nobody reads any more: there is nothing to wait for
            self._rest = self._rest[written:]
        return True
