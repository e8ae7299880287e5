"""Properties of masks and of the regions of a label map, in pixels and in nm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.micrograph.boost import Result

Row = dict[str, Any]


def mask_rows(result: Result, grey_HW: NDArray[np.uint8], pixel_nm: float | None) -> list[Row]:
    """Return one row a kept mask: geometry in px and nm, grey, SAM's scores, material, vote share.

    Figures in nm are None where the pixel size is not known.
    """
    from skimage.measure import regionprops

    rows = []
    merging = result.merging
    for place, mask in enumerate(result.kept):
        inside = mask.inside()
        (shape,) = regionprops(inside.astype(np.uint8))
        seen = grey_HW[mask.window][inside]
        left, top, right, bottom = mask.box
        lengths = {"equivalent_diameter": float(shape.equivalent_diameter_area), "perimeter": float(shape.perimeter)}
        rows.append(
            {
                "mask": mask.index,
                "material": int(merging.material_N[place]),
                "vote_share": float(merging.confidence_N[place]),
                "low_support": bool(merging.low_support_N[place]),
                "area_px": mask.area,
                "area_nm2": None if pixel_nm is None else mask.area * pixel_nm**2,
                **{f"{name}_px": value for name, value in lengths.items()},
                **{f"{name}_nm": None if pixel_nm is None else value * pixel_nm for name, value in lengths.items()},
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


def region_diameters(labels_HW: NDArray[np.uint16], least_px: int) -> dict[int, list[float]]:
    """Return the equivalent diameters, in px, of every material's connected regions of at least `least_px` pixels."""
    diameters: dict[int, list[float]] = {}
    for material in range(1, int(labels_HW.max(initial=0)) + 1):
        parts, _ = ndimage.label(labels_HW == material)
        areas = np.bincount(parts.ravel())[1:]
        diameters[material] = np.sqrt(4 * areas[areas >= least_px] / np.pi).tolist()
    return diameters
