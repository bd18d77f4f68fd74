"""What makes finished units visible, once each: one lock per output, one committer thread, one sweep at the end.

Attempts write files that nobody else names; a row in `commits` makes them visible; what no row names is swept away.
This file does not know what a unit does.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from jobs.catalog import Catalog, CommitRow
from jobs.faults import write_point
from jobs.layout import REPORTS, SHARDS
from licet.errors import DamagedError, LicetError, MismatchError


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

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        listed = catalog.commits("unit", "dedup", columns=["unit_id"])
        self.committed = {(row["unit_id"], row["generation"]) for row in listed}
        """(unit id, generation) of everything that `commits` lists."""
        self._waiting: queue.SimpleQueue[CommitRow | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="licet-committer", daemon=True)

    def add(self, row: CommitRow) -> None:
        """Hand over a report."""
        self._raise_error()
        write_point("report received, no commit")
        self._waiting.put(row)

    def __enter__(self) -> Committer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if kind is None:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            more = True
            while more:
                rows, more = self._take()
                self._commit(rows)
        except (LicetError, DeltaError, OSError) as error:
            self._error = error

    def _take(self) -> tuple[list[CommitRow], bool]:
        """Wait for one report, take all that wait; False once the end was announced."""
        taken = [self._waiting.get()]
        while not self._waiting.empty():
            taken.append(self._waiting.get())
        return [row for row in taken if row is not None], None not in taken

    def _commit(self, rows: list[CommitRow]) -> None:
        first = {(row.unit_id, row.generation): row for row in reversed(rows)}
        new = [row for key, row in first.items() if key not in self.committed]
        for row in new:
            check(self._catalog.output, row)
        if not new:
            return
        self._catalog.commit(sorted(new, key=lambda row: row.first_ordinal))
        write_point("commit sent, no answer")
        self.committed.update((row.unit_id, row.generation) for row in new)
        write_point("commit done, driver dead")


def check(output: Path, row: CommitRow) -> None:
    """Raise `MismatchError` unless a report accounts for every planned row, in its counts and in its outcomes file."""
    if row.planned != row.kept + row.rejected or row.rejected != sum(row.reasons.values()):
        raise MismatchError(
            f"unit {row.unit_id} reports {row.kept} kept and {row.rejected} rejected ({row.reasons}) of {row.planned} "
            "planned rows: it was not committed."
        )
    path = output / row.outcomes_path
    try:
        found = pq.read_metadata(path).num_rows
    except (OSError, ValueError) as error:
        raise DamagedError(f"unit {row.unit_id}: outcomes file {path} cannot be read: {error}.") from error
    if found != row.planned:
        raise MismatchError(f"unit {row.unit_id}: {path} has {found} outcomes for {row.planned} rows: not committed.")


def sweep(catalog: Catalog) -> int:
    """Delete the files of attempts that no commit names; returns how many. Only for whoever holds the output's lock."""
    listed = catalog.commits("unit", "dedup", columns=["attempt"])
    attempts = {(row["unit_id"], row["attempt"]) for row in listed}
    swept = 0
    root = catalog.output / SHARDS
    for unit in os.scandir(root) if root.is_dir() else ():
        for entry in list(os.scandir(unit.path)):
            if (unit.name, entry.name.split(".")[0]) not in attempts:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
                swept += 1
        if not any(os.scandir(unit.path)):
            os.rmdir(unit.path)
    shutil.rmtree(catalog.output / REPORTS, ignore_errors=True)  # reports that a killed driver did not read
    return swept
