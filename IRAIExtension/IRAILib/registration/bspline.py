"""Engine "bspline": free-form deformation by SimpleITK, which every Slicer carries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry.itk import set_sitk_grid
from .inputs import Work

CONTROL_MM = 30.0
SCALES = (1, 2)
ITERATIONS = 30
BINS = 40
SAMPLES = 20000


def deform(work: Work, seed: int, progress: Callable[[float, str], None]) -> np.ndarray:
    """(k, j, i, 3) float32 displacement in RAS mm on the working grid: fixed point to aligned moving point.

    Cubic B-spline, control points `CONTROL_MM` apart and halved by level, Mattes mutual information, L-BFGS.
    """
    import SimpleITK as sitk

    fixed_image, moving_image = (_image(array, work) for array in (work.fixed, work.moving))
    extent = np.array(work.grid.shape[::-1]) * work.grid.spacing_mm
    mesh = [max(2, round(float(e) / CONTROL_MM)) for e in extent]
    transform = sitk.BSplineTransformInitializer(fixed_image, mesh, 3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    keep = work.fixed_weight > 0.5
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / max(1, np.count_nonzero(keep))), seed)
    method.SetMetricFixedMask(_image(keep.astype(np.uint8), work))
    method.SetMetricMovingMask(_image((work.moving_weight > 0.5).astype(np.uint8), work))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-5, numberOfIterations=ITERATIONS, deltaConvergenceTolerance=1e-5)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransformAsBSpline(transform, inPlace=True, scaleFactors=list(SCALES))
    done = [0]

    def tell() -> None:
        done[0] += 1
        progress(min(0.99, done[0] / (len(SCALES) * ITERATIONS)), "deformable registration (B-spline)")

    method.AddCommand(sitk.sitkIterationEvent, tell)
    final = method.Execute(fixed_image, moving_image)
    field = sitk.TransformToDisplacementField(
        final, sitk.sitkVectorFloat64, fixed_image.GetSize(), fixed_image.GetOrigin(), fixed_image.GetSpacing(),
        fixed_image.GetDirection())
    return (sitk.GetArrayFromImage(field) * [-1.0, -1.0, 1.0]).astype(np.float32)


def _image(array: np.ndarray, work: Work):
    import SimpleITK as sitk

    return set_sitk_grid(sitk.GetImageFromArray(array), work.grid)
