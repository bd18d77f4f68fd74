"""A SparkSession with Delta: the one that is there, or else a local one.

    with spark_session("ingest-images", SparkOptions()) as spark: ...

What this machine lacks (Java, Delta's JARs, disk) becomes one sentence with the remedy. This file knows Spark's start
and its errors; it does not know tables.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from delta import configure_spark_with_delta_pip
from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.options import SparkOptions
from licet.errors import LicetError, PlatformError

JAVA_VERSIONS = (17, 21)
JAVA_FOLDERS = (
    "/usr/lib/jvm/*",
    "/opt/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk@*",
    "/usr/local/opt/openjdk@*",
)
"""Where package managers put Java."""

_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
_LOCAL_SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Images are Python's work. Half of the JVM's CPU time in a short run was its optimising compiler's (25 s of 52).
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


_FULL = "No space left on device"
_CAUSES = 20
"""More than any exception of Spark has; a chain may close."""


@contextmanager
def spark_session(app_name: str, options: SparkOptions | None = None) -> Iterator[SparkSession]:
    """The active session, which is left running, or a new one, which is stopped.

    Raises `PlatformError` when Spark cannot start here; Java's errors inside the block become `LicetError` as well.
    """
    options = options or SparkOptions()
    active = SparkSession.getActiveSession()
    if active is not None:
        _require_delta(active)
        with plain_errors():
            yield active
        return
    with _quiet_stderr() as log, plain_errors(log):
        spark = _start(app_name, options, log)
        try:
            _require_delta(spark)
            yield spark
        finally:
            spark.stop()


def _start(app_name: str, options: SparkOptions, log: _Log) -> SparkSession:
    """Under spark-submit the JVM runs already; otherwise it is started here, with Delta from Maven or from JARs."""
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(app_name)
    for key, value in _SETTINGS.items():
        builder = builder.config(key, value)
    if not submitted:
        java = find_java(os.environ, JAVA_FOLDERS)
        os.environ["JAVA_HOME"] = str(java.parent.parent)
        builder = builder.master(options.master).config("spark.driver.memory", options.driver_memory)
        if options.ivy:
            builder = builder.config("spark.jars.ivy", options.ivy)
        if options.jars:
            builder = builder.config("spark.jars", ",".join(options.jars))
        else:
            builder = configure_spark_with_delta_pip(builder)
    master = SparkConf().get("spark.master", "local") if submitted else options.master
    if (master or "local").startswith("local"):
        os.environ["PYSPARK_PYTHON"] = sys.executable
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        for key, value in {**_LOCAL_SETTINGS, "spark.executorEnv.PYTHONPATH": path}.items():
            builder = builder.config(key, value)
    with log.receiving():
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN" if _debug() else "ERROR")
    if not _debug():  # pyspark prints each error with Java's stack trace before it raises it
        for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
            PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    return spark


def _require_delta(spark: SparkSession) -> None:
    try:
        spark.sparkContext._jvm.org.apache.spark.util.Utils.classForName(  # type: ignore[union-attr]
            "io.delta.sql.DeltaSparkSessionExtension", True, False
        )
    except Py4JError as error:
        raise PlatformError(
            "this Spark has no Delta Lake: add `--packages io.delta:delta-spark_4.1_2.13:4.4.0` to spark-submit."
        ) from error


def find_java(environ: Mapping[str, str], folders: Sequence[str]) -> Path:
    """The first usable `java`: JAVA_HOME's, the PATH's, or one in the usual folders. Raises `PlatformError`."""
    candidates = [Path(environ["JAVA_HOME"]) / "bin" / "java"] if environ.get("JAVA_HOME") else []
    if found := shutil.which("java", path=environ.get("PATH", "")):
        candidates.append(Path(found).resolve())
    candidates += [Path(folder) / "bin" / "java" for pattern in folders for folder in sorted(glob(pattern))]
    seen: list[str] = []
    for candidate in candidates:
        version = java_version(candidate)
        if version in JAVA_VERSIONS:
            return candidate
        if version is not None:
            seen.append(f"{candidate} is Java {version}")
    found_text = "; ".join(dict.fromkeys(seen)) or "none was found"
    raise PlatformError(f"Spark needs Java 17 or 21; {found_text}. Type: {_java_remedy()}")


def java_version(java: Path) -> int | None:
    """Major version of a `java` program, or None when it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match.group(1)) if match else None


