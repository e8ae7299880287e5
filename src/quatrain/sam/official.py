"""segment_anything's classes; import them from here, because torchvision may need its stand-in first."""

from quatrain import compat

compat.torchvision_ops()

from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry  # noqa: E402 - see above
from segment_anything.modeling import (  # noqa: E402 - see above
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.image_encoder import get_rel_pos  # noqa: E402 - see above

__all__ = [
    "ImageEncoderViT",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "TwoWayTransformer",
    "get_rel_pos",
    "sam_model_registry",
]
