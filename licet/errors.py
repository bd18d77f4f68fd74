"""One tree of errors. Everything that licet raises on purpose is in it.

    LicetError                      exit code 1
    ├── UsageError                  2   what was asked for cannot be understood
    │   ├── ConfigError                 a YAML file or a flag: names file, line, expected, found
    │   └── MissingExtraError           an optional library is absent: names the extra to install
    ├── PlatformError               1   this machine lacks Java, network, disk …: names the remedy
    ├── DamagedError                1   stored data is not what was written
    │   ├── ShardDamagedError           names the shard and the record
    │   └── ManifestDamagedError        names the page or the field
    ├── MismatchError               1   two things that must agree do not: shows the difference
    └── PolicyRefusedError          3   the policy says no

A rejected row is not an error: see `licet.records.Rejected`.
"""

from __future__ import annotations


class LicetError(Exception):
    """Base of all errors. The message is one sentence for a person and names the remedy."""

    exit_code = 1


class UsageError(LicetError):
    """The command or its configuration cannot be carried out as written."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file is wrong at a known place."""

    def __init__(self, file: str, line: int | None, expected: str, found: str, remedy: str = "") -> None:
        where = file if line is None else f"{file}, line {line}"
        tail = f" {remedy}" if remedy else ""
        super().__init__(f"{where}: expected {expected}, found {found}.{tail}")
        self.file, self.line, self.expected, self.found = file, line, expected, found


class MissingExtraError(UsageError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: run `pip install 'licet[{extra}]'`.")


class PlatformError(LicetError):
    """The machine lacks something that the command needs."""


class DamagedError(LicetError):
    """Stored bytes are not the bytes that were written."""


class ShardDamagedError(DamagedError):
    """A record or a whole shard fails its checksum."""

    def __init__(self, shard: str, record: str, what: str) -> None:
        super().__init__(f"shard {shard}, {record}: {what}. Restore the file, or ingest its unit again.")
        self.shard, self.record = shard, record


class ManifestDamagedError(DamagedError):
    """A manifest, one of its pages or an index fails its hash."""


class MismatchError(LicetError):
    """A checkpoint, a manifest or a plan belongs to something else; the message shows the difference."""


class PolicyRefusedError(LicetError):
    """The policy or a quality gate does not allow what was asked."""

    exit_code = 3
