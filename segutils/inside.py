"""Inside Mask R-CNN: one picture's way through the network, each number where it came from.

`trace` walks the stages of `segutils.inference`. In two places torchvision's modules give boxes without saying where
they came from; there it takes torchvision's own steps one by one, and writes down which rows each of them keeps.

The papers: Ren et al. 2015 (Faster R-CNN, arXiv 1506.01497) for anchors and proposals, Lin et al. 2016 (Feature Pyramid
Networks, arXiv 1612.03144) for the levels, He et al. 2017 (Mask R-CNN, arXiv 1703.06870) for RoIAlign and the masks.
"""

from math import log2, prod
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import (
    MultiScaleRoIAlign,
    batched_nms,
    box_area,
    box_iou,
    clip_boxes_to_image,
    remove_small_boxes,
)

from segutils.inference import (
    classify_proposals,
    extract_features,
    make_predictions,
    pool_proposals,
    predict_masks,
    prepare_images,
)
from segutils.predictions import Prediction


class Suppressed(NamedTuple):
    """What non-maximum suppression removed, and which box did it. Numbers as in the `..._kept` beside it."""

    rows: Tensor  # int64 [S], the removed boxes
    by: Tensor  # int64 [S], for each of them the box that was kept instead
    iou: Tensor  # float [S], of the two


class Trace(NamedTuple):
    """One picture's way through a Mask R-CNN: A anchors, P proposals, K classes with the background, N instances.

    All boxes but the prediction's are x1, y1, x2, y2 in pixels of the resized picture.

    `proposal_kept` and `detection_kept` are the two funnels: for each step, in order, the rows that come through it,
    int64. A row of `proposal_kept` is the number of an anchor. A row of `detection_kept` is the number of a pair of
    proposal and class: proposal * K + class.
    """

    # What goes in
    resized: Tensor  # float [3, H, W], normalised, and padded with 0 at the right and at the bottom
    resized_size: tuple[int, int]  # height and width without the padding
    original_size: tuple[int, int]
    # Backbone
    features: dict[str, Tensor]  # float [C, h, w] by level, the finest first
    # Region proposal network
    grids: list[tuple[int, int, int]]  # by level: rows, columns, anchors at each cell
    anchors: Tensor  # float [A, 4], level by level, row by row; `by_level` takes them apart
    objectness: Tensor  # float [A], logits
    anchor_deltas: Tensor  # float [A, 4], (dx, dy) in sides of the anchor, (dw, dh) as logarithms
    moved_anchors: Tensor  # float [A, 4], the anchors moved by their deltas
    clipped_anchors: Tensor  # float [A, 4], and cut off at the border of the picture
    proposal_kept: dict[str, Tensor]  # "top-k", "size", "score", "NMS", "cut"
    proposal_suppressed: Suppressed
    proposals: Tensor  # float [P, 4]
    # Box head
    proposal_levels: Tensor  # int64 [P], see `pyramid_level`
    pooled: Tensor  # float [P, C, 7, 7]
    class_logits: Tensor  # float [P, K], the background first
    box_deltas: Tensor  # float [P, K, 4], as `anchor_deltas`, times `model.roi_heads.box_coder.weights`
    class_boxes: Tensor  # float [P, K, 4], the proposals moved by their deltas and clipped
    detection_kept: dict[str, Tensor]  # "score", "size", "NMS", "cut"
    detection_suppressed: Suppressed
    detected_boxes: Tensor  # float [N, 4]
    # Mask head
    mask_logits: Tensor  # float [N, K, 28, 28]
    prediction: Prediction  # what `predict(model, [image])[0]` gives


