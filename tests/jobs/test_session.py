"""What a machine lacks is told in one sentence with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.session import JAVA_FOLDERS, find_java, java_version, plain_errors
from licet.errors import LicetError, PlatformError


def fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return program


def test_a_java_in_the_usual_folders_is_found_and_a_wrong_one_is_passed_over(tmp_path: Path) -> None:
    fake_java(tmp_path / "jdk8", "1.8.0_402")
    fake_java(tmp_path / "jdk11", "11.0.2")
    right = fake_java(tmp_path / "jdk17", "17.0.1")
    environ = {"JAVA_HOME": str(tmp_path / "jdk11"), "PATH": str(tmp_path / "jdk8" / "bin")}
    assert find_java(environ, [str(tmp_path / "jdk*")]) == right
    with pytest.raises(
        PlatformError, match=r"Java 17 or 21; .*jdk11/bin/java is Java 11; .*jdk8/bin/java is Java 8\. Type: "
    ):
        find_java(environ, [])


def test_this_machine_has_a_java() -> None:
    assert java_version(find_java(os.environ, JAVA_FOLDERS)) in (17, 21)


RUN = """
import sys
import jobs.session
jobs.session.JAVA_FOLDERS = ()
from jobs.ingest_images import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_java_the_command_says_so_and_writes_nothing(tmp_path: Path, write_list: object) -> None:
    source = write_list(tmp_path / "lists", [{"url": "http://localhost/x.jpg"}])
    arguments = ["--sources", str(source), "--output", str(tmp_path / "out"), "--policy.purpose", "research"]
    environ = {"PATH": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("licet: Spark needs Java 17 or 21; none was found. Type: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_jars_that_cannot_be_downloaded_are_told_with_the_way_out(tmp_path: Path, write_list: object) -> None:
    source = write_list(tmp_path / "lists", [{"url": "http://localhost/x.jpg"}])
    arguments = ["--sources", str(source), "--output", str(tmp_path / "out"), "--policy.purpose", "research"]
    nowhere = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9 -Duser.home=" + str(tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd()), "JDK_JAVA_OPTIONS": nowhere}
    command = [sys.executable, "-m", "jobs.ingest_images", *arguments, "--spark.ivy", str(tmp_path / "ivy")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("licet: Delta's JARs (io.delta:delta-spark_4.1_2.13:4.4.0) cannot be downloaded")
    assert "--spark.jars" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_errors_of_java_become_one_sentence(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(LicetError) as caught, plain_errors():
        spark.read.parquet(str(tmp_path / "nothing")).collect()
    assert str(caught.value).startswith("Spark failed: ")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_as_a_full_disk(spark: SparkSession) -> None:
    with pytest.raises(PlatformError, match="the disk is full"), plain_errors():
        spark._jvm.java.nio.file.Files.write(
            spark._jvm.java.nio.file.Paths.get(
                "/dev/full", spark.sparkContext._gateway.new_array(spark._jvm.String, 0)
            ),
            bytearray(b"x"),
            spark.sparkContext._gateway.new_array(spark._jvm.java.nio.file.OpenOption, 0),
        )
