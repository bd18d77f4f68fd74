"""After training: the adapter, and with it where it came from.

    <run>/adapter/pytorch_lora_weights.safetensors    weights; manifest, licence counts and credits in its header
    <run>/adapter/README.md                           model card
    <run>/adapter/ATTRIBUTION.md                      every credit, by licence

Each file appears whole, the weights last: where they are, the rest is.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytorch_lightning as pl

from licet.ledger import Ledger, attribution_text, build_ledger, model_card_section, safetensors_metadata
from licet.manifest import write_durably
from lightning_modules.adapters.export import WEIGHTS_NAME, export_adapter
from lightning_modules.adapters.lora import count_parameters
from lightning_modules.callbacks.prior_images import licence_of
from lightning_modules.diffusion.dreambooth import DreamBooth

log = logging.getLogger(__name__)

FOLDER = "adapter"


class Provenance(pl.Callback):
    """Exports the adapter to <run>/adapter, with the ledger of everything that it was trained on."""

    def __init__(self, max_header_credits_bytes: int = 1 << 18) -> None:
        """Nothing is written before training has ended.

        Args:
            max_header_credits_bytes: Credits beyond this size stay out of the weights' header; ATTRIBUTION.md has all.
        """
        self.max_header_credits_bytes = max_header_credits_bytes

    def on_fit_end(self, trainer: pl.Trainer, pl_module: DreamBooth) -> None:
        """Also where a finished run is started again: a kill before the export costs nothing."""
        if not trainer.is_global_zero:
            return
        ledgers = [build_ledger(part.manifest, part.selection) for part in trainer.datamodule.parts()]
        folder = Path(trainer.default_root_dir) / FOLDER
        write_durably(folder / "ATTRIBUTION.md", "\n".join(map(attribution_text, ledgers)).encode())
        write_durably(folder / "README.md", _model_card(trainer, pl_module, ledgers).encode())
        path = export_adapter(pl_module.family, folder, self._header(trainer, pl_module, ledgers))
        log.info("adapter written to %s", path)

    def _header(self, trainer: pl.Trainer, module: DreamBooth, ledgers: list[Ledger]) -> dict[str, str]:
        subject, *class_images = (safetensors_metadata(one, self.max_header_credits_bytes) for one in ledgers)
        header = dict(subject)
        for number, ledger in enumerate(class_images):
            header |= {f"licet.prior.{number}.{k.removeprefix('licet.')}": v for k, v in ledger.items()}
        return header | {
            "licet.base": module.family.name,
            "licet.base_weights": module.base_hash,
            "licet.instance_prompt": trainer.datamodule.instance_prompt,
            "licet.class_prompt": trainer.datamodule.class_prompt,
            "licet.steps": str(trainer.global_step),
            "licet.configuration": json.dumps(module.configuration(), sort_keys=True),
        }


def _model_card(trainer: pl.Trainer, module: DreamBooth, ledgers: list[Ledger]) -> str:
    """Front matter that a hub reads, how to use the adapter, what it was trained on and on what terms."""
    data, shape = trainer.datamodule, module.shape
    trainable, _ = count_parameters(module.family)
    networks = "UNet and text encoder" if module.train_text_encoder else "UNet"
    lines = [
        "---", f"base_model: {json.dumps(module.family.name)}", "library_name: diffusers", "tags:",
        "- lora", "- dreambooth", "- text-to-image", f"instance_prompt: {json.dumps(data.instance_prompt)}", "---", "",
        f"# LoRA adapter for {module.family.name}", "",
        f"Trained by licet with DreamBooth, {'with' if module.prior_loss_weight else 'without'} prior preservation: "
        f"{trainer.global_step} steps of {data.batch_size} pairs, rank {shape.rank}, alpha {shape.alpha:g}, "
        f"{trainable:,} weights in {networks}.", "",
        "```python", "from diffusers import StableDiffusionPipeline", "",
        f"pipeline = StableDiffusionPipeline.from_pretrained({module.family.name!r})  # the folder of the base model",
        'pipeline.load_lora_weights(".")  # the folder of this file',
        f"pipeline({data.instance_prompt!r})", "```", "",
        f"- Base model: {module.family.name}, weights `{module.base_hash}`, licence {licence_of(module.family)}",
        f"- Weights: `{WEIGHTS_NAME}`; the credits are in its header too",
        "- Every credit in one file: `ATTRIBUTION.md`", "",
    ]  # fmt: skip
    sections = [model_card_section(ledgers[0])]
    for ledger in ledgers[1:]:
        sections.append(model_card_section(ledger).replace("## Training data", "## Class images", 1))
    return "\n".join([*lines, *sections])