def _java_remedy() -> str:
    for program, line in (
        ("apt-get", "sudo apt-get install -y openjdk-17-jre-headless"),
        ("dnf", "sudo dnf install -y java-17-openjdk-headless"),
        ("brew", "brew install openjdk@17"),
    ):
        if shutil.which(program, path=os.defpath + os.pathsep + os.environ.get("PATH", "")):
            return line
    return "export JAVA_HOME=<folder of a JDK 17 or 21>"


@contextmanager
def plain_errors(log: _Log | None = None) -> Iterator[None]:
    """Turn what Java, Spark and Delta raise, and a full disk, into one sentence; `--debug` shows the stack trace."""
    try:
        yield
    except Py4JJavaError as error:
        raise _sentence(f"{error.java_exception}", log, causes=_causes(error.java_exception)) from error
    except (Py4JError, PySparkException) as error:
        raise _sentence(str(error), log, causes=_causes(getattr(error, "_origin", None))) from error
    except DeltaError as error:
        raise _sentence(str(error), log, "Delta") from error
    except (OSError, LicetError) as error:  # a unit's own error is in the message of a `LicetError`
        if _FULL not in str(error):
            raise
        raise _sentence(str(error), None) from error


def _causes(java_exception: Any) -> str:
    """What a Java exception was caused by, and that by, a line each. Spark says "task failed" where a disk is full."""
    lines: list[str] = []
    while java_exception is not None and len(lines) < _CAUSES:
        lines.append(java_exception.toString())
        java_exception = java_exception.getCause()
    return "\n".join(lines)


def _sentence(message: str, log: _Log | None, who: str = "Spark", causes: str = "") -> LicetError:
    written = "\n".join((message, causes, log.text() if log else ""))
    if _FULL in written:
        return PlatformError(
            f"the disk is full: free some space in {tempfile.gettempdir()} and where the output lies, then run the "
            "same command again; it goes on where it stopped."
        )
    missing = re.search(r"unresolved dependency: ([^\s:]+)#([^\s;]+);([^\s:]+)|\[download failed: ([^\s\]]+)", written)
    if missing:
        asked = ":".join(filter(None, missing.groups()[:3])) or missing.group(4)
        return PlatformError(
            f"Delta's JARs ({asked}) cannot be downloaded from Maven: connect to the network once, or give them with "
            "`--spark.jars '[delta-spark.jar, delta-storage.jar, …]'` or `--spark.ivy <folder of an Ivy cache>`."
        )
    if "JAVA_GATEWAY_EXITED" in message:
        last = [line for line in written.splitlines() if line.strip()][-1:]
        return PlatformError(f"Spark's JVM stopped as it started: {' '.join(last)[:300]} (--debug shows all)")
    return LicetError(f"{who} failed: {message.strip().splitlines()[0][:500]} (--debug shows where)")


class _Log:
    """Where a JVM's standard error goes: a file, instead of between the lines that a person reads."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path else ""

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """While this lasts, what a new process inherits as standard error is the file."""
        if self.path is None:
            yield
            return
        sys.stderr.flush()
        saved = os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.dup2(target, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(target)
            os.close(saved)


@contextmanager
def _quiet_stderr() -> Iterator[_Log]:
    if _debug():
        yield _Log(None)
        return
    with tempfile.TemporaryDirectory(prefix="licet-spark-") as folder:
        yield _Log(Path(folder) / "stderr.log")


def _debug() -> bool:
    return os.environ.get("LICET_DEBUG") == "1"
