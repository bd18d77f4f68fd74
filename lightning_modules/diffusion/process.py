"""Settings of a whole process, which only an entry point may make."""

from __future__ import annotations

import os


def before_torch() -> None:
    """Call before torch is imported: idle OpenMP threads that spin make steps many times slower on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def quiet_libraries() -> None:
    """Keep diffusers' and transformers' progress bars and notes off the terminal: errors alone are for a person."""
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
