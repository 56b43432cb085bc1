"""Habitats: parts of a lesion that look alike, in one or several co-registered images.

Labels are ordered by mean intensity in the first image, so that habitat 1 is the darkest in every patient. For labels
that mean the same tissue in every patient, fit one model on a cohort (`fit_habitats`, inside the training folds) and
apply it to each patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...geometry import CancelledError, FrameMismatchError, InputError, Mask, MissingPackageError, RefusedError, Volume
from .extract import Feature, FeatureSet
from .merge import plain_feature, region_features
from .settings import Settings

METHODS = ("mixture", "kmeans")
CRITERIA = ("bic", "silhouette")
SMALLEST, LARGEST = 2, 6
MOST_VOXELS_FITTED = 2500
"""Of one patient; picked at random by the seed. Neighbouring voxels repeat each other, so more would only make a
criterion that counts voxels (BIC) overrate small differences."""
MOST_VOXELS_SILHOUETTE = 1000
FEWEST_VOXELS = 30
AXES_FACES = 2.0 / 3.0
"""Crofton's formula with three axes: area of a surface from the voxel faces that it crosses."""
VALIDATED_ON = "simulated mixtures and analytic bodies (tests); not on histology"


@dataclass(frozen=True, eq=False)
class HabitatModel:
    """Mixture or centres, in units of each channel's mean and standard deviation.

    Attributes:
        method: of `METHODS`. channels: number of images.
        offset, scale: (channels,) taken off, divided by.
        means: (n, channels), ordered by the first channel. covariances: (n, channels, channels). weights: (n,).
        criterion, scores: how n was chosen, score by n (BIC: lower is better; silhouette: higher).
        cases: patients it was fitted on.
        warnings: one line each.
    """

    method: str
    offset: np.ndarray
    scale: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    weights: np.ndarray
    criterion: str
    scores: Mapping[int, float]
    cases: int
    warnings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.means)

    def labels_of(self, points: np.ndarray) -> np.ndarray:
        """(m, channels) intensities to (m,) labels 1..n."""
        x = (np.asarray(points, float) - self.offset) / self.scale
        cost = np.empty((len(x), self.n))
        for n in range(self.n):
            away = x - self.means[n]
            if self.method == "kmeans":
                cost[:, n] = np.square(away).sum(axis=1)
                continue
            root = np.linalg.cholesky(self.covariances[n])
            white = np.linalg.solve(root, away.T)
            cost[:, n] = (np.square(white).sum(axis=0) + 2 * np.log(np.diag(root)).sum()
                          - 2 * np.log(max(self.weights[n], 1e-300)))
        return cost.argmin(axis=1) + 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, holds no patient's voxels; `from_dict` takes it back."""
        return {"method": self.method, "offset": self.offset.tolist(), "scale": self.scale.tolist(),
                "means": self.means.tolist(), "covariances": self.covariances.tolist(),
                "weights": self.weights.tolist(), "criterion": self.criterion,
                "scores": {str(n): value for n, value in self.scores.items()}, "cases": self.cases,
                "warnings": list(self.warnings), "frame": "intensities; no place", "validated_on": VALIDATED_ON}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HabitatModel:
        """Raises InputError for a dictionary that is no model."""
        try:
            arrays = {name: np.asarray(values[name], float) for name in
                      ("offset", "scale", "means", "covariances", "weights")}
            model = cls(values["method"], criterion=values["criterion"], cases=int(values["cases"]),
                        scores={int(n): float(value) for n, value in values["scores"].items()},
                        warnings=tuple(values.get("warnings", ())), **arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a habitat model: {error!r}") from None
        n, channels = model.means.shape if model.means.ndim == 2 else (0, 0)
        if model.method not in METHODS or n < 1 or model.offset.shape != (channels,) or (
                model.scale.shape != (channels,) or model.covariances.shape != (n, channels, channels)
                or model.weights.shape != (n,) or not all(np.isfinite(a).all() for a in arrays.values())):
            raise InputError("not a habitat model: its numbers don't fit together")
        return model


@dataclass(frozen=True, eq=False)
class Habitats:
    """The habitats of one lesion.

    Attributes:
        labels: (k, j, i) uint8 on `mask.grid`, 0 outside, 1..n by rising mean of the first image.
        mask: the lesion.
        model: that gave them.
        means: (n, channels) mean intensity of each habitat, NaN for one without a voxel.
        warnings: one line each.
    """

    labels: np.ndarray
    mask: Mask
    model: HabitatModel
    means: np.ndarray
    warnings: tuple[str, ...]

    @property
    def n(self) -> int:
        return self.model.n

    def masks(self) -> dict[str, Mask]:
        """`habitat1`... to its mask; only those with a voxel."""
        out = {}
        for n in range(1, self.n + 1):
            inside = self.labels == n
            if inside.any():
                out[f"habitat{n}"] = Mask(inside, self.mask.grid, f"habitat{n}", self.mask.frame_of_reference)
        return out

    def to_dict(self) -> dict[str, Any]:
        total = np.count_nonzero(self.mask.array)
        shares = np.bincount(self.labels[self.mask.array], minlength=self.n + 1)[1:] / total
        return {"n": self.n, "fractions": shares.tolist(),
                "means": [[None if np.isnan(v) else float(v) for v in row] for row in self.means],
                "model": self.model.to_dict(), "frame": "RAS, the mask's grid", "warnings": list(self.warnings)}


def habitats(images: Volume | Sequence[Volume], mask: Mask, *, n: int | None = None, method: str = "mixture",
             criterion: str | None = None, smallest_share: float = 0.02, smooth_mm: float = 0.0, seed: int = 0,
             model: HabitatModel | None = None, progress: Callable[[float, str], None] | None = None,
             cancelled: Callable[[], bool] | None = None) -> Habitats:
    """Divide a lesion into parts that look alike.

    Args:
        images: one, or several co-registered ones on one grid; order matters: the first orders the labels.
        mask: the lesion on the same grid, at least 30 voxels for a fit.
        n: number of habitats, 2 to 6; None chooses by `criterion`.
        method: "mixture" (Gaussian) or "kmeans".
        criterion: "bic" (mixture only) or "silhouette"; None: bic for a mixture, silhouette for k-means.
        smallest_share: a number of habitats that leaves one with a smaller share of the lesion isn't chosen.
        smooth_mm: standard deviation of a Gaussian inside the mask before; 0 for none.
        seed: of the fit.
        model: one fitted on a cohort, in place of a fit here.
        progress, cancelled: see `extract`.
    Returns: `Habitats`.
    Raises: EmptyMaskError; FrameMismatchError; InputError for too few voxels, NaN, constant intensity or settings;
        RefusedError where no division leaves every part large enough; MissingPackageError without scikit-learn.
    """
    case, own = (images, mask), model is None
    if model is None:
        model = fit_habitats([case], n=n, method=method, criterion=criterion, smallest_share=smallest_share,
                             smooth_mm=smooth_mm, seed=seed, progress=progress, cancelled=cancelled)
    points, raw = _points(case, smooth_mm)
    if points.shape[1] != len(model.offset):
        raise InputError(f"the habitat model needs {len(model.offset)} images, {points.shape[1]} were given")
    found = model.labels_of(points)
    if own:
        # The model is this lesion's own: order by the parts as they are cut, which at overlapping edges can differ.
        order = np.argsort([raw[found == k + 1, 0].mean() if (found == k + 1).any() else np.inf
                            for k in range(model.n)], kind="stable")
        rank = np.empty(model.n, int)
        rank[order] = np.arange(1, model.n + 1)
        found, model = rank[found - 1], _reordered(model, order)
    labels = np.zeros(mask.array.shape, np.uint8)
    labels[mask.array] = found
    means = np.array([raw[found == k + 1].mean(axis=0) if (found == k + 1).any() else np.full(raw.shape[1], np.nan)
                      for k in range(model.n)])
    warnings = list(model.warnings)
    warnings += [f"habitat{k + 1} has no voxel in {mask.name or 'this lesion'}" for k in range(model.n)
                 if not (found == k + 1).any()]
    return Habitats(labels, mask, model, means, tuple(warnings))


def fit_habitats(cases: Sequence[tuple[Volume | Sequence[Volume], Mask]], *, n: int | None = None,
                 method: str = "mixture", criterion: str | None = None, smallest_share: float = 0.02,
                 smooth_mm: float = 0.0, seed: int = 0, progress: Callable[[float, str], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> HabitatModel:
    """One model for a lesion or a cohort; every patient weighs the same number of voxels at most. See `habitats`."""
    criterion = _check_settings(n, method, criterion, smallest_share, smooth_mm)
    if not cases:
        raise InputError("habitats: no lesion was given")
    rng = np.random.default_rng(seed)
    parts = []
    for case in cases:
        points, _ = _points(case, smooth_mm)
        keep = rng.permutation(len(points))[:MOST_VOXELS_FITTED]
        parts.append(points[np.sort(keep)])
    channels = {part.shape[1] for part in parts}
    if len(channels) > 1:
        raise InputError("habitats: the same images are needed of every patient")
    points = np.concatenate(parts)
    if len(points) < FEWEST_VOXELS:
        raise InputError(f"habitats: {len(points)} voxels are too few to divide; {FEWEST_VOXELS} are needed")
    offset, scale = points.mean(axis=0), points.std(axis=0)
    if (scale <= 1e-9 * np.maximum(np.abs(offset), 1e-30)).any():
        raise InputError("habitats: an image is constant in the lesion, so there is nothing to divide")
    x = (points - offset) / scale
    tried: dict[int, tuple[float, Parts]] = {}
    for count in [n] if n is not None else range(SMALLEST, LARGEST + 1):
        if cancelled is not None and cancelled():
            raise CancelledError("habitats cancelled")
        if progress is not None:
            progress((count - SMALLEST) / (LARGEST - SMALLEST + 1), f"{count} habitats")
        fit = _fit(x, count, method, criterion, seed)
        if fit is not None and fit[1][3] >= smallest_share:
            tried[count] = fit
        if _is_past_its_best([score for score, _ in tried.values()], criterion):
            break
    if not tried:
        raise RefusedError(f"habitats: every division leaves a part below {smallest_share:.0%} of the lesion; it may "
                           "be uniform. Lower smallest_share, or don't divide it")
    best = (min if criterion == "bic" else max)(tried, key=lambda count: tried[count][0])
    means, covariances, weights, _ = tried[best][1]
    warnings = _notes(x, method, tried, best, criterion, seed)
    model = HabitatModel(method, offset, scale, means, covariances, weights, criterion,
                         {count: float(score) for count, (score, _) in tried.items()}, len(cases), tuple(warnings))
    return _reordered(model, np.argsort(means[:, 0], kind="stable"))


def _is_past_its_best(scores: list[float], criterion: str) -> bool:
    """Whether the last two numbers of habitats tried were both worse than the one before them."""
    sign = 1 if criterion == "bic" else -1
    return len(scores) > 2 and sign * scores[-1] > sign * scores[-3] and sign * scores[-2] > sign * scores[-3]


def _check_settings(n: int | None, method: str, criterion: str | None, smallest_share: float, smooth_mm: float) -> str:
    if method not in METHODS:
        raise InputError(f"habitats: method {method!r} is not known; give {' or '.join(METHODS)}")
    criterion = criterion or ("bic" if method == "mixture" else "silhouette")
    if criterion not in CRITERIA or (criterion == "bic" and method == "kmeans"):
        raise InputError(f"habitats: criterion {criterion!r} doesn't go with {method}; give silhouette"
                         + (" or bic" if method == "mixture" else ""))
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not SMALLEST <= n <= LARGEST):
        raise InputError(f"habitats: their number must be {SMALLEST} to {LARGEST}, got {n!r}")
    if not 0.0 <= smallest_share < 0.5:
        raise InputError(f"habitats: smallest_share must be from 0 to below 0.5, got {smallest_share!r}")
    if not 0.0 <= smooth_mm < 1000.0:
        raise InputError(f"habitats: smooth_mm must be 0 or positive, got {smooth_mm!r}")
    return criterion


def _points(case: tuple[Volume | Sequence[Volume], Mask], smooth_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(m, channels) intensities in the mask, smoothed and as they are."""
    from scipy import ndimage

    images, mask = case
    images = [images] if isinstance(images, Volume) else list(images)
    if not images:
        raise InputError("habitats: no image was given")
    mask.require_not_empty()
    smooth, raw = [], []
    for image in images:
        if not image.grid.same_grid(mask.grid):
            raise FrameMismatchError(f"{image.name or 'an image'} is not on the mask's grid; register and resample it")
        values = np.asarray(image.array[mask.array], np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{image.name or 'an image'}: NaN or infinite voxels inside the mask")
        raw.append(values)
        if smooth_mm > 0:
            start, shape = mask.bounding_box_kji()
            box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
            inside = mask.array[box]
            sigma = smooth_mm / mask.grid.spacing_kji_mm
            filled = np.where(inside, np.nan_to_num(np.asarray(image.array[box], np.float64)), 0.0)
            weight = ndimage.gaussian_filter(inside.astype(np.float64), sigma, mode="constant")
            values = (ndimage.gaussian_filter(filled, sigma, mode="constant") / np.maximum(weight, 1e-12))[inside]
        smooth.append(values)
    return np.stack(smooth, axis=1), np.stack(raw, axis=1)


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def _fit(x: np.ndarray, count: int, method: str, criterion: str, seed: int) -> tuple[float, Parts] | None:
    """Score, and (means, covariances, weights, smallest share); None where fewer than `count` parts came out."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingPackageError("habitats need scikit-learn; install it with: pip install scikit-learn") from None
    channels = x.shape[1]
    if len(np.unique(x, axis=0)) < count:
        return None
    score = None
    with threadpool_limits(1):  # small work: threads that wait for each other cost more than they bring
        if method == "mixture":
            fit = GaussianMixture(count, covariance_type="full", n_init=2, reg_covar=1e-4, random_state=seed).fit(x)
            labels = np.asarray(fit.predict(x))
            means, covariances, weights = fit.means_, fit.covariances_, fit.weights_
            score = float(fit.bic(x)) if criterion == "bic" else None
        else:
            near = KMeans(count, n_init=5, random_state=seed).fit(x)  # type: ignore[arg-type]
            labels, means = np.asarray(near.labels_), near.cluster_centers_
            weights = np.bincount(labels, minlength=count) / len(x)
            covariances = np.repeat(np.eye(channels)[None], count, axis=0)
        sizes = np.bincount(labels, minlength=count)
        if sizes.min() == 0:
            return None
        if score is None:
            score = silhouette_score(x, labels, sample_size=min(len(x), MOST_VOXELS_SILHOUETTE), random_state=seed)
    return float(score), (np.asarray(means), np.asarray(covariances), np.asarray(weights), float(sizes.min() / len(x)))


def _notes(x: np.ndarray, method: str, tried: Mapping[int, Any], best: int, criterion: str, seed: int) -> list[str]:
    lines = []
    if method == "mixture" and criterion == "bic":
        from sklearn.mixture import GaussianMixture

        whole = GaussianMixture(1, reg_covar=1e-4, random_state=seed).fit(x).bic(x)
        if whole <= tried[best][0]:
            lines.append("one habitat fits as well (BIC): the lesion may be uniform")
    if best == LARGEST and len(tried) > 1:
        lines.append(f"the largest number of habitats tried ({LARGEST}) fits best: there may be no clear number")
    return lines


def _reordered(model: HabitatModel, order: np.ndarray) -> HabitatModel:
    return replace(model, means=model.means[order], covariances=model.covariances[order],
                   weights=model.weights[order])


def habitat_radiomics(found: Habitats, image: Volume, settings: Settings | None = None, *,
                      progress: Callable[[float, str], None] | None = None,
                      cancelled: Callable[[], bool] | None = None) -> FeatureSet:
    """`habitat_features`, and `extract`'s features of every habitat that has voxels, keys led by its name."""
    measured = region_features(image, found.masks(), settings, progress=progress, cancelled=cancelled)
    return replace(measured, features={**habitat_features(found), **measured.features},
                   mask=found.mask.name or "mask", volume_ml=found.mask.volume_ml,
                   voxels=int(np.count_nonzero(found.mask.array)), warnings=(*found.warnings, *measured.warnings))


def habitat_features(found: Habitats) -> dict[str, Feature]:
    """Numbers of the habitats themselves.

    Returns: by key, `habitats__number`, `habitat1__fraction` (of the lesion's volume), `habitat1__volume` (mm3),
        `habitat1__mean`, `habitat1__largest_component` (share of the habitat in its largest part, connected over
        faces, edges and corners), `habitat1_2__interface` (mm2 between two habitats).
    """
    total = int(np.count_nonzero(found.mask.array))
    voxel_mm3 = found.mask.grid.voxel_volume_ml * 1000.0
    out = {"habitats__number": plain_feature(found.n, "Number of habitats", "habitat", "1")}
    for k in range(found.n):
        name, inside = f"habitat{k + 1}", found.labels == k + 1
        count = int(np.count_nonzero(inside))
        none = "the habitat has no voxel"
        out[f"{name}__fraction"] = plain_feature(count / total, "Volume fraction", "habitat", "1")
        out[f"{name}__volume"] = plain_feature(count * voxel_mm3, "Volume", "habitat", "mm3")
        out[f"{name}__mean"] = plain_feature(found.means[k, 0], "Mean intensity", "habitat", "intensity", none)
        out[f"{name}__largest_component"] = plain_feature(
            _largest_part(inside) / count if count else np.nan, "Share of largest component", "habitat", "1", none)
    for first in range(1, found.n + 1):
        for second in range(first + 1, found.n + 1):
            area = interface_mm2(found.labels, first, second, found.mask.grid.spacing_kji_mm)
            out[f"habitat{first}_{second}__interface"] = plain_feature(area, "Interface area", "habitat", "mm2")
    return out


def _largest_part(inside: np.ndarray) -> int:
    """Voxels of the largest part connected over faces, edges and corners; 0 for none."""
    from scipy import ndimage

    parts = np.zeros(inside.shape, np.int32)
    ndimage.label(inside, np.ones((3, 3, 3)), output=parts)
    return int(np.bincount(parts.ravel())[1:].max(initial=0))


def interface_mm2(labels: np.ndarray, first: int, second: int, spacing_kji_mm: np.ndarray) -> float:
    """Area between two labels in mm2, from the voxel faces that they share.

    Faces over-count a smooth surface by half on average over its directions (Crofton), which is taken off: right
    for surfaces that face every way, two thirds for one plane along the voxels.
    """
    spacing = np.asarray(spacing_kji_mm, float)
    area = 0.0
    for axis in range(3):
        low = labels.take(range(labels.shape[axis] - 1), axis=axis)
        high = labels.take(range(1, labels.shape[axis]), axis=axis)
        faces = np.count_nonzero(((low == first) & (high == second)) | ((low == second) & (high == first)))
        area += faces * float(np.prod(np.delete(spacing, axis)))
    return area * AXES_FACES
