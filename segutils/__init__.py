"""segutils: the small module that the course's notebooks call.

Each stage has a file of its own, from `images` to `training`. The folders (`annotations`, `doctor`, `explorer`,
`folder`, `models`, `tabletop`) hold what is larger, and what these files can do without.
"""

try:
    # Pictures in
    from segutils.images import DATA_DIR, ImageLoadError
    from segutils.images import load_image, load_mask, resize, sample_images

    # Models, and what they return
    from segutils.models import MaskRCNN_Tabletop_Weights, load_model, maskrcnn_tabletop, save_model
    from segutils.models.downloads import DownloadError
    from segutils.models.semantic import fcn_tabletop, load_semantic_model
    from segutils.inference import predict
    from segutils.tiles import predict_tiles
    from segutils.inside import trace, trace_back
    from segutils.predictions import filter_model_output, get_boolean_mask, inspect_model_output, to_semantic
    from segutils.roi_masks import RoIMasks

    # Pictures out
    from segutils.display import show
    from segutils.drawing import class_color, class_colors, draw_classes, draw_instances

    # The drawn worlds
    from segutils.tabletop import CATEGORIES, render_scene
    from segutils.sky import SKY_CATEGORIES, render_sky

    # Numbers and files from masks, and masks from files
    from segutils.annotations import Annotations, load_annotations
    from segutils.measuring import (
        from_polygons,
        measure_instances,
        save_label_image,
        to_coco,
        to_coco_dataset,
        to_labelme,
        to_polygons,
    )

    # Are the labels any good? And some to begin with
    from segutils.doctor import check_dataset
    from segutils.drafts import draft_labels

    # A folder of pictures
    from segutils.folder import read_results, segment_folder

    # How good is it?
    from segutils.average_precision import evaluate
    from segutils.error_types import find_errors
    from segutils.evaluation import (
        class_iou,
        confusion_matrix,
        count_mistakes,
        expected_calibration_error,
        mask_iou,
        match_instances,
        mean_iou,
        pixel_accuracy,
        precision_recall,
        reliability,
    )
    from segutils.swapping import predict_with_truth, shrink_masks

    # A model of one's own
    from segutils.new_classes import add_classes, replace_predictors
    from segutils.targets import check_targets, make_target
    from segutils.training import train
    from segutils.training_curve import plot_history
    from segutils.validation import validation_loss

    # Thresholds, live
    from segutils.explorer import explore, slide
except (ImportError, RuntimeError) as error:
    raise ImportError(
        f"segutils cannot be imported ({error}). In the course's folder, `python segutils/setup_check.py` says "
        "what is missing, and `python3 run.py` sets everything up."
    ) from error

__all__ = [
    "Annotations",
    "CATEGORIES",
    "DATA_DIR",
    "DownloadError",
    "ImageLoadError",
    "MaskRCNN_Tabletop_Weights",
    "RoIMasks",
    "SKY_CATEGORIES",
    "add_classes",
    "check_dataset",
    "check_targets",
    "class_color",
    "class_colors",
    "class_iou",
    "confusion_matrix",
    "count_mistakes",
    "draft_labels",
    "draw_classes",
    "draw_instances",
    "evaluate",
    "expected_calibration_error",
    "explore",
    "fcn_tabletop",
    "filter_model_output",
    "find_errors",
    "from_polygons",
    "get_boolean_mask",
    "inspect_model_output",
    "load_annotations",
    "load_image",
    "load_mask",
    "load_model",
    "load_semantic_model",
    "make_target",
    "mask_iou",
    "maskrcnn_tabletop",
    "match_instances",
    "mean_iou",
    "measure_instances",
    "pixel_accuracy",
    "plot_history",
    "precision_recall",
    "predict",
    "predict_tiles",
    "predict_with_truth",
    "read_results",
    "reliability",
    "render_scene",
    "render_sky",
    "replace_predictors",
    "resize",
    "sample_images",
    "save_label_image",
    "save_model",
    "segment_folder",
    "show",
    "shrink_masks",
    "slide",
    "to_coco",
    "to_coco_dataset",
    "to_labelme",
    "to_polygons",
    "to_semantic",
    "trace",
    "trace_back",
    "train",
    "validation_loss",
]
