"""What is shown of a run while it runs, and where."""

from __future__ import annotations

from dataclasses import dataclass

from licet.errors import UsageError


@dataclass(frozen=True)
class ProgressOptions:
    """What is shown of a run while it runs, and where."""

    report_every_s: float = 60.0
    """Seconds between two reports in `<output>/report` while units run; 0 for the one at the end alone."""
    tensorboard: bool = True
    """Whether the same figures go to `<output>/report/tensorboard`."""
    wandb_project: str = ""
    """W&B project that gets the same figures; empty for none. WANDB_MODE=offline keeps them on this machine."""
    thumbnails: int = 60
    """Kept images shown in the report at the end."""

    def __post_init__(self) -> None:
        if self.report_every_s < 0 or self.thumbnails < 0:
            raise UsageError(
                "progress.report_every_s and progress.thumbnails are numbers from 0, "
                f"found {self.report_every_s:g} and {self.thumbnails}."
            )
