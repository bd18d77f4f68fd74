"""A decoder that dies costs its own job, and nothing else."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.images.decoding.isolation import Crash, Isolated, isolated_for
from licet.errors import PlatformError

ROOT = Path(__file__).parents[4]
LIMITS = {"memory_bytes": 256 << 20, "cpu_s": 1.0, "wall_s": 60.0}


@pytest.fixture(scope="module")
def pool(here: str) -> Iterator[Isolated]:
    with Isolated("standins:worker", {"a": 1}, **LIMITS) as isolated:
        yield isolated


def answer(outcome: dict | Crash) -> dict:
    assert isinstance(outcome, dict), outcome
    return outcome


def gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process ends, or is a zombie, within some time."""
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_a_job_is_answered_by_another_process(pool: Isolated) -> None:
    result = answer(pool.run(b"\x00\xffbytes"))
    assert (result["said"], result["spec"]) == (b"\x00\xffbytes", {"a": 1})
    assert result["pid"] not in (os.getpid(), os.getppid())


def test_a_process_serves_many_jobs_of_any_size(pool: Isolated) -> None:
    pids = set()
    for n_bytes in (0, 1, 1000, 300_000, 5_000_000):
        data = os.urandom(n_bytes)
        result = answer(pool.run(data))
        assert result["said"] == data
        pids.add(result["pid"])
    assert len(pids) == 1


@pytest.mark.parametrize(
    ("deed", "reason", "said"),
    [
        ("segfault", "decoder-crashed", "SIGSEGV"),
        ("abort", "decoder-crashed", "SIGABRT"),
        ("exit", "decoder-crashed", "status 3"),
        ("raise", "decoder-crashed", "IndexError"),
        ("babble", "decoder-crashed", "garbage"),
        ("unpackable", "decoder-crashed", "TypeError"),
        ("spin", "decoder-timeout", "processor time"),
        ("swallow", "decoder-memory", "MemoryError"),
        ("swallow-in-c", "decoder-memory", "SIGSEGV"),
        ("write", "decoder-crashed", "No usable temporary directory"),
    ],
)
def test_what_kills_a_process_costs_one_job(pool: Isolated, deed: str, reason: str, said: str) -> None:
    before = answer(pool.run(b"before"))["pid"]
    outcome = pool.run(b"hostile", {"do": deed})
    assert isinstance(outcome, Crash)
    assert outcome.reason == reason
    assert said in outcome.detail
    after = answer(pool.run(b"after"))
    assert after["said"] == b"after"
    assert gone(before)
    assert after["pid"] != before


def test_a_job_that_waits_forever_is_stalled(here: str) -> None:
    with Isolated("standins:worker", wall_s=0.3) as pool:
        outcome = pool.run(b"", {"do": "sleep"})
        assert isinstance(outcome, Crash)
        assert outcome.reason == "decoder-stalled"
        assert answer(pool.run(b"next"))["said"] == b"next"


def test_what_an_earlier_job_left_behind_is_not_blamed_on_the_next(pool: Isolated) -> None:
    dirty = answer(pool.run(b"", {"do": "mess"}))["pid"]
    time.sleep(0.5)
    clean = answer(pool.run(b"innocent"))
    assert clean["said"] == b"innocent"
    assert clean["pid"] != dirty
    time.sleep(0.01)
    os.kill(clean["pid"], signal.SIGKILL)
    assert gone(clean["pid"])
    assert answer(pool.run(b"again"))["said"] == b"again"


def test_a_process_that_an_earlier_job_poisoned_is_replaced_and_the_job_done_again(pool: Isolated) -> None:
    answer(pool.run(b"", {"do": "poison"}))
    assert answer(pool.run(b"innocent"))["said"] == b"innocent"


