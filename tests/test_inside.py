"""trace: equal to torchvision's own modules at every stage, and every row leads back to where it came from."""

import pytest
import torch
from test_inference import BUILDERS, DEVICES, SMALL
from torch.nn.functional import interpolate
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, nms, roi_align
from unchanged import unchanged

from segutils import load_image, load_model, predict, render_scene, sample_images, trace, trace_back
from segutils.inference import (
    classify_proposals,
    extract_features,
    pool_proposals,
    prepare_images,
    propose_boxes,
    select_detections,
)
from segutils.inside import (
    by_level,
    filter_detections,
    filter_proposals,
    find_suppressors,
    pyramid_level,
    roi_align_by_hand,
    sampling_points,
)


def firing(build):
    """COCO's architecture with random weights, all of whose parts have something to do.

    The RPN's biases give anchors of different shapes different scores and moves, and the box head's let a few classes
    fire in every proposal, so that NMS removes some and the cut some more.
    """
    model = build(weights=None, weights_backbone=None, **SMALL | {"box_score_thresh": 0.05})
    with torch.no_grad():
        model.rpn.head.cls_logits.bias.copy_(torch.linspace(-1, 1, 3))
        model.rpn.head.bbox_pred.bias.uniform_(-0.3, 0.3)
        model.roi_heads.box_predictor.cls_score.bias[[0, 1, 17, 47]] = 6.0
        model.roi_heads.box_predictor.bbox_pred.bias.uniform_(-1, 1)
    return model


MODELS = {
    "tabletop": BUILDERS["tabletop"],
    "v1": lambda: firing(maskrcnn_resnet50_fpn),
    "v2": lambda: firing(maskrcnn_resnet50_fpn_v2),
    "one map": BUILDERS["one map"],
}


@pytest.fixture(scope="module")
def pictures():
    """Landscape, portrait, and a small grey one."""
    portrait = load_image(sample_images()["half_hidden"]).transpose(1, 2)
    return [render_scene(68)[0], portrait, torch.full((3, 50, 70), 128, dtype=torch.uint8)]


@pytest.fixture(scope="module", params=[(name, device) for name in MODELS for device in DEVICES], ids=str)
def model(request):
    name, device = request.param
    torch.manual_seed(0)
    return MODELS[name]().eval().to(device)


@pytest.fixture(scope="module")
def traces(model, pictures):
    return [trace(model, picture) for picture in pictures]


def test_every_stage_equals_torchvision_s_modules(model, pictures, traces):
    heads, removed = model.roi_heads, 0
    assert sum(len(found.prediction["scores"]) for found in traces) > 5
    for picture, found in zip(pictures, traces):
        with torch.no_grad():
            images, _ = model.transform([(picture / 255).to(next(model.parameters()))])
            features = model.backbone(images.tensors)
            features = {"0": features} if isinstance(features, torch.Tensor) else features
            logits, deltas = model.rpn.head(list(features.values()))
            proposals, _ = model.rpn(images, features)
            pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
            class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
            boxes, scores, labels = heads.postprocess_detections(
                class_logits, box_deltas, proposals, images.image_sizes
            )
            mask_pooled = heads.mask_roi_pool(features, boxes, images.image_sizes)
            mask_logits = heads.mask_predictor(heads.mask_head(mask_pooled))

        assert torch.equal(found.resized, images.tensors[0])
        assert (found.resized_size, found.original_size) == (images.image_sizes[0], picture.shape[1:])
        assert found.features.keys() == features.keys()
        assert all(torch.equal(found.features[name], features[name][0]) for name in features)
        assert torch.equal(found.anchors, model.rpn.anchor_generator(images, list(features.values()))[0])
        for level, (ours, theirs) in enumerate(zip(by_level(found, found.objectness), logits, strict=True)):
            assert torch.equal(ours.permute(2, 0, 1), theirs[0])
            moves = by_level(found, found.anchor_deltas)[level]
            assert torch.equal(moves.permute(2, 3, 0, 1).flatten(0, 1), deltas[level][0])
        assert torch.equal(found.proposals, proposals[0])
        assert torch.equal(found.pooled, pooled)
        assert torch.equal(found.class_logits, class_logits)
        assert torch.equal(found.box_deltas.flatten(1), box_deltas)
        rows = found.detection_kept["cut"]
        assert torch.equal(found.detected_boxes, boxes[0])
        assert torch.equal(found.class_logits.softmax(-1).flatten()[rows], scores[0])
        assert torch.equal(rows % class_logits.shape[1], labels[0])
        assert torch.equal(found.mask_logits, mask_logits)
        removed += len(found.proposal_suppressed.rows) + len(found.detection_suppressed.rows)

        [expected] = predict(model, [picture])
        assert found.prediction.keys() == expected.keys()
        for key in ("boxes", "labels", "scores"):
            assert torch.equal(found.prediction[key], expected[key])
        assert torch.equal(found.prediction["masks"].probs, expected["masks"].probs)
        assert torch.equal(found.prediction["masks"].boxes, expected["masks"].boxes)
        assert found.prediction["masks"].image_size == expected["masks"].image_size
    assert removed > 20


