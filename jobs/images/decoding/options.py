"""How far a decoder of hostile files may go."""

from __future__ import annotations

from dataclasses import dataclass

from licet.errors import UsageError


@dataclass(frozen=True)
class DecoderOptions:
    """The processes that decode: what a file may cost before its row is refused."""

    processes: int = 2
    """Decoding processes of each task: with one, a core would rest while a task writes its shards."""
    memory_bytes: int = 2 << 30
    """Memory that one image may take, beyond what its process has at first."""
    cpu_s: float = 20.0
    """Processor time that one image may take."""
    wall_s: float = 60.0
    """Time that one image may take."""

    def __post_init__(self) -> None:
        if self.processes < 1 or self.memory_bytes < 1 << 20 or self.cpu_s <= 0 or self.wall_s <= 0:
            raise UsageError(
                "decoder needs at least one process, 1 MiB of memory and times above 0, found "
                f"{self.processes}, {self.memory_bytes}, {self.cpu_s:g} and {self.wall_s:g}."
            )
