"""LoRA adapters: put into a model, taken out, written so that plain diffusers reads them."""