@torch.no_grad()
def trace(model: MaskRCNN, image: Tensor) -> Trace:
    """Run a Mask R-CNN on one picture, and keep everything that it computes on the way.

    Args:
        model: any Mask R-CNN of torchvision, in eval mode.
        image: uint8 or float 0 to 1, [3, H, W].

    Raises `TypeError` or `ValueError` where `predict(model, [image])` does.
    """
    if isinstance(image, list | tuple):
        raise TypeError("trace looks at one picture, not at a list of them: trace(model, image).")
    batch = prepare_images(model, [image])
    [size] = batch.image_sizes
    features = extract_features(model, batch)

    maps = list(features.values())
    logit_maps, delta_maps = model.rpn.head(maps)
    [anchors] = model.rpn.anchor_generator(batch, maps)
    grids = [(*logits.shape[2:], logits.shape[1]) for logits in logit_maps]
    objectness, anchor_deltas = concat_box_prediction_layers(logit_maps, delta_maps)
    objectness = objectness.flatten()
    moved = model.rpn.box_coder.decode(anchor_deltas, [anchors]).view(-1, 4)
    clipped = clip_boxes_to_image(moved, size)
    proposal_kept, proposal_suppressed = filter_proposals(model.rpn, clipped, objectness, grids)
    proposals = clipped[proposal_kept["cut"]]

    pooled = pool_proposals(model, batch, features, [proposals])
    class_logits, box_deltas = classify_proposals(model, pooled)
    class_boxes = model.roi_heads.box_coder.decode(box_deltas, [proposals]).view(*class_logits.shape, 4)
    class_boxes, scores = clip_boxes_to_image(class_boxes, size), class_logits.softmax(-1)
    detection_kept, detection_suppressed = filter_detections(model.roi_heads, class_boxes, scores)
    rows = detection_kept["cut"]
    found = {
        "boxes": class_boxes.view(-1, 4)[rows],
        "scores": scores.flatten()[rows],
        "labels": rows % scores.shape[1],
    }
    mask_logits = predict_masks(model, batch, features, [found])
    return Trace(
        resized=batch.tensors[0],
        resized_size=size,
        original_size=batch.original_sizes[0],
        features={name: level[0] for name, level in features.items()},
        grids=grids,
        anchors=anchors,
        objectness=objectness,
        anchor_deltas=anchor_deltas,
        moved_anchors=moved,
        clipped_anchors=clipped,
        proposal_kept=proposal_kept,
        proposal_suppressed=proposal_suppressed,
        proposals=proposals,
        proposal_levels=pyramid_level(proposals, model.roi_heads.box_roi_pool),
        pooled=pooled,
        class_logits=class_logits,
        box_deltas=box_deltas.view(class_boxes.shape),
        class_boxes=class_boxes,
        detection_kept=detection_kept,
        detection_suppressed=detection_suppressed,
        detected_boxes=found["boxes"],
        mask_logits=mask_logits,
        prediction=make_predictions(batch, [found], mask_logits)[0],
    )


def filter_proposals(
    rpn: RegionProposalNetwork, boxes: Tensor, objectness: Tensor, grids: list[tuple[int, int, int]]
) -> tuple[dict[str, Tensor], Suppressed]:
    """The steps of torchvision's `RegionProposalNetwork.filter_proposals` for one picture, in rows of anchors.

    Takes the moved and clipped anchors [A, 4], their logits [A] and `Trace.grids`.
    """
    rows_of_levels = torch.arange(len(boxes), device=boxes.device).split([prod(grid) for grid in grids])
    levels = torch.cat([torch.full_like(rows, level) for level, rows in enumerate(rows_of_levels)])
    scores = objectness.sigmoid()
    k = rpn.pre_nms_top_n()
    best = [rows[objectness[rows].topk(min(k, len(rows))).indices] for rows in rows_of_levels]
    kept = {"top-k": torch.cat(best)}
    kept["size"] = kept["top-k"][remove_small_boxes(boxes[kept["top-k"]], rpn.min_size)]
    rows = kept["score"] = kept["size"][scores[kept["size"]] >= rpn.score_thresh]
    kept["NMS"] = rows[batched_nms(boxes[rows], scores[rows], levels[rows], rpn.nms_thresh)]
    kept["cut"] = kept["NMS"][: rpn.post_nms_top_n()]
    return kept, find_suppressors(boxes, scores, levels, rows, kept["NMS"], rpn.nms_thresh)


