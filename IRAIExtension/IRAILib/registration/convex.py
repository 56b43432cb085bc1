"""Engine "convex": discrete search over all displacements, made smooth by a convex relaxation, then refined.

Self-similarity features (MIND-SSC) describe how each place differs from its own neighbourhood, which survives
another contrast phase or modality. A coarse search tries every displacement of a lattice at every control point
and alternates between picking the cheapest and smoothing; gradient descent on B-spline control points follows.
Voxels that are excluded on either side carry no cost. Sources: Heinrich 2013 (MIND-SSC), Heinrich 2014 (coupled
convex optimisation), Siebert 2021 (ConvexAdam); own implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .inputs import Work

COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Rising weight with which a picked displacement must agree with its smooth neighbourhood."""
COUPLING_UNIT = 0.02
COARSE_FACTOR = 2
FLOOR = 2.0


@dataclass(frozen=True)
class Stage:
    """One level of the descent: image blur and feature dilation (voxels), control spacing (voxels), steps."""

    blur: float
    dilation: int
    control: int
    steps: int
    rate: float
    bending: float


NOISY_STAGES = (Stage(3.0, 2, 10, 60, 0.3, 100.0), Stage(2.0, 2, 8, 60, 0.15, 100.0), Stage(1.0, 1, 6, 80, 0.05, 100.0))
CLEAR_STAGES = (Stage(3.0, 2, 10, 60, 0.3, 10.0), Stage(2.0, 2, 6, 60, 0.2, 3.0), Stage(0.5, 1, 3, 150, 0.1, 1.0))
CLEAR_SNR = 6.5
"""Structure over noise, inside the organ of the worse image: liver CT has 4 to 5.5 and needs a stiff field, lung CT 7.6
and deserves a supple one. Measured on simulated liver and on the lung pair of Docs/benchmarks.md."""
SEARCH_BLUR = 1.0
SAMPLES = 20000
CHOICE_SAMPLES = 100000
ORGAN_WEIGHT = 1.0
FEATURE_WEIGHT = 1.0
VALUE_WEIGHT = 1.0
ORGAN_REACH_MM = 8.0


def deform(work: Work, seed: int, progress: Callable[[float, str], None], *, search_mm: float = 24.0) -> np.ndarray:
    """(k, j, i, 3) float32 displacement in RAS mm on the working grid: fixed point to aligned moving point."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        pair = _Tensors(work, device)
        shift = _search(pair, search_mm / work.spacing_mm, lambda s: progress(0.4 * s, "deformable registration"))
        starts = [shift, torch.zeros_like(shift)]
        stages = stages_for(work)
        total, done = sum(stage.steps for stage in stages), 0
        for stage in stages:
            def tell(step: int, done: int = done) -> None:
                progress(0.4 + 0.6 * (done + step) / total, "deformable registration")

            shift = _descend(pair, starts, stage, tell)
            starts = [shift]
            done += stage.steps
    return pair.millimetres(shift)


def stages_for(work: Work) -> tuple[Stage, ...]:
    """Stiff or supple, by how far the organ's structure stands above the noise."""
    clarity = min(_structure_over_noise(image, (weight > 0.5) & work.organ) for image, weight in (
        (work.fixed, work.fixed_weight), (work.moving, work.moving_weight)))
    return CLEAR_STAGES if clarity > CLEAR_SNR else NOISY_STAGES


def _structure_over_noise(image: np.ndarray, keep: np.ndarray) -> float:
    from scipy import ndimage

    if np.count_nonzero(keep) < 100:
        return 0.0
    soft = image
    for axis in range(3):
        soft = ndimage.convolve1d(soft, [0.25, 0.5, 0.25], axis)
    noise = 1.4826 * float(np.median(np.abs(image - soft)[keep]))
    return float(ndimage.gaussian_filter(image, 1.5)[keep].std()) / max(noise, 1e-4)


class _Tensors:
    """The working pair as tensors; displacements are (3, k, j, i) in voxels, axis order (k, j, i)."""

    def __init__(self, work: Work, device: str) -> None:
        import torch

        self.device, self.shape, self.grid = device, work.grid.shape, work.grid
        self.spacing_mm = work.spacing_mm
        self.fixed, self.moving, self.fixed_weight, self.moving_weight = (
            torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(device)
            for a in (work.fixed, work.moving, work.fixed_weight, work.moving_weight))
        self.organs = None
        if work.fixed_organ_mm is not None and work.moving_organ_mm is not None:
            self.organs = tuple(torch.from_numpy((np.clip(a / ORGAN_REACH_MM, -1, 1)).astype(np.float32)).to(device)
                                for a in (work.fixed_organ_mm, work.moving_organ_mm))

    def millimetres(self, shift) -> np.ndarray:
        kji = np.moveaxis(shift.detach().cpu().numpy(), 0, -1)
        return (kji[..., ::-1] @ self.grid.ras_from_ijk[:3, :3].T).astype(np.float32)


