"""Where the reporter's scalars go besides the report: TensorBoard, W&B. Each is imported when it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from licet.errors import UsageError


class Sink(Protocol):
    """Takes named numbers, in order of time."""

    def write(self, step: int, wall_time_s: float, scalars: Mapping[str, float]) -> None:
        """Write these down: `step` counts rows, `wall_time_s` seconds since 1970."""

    def close(self) -> None:
        """Nothing follows."""


def require(tensorboard: bool, wandb: bool) -> None:
    """Raise `UsageError`, which names the extra, when a library that is asked for is not installed."""
    for wanted, library, extra in ((tensorboard, "tensorboard", "spark"), (wandb, "wandb", "wandb")):
        if wanted and importlib.util.find_spec(library) is None:
            off = " or give --progress.tensorboard false" if library == "tensorboard" else ""
            raise UsageError(f'{library} is not installed: pip install "licet[{extra}]"{off}.')


class TensorBoard:
    """An event file in `folder`; needs neither torch nor TensorFlow."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), flush_secs=10)

    def write(self, step: int, wall_time_s: float, scalars: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        event = self._event(step=step, wall_time=wall_time_s, summary=self._summary(value=values))
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A W&B run of its own. WANDB_MODE and the other variables of W&B hold."""

    def __init__(self, project: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # Our own samples of the machine are among the scalars; W&B's would be of this process.
        settings = wandb.Settings(x_disable_stats=True, console="off", silent=True)
        self._run = wandb.init(project=project, dir=str(folder), config=dict(config), settings=settings)

    def write(self, step: int, wall_time_s: float, scalars: Mapping[str, float]) -> None:
        self._run.log({**scalars, "rows": step, "wall_time_s": wall_time_s})

    def close(self) -> None:
        self._run.finish()