def filter_detections(heads: RoIHeads, boxes: Tensor, scores: Tensor) -> tuple[dict[str, Tensor], Suppressed]:
    """The steps of torchvision's `RoIHeads.postprocess_detections` for one picture, in rows of proposal and class.

    Takes the moved and clipped boxes [P, K, 4] and the classes' scores [P, K].
    """
    labels = torch.arange(scores.shape[1], device=scores.device).repeat(len(scores))
    boxes, scores = boxes.view(-1, 4), scores.flatten()
    kept = {"score": torch.where((scores > heads.score_thresh) & (labels > 0))[0]}
    rows = kept["size"] = kept["score"][remove_small_boxes(boxes[kept["score"]], min_size=1e-2)]
    kept["NMS"] = rows[batched_nms(boxes[rows], scores[rows], labels[rows], heads.nms_thresh)]
    kept["cut"] = kept["NMS"][: heads.detections_per_img]
    return kept, find_suppressors(boxes, scores, labels, rows, kept["NMS"], heads.nms_thresh)


def find_suppressors(
    boxes: Tensor, scores: Tensor, groups: Tensor, candidates: Tensor, kept: Tensor, iou_threshold: float
) -> Suppressed:
    """For each box that non-maximum suppression removed: the kept box that did it, and the IoU of the two.

    NMS keeps the best box, removes all that overlap it by more than the threshold, and goes on with the best of the
    rest. So a box was removed by the first one, in the order of scores, that was kept and overlaps it enough.

    Takes boxes [R, 4], scores [R] and groups [R] (levels or classes: two groups do not meet); of these rows, those
    that went into NMS, and those that came out, best first.
    """
    removed = candidates[~torch.isin(candidates, kept)]
    by, overlap = torch.full_like(removed, -1), torch.zeros(len(removed)).to(boxes)
    for group in groups[removed].unique():
        mine = torch.where(groups[removed] == group)[0]
        rivals = kept[groups[kept] == group]
        iou = box_iou(boxes[removed[mine]], boxes[rivals])
        iou[scores[rivals] < scores[removed[mine], None]] = 0
        # A small NMS shifts its boxes, which may round an IoU across the threshold: then the nearest one did it.
        enough = (iou.double() > iou_threshold) | (iou == iou.amax(dim=1, keepdim=True))
        first = enough.int().argmax(dim=1)
        by[mine], overlap[mine] = rivals[first], iou[torch.arange(len(mine)), first]
    return Suppressed(removed, by, overlap)


def by_level(trace: Trace, values: Tensor) -> list[Tensor]:
    """Split what has a value for each anchor into levels: [rows, columns, anchors at each cell, ...] for each.

    `by_level(trace, trace.objectness)[0].amax(dim=2)` is a heat map, `by_level(trace, trace.anchors)[0][4, 7]` holds
    the anchors of one cell.
    """
    parts = values.split([prod(grid) for grid in trace.grids])
    return [part.view(*grid, *values.shape[1:]) for grid, part in zip(trace.grids, parts)]


class Origin(NamedTuple):
    """Where an instance came from, in numbers that count the rows of a `Trace`."""

    label: int  # its class
    proposal: int
    proposal_level: int  # of the feature map that the proposal was pooled from
    anchor: int
    anchor_level: int
    row: int  # the anchor's cell in its level
    column: int
    shape: int  # which of the anchors at that cell


def trace_back(trace: Trace, instance: int) -> Origin:
    """Follow an instance back to its proposal, and to the anchor, level and cell that this came from.

    Raises `IndexError` when there is no such instance.
    """
    final = trace.detection_kept["cut"]
    if not 0 <= instance < len(final):
        raise IndexError(f"There is no instance {instance}: the trace has {len(final)}, counted from 0.")
    proposal, label = divmod(final[instance].item(), trace.class_logits.shape[1])
    anchor = position = trace.proposal_kept["cut"][proposal].item()
    level = 0
    while position >= prod(trace.grids[level]):
        position -= prod(trace.grids[level])
        level += 1
    _, columns, shapes = trace.grids[level]
    cell, shape = divmod(position, shapes)
    return Origin(
        label, proposal, trace.proposal_levels[proposal].item(), anchor, level, *divmod(cell, columns), shape
    )


