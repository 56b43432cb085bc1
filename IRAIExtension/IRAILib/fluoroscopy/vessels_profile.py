"""Diameters of vessels below the pixel: the projection of a round tube, blurred, fitted to each profile across.

By Beer and Lambert the logarithm of the beam falls with the length of the chord through the lumen, so that the profile
of a round tube of radius r is 2 mu sqrt(r^2 - s^2), seen through the system's blur. Radius, centre, depth and a sloping
ground are fitted to samples of the logarithm across the centreline. The blur is the frame's own: of a few, the one
that fits the wider vessels best.

Sources: Pappas and Lim, IEEE Trans. ASSP 36, 1988 (the model of lumen, ground and blur); Reiber et al., Circulation 71,
1985 (quantitative coronary angiography).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

STEP_PX = 0.5
ALONG_PX = (-1.0, 0.0, 1.0)
"""Profiles averaged along the vessel."""
BLURS_PX = (0.5, 0.8, 1.1, 1.5, 2.0, 2.6)
CENTRES_PX = np.arange(-1.5, 1.51, 0.25)
RATIO = 1.06
"""From one radius tried to the next."""
LEAST_RADIUS, MOST_RADIUS = 0.35, 40.0
GROUND_PX = 4.0
"""Of ground on either side, beside the vessel."""
LEAST_DEPTH_SIGMAS = 4.0
PRIOR_SPREAD = 0.25
"""Of the depth a millimetre of lumen, along a vessel filled with one mixture of contrast; what a thin vessel's fit
leaves open between depth and width is decided by its wider parts."""
CLASS_RATIO, BLOCK = 1.5, 1000
DEPTHS = (0.05, 0.15, 0.3, 0.5, 0.75, 1.1, 1.6)
OVERSAMPLED = 2.0
"""Samples of half a pixel share their noise: the variance of a fit grows by that."""


@dataclass(frozen=True)
class Profiles:
    """Fits at n places.

    Attributes:
        diameter_px, sigma_px: (n,) full width of the lumen and its standard error; NaN where nothing could be told.
        shift_px: (n,) of the vessel's middle along the normal from the place that was given.
        depth: (n,) fall of the logarithm in the vessel's middle without blur, in the unit of the frame's logarithm.
        half_width_px: (n,) full width at half depth, read off the profile; blur makes it too wide.
    """

    diameter_px: np.ndarray
    sigma_px: np.ndarray
    shift_px: np.ndarray
    depth: np.ndarray
    half_width_px: np.ndarray


def normals_of(points: np.ndarray) -> np.ndarray:
    """(n, 2) unit normals (x, y) of a line of (n, 2) points; one point alone has (0, 1)."""
    if len(points) < 2:
        return np.tile([0.0, 1.0], (len(points), 1))
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return np.stack([-along[:, 1], along[:, 0]], 1)


def sample_profiles(picture: np.ndarray, points: np.ndarray, normals: np.ndarray, reach_px: float
                    ) -> tuple[np.ndarray, np.ndarray]:
    """((n, m) samples across, NaN outside the picture; (m,) places along the normal in px).

    Args: picture, the spline coefficients (`spline_of`) of the logarithm; points (n, 2) x, y.
    """
    count = int(np.ceil(reach_px / STEP_PX))
    across = np.arange(-count, count + 1) * STEP_PX
    tangent = np.stack([normals[:, 1], -normals[:, 0]], 1)
    total = np.zeros((len(points), len(across)))
    for shift in ALONG_PX:
        at = (points + shift * tangent)[:, None, :] + across[None, :, None] * normals[:, None, :]
        total += ndimage.map_coordinates(picture, [at[..., 1], at[..., 0]], order=3, prefilter=False, mode="constant",
                                         cval=np.nan)
    return total / len(ALONG_PX), across


def spline_of(log: np.ndarray) -> np.ndarray:
    """Cubic spline coefficients of a picture, for `sample_profiles`."""
    return ndimage.spline_filter(log.astype(np.float64), order=3, mode="mirror")


@lru_cache(maxsize=64)
def _tubes(count: int, blur_px: float, high: float, depth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(radii (a,), templates (a, b, m), places (m,)): tubes of depth 1 at CENTRES_PX, as they look when their true
    depth is `depth` and the beam, not its logarithm, is blurred."""
    low = LEAST_RADIUS
    number = max(2, int(np.ceil(np.log(high / low) / np.log(RATIO))) + 1)
    radii = low * RATIO ** np.arange(number)
    places = np.arange(-count, count + 1) * STEP_PX
    fine = 0.05
    axis = np.arange(-(count * STEP_PX + 2.0 + 4 * blur_px), count * STEP_PX + 2.0 + 4 * blur_px, fine)
    templates = np.empty((len(radii), len(CENTRES_PX), len(places)))
    for n, radius in enumerate(radii):
        # the integral of the chord over each fine cell, so that a tube thinner than a cell keeps its area
        edge = np.clip(np.append(axis, axis[-1] + fine) - fine / 2, -radius, radius) / radius
        area = 0.5 * radius * (edge * np.sqrt(1 - edge**2) + np.arcsin(edge))
        sigma = np.hypot(blur_px, 1.0 / np.sqrt(12.0)) / fine  # a pixel's own width blurs as well
        shape = -np.log(ndimage.gaussian_filter1d(np.exp(-depth * np.diff(area) / fine), sigma)) / depth
        for m, centre in enumerate(CENTRES_PX):
            templates[n, m] = np.interp(places - centre, axis, shape)
    return radii, templates, places


