"""The network: a small U-shaped convolutional net over three frames. torch is imported when it is built."""

from __future__ import annotations

from typing import Any

WIDTHS = (16, 32, 64, 96, 128)
SCALARS = ("present", "in_plane", "visible_fraction", "log_sigma_along", "log_sigma_across", "log_sigma_angle")


def _parts() -> tuple[Any, Any]:
    """(convolution block, residual block): functions and classes that need torch."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
                             nn.ReLU(inplace=True))

    class Residual(nn.Module):
        def __init__(self, width: int, dilation: int = 1):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False),
                                       nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            return torch.relu(x + self.second(self.first(x)))

    return block, Residual


def build() -> Any:
    """A torch module: (n, 3, 192, 256) float 0..1 -> (maps (n, 2, 96, 128): tip and shaft logits; (n, 6) scalars).

    Scalars, in the order of SCALARS: two logits, a logit, and natural logarithms of standard deviations (the tip's
    along and across the shaft in map pixels, the direction's in degrees).
    Raises: MissingPackageError without torch.
    """
    from ....geometry import MissingPackageError

    try:
        import torch
        from torch import nn
    except ImportError:
        raise MissingPackageError("training needs torch: pip install torch") from None

    block, residual = _parts()

    class NeedleNet(nn.Module):
        def __init__(self):
            super().__init__()
            a, b, c, d, e = WIDTHS
            self.stem = block(3, a, 2)
            self.down = nn.ModuleList([
                nn.Sequential(block(a, b, 2), residual(b)), nn.Sequential(block(b, c, 2), residual(c)),
                nn.Sequential(block(c, d, 2), residual(d, 2)), nn.Sequential(block(d, e, 2), residual(e))])
            self.side = nn.ModuleList([nn.Conv2d(wide, thin, 1, bias=False)
                                       for wide, thin in ((e, d), (d, c), (c, b), (b, a))])
            self.up = nn.ModuleList([residual(d), residual(c), residual(b), block(a, a)])
            self.maps = nn.Conv2d(a, 2, 3, 1, 1)
            self.local = nn.Conv2d(b, 32, 1)
            self.scalars = nn.Sequential(nn.Linear(e * 2 + 32 * 3, 96), nn.ReLU(inplace=True),
                                         nn.Linear(96, len(SCALARS)))

        def forward(self, frames):
            x = self.stem(frames)  # differences of frames are linear in them: the first layer can form them
            skips = [x]
            for stage in self.down:
                x = stage(x)
                skips.append(x)
            deep = skips.pop()
            x = quarter = deep
            for side, up in zip(self.side, self.up, strict=True):
                quarter = x
                x = nn.functional.interpolate(side(x), scale_factor=2.0, mode="nearest")
                x = up(x + skips.pop())
            maps = self.maps(x)
            features = self.local(quarter).flatten(2)
            small = nn.functional.avg_pool2d(maps, 2).flatten(2)
            weight = torch.softmax(small.detach(), 2)
            at_tip = (features * weight[:, :1]).sum(2)
            at_shaft = (features * weight[:, 1:]).sum(2)
            pooled = torch.cat([deep.mean((2, 3)), deep.amax((2, 3)), at_tip, at_shaft, features.amax(2)], 1)
            return maps, self.scalars(pooled)

    return NeedleNet()