def pyramid_level(boxes: Tensor, pooler: MultiScaleRoIAlign) -> Tensor:
    """Which feature map RoIAlign reads each box from, int64 [R]: the larger the box, the coarser. 0 is the finest.

    Equation 1 of Feature Pyramid Networks: floor(canonical_level + log2(side / canonical_scale)), where side is the
    square root of the box's area.

    Takes boxes [R, 4] in the resized picture, and `model.roi_heads.box_roi_pool` or `mask_roi_pool`. Raises
    `ValueError` if the model has not run yet: a pooler learns the scales of its feature maps in its first run.
    """
    if pooler.scales is None:
        raise ValueError(
            "The pooler learns its levels when the model first runs: call predict(model, [image]) once."
        )
    finest, coarsest = -int(log2(pooler.scales[0])), -int(log2(pooler.scales[-1]))
    side = box_area(boxes).sqrt()
    level = pooler.canonical_level + torch.log2(side / pooler.canonical_scale) + 1e-6  # against rounding
    return level.floor().clamp(finest, coarsest).long() - finest


def sampling_points(
    box: Tensor,
    output_size: tuple[int, int],
    sampling_ratio: int,
    spatial_scale: float,
    aligned: bool = False,
) -> Tensor:
    """Where RoIAlign reads a feature map: in each of rows x columns bins at s x s points, evenly. Nothing is rounded.

    Args:
        box: float [4] in the resized picture.
        output_size: rows and columns.
        sampling_ratio: s, at least 1; `ValueError` otherwise.
        spatial_scale: side of the feature map / side of the picture, for instance 1/4.
        aligned: False, as in torchvision's models, takes the picture's corner (0, 0) for the centre of the first cell.
            True takes it for the corner of that cell, and so reads half a cell further left and up.

    Returns:
        float [rows, columns, s, s, 2], x and y in cells; (0, 0) is the centre of the first cell.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio must be at least 1 here, not {sampling_ratio}.")
    left, top, right, bottom = box * spatial_scale - (0.5 if aligned else 0)
    axes = []
    for start, end, bins in ((left, right, output_size[1]), (top, bottom, output_size[0])):
        side = (end - start if aligned else (end - start).clamp(min=1)) / bins
        within = (torch.arange(sampling_ratio, device=box.device) + 0.5) * side / sampling_ratio
        axes.append(start + torch.arange(bins, device=box.device)[:, None] * side + within)
    x, y = axes  # [columns, s] and [rows, s]
    return torch.stack(torch.broadcast_tensors(x[None, :, None, :], y[:, None, :, None]), dim=-1)


def roi_align_by_hand(
    feature: Tensor,
    box: Tensor,
    output_size: tuple[int, int],
    sampling_ratio: int,
    spatial_scale: float,
    aligned: bool = False,
) -> Tensor:
    """RoIAlign of one box as a loop, for reading. `torchvision.ops.roi_align` does the same, fast.

    Takes one feature map, float [C, H, W], and what `sampling_points` takes.

    Returns float [C, rows, columns], the mean of the sampling points in each bin.
    """
    points = sampling_points(box, output_size, sampling_ratio, spatial_scale, aligned)
    pooled = feature.new_zeros(len(feature), *output_size)
    for row in range(output_size[0]):
        for column in range(output_size[1]):
            samples = [mix_cells(feature, x, y) for x, y in points[row, column].view(-1, 2).tolist()]
            pooled[:, row, column] = torch.stack(samples).mean(dim=0)
    return pooled


def mix_cells(feature: Tensor, x: float, y: float) -> Tensor:
    """A feature map's value at any point, float [C]: of the four cells around it, the nearer ones count for more."""
    _, height, width = feature.shape
    if not (-1 <= x <= width and -1 <= y <= height):  # more than a cell outside
        return feature.new_zeros(len(feature))
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = torch.lerp(feature[:, top, left], feature[:, top, right], x - left)
    lower = torch.lerp(feature[:, bottom, left], feature[:, bottom, right], x - left)
    return torch.lerp(upper, lower, y - top)