def _fits(values: np.ndarray, weight: np.ndarray, blur_px: float, high: float, depth: float
          ) -> tuple[np.ndarray, ...]:
    """(radii (a,), gain (n, a, b): by how much a tube lowers the squared error of a sloping ground alone, depth
    (n, a, b), rest (n,): that error, weight (n, a, b): of the depth in the squared error)."""
    count = (values.shape[1] - 1) // 2
    radii, templates, s = _tubes(count, blur_px, high, depth)
    flat = templates.reshape(-1, len(s))
    y = np.where(weight > 0, values, 0.0)
    sums = [weight @ p for p in (np.ones_like(s), s, s * s)]
    determinant = np.maximum(sums[0] * sums[2] - sums[1] ** 2, 1e-9)

    def rest_of(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> np.ndarray:
        """The part of sum(w a b) that the ground 1, s explains."""
        s0, s1, s2, det = (v[:, None] if a0.ndim == 2 else v for v in (*sums, determinant))
        return (s2 * a0 * b0 - s1 * (a0 * b1 + a1 * b0) + s0 * a1 * b1) / det

    t0, t1, tt = weight @ flat.T, (weight * s) @ flat.T, weight @ np.square(flat).T
    y0, y1, yy = (weight * y).sum(1), (weight * y * s).sum(1), (weight * y * y).sum(1)
    yt = (weight * y) @ flat.T
    tube = np.maximum(tt - rest_of(t0, t1, t0, t1), 1e-9)
    both = yt - rest_of(y0[:, None], y1[:, None], t0, t1)
    found = both / tube
    gain = np.where(found > 0, np.square(both) / tube, 0.0)
    shape = len(values), len(radii), len(CENTRES_PX)
    return radii, gain.reshape(shape), found.reshape(shape), yy - rest_of(y0, y1, y0, y1), tube.reshape(shape)


@dataclass(frozen=True)
class Tube:
    """What is known before the fit: `blur_px` (sigma) and `fill`, depth of a lumen over its diameter; None: free."""

    blur_px: float = 1.0
    fill: np.ndarray | None = None


def fit_profiles(picture: np.ndarray, points: np.ndarray, normals: np.ndarray, radius_px: np.ndarray,
                 others: np.ndarray, tube: Tube) -> Profiles:
    """Diameters at n places.

    Args: picture of `spline_of`; points and unit normals (n, 2) x, y; radius_px (n,) as the mask has it; others
    (rows, columns) of the mask, so that a neighbour's pixels don't count as ground. Zero places give empty arrays.
    """
    out = {key: np.full(len(points), np.nan) for key in ("diameter", "sigma", "shift", "depth", "half")}
    if len(points):
        rough = np.clip(radius_px, 0.7, MOST_RADIUS / 2)
        classes = np.round(np.log(rough) / np.log(CLASS_RATIO)).astype(int)
        for number in np.unique(classes):
            own = np.flatnonzero(classes == number)
            high = min(2.0 * CLASS_RATIO ** (number + 0.5) + 1.0, MOST_RADIUS)
            for chosen in np.array_split(own, -(-len(own) // BLOCK)):
                values, across = sample_profiles(picture, points[chosen], normals[chosen], high + GROUND_PX)
                weight = own_weight(others, points[chosen], normals[chosen], across) * np.isfinite(values)
                fill = None if tube.fill is None else tube.fill[chosen]
                found = _best(np.nan_to_num(-values), weight, tube.blur_px, high, fill)
                for key, value in zip(out, found, strict=True):
                    out[key][chosen] = value
    return Profiles(out["diameter"], out["sigma"], out["shift"], out["depth"], out["half"])


def own_weight(mask: np.ndarray, points: np.ndarray, normals: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(n, m) 1 where a sample belongs to the vessel or its ground, 0 from where another vessel begins."""
    at = points[:, None, :] + across[None, :, None] * normals[:, None, :]
    inside = ndimage.map_coordinates(mask.astype(np.uint8), [at[..., 1], at[..., 0]], order=0, mode="nearest") > 0
    middle, weight = len(across) // 2, np.ones(inside.shape)
    inside[:, middle - 2:middle + 3] = True  # the own vessel, where the mask is thin
    for way in (slice(middle, None), slice(middle, None, -1)):
        half = inside[:, way]
        left = np.maximum.accumulate(np.logical_not(half), axis=1)  # has the profile left its own vessel yet?
        other = np.maximum.accumulate(left & half, axis=1)
        early = np.roll(other, -2, axis=1)  # one pixel before the other's edge: its blur
        early[:, -2:] = other[:, -1:]
        weight[:, way] = np.where(early, 0.0, weight[:, way])
    return weight


def _best(values: np.ndarray, weight: np.ndarray, blur_px: float, high: float, fill: np.ndarray | None
          ) -> tuple[np.ndarray, ...]:
    """(diameter, sigma, shift, depth, full width at half depth), each (n,); first as if thin, then with the depth."""
    out = _best_of(values, weight, blur_px, high, fill, DEPTHS[0])
    classes = np.abs(np.log(np.nan_to_num(out[3], nan=DEPTHS[0]).clip(1e-6)[:, None] / np.array(DEPTHS))).argmin(1)
    for number in np.unique(classes[classes > 0]):
        own = classes == number
        again = _best_of(values[own], weight[own], blur_px, high, None if fill is None else fill[own], DEPTHS[number])
        for old, new in zip(out, again, strict=True):
            old[own] = new
    return out


def _best_of(values: np.ndarray, weight: np.ndarray, blur_px: float, high: float, fill: np.ndarray | None,
             true_depth: float) -> tuple[np.ndarray, ...]:
    radii, gain, depth, rest, tube = _fits(values, weight, blur_px, high, true_depth)
    n = np.arange(len(values))
    free = np.maximum((weight > 0).sum(1) - 5.0, 1.0)
    noise = np.maximum(rest - gain.max((1, 2)), 1e-12) / free * OVERSAMPLED
    if fill is not None:
        expected = np.maximum(fill, 1e-9)[:, None, None] * 2.0 * radii[None, :, None]
        pull = noise[:, None, None] / np.square(PRIOR_SPREAD * expected)
        gain = gain - np.square(depth - expected) * tube * pull / (tube + pull)
    best = gain.reshape(len(values), -1).argmax(1)
    a, b = np.unravel_index(best, gain.shape[1:])
    step_r, curve_r = _vertex(gain, (n, a, b), 1)
    step_c, _ = _vertex(gain, (n, a, b), 2)
    diameter = 2.0 * radii[a] * RATIO ** step_r
    log_sigma = np.sqrt(2.0 * noise / np.maximum(curve_r, 1e-12)) * np.log(RATIO)
    sigma = diameter * log_sigma
    found, shift = depth[n, a, b], CENTRES_PX[b] + step_c * (CENTRES_PX[1] - CENTRES_PX[0])
    clear = (found > LEAST_DEPTH_SIGMAS * np.sqrt(noise / tube[n, a, b])) & (a < len(radii) - 1) & (log_sigma < 1.0)
    half = _half_width(values, weight, shift)
    return tuple(np.where(clear, value, np.nan) for value in (diameter, sigma, shift, found, half))


def _vertex(gain: np.ndarray, at: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int
            ) -> tuple[np.ndarray, np.ndarray]:
    """(place of the parabola's top within half a step, its curvature) along an axis of gain round its greatest."""
    size, index = gain.shape[axis], at[axis]
    middle = np.clip(index, 1, size - 2)
    below, here, above = (gain[tuple(middle + k if i == axis else at[i] for i in range(3))] for k in (-1, 0, 1))
    curve = 2.0 * here - below - above
    step = np.where(curve > 0, 0.5 * (above - below) / np.maximum(curve, 1e-30), 0.0)
    return np.clip(step + middle - index, -0.5, 0.5), np.maximum(curve, 0.0)


def _half_width(values: np.ndarray, weight: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(n,) full width at half depth between the ground on either side and the profile's top; NaN without ground."""
    out = np.full(len(values), np.nan)
    middle = values.shape[1] // 2
    for n, (row, w) in enumerate(zip(values, weight, strict=True)):
        centre = middle + round(float(np.nan_to_num(shift[n])) / STEP_PX)
        near = slice(max(centre - 2, 0), centre + 3)
        top = row[near].max() if row[near].size else np.nan
        edges = []
        for half, used in ((row[centre:], w[centre:] > 0), (row[centre::-1], w[centre::-1] > 0)):
            if used.sum() < 4:
                break
            level = 0.5 * (top + np.percentile(half[used], 15))
            under = np.flatnonzero((half < level) & used)
            if not len(under) or under[0] == 0:
                break
            k = under[0]
            edges.append((k - (level - half[k]) / (half[k - 1] - half[k] + 1e-12)) * STEP_PX)
        if len(edges) == 2:
            out[n] = edges[0] + edges[1]
    return out


def estimate_blur(picture: np.ndarray, points: np.ndarray, normals: np.ndarray, radius_px: np.ndarray,
                  mask: np.ndarray) -> float:
    """Sigma px of the frame's blur: of BLURS_PX what fits up to 150 places with radii over 1.5 px best.

    1.0 where there are fewer than 20 such places.
    """
    wide = np.flatnonzero((radius_px > 1.5) & (radius_px < 12.0))
    if len(wide) < 20:
        return 1.0
    chosen = wide[np.linspace(0, len(wide) - 1, min(150, len(wide))).astype(int)]
    reach = 2.0 * float(np.percentile(radius_px[chosen], 95)) + 1.0 + GROUND_PX
    values, across = sample_profiles(picture, points[chosen], normals[chosen], reach)
    weight = own_weight(mask, points[chosen], normals[chosen], across) * np.isfinite(values)
    scores = []
    for blur in BLURS_PX:
        _, gain, _, rest, _ = _fits(np.nan_to_num(-values), weight, blur, reach - GROUND_PX, 0.3)
        left = np.maximum(rest - gain.max((1, 2)), 1e-12) / np.maximum(rest, 1e-12)
        scores.append(float(np.median(np.log(left))))
    best = int(np.argmin(scores))
    if 0 < best < len(BLURS_PX) - 1:
        x, y = np.log(BLURS_PX[best - 1:best + 2]), scores[best - 1:best + 2]
        c = np.polyfit(x, y, 2)
        return float(np.exp(np.clip(-0.5 * c[1] / c[0], x[0], x[2]))) if c[0] > 0 else BLURS_PX[best]
    return BLURS_PX[best]
