"""What makes finished units visible, once each: one lock per output, one committer thread, one sweep at the end.

Attempts write files that nobody else names; a row in `commits` makes them visible; what no row names is swept away.
This file does not know what a unit does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from jobs.catalog import Catalog, CommitRow
from jobs.faults import write_point
from jobs.layout import REPORTS
from jobs.target import Target, locate
from licet.errors import DamagedError, LicetError, MismatchError
from licet.storage import is_url, join, names_below, open_file, remove

_GATHER_S = 0.5
"""Shortest time from one transaction to the next while units report."""
_MOST_WAITING = 2_000
_CHECKS = 4
_LOOK_S = 1.0


@contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """Hold an output's lock, which the kernel takes from a killed process. Raises `LicetError` when another has it."""
    output.mkdir(parents=True, exist_ok=True)
    with open(output / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LicetError(
                f"another run is writing to {output}: wait for its end, or give another --output."
            ) from error
        yield


class Committer:
    """A thread that appends reports to `commits` as they come; those that wait together go in one transaction.

    As a context it waits for the last commit. Its errors are raised by `add` and at the end.
    """

    def __init__(self, catalog: Catalog, most_in_one: int = 1_000) -> None:
        """`most_in_one` bounds the reports of one transaction."""
        self._catalog, self._most_in_one = catalog, most_in_one
        listed = catalog.commit_table("unit", "dedup", columns=["unit_id"]).select(["unit_id", "generation"])
        self.committed = {_key(**row) for batch in listed.to_batches(10_000) for row in batch.to_pylist()}
        """Unit and generation of everything that `commits` lists, as 16 bytes each: there may be millions."""
        self._waiting: queue.Queue[CommitRow | None] = queue.Queue(_MOST_WAITING)
        self._committed_at = -_GATHER_S
        self._checkers = ThreadPoolExecutor(_CHECKS, thread_name_prefix="licet-check")  # on a store each is a request
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="licet-committer", daemon=True)

    def add(self, row: CommitRow) -> None:
        """Hand over a report; waits while very many are waiting."""
        write_point("report received, no commit")
        self._put(row)

    def _put(self, row: CommitRow | None) -> None:
        while True:
            self._raise_error()
            try:
                return self._waiting.put(row, timeout=_LOOK_S)
            except queue.Full:
                continue  # the thread may have ended with an error

    def __enter__(self) -> Committer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._error is None:
            self._put(None)
        self._thread.join()
        if kind is None:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            more = True
            with self._checkers:
                while more:
                    rows, more = self._take()
                    self._commit(rows)
        except (LicetError, DeltaError, OSError) as error:
            self._error = error

    def _take(self) -> tuple[list[CommitRow], bool]:
        """Wait for one report, gather those that come soon; False once the end was announced.

        A transaction costs much the same for one unit and for a thousand, and each leaves a file and a log entry.
        """
        taken = [self._waiting.get()]
        due = self._committed_at + _GATHER_S
        while taken[-1] is not None and len(taken) < self._most_in_one:
            try:
                taken.append(self._waiting.get(timeout=max(0.0, due - time.monotonic())))
            except queue.Empty:
                break
        return [row for row in taken if row is not None], None not in taken

    def _commit(self, rows: list[CommitRow]) -> None:
        first = {_key(row.unit_id, row.generation): row for row in reversed(rows)}
        new = {key: row for key, row in first.items() if key not in self.committed}
        for _ in self._checkers.map(partial(check, self._catalog.output), new.values()):
            pass  # raises what a check raised
        if not new:
            return
        self._catalog.commit(sorted(new.values(), key=lambda row: row.unit_index))
        self._committed_at = time.monotonic()
        write_point("commit sent, no answer")
        self.committed.update(new)
        write_point("commit done, driver dead")


def _key(unit_id: str, generation: int) -> bytes:
    return hashlib.blake2b(f"{generation} {unit_id}".encode(), digest_size=16).digest()


def check(output: Path, row: CommitRow) -> None:
    """Raise `MismatchError` unless a report accounts for every planned row, in its counts and in its outcomes file."""
    if row.planned != row.kept + row.rejected or row.rejected != sum(row.reasons.values()):
        raise MismatchError(
            f"unit {row.unit_id} reports {row.kept} kept and {row.rejected} rejected ({row.reasons}) of {row.planned} "
            "planned rows: it was not committed."
        )
    path = locate(output, row.outcomes_path)
    try:
        with open_file(path) as file:
            found = pq.read_metadata(file).num_rows
    except (OSError, ValueError) as error:
        raise DamagedError(f"unit {row.unit_id}: outcomes file {path} cannot be read: {error}.") from error
    if found != row.planned:
        raise MismatchError(f"unit {row.unit_id}: {path} has {found} outcomes for {row.planned} rows: not committed.")


def sweep(catalog: Catalog, target: Target | None = None) -> int:
    """Delete the files of attempts that no commit names; returns how many. Only for whoever holds the output's lock.

    `target` says where attempts wrote; below the output without it.
    """
    listed = catalog.commits("unit", "dedup", columns=["attempt"])
    attempts = {(row["unit_id"], row["attempt"]) for row in listed}
    target = target or Target(str(catalog.output))
    swept = _sweep_url(target.root, attempts) if is_url(target.root) else _sweep_folder(Path(target.root), attempts)
    shutil.rmtree(catalog.output / REPORTS, ignore_errors=True)  # reports that a killed driver did not read
    return swept


def _sweep_folder(root: Path, attempts: set[tuple[str, str]]) -> int:
    swept = 0
    for unit in os.scandir(root) if root.is_dir() else ():
        for entry in list(os.scandir(unit.path)):
            if (unit.name, _attempt_of(entry.name)) not in attempts:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
                swept += 1
        if not any(os.scandir(unit.path)):
            os.rmdir(unit.path)
    return swept


def _sweep_url(root: str, attempts: set[tuple[str, str]]) -> int:
    names = [name.split("/") for name in names_below(root)]
    dead = [parts for parts in names if len(parts) > 1 and (parts[0], _attempt_of(parts[1])) not in attempts]
    remove([join(root, "/".join(parts)) for parts in dead])
    return len({tuple(parts[:2]) for parts in dead})


def _attempt_of(name: str) -> str:
    """The attempt that wrote a file or folder: `<attempt>-00001.tar`, `<attempt>.outcomes.parquet`."""
    return name.split(".")[0].split("-")[0]