def test_several_pictures_in_a_batch(model, pictures):
    """The rows kept in each picture of a batch give the boxes that torchvision gives for the batch."""
    batch = prepare_images(model, pictures)
    features = extract_features(model, batch)
    proposals = propose_boxes(model, batch, features)
    class_logits, box_deltas = classify_proposals(model, pool_proposals(model, batch, features, proposals))
    detections = select_detections(model, batch, proposals, class_logits, box_deltas)
    with torch.no_grad():
        logits, deltas = model.rpn.head(list(features.values()))
    anchors = model.rpn.anchor_generator(batch, list(features.values()))[0]
    grids = [(*level.shape[2:], level.shape[1]) for level in logits]
    counts = [len(boxes) for boxes in proposals]
    assert len(set(batch.image_sizes)) > 1 and min(counts) > 0
    for number, size in enumerate(batch.image_sizes):
        # Anchors are counted level by level, row by row, and in each cell shape by shape.
        objectness = torch.cat([level[number].permute(1, 2, 0).flatten() for level in logits])
        moves = torch.cat([level[number].permute(1, 2, 0).reshape(-1, 4) for level in deltas])
        moved = clip(model.rpn.box_coder.decode(moves, [anchors])[:, 0], size)
        kept, _ = filter_proposals(model.rpn, moved, objectness, grids)
        assert torch.equal(moved[kept["cut"]], proposals[number])

        scores = class_logits.split(counts)[number].softmax(-1)
        moved = model.roi_heads.box_coder.decode(box_deltas.split(counts)[number], [proposals[number]])
        moved = clip(moved, size)
        kept, _ = filter_detections(model.roi_heads, moved, scores)
        found = detections[number]
        assert torch.equal(moved.view(-1, 4)[kept["cut"]], found["boxes"])
        assert torch.equal(scores.flatten()[kept["cut"]], found["scores"])
        assert torch.equal(kept["cut"] % scores.shape[1], found["labels"])


