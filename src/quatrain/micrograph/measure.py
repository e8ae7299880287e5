"""Properties of masks and of the regions of a label map, in px and in nm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.data.decode import PixelSize
from quatrain.micrograph.boost import BoostResult

MeasureRow = dict[str, Any]


def mask_rows(result: BoostResult, grey_HW: NDArray[np.uint8], size: PixelSize | None) -> list[MeasureRow]:
    """Return one row per kept mask: geometry in px and nm, grey, SAM's scores, material, vote share.

    Figures in nm use height and width of the pixels; they are None when the pixel size is not known. Eccentricity and
    orientation are those of the specimen when the pixels are not square.
    """
    from skimage.measure import perimeter, regionprops

    rows = []
    merging = result.merging
    for place, mask in enumerate(result.kept):
        inside = mask.inside()
        spacing = (size.y_nm / size.nm, size.x_nm / size.nm) if size else (1.0, 1.0)
        (shape,) = regionprops(inside.astype(np.uint8), spacing=spacing)
        seen = grey_HW[mask.window][inside]
        left, top, right, bottom = mask.box
        diameter_px, perimeter_px = 2 * math.sqrt(mask.area / math.pi), float(perimeter(inside))
        rows.append(
            {
                "mask": mask.index,
                "material": int(merging.material_N[place]),
                "vote_share": float(merging.confidence_N[place]),
                "low_support": bool(merging.low_support_N[place]),
                "area_px": mask.area,
                "area_nm2": size and mask.area * size.y_nm * size.x_nm,
                "equivalent_diameter_px": diameter_px,
                "perimeter_px": perimeter_px,
                "equivalent_diameter_nm": size and diameter_px * size.nm,
                "perimeter_nm": size and _perimeter_nm(inside, size),
                "solidity": float(shape.solidity),
                "eccentricity": float(shape.eccentricity),
                "orientation_rad": float(shape.orientation),
                "left_px": left,
                "top_px": top,
                "right_px": right,
                "bottom_px": bottom,
                "mean_grey": float(seen.mean()),
                "std_grey": float(seen.std()),
                "predicted_iou": mask.predicted_iou,
                "stability_score": mask.stability,
            }
        )
    return rows


def _perimeter_nm(inside_HW: NDArray[np.bool_], size: PixelSize) -> float:
    """Return the perimeter of a mask in nm; pixels that are not square are divided into square ones first."""
    from skimage.measure import perimeter

    side_nm = min(size.y_nm, size.x_nm)
    fine = [
        np.arange(0, extent * pixel_nm, side_nm) + side_nm / 2
        for extent, pixel_nm in zip(inside_HW.shape, (size.y_nm, size.x_nm), strict=True)
    ]
    rows, columns = (
        np.minimum((place // pixel_nm).astype(int), extent - 1)
        for place, pixel_nm, extent in zip(fine, (size.y_nm, size.x_nm), inside_HW.shape, strict=True)
    )
    return float(perimeter(inside_HW[rows[:, None], columns])) * side_nm


def region_diameters(labels_HW: NDArray[np.uint16], least_px: int) -> dict[int, list[float]]:
    """Return the equivalent diameters, in px, of each material's connected regions of at least `least_px` pixels."""
    diameters: dict[int, list[float]] = {}
    for material in range(1, int(labels_HW.max(initial=0)) + 1):
        parts, _ = ndimage.label(labels_HW == material)
        areas = np.bincount(parts.ravel())[1:]
        diameters[material] = np.sqrt(4 * areas[areas >= least_px] / np.pi).tolist()
    return diameters
