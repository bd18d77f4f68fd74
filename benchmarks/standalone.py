"""A Spark standalone cluster on this machine: a master and workers, each a process of its own.

    with StandaloneCluster(folder, workers=2) as cluster:
        cluster.submit(["jobs/ingest_images.py", …])         spark-submit, with the code as --py-files

It stops every process that it started, executors included. It knows Spark's scripts; it knows nothing of the jobs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyspark

from jobs.session import JAVA_FOLDERS, find_java
from scripts.pyfiles import main as zip_packages

_HOME = Path(pyspark.__file__).parent
_ROOT = Path(__file__).resolve().parent.parent
_READY_S = 300.0
_END_S = 20.0
_SMALL = {
    "spark.driver.memory": "700m",
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
DELTA = "io.delta:delta-spark_4.1_2.13:4.4.0"


class StandaloneCluster:
    """`workers` workers of `cores` cores each. `environ` reaches the executors and their Python workers."""

    def __init__(
        self, folder: Path, workers: int = 2, environ: Mapping[str, str] | None = None, cores: int = 1
    ) -> None:
        self.folder, self._n_workers, self._cores = folder, workers, cores
        folder.mkdir(parents=True, exist_ok=True)
        java = find_java(os.environ, JAVA_FOLDERS)
        small = {"SPARK_DAEMON_MEMORY": "192m", "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(_HOME)}
        small |= {"JAVA_HOME": str(java.parent.parent), "PYSPARK_PYTHON": sys.executable}
        self._environ = {**os.environ, **small, **(environ or {})}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._web_port = _free_port(), _free_port()

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self._port}"

    def __enter__(self) -> StandaloneCluster:
        try:
            ports = ["--port", str(self._port), "--webui-port", str(self._web_port)]
            self._start("master", "org.apache.spark.deploy.master.Master", *ports)
            self._wait(lambda: self._state() is not None)
            for number in range(self._n_workers):
                folder = str(self.folder / f"work-{number}")
                size = [
                    "--cores",
                    str(self._cores),
                    "--memory",
                    "600m",
                    "--webui-port",
                    str(_free_port()),
                    "--work-dir",
                    folder,
                ]
                self._start(f"worker-{number}", "org.apache.spark.deploy.worker.Worker", *size, self.url)
            self._wait(lambda: (self._state() or {}).get("aliveworkers") == self._n_workers)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End master, workers, and the executors that workers started (a worker asked to stop stops them)."""
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()

    def submit(self, command: Sequence[str], conf: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`spark-submit` of an entry file from the repository's root; both output streams as text."""
        archive = self.folder / "licet-pyfiles.zip"
        zip_packages(str(archive))
        settings = [f"--conf={key}={value}" for key, value in {**_SMALL, **(conf or {})}.items()]
        flags = ["--master", self.url, "--py-files", str(archive), "--packages", DELTA, *settings]
        program = str(_HOME / "bin" / "spark-submit")
        asked = [program, *flags, *command]
        return subprocess.run(asked, env=self._environ, cwd=_ROOT, capture_output=True, text=True, check=False)

    def _start(self, name: str, java_class: str, *arguments: str) -> None:
        command = [str(_HOME / "bin" / "spark-class"), java_class, "--host", "127.0.0.1", *arguments]
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command, env=self._environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._processes.append(process)

    def _state(self) -> dict[str, int] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._web_port}/json/", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def _wait(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + _READY_S
        while not holds():
            if time.monotonic() > until or any(process.poll() is not None for process in self._processes):
                raise RuntimeError(f"the cluster did not start: its logs are in {self.folder}")
            time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
