"""Networks on crops of the lesion, trained inside the folds of an outcome model; public backbones from a folder."""

from .backbone import Backbone, load_backbone
from .crops import Crop, CropOptions, read_crop
from .folds import DeepColumns, DeepOptions
from .network import DeepNetwork, TrainingOptions, train_network

__all__ = ["Backbone", "Crop", "CropOptions", "DeepColumns", "DeepNetwork", "DeepOptions", "TrainingOptions",
           "load_backbone", "read_crop", "train_network"]
