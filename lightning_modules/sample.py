"""Draw a subject before and after training, beside the nearest training photos, and measure the difference."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from licet.cli import run_command
from licet.flags import call_with_flags
from licet.manifest import read_manifest
from lightning_modules.diffusion.options import SampleOptions
from lightning_modules.diffusion.process import before_torch, quiet_libraries

log = logging.getLogger("licet.sample")


def sample(options: SampleOptions) -> dict[str, Any]:
    """Write samples.png and samples.json into the output folder; returns what the latter holds.

    Raises `UsageError`, `MismatchError` or `DamagedError` before anything is drawn, and then writes nothing.
    """
    import torch  # a mistyped flag is told without it

    from lightning_modules.adapters.load import (
        MANIFEST_KEY,
        load_adapter,
        read_header,
        require_same_base,
        require_same_manifest,
    )
    from lightning_modules.diffusion import comparison
    from lightning_modules.diffusion.families.sd15 import load_family

    quiet_libraries()
    started = time.monotonic()
    manifest = read_manifest(options.manifest) if options.manifest else None
    header = read_header(options.adapter) if options.adapter else {}
    model = load_family(options.base)
    if options.adapter:
        if not options.allow_other_base:
            require_same_base(header, options.adapter, options.base)
        if manifest and not options.allow_other_manifest:
            require_same_manifest(header, options.adapter, manifest)
        load_adapter(model, options.adapter)
    references = comparison.read_references(manifest, options, header) if manifest else None
    cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    loaded = time.monotonic()
    drawn = comparison.draw_all(model.to("cuda" if cuda else "cpu"), options)
    finished_drawing = time.monotonic()
    report = {
        "settings": {name: _plain(value) for name, value in asdict(options).items()},
        "manifest": manifest.identity if manifest else None,
        "adapter_manifest": header.get(MANIFEST_KEY),
        "references": comparison.describe(references),
        **comparison.measure(drawn, references),
    }
    report["seconds"] = {
        "load": round(loaded - started, 1),
        "draw": round(finished_drawing - loaded, 1),
        "measure": round(time.monotonic() - finished_drawing, 1),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    comparison.sheet(drawn, references, report, options).save(options.output / "samples.png")
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (options.output / "samples.json").write_text(text, encoding="utf-8")
    for line in comparison.figures(report):
        log.info("%s", line)
    log.info("%d seeds: %s", len(drawn.seeds), options.output / "samples.png")
    return report


def command(arguments: Sequence[str]) -> int:
    """`licet sample`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    before_torch()
    sample(call_with_flags(SampleOptions, arguments, "sample", description=(__doc__ or "").split("\n")[0]))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a shell: `python -m lightning_modules.sample …`."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str, list)) else str(value)


if __name__ == "__main__":
    sys.exit(main())
