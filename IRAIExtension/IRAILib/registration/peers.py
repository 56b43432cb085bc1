"""Optional engines that are other people's programs: picsl-greedy and itk-elastix, where installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry.itk import LPS_FROM_RAS, set_sitk_grid
from .inputs import Work

VALUES = 1000.0
GREEDY = "-d 3 -threads 2 -i fixed moving -o warp -m NCC 2x2x2 -n 100x60x30 -s 2.5vox 0.7vox -e 0.5 -gm mask"
ELASTIX_GRID_MM = 14.0


def deform(engine: str, work: Work, progress: Callable[[float, str], None]) -> np.ndarray:
    """(k, j, i, 3) float32 displacement in RAS mm on the working grid.

    Greedy takes a mask on the fixed side only. The packages live in this process: run the registration in a worker.
    """
    progress(0.0, f"deformable registration ({engine})")
    field = (_greedy if engine == "greedy" else _elastix)(work)
    progress(1.0, f"deformable registration ({engine})")
    return (field * np.diag(LPS_FROM_RAS)[:3]).astype(np.float32)


def _greedy(work: Work) -> np.ndarray:
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    def image(array: np.ndarray):
        return set_sitk_grid(sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32)), work.grid)

    greedy = Greedy3D()
    greedy.execute(GREEDY, fixed=image(work.fixed * VALUES), moving=image(work.moving * VALUES), warp=None,
                   mask=image(work.fixed_weight > 0.5))
    return sitk.GetArrayFromImage(greedy["warp"])


def _elastix(work: Work) -> np.ndarray:
    """Never pass `number_of_threads`: itk-elastix 0.25 crashes on it."""
    import itk

    def image(array: np.ndarray):
        out = itk.image_from_array(np.ascontiguousarray(array))
        matrix = LPS_FROM_RAS @ work.grid.ras_from_ijk
        out.SetSpacing([float(s) for s in work.grid.spacing_mm])
        out.SetOrigin([float(v) for v in matrix[:3, 3]])
        out.SetDirection(itk.matrix_from_array(np.ascontiguousarray(matrix[:3, :3] / work.grid.spacing_mm)))
        return out

    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("bspline", 3)
    settings["FinalGridSpacingInPhysicalUnits"] = [str(ELASTIX_GRID_MM)]
    settings["MaximumNumberOfIterations"] = ["400"]
    settings["NumberOfSpatialSamples"] = ["4000"]
    settings["Metric"] = ["AdvancedMattesMutualInformation"]
    settings["ErodeMask"] = ["false"]
    parameters.AddParameterMap(settings)
    moving = image(work.moving * np.float32(VALUES))
    _, found = itk.elastix_registration_method(
        image(work.fixed * np.float32(VALUES)), moving, parameter_object=parameters, log_to_console=False,
        fixed_mask=image((work.fixed_weight > 0.5).astype(np.uint8)),
        moving_mask=image((work.moving_weight > 0.5).astype(np.uint8)))
    return itk.array_from_image(itk.transformix_deformation_field(moving, found))