def mind(image, dilation: int):
    """(12, k, j, i) self-similarity context of a (k, j, i) tensor, each 0 to 1.

    Six places at `dilation` voxels along the axes; every pair of them that isn't opposite is compared over a
    3x3x3 patch. Divided by the mean over the pairs, so that neither contrast nor noise level matters.
    """
    import torch
    import torch.nn.functional as functional

    places = torch.tensor([[d, 0, 0] for d in (-1, 1)] + [[0, d, 0] for d in (-1, 1)] + [[0, 0, d] for d in (-1, 1)])
    pad = dilation
    padded = functional.pad(image[None, None], (pad,) * 6, mode="replicate")[0, 0]
    depth, height, width = image.shape

    def moved(place):
        k, j, i = (int(pad + dilation * v) for v in place)
        return padded[k:k + depth, j:j + height, i:i + width]

    channels = []
    for a in range(6):
        for b in range(a + 1, 6):
            if int((places[a] * places[b]).sum()) == 0:
                difference = (moved(places[a]) - moved(places[b])) ** 2
                channels.append(functional.avg_pool3d(functional.pad(difference[None, None], (1,) * 6, "replicate"),
                                                      3, stride=1)[0, 0])
    stack = torch.stack(channels)
    stack -= stack.min(dim=0, keepdim=True).values
    scale = stack.mean(dim=0, keepdim=True)
    level = FLOOR * torch.quantile(scale[scale > 1e-8].flatten()[::7][:1_000_000], 0.5)
    return torch.exp(-stack / (scale + level))


def _search(pair: _Tensors, reach: float, tell: Callable[[float], None]):
    """Coupled convex search at half resolution; returns a displacement on the full grid."""
    import torch.nn.functional as functional

    fixed, moving = (functional.avg_pool3d(a[None, None], COARSE_FACTOR, ceil_mode=True)[0, 0]
                     for a in (pair.fixed, pair.moving))
    weights = [functional.avg_pool3d(a[None, None], COARSE_FACTOR, ceil_mode=True)[0, 0]
               for a in (pair.fixed_weight, pair.moving_weight)]
    organs = None if pair.organs is None else [
        functional.avg_pool3d(a[None, None], COARSE_FACTOR, ceil_mode=True)[0, 0] for a in pair.organs]
    steps = max(2, int(np.ceil(reach / COARSE_FACTOR / 2.0)))
    features = [mind(_blurred(image, SEARCH_BLUR), 1) for image in (fixed, moving)]
    cost, moves = _costs(features[0], features[1], weights, organs, steps, 2, tell)
    picked = _relax(cost, moves) * COARSE_FACTOR
    return functional.interpolate(picked[None], size=pair.shape, mode="trilinear", align_corners=False)[0]


def _costs(fixed, moving, weights, organs, steps: int, stride: int, tell):
    """Cost (moves, d, h, w) of every move at every control point, and the moves (n, 3) in coarse voxels."""
    import torch
    import torch.nn.functional as functional

    offsets = torch.arange(-steps, steps + 1) * stride
    moves = torch.stack(torch.meshgrid(offsets, offsets, offsets, indexing="ij"), -1).reshape(-1, 3)
    pad = int(steps * stride)
    depth, height, width = fixed.shape[1:]
    wide = functional.pad(moving[None], (pad,) * 6, mode="replicate")[0]
    wide_weight = functional.pad(weights[1][None, None], (pad,) * 6)[0, 0]
    wide_organ = None if organs is None else functional.pad(organs[1][None, None], (pad,) * 6, mode="replicate")[0, 0]
    costs = []
    for n, move in enumerate(moves.tolist()):
        k, j, i = (pad + m for m in move)
        window = (slice(k, k + depth), slice(j, j + height), slice(i, i + width))
        weight = weights[0] * wide_weight[window]
        cost = ((fixed - wide[(slice(None), *window)]) ** 2).mean(dim=0)
        if organs is not None and wide_organ is not None:
            cost = cost + ORGAN_WEIGHT * (organs[0] - wide_organ[window]) ** 2
        stacked = torch.stack([cost * weight, weight])[None]
        summed, share = functional.avg_pool3d(stacked, 2, ceil_mode=True)[0]
        costs.append(torch.stack([summed, share]))
        if n % 50 == 0:
            tell(n / len(moves))
    both = torch.stack(costs)
    share, total = both[:, 1], both[:, 0]
    known = share > 0.05
    mean = torch.where(known, total / share.clamp(min=1e-3), torch.zeros_like(total))
    level = mean.sum(0) / known.sum(0).clamp(min=1)
    cost = torch.where(known, mean, level[None]) * weights_at(weights[0])[None]
    return cost, moves.to(cost.dtype)


