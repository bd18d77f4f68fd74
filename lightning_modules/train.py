"""Train a LoRA adapter by DreamBooth with prior preservation, from a manifest.

    licet train fit --config configs/train/dreambooth_lora.yaml --data.manifest OUT/manifest.json --run OUT/run
    licet train validate ...        the loss on the selected rows, with fixed noise and timesteps
    licet train test ...            the same on held-out rows (data.test_sources)

A run writes tensorboard/, checkpoints/ and adapter/ into its folder. The same command again goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from licet.cli import run_command
from licet.errors import LicetError, UsageError
from lightning_modules.diffusion.process import before_torch


def command(arguments: Sequence[str]) -> int:
    """Run one of fit, validate, test; returns 0. Raises errors of `licet.errors`, and SystemExit 2 for wrong flags."""
    before_torch()

    from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

    from lightning_modules.diffusion.commandline import TrainingCLI, prepare_process

    prepare_process()
    try:
        TrainingCLI(arguments)
    except MisconfigurationException as error:
        raise UsageError(str(error).strip()) from error
    except SIGTERMException as error:
        raise LicetError("stopped by SIGTERM; run the same command again to go on.") from error
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The console entry point."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