def test_a_process_holds_nothing_but_its_socket(pool: Isolated, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as kept:
        os.set_inheritable(kept.fileno(), True)
        held = answer(pool.run(b"", {"do": "descriptors"}))["said"]
    assert [name for name in held if not name.startswith("/proc/")][:3] == ["/dev/null"] * 3
    assert len([name for name in held if name.startswith("socket:")]) == 1
    assert not [name for name in held if "secret" in name]
    assert answer(pool.run(b"", {"do": "dumpable"}))["said"] == 0
    assert answer(pool.run(b"", {"do": "threads"}))["said"] == 1
    assert os.getsid(answer(pool.run(b""))["pid"]) != os.getsid(0)


def test_threads_share_the_processes(here: str) -> None:
    deeds = ["echo", "echo", "segfault", "exit"] * 10
    with Isolated("standins:worker", processes=2, **LIMITS) as pool, ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda job: pool.run(b"%d" % job[0], {"do": job[1]}), enumerate(deeds)))
    for number, (deed, outcome) in enumerate(zip(deeds, outcomes, strict=True)):
        if deed == "echo":
            assert answer(outcome)["said"] == b"%d" % number
        else:
            assert isinstance(outcome, Crash)


def test_the_zygote_may_die_too(here: str) -> None:
    with Isolated("standins:worker", **LIMITS) as pool:
        child = answer(pool.run(b""))["pid"]
        zygote = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(zygote, signal.SIGKILL)
        assert gone(child)
        assert answer(pool.run(b"still here"))["said"] == b"still here"


def test_a_worker_that_cannot_start_says_why(here: str) -> None:
    with Isolated("standins:broken", {"b": 2}) as pool, pytest.raises(PlatformError, match="cannot work with"):
        pool.run(b"")


def test_a_closed_pool_leaves_no_process(here: str) -> None:
    with Isolated("standins:worker") as pool:
        child = answer(pool.run(b""))["pid"]
    assert gone(child)
    with pytest.raises(RuntimeError, match="closed"):
        pool.run(b"")


def in_a_fork(work: Callable[[], object]) -> object:
    """What `work` gives in a forked copy of this process."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            theirs.send(work())
        finally:
            os._exit(0)
    assert ours.poll(30), "no answer from the fork"
    result = ours.recv()
    os.waitpid(pid, 0)
    return result


def test_a_fork_gets_a_pool_of_its_own(here: str) -> None:
    def ask() -> int:
        return answer(isolated_for("standins:worker", {"fork": 1}).run(b""))["pid"]

    pool = isolated_for("standins:worker", {"fork": 1})
    assert isolated_for("standins:worker", {"fork": 1}) is pool
    assert isolated_for("standins:worker", {"fork": 2}) is not pool
    mine = ask()
    theirs = in_a_fork(ask)
    assert theirs != mine
    assert gone(theirs)  # with the process that had it
    assert ask() == mine

    def misuse() -> str:
        try:
            pool.run(b"")
        except RuntimeError as error:
            return str(error)
        return "ran"

    assert "belongs to" in in_a_fork(misuse)
    pool.close()
    assert ask() != mine


def test_all_processes_end_with_their_owner_even_while_a_fork_of_it_lives(here: str) -> None:
    script = (
        "import os, sys, time; from jobs.images.decoding.isolation import Isolated\n"
        "pool = Isolated('standins:worker')\n"
        "child = pool.run(b'')['pid']\n"
        "if os.fork(): print(child, flush=True)\n"
        "time.sleep(30)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), here))}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=-1, start_new_session=True) as owner:
        assert owner.stdout
        child = int(owner.stdout.readline())
        owner.kill()
        owner.wait()
        ended = gone(child)
        os.killpg(owner.pid, signal.SIGKILL)
    assert ended


def test_the_code_may_come_from_a_zip(here: str, tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for package in ("jobs", "licet"):
            for path in sorted((ROOT / package).rglob("*.py")):
                file.write(path, path.relative_to(ROOT))
        file.write(Path(here) / "standins.py", "standins.py")
    script = (
        "import json; from jobs.images.decoding.isolation import Isolated\n"
        "print(json.dumps(Isolated('standins:worker').run(b'', {'do': 'path'})))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(archive)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["said"] == str(archive / "standins.py")