def weights_at(weight):
    """How much each control point's cost says: the share of its voxels that count."""
    import torch.nn.functional as functional

    return functional.avg_pool3d(weight[None, None], 2, ceil_mode=True)[0, 0]


def _smooth(field, times: int = 2):
    import torch.nn.functional as functional

    for _ in range(times):
        field = functional.avg_pool3d(functional.pad(field[None], (1,) * 6, mode="replicate"), 3, stride=1)[0]
    return field


def _relax(cost, moves):
    """Pick and smooth in turns; returns (3, k, j, i) displacement in coarse voxels at the coarse resolution."""
    import torch
    import torch.nn.functional as functional

    count, depth, height, width = cost.shape
    flat = cost.reshape(count, -1)
    smooth = None
    for coupling in (0.0, *COUPLING):
        total = flat
        if smooth is not None:
            away = ((moves[:, :, None] - smooth.reshape(1, 3, -1)) ** 2).sum(1)
            total = flat + coupling * COUPLING_UNIT * away
        picked = moves[total.argmin(dim=0)].T.reshape(3, depth, height, width)
        smooth = _smooth(picked)
    return functional.interpolate(smooth[None], scale_factor=2, mode="trilinear", align_corners=False)[0] \
        if smooth is not None else torch.zeros(3, depth * 2, height * 2, width * 2)


def _descend(pair: _Tensors, starts: list, stage: Stage, tell: Callable[[int], None]):
    """Adam on the control points of a smooth displacement, from the best start; returns it on the full grid."""
    import torch
    import torch.nn.functional as functional

    level = _Level(pair, stage)
    controls = [functional.interpolate(start[None], size=level.size, mode="trilinear", align_corners=True)[0]
                for start in starts]
    if len(controls) > 1:
        with torch.no_grad():
            costs = [float(level.loss(control, CHOICE_SAMPLES)) for control in controls]
        controls = [controls[int(np.argmin(costs))]]
    control = controls[0].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([control], lr=stage.rate)
    for step in range(stage.steps):
        for group in optimiser.param_groups:
            group["lr"] = stage.rate * (1.0 - 0.8 * step / stage.steps)
        optimiser.zero_grad()
        level.loss(control, SAMPLES).backward()
        optimiser.step()
        if step % 10 == 0:
            tell(step)
    with torch.no_grad():
        return functional.interpolate(_smooth(control)[None], size=pair.shape, mode="trilinear",
                                      align_corners=True)[0]


class _Level:
    """What one stage compares, and how well a displacement does."""

    def __init__(self, pair: _Tensors, stage: Stage) -> None:
        import torch

        # The blurred dark outside would otherwise count as tissue, and dark vessels with it.
        self.edge = 0.0 if pair.organs is None else -min(0.8, stage.blur * pair.spacing_mm / ORGAN_REACH_MM)
        self.stage = stage
        self.fixed, self.moving = (_Rows(pair, side, stage) for side in ("fixed", "moving"))
        self.size = [int(np.ceil(n / stage.control)) + 1 for n in pair.shape]
        self.indices = (pair.fixed_weight > 0.5).nonzero()
        self.sizes = torch.tensor(pair.shape, dtype=torch.float32, device=pair.device)
        self.step_voxels = (self.sizes - 1) / (torch.tensor(self.size, device=pair.device) - 1)

    def loss(self, control, samples: int):
        """Cost of (3, d, h, w) control points over random voxels that count on both sides."""
        import torch

        chosen = torch.randint(len(self.indices), (min(samples, len(self.indices)),), device=control.device)
        points = self.indices[chosen]
        smooth = _smooth(control)
        here, there = self.fixed.on(points), self.moving.at(points + _at(smooth[None], points, self.sizes).T)
        weight = there[:, -1].detach()
        cost = (_difference(here, there) * weight).sum() / weight.sum().clamp(min=1.0)
        inside = weight * (here[:, -2] <= self.edge) * (there[:, -2].detach() <= self.edge)
        cost = cost + VALUE_WEIGHT * _prediction(here[:, -3], there[:, -3], points / self.sizes - 0.5, inside)
        return cost + self.stage.bending * _bending(smooth, self.step_voxels)


