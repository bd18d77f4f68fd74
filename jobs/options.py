"""What the jobs' flags and YAML files may say.

Config stops here: what lies below is called with plain typed values. These classes travel to the executors, so they
must not be defined in an entry file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from licet.errors import UsageError
from licet.policy import Outcome, Policy, Purpose

PurposeName = Literal["research", "commercial-training", "redistribution"]
OutcomeName = Literal["allow", "allow-with-obligations", "review", "deny"]
EngineName = Literal["spark", "local", "ray"]
PlanMode = Literal["frozen", "extend", "new"]
Retry = Literal["nothing", "transient"]


@dataclass(frozen=True)
class PolicyOptions:
    """What the data is for, and the rules that a person has decided otherwise."""

    purpose: PurposeName
    """What the data will be used for."""
    overrides: dict[str, OutcomeName] = field(default_factory=dict)
    """Policy rule -> outcome, such as `licence-unlisted: allow`."""

    def policy(self) -> Policy:
        """Raises `UsageError` for a rule that does not exist."""
        return Policy(Purpose(self.purpose), {rule: Outcome(name) for rule, name in self.overrides.items()})


@dataclass(frozen=True)
class SparkOptions:
    """The Spark that is started when none is given by spark-submit or a notebook."""

    master: str = "local[*,4]"
    """Spark master; `local[*,4]` is one thread for each core here, four attempts for each task."""
    driver_memory: str = "2g"
    """Heap of the driver's JVM."""
    jars: list[str] = field(default_factory=list)
    """Delta's JARs on this machine, where they cannot be downloaded."""
    ivy: str = ""
    """Folder of an Ivy cache that holds Delta's JARs."""


@dataclass(frozen=True)
class RayOptions:
    """The Ray that runs the units when the engine is `ray`."""

    address: str = ""
    """Head of a Ray cluster, such as `10.0.0.1:6379`, or `auto` on one of its nodes; empty starts Ray here."""
    ship_code: bool = True
    """Send this installation's own packages to the cluster's nodes; no if they have the same licet installed."""


def local_folder(path: str, name: str) -> Path:
    """A folder that this machine sees as a path. Raises `UsageError` for a URL."""
    if "://" in path:
        raise UsageError(
            f"{name} must be a folder that all machines see under one path, found {path!r}: mount the store."
        )
    return Path(path).resolve()
