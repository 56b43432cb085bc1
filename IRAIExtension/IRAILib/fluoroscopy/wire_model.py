"""The wire network in torch: a light U-Net over four frames; used to train, never to run."""

from __future__ import annotations

from typing import Any

from ..geometry import MissingPackageError

STRIDE = 2
"""A map pixel is that many picture pixels: map pixel m covers picture pixels 2m and 2m + 1."""


def build_wire_net() -> Any:
    """The torch module: (n, 4, H, W) features to (n, 2, H/2, W/2) logits of axis and tip. Raises MissingPackageError
    without torch. H and W are multiples of 32."""
    try:
        import torch
        from torch import nn
    except ImportError:
        raise MissingPackageError("training the wire network needs torch: pip install torch") from None

    def conv(before: int, after: int, size: int = 3, stride: int = 1, wide: int = 1) -> Any:
        return nn.Sequential(nn.Conv2d(before, after, size, stride, wide * (size // 2), dilation=wide, bias=False),
                             nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    class WireNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (16, 32, 48, 64, 80)
            self.first = nn.Sequential(conv(4, 16, 5, 2), conv(16, 16))
            self.down = nn.ModuleList([
                nn.Sequential(conv(widths[n], widths[n + 1], 3, 2), *(conv(widths[n + 1], widths[n + 1], 3, 1, wide)
                                                                      for wide in ((1,) if n < 2 else (1, 2))))
                for n in range(4)])
            self.across = nn.ModuleList([nn.Conv2d(widths[n + 1], widths[n], 1) for n in range(4)])
            self.up = nn.ModuleList([conv(widths[n], widths[n]) for n in range(4)])
            self.head = nn.Conv2d(16, 2, 1)
            if self.head.bias is not None:
                nn.init.constant_(self.head.bias, -4.0)  # most pixels are neither

        def forward(self, frames: Any) -> Any:
            levels = [self.first(frames)]
            for step in self.down:
                levels.append(step(levels[-1]))
            x = levels[-1]
            for n in (3, 2, 1, 0):
                x = torch.nn.functional.interpolate(self.across[n](x), scale_factor=2, mode="nearest")
                x = self.up[n](x + levels[n])
            return self.head(x)

    return WireNet()