def _difference(here, there):
    """(n,) cost between two sets of rows: features, and the organ's distance with its own weight."""
    squared = (here - there) ** 2
    return FEATURE_WEIGHT * squared[:, :-3].mean(1) + ORGAN_WEIGHT * squared[:, -2]


def _prediction(fixed, moving, place, weight):
    """Half the log of the share of the fixed image's variance that the moving image leaves unexplained.

    The fixed values (n,) are predicted by least squares from a cubic of the moving ones and a linear trend in
    `place` (n, 3), so that another contrast phase or a bias field doesn't count. Up to a constant this is the
    negative log likelihood per sample, so that noisy images pull less.
    """
    import torch

    m = moving - 0.5
    terms = torch.stack([torch.ones_like(m), m, m**2, m**3, *place.T], dim=1)
    normal = terms.T @ (terms * weight[:, None]) / weight.sum().clamp(min=1.0) + 1e-5 * torch.eye(7, device=m.device)
    right = terms.T @ (fixed * weight) / weight.sum().clamp(min=1.0)
    rest = fixed - terms @ torch.linalg.solve(normal, right)
    mean = (fixed * weight).sum() / weight.sum().clamp(min=1.0)
    variance = ((fixed - mean) ** 2 * weight).sum()
    return 0.5 * torch.log(((rest**2 * weight).sum() + 1e-6) / (variance + 1e-6))


def _blurred(image, sigma: float):
    """A (k, j, i) tensor after a Gaussian of `sigma` voxels."""
    import torch
    from scipy import ndimage

    if sigma <= 0.0:
        return image
    return torch.from_numpy(ndimage.gaussian_filter(image.cpu().numpy(), sigma, truncate=3.0)).to(image.device)


class _Rows:
    """Features, organ distance and weight of every voxel as one row, so that a sample reads one cache line."""

    def __init__(self, pair: _Tensors, side: str, stage: Stage) -> None:
        import torch

        image, weight = getattr(pair, side), getattr(pair, f"{side}_weight")
        organ = torch.zeros_like(image) if pair.organs is None else pair.organs[side == "moving"]
        soft = _blurred(image, stage.blur)
        features = mind(_blurred(image, 0.4 * stage.blur), stage.dilation)
        self.rows = torch.cat([features, soft[None], organ[None], weight[None]]).flatten(1).T.contiguous()
        self.shape = image.shape
        self.strides = torch.tensor([image.shape[1] * image.shape[2], image.shape[2], 1], device=image.device)
        self.upper = torch.tensor(image.shape, device=image.device) - 1

    def on(self, points):
        """(n, c) rows at whole voxels (n, 3)."""
        return self.rows[(points * self.strides).sum(1)]

    def at(self, points):
        """(n, c) rows at fractional voxels, linear, the border's beyond; differentiable in the points."""
        import torch

        points = torch.minimum(points.clamp(min=0.0), self.upper - 1e-3)
        low = points.detach().floor().long().clamp(min=0)
        low = torch.minimum(low, (self.upper - 1).clamp(min=0))
        share = points - low
        out = torch.zeros(len(points), self.rows.shape[1], device=points.device)
        for corner in range(8):
            bits = [(corner >> n) & 1 for n in (2, 1, 0)]
            weight = torch.ones_like(share[:, 0])
            for axis, bit in enumerate(bits):
                weight = weight * (share[:, axis] if bit else 1.0 - share[:, axis])
            base = ((low + torch.tensor(bits, device=low.device)) * self.strides).sum(1)
            out = out + self.rows[base] * weight[:, None]
        return out


def _at(volume, points, sizes):
    """(c, n) values of a (1, c, k, j, i) tensor at (n, 3) voxel points of the full grid, linear."""
    import torch.nn.functional as functional

    place = (2.0 * points / (sizes - 1) - 1.0).flip(-1)[None, :, None, None]
    return functional.grid_sample(volume, place, padding_mode="border", align_corners=True)[0, :, :, 0, 0]


def _bending(field, step_voxels):
    """Mean squared second derivative of a (3, k, j, i) field in voxels, with a little of the first."""
    total = 0.0
    for axis in range(3):
        first = field.diff(dim=axis + 1) / step_voxels[axis]
        total = total + 0.01 * (first**2).mean()
        second = first.diff(dim=axis + 1) / step_voxels[axis]
        total = total + (second**2).mean()
        other = (axis + 1) % 3
        mixed = first.diff(dim=other + 1) / step_voxels[other]
        total = total + 2.0 * (mixed**2).mean()
    return total
