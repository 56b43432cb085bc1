"""The network: cells of 2 mm in, the logit of a shaft in each out; most of the work is done on cells of 4 and 8 mm."""

from __future__ import annotations

from typing import Any

CHANNELS, WIDE, DILATIONS = 16, 32, (1, 2, 4, 1)
RARE = -4.0
"""Logit to begin with: few cells hold a shaft."""
MULTIPLE = 4
"""Cells along each side must be a multiple."""


def build() -> Any:
    """A torch module: (n, 2, K, J, I) float32 to (n, 1, K, J, I) logits. Raises MissingPackageError without torch."""
    try:
        import torch
        from torch import nn
    except ImportError:
        from ....geometry import MissingPackageError

        raise MissingPackageError("training the MR needle network needs torch: pip install torch") from None

    def layer(before: int, after: int, size: int = 3, step: int = 1, dilation: int = 1):
        padding = dilation * (size // 2) if step == 1 else 0
        return nn.Sequential(nn.Conv3d(before, after, size, step, padding, dilation, bias=False),
                             nn.BatchNorm3d(after), nn.ReLU())

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(layer(2, CHANNELS, 2, 2), layer(CHANNELS, CHANNELS))
            self.down = layer(CHANNELS, WIDE, 2, 2)
            self.deep = nn.ModuleList(layer(WIDE, WIDE, dilation=d) for d in DILATIONS)
            self.up = nn.ConvTranspose3d(WIDE, CHANNELS, 2, 2)
            self.join = nn.Sequential(layer(2 * CHANNELS, CHANNELS, 1), layer(CHANNELS, CHANNELS))
            self.last = nn.ConvTranspose3d(CHANNELS, 1, 2, 2)

        def forward(self, cells):
            fine = self.first(cells)
            wide = self.down(fine)
            for deep in self.deep:
                wide = wide + deep(wide)
            return self.last(self.join(torch.cat([self.up(wide), fine], 1)))

    net = Net()
    if net.last.bias is not None:
        nn.init.constant_(net.last.bias, RARE)
    return net