def clip(boxes, size):
    height, width = size
    return torch.stack([boxes[..., i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=-1)


def test_each_step_keeps_rows_of_the_step_before(traces):
    for found in traces:
        for start, kept in (
            (len(found.anchors), found.proposal_kept),
            (found.class_logits.numel(), found.detection_kept),
        ):
            before = set(range(start))
            for rows in kept.values():
                assert rows.dtype == torch.int64 and len(set(rows.tolist())) == len(rows)
                assert set(rows.tolist()) <= before
                before = set(rows.tolist())
        assert list(found.proposal_kept) == ["top-k", "size", "score", "NMS", "cut"]
        assert list(found.detection_kept) == ["score", "size", "NMS", "cut"]


def test_every_instance_leads_back_to_its_anchor(model, traces):
    for found in traces:
        scale = torch.tensor(found.original_size) / torch.tensor(found.resized_size)
        for i, label in enumerate(found.prediction["labels"].tolist()):
            origin = trace_back(found, i)
            assert origin.label == label
            box = found.class_boxes[origin.proposal, origin.label]
            assert torch.equal(box, found.detected_boxes[i])
            expected = box.cpu() * scale.flip(0).repeat(2)
            assert torch.allclose(expected, found.prediction["boxes"][i].cpu(), atol=1e-3)
            score = found.class_logits[origin.proposal].softmax(-1)[label]
            assert torch.allclose(score, found.prediction["scores"][i])

            assert torch.equal(found.clipped_anchors[origin.anchor], found.proposals[origin.proposal])
            cell = by_level(found, found.anchors)[origin.anchor_level][origin.row, origin.column]
            anchor = found.anchors[origin.anchor]
            assert torch.equal(cell[origin.shape], anchor)
            # The anchor lies centred on its cell's corner: row and column times the stride.
            height, width = list(found.features.values())[origin.anchor_level].shape[1:]
            strides = (found.resized.shape[2] // width, found.resized.shape[1] // height)
            centre = (anchor[:2] + anchor[2:]) / 2
            assert centre.tolist() == [origin.column * strides[0], origin.row * strides[1]]

            mask = found.mask_logits.sigmoid()[i, origin.label]
            assert torch.equal(mask, found.prediction["masks"].probs[i, 0])
    count = len(found.prediction["labels"])
    for i in (-1, count):
        with pytest.raises(
            IndexError, match=f"There is no instance {i}: the trace has {count}, counted from 0"
        ):
            trace_back(found, i)


def test_proposals_are_pooled_from_their_level(model, traces):
    pooler = model.roi_heads.box_roi_pool
    for found in traces:
        if pooler.map_levels is not None and len(pooler.scales) > 1:
            assert torch.equal(found.proposal_levels, pooler.map_levels([found.proposals]))
            boxes = torch.rand(2000, 4, device=found.proposals.device) * 300
            boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] * 3
            boxes[:5, 2:] = boxes[:5, :2]  # no area
            levels = pyramid_level(boxes, pooler)
            assert torch.equal(levels, pooler.map_levels([boxes]))
            assert len(levels.unique()) == len(pooler.scales)
        maps = [found.features[name] for name in found.features if name in pooler.featmap_names]
        for row in range(0, len(found.proposals), 10):
            level = found.proposal_levels[row]
            by_hand = roi_align_by_hand(
                maps[level][:8],
                found.proposals[row],
                pooler.output_size,
                pooler.sampling_ratio,
                pooler.scales[level],
            )
            # Features of random weights run to 50 and more, where float32 itself is no finer than 4e-6.
            largest = max(1, maps[level].abs().max().item())
            assert torch.allclose(by_hand, found.pooled[row, :8], rtol=0, atol=1e-5 * largest)


def test_sides_just_at_the_edge_between_two_levels_are_rounded_alike():
    pooler = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=160)
    with pytest.raises(ValueError, match=r"when the model first runs: call predict\(model, \[image\]\) once"):
        pyramid_level(torch.zeros(1, 4), pooler)
    maps = {str(i): torch.zeros(1, 1, 64 >> i, 64 >> i) for i in range(3)}
    pooler(maps, [torch.tensor([[0.0, 0, 9, 9]])], [(256, 256)])
    sides = torch.tensor([80.0, 160.0, 320.0])[:, None] * (1 + torch.linspace(-2e-6, 2e-6, 41))
    boxes = torch.stack([torch.zeros(123), torch.zeros(123), sides.flatten(), sides.flatten()], dim=1)
    levels = pyramid_level(boxes, pooler)
    assert torch.equal(levels, pooler.map_levels([boxes]))
    assert set(levels.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("output_size", [(7, 7), (3, 5)])
def test_roi_align_by_hand(aligned, sampling_ratio, output_size):
    torch.manual_seed(0)
    feature = torch.randn(4, 20, 33)
    boxes = torch.tensor(
        [
            [20.0, 10, 90, 61],
            [21.3, 10.7, 23.1, 11.9],  # smaller than a cell
            [0, 0, 132, 80],  # all of it
            [-30, -20, 30, 25],  # beyond the border
            [100, 50, 180, 120],
            [300, 300, 400, 400],  # outside
            [50, 30, 50, 30],  # no area
        ]
    )
    expected = roi_align(feature[None], [boxes], output_size, 0.25, sampling_ratio, aligned)
    for box, wanted in zip(boxes, expected):
        with unchanged(feature, box):
            pooled = roi_align_by_hand(feature, box, output_size, sampling_ratio, 0.25, aligned)
        assert torch.allclose(pooled, wanted, rtol=0, atol=1e-5)


def test_sampling_points_lie_evenly_in_their_bins():
    box = torch.tensor([8.0, 16, 36, 44])  # 7 x 7 cells of stride 4, from column 2 and row 4 on
    points = sampling_points(box, (7, 7), 2, 0.25)
    assert points.shape == (7, 7, 2, 2, 2)
    assert points[0, 0].tolist() == [[[2.25, 4.25], [2.75, 4.25]], [[2.25, 4.75], [2.75, 4.75]]]
    assert torch.equal(points[1:] - points[:-1], torch.tensor([0.0, 1.0]).expand(6, 7, 2, 2, 2))  # y alone
    assert torch.equal(sampling_points(box, (7, 7), 2, 0.25, aligned=True), points - 0.5)
    for ratio in (0, -1):
        with pytest.raises(ValueError, match=f"sampling_ratio must be at least 1 here, not {ratio}"):
            sampling_points(box, (7, 7), ratio, 0.25)


def test_who_suppressed_whom(model, traces):
    for found in traces:
        scores = found.objectness.sigmoid()
        levels = torch.cat([torch.full(grid, i).flatten() for i, grid in enumerate(found.grids)]).to(
            scores.device
        )
        check_suppression(
            found.clipped_anchors,
            scores,
            levels,
            found.proposal_kept["score"],
            found.proposal_kept["NMS"],
            model.rpn.nms_thresh,
            found.proposal_suppressed,
        )
        scores = found.class_logits.softmax(-1)
        check_suppression(
            found.class_boxes.view(-1, 4),
            scores.flatten(),
            torch.arange(scores.numel(), device=scores.device) % scores.shape[1],
            found.detection_kept["size"],
            found.detection_kept["NMS"],
            model.roi_heads.nms_thresh,
            found.detection_suppressed,
        )


def check_suppression(boxes, scores, groups, candidates, kept, threshold, suppressed):
    """Each candidate was either kept or removed, by a kept box of its group that is better and overlaps it.

    The NMS of few boxes shifts them to keep the groups apart, which moves an IoU by about 1e-4.
    """
    rows, by, iou = suppressed
    assert sorted([*rows.tolist(), *kept.tolist()]) == sorted(candidates.tolist())
    assert set(by.tolist()) <= set(kept.tolist())
    assert torch.equal(groups[rows], groups[by])
    assert (scores[by] >= scores[rows]).all()
    for row, other, overlap in list(zip(rows, by, iou))[::20]:
        assert torch.equal(overlap, box_iou(boxes[row][None], boxes[other][None])[0, 0])
        better = kept[(groups[kept] == groups[row]) & (scores[kept] > scores[other])]
        assert (box_iou(boxes[row][None], boxes[better]) < threshold + 1e-3).all()
    assert (iou > threshold - 1e-3).all()


def test_the_suppressor_is_the_best_box_that_was_not_suppressed_itself():
    starts = torch.tensor([0.0, 2, 4, 2, 4, 50])
    boxes = torch.stack([starts, torch.zeros(6), starts + 10, torch.full((6,), 10.0)], dim=1)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    groups = torch.tensor([0, 0, 0, 1, 0, 0])
    rows = torch.arange(6)
    kept = batched_nms(boxes, scores, groups, 0.6)
    # Box 1 falls to box 0. Boxes 2 and 4 overlap box 1 enough, but it is gone, and box 0 too little: 2 stays.
    assert kept.tolist() == [0, 2, 3, 5]
    removed, by, iou = find_suppressors(boxes, scores, groups, rows, kept, 0.6)
    assert removed.tolist() == [1, 4] and by.tolist() == [0, 2]
    assert torch.allclose(iou, torch.tensor([8 / 12, 1.0]))
    # Of some rows alone, in any order
    removed, by, _ = find_suppressors(boxes, scores, groups, rows[[4, 2, 5]], torch.tensor([2, 5]), 0.6)
    assert removed.tolist() == [4] and by.tolist() == [2]
    assert [len(part) for part in find_suppressors(boxes, scores, groups, rows, rows, 1.0)] == [0, 0, 0]


def test_an_iou_rounded_across_the_threshold_still_has_a_suppressor():
    """NMS has just removed box 1 for box 0; box 2 overlaps it more, but came later."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [3, 0, 13, 10]])
    iou = box_iou(boxes[:1], boxes[1:2])[0]
    removed, by, overlap = find_suppressors(
        boxes,
        torch.tensor([0.9, 0.8, 0.7]),
        torch.zeros(3, dtype=torch.int64),
        torch.arange(3),
        torch.tensor([0, 2]),
        iou.item() + 1e-6,
    )
    assert (removed.tolist(), by.tolist()) == ([1], [0]) and torch.equal(overlap, iou)


def test_suppressors_follow_from_a_loop_over_nms():
    torch.manual_seed(0)
    boxes = torch.rand(300, 4) * 60
    boxes[:, 2:] += boxes[:, :2] + 10
    scores, groups = torch.rand(300), torch.zeros(300, dtype=torch.int64)
    removed, by, _ = find_suppressors(boxes, scores, groups, torch.arange(300), nms(boxes, scores, 0.5), 0.5)
    expected, alive = {}, scores.argsort(descending=True).tolist()
    while alive:
        best = alive.pop(0)
        gone = [row for row in alive if box_iou(boxes[best][None], boxes[row][None]).item() > 0.5]
        expected |= dict.fromkeys(gone, best)
        alive = [row for row in alive if row not in gone]
    assert dict(zip(removed.tolist(), by.tolist())) == expected and len(expected) > 50


def test_nothing_found(model, pictures):
    """N = 0, and P = 0: every field keeps its shape."""
    heads, rpn = model.roi_heads, model.rpn
    score_thresh, rpn_thresh = heads.score_thresh, rpn.score_thresh
    try:
        heads.score_thresh = 1.0
        found = trace(model, pictures[0])
        [expected] = predict(model, pictures[:1])
        rpn.score_thresh = 1.1
        empty = trace(model, pictures[0])
        assert [len(found["scores"]) for found in predict(model, pictures[:1])] == [0]
    finally:
        heads.score_thresh, rpn.score_thresh = score_thresh, rpn_thresh
    classes = found.class_logits.shape[1]
    assert len(found.proposals) > 0 == len(empty.proposals)
    assert [len(rows) for rows in found.detection_kept.values()] == [0] * 4
    for each in (found, empty):
        assert [len(part) for part in each.detection_suppressed] == [0, 0, 0]
        assert each.detected_boxes.shape == (0, 4) and each.mask_logits.shape[:2] == (0, classes)
        assert each.class_boxes.shape == (len(each.proposals), classes, 4)
        assert each.prediction["masks"].shape == expected["masks"].shape == (0, 1, *pictures[0].shape[1:])
        with pytest.raises(IndexError, match="There is no instance 0: the trace has 0"):
            trace_back(each, 0)


def test_the_trace_can_be_worked_with_and_bad_input_is_refused(pictures):
    model = load_model("tabletop", device="cpu")[0]
    with unchanged(*pictures, *model.state_dict().values()):
        found = trace(model, pictures[0])
    for values in found:
        if isinstance(values, torch.Tensor):
            assert not (values.requires_grad or values.is_inference())
    found.anchors[0] += 1  # a reader may move an anchor by hand
    as_float = trace(model, pictures[0] / 255)
    assert torch.equal(as_float.prediction["scores"], found.prediction["scores"])
    with pytest.raises(TypeError, match=r"one picture, not at a list of them: trace\(model, image\)"):
        trace(model, pictures)
    with pytest.raises(ValueError, match=r"Picture 1 must be \[3, H, W\], not \[1, 3"):
        trace(model, interpolate(pictures[0][None] / 255, scale_factor=0.5))
    with pytest.raises(TypeError, match="takes a Mask R-CNN of torchvision, not str"):
        trace("tabletop", pictures[0])
    with pytest.raises(ValueError, match="in training mode"):
        trace(model.train(), pictures[0])
