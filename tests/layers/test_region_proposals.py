"""Region proposals beside a plain greedy loop."""

import keras
import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo.layers import RegionProposals

SIZE = (60, 80)


def scene(levels=(40, 12), seed: int = 0):
    rng = np.random.default_rng(seed)
    count = sum(levels)
    corner = rng.uniform(-10, 70, (count, 2))
    anchors = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1).astype("float32")
    return (
        rng.normal(size=(2, count)).astype("float32"),
        rng.normal(0, 0.2, (2, count, 4)).astype("float32"),
        anchors,
    )


def plain(objectness, deltas, anchors, levels, candidates, proposals, threshold, min_size):
    """One image: decode, cut, best of each level, then greedily over all, each level against its own."""
    boxes = box_ops.clip(box_ops.decode(deltas, anchors), SIZE)
    level = np.repeat(np.arange(len(levels)), levels)
    left = []
    for k in range(len(levels)):
        own = list(np.flatnonzero(level == k))
        left += sorted(own, key=lambda i: -objectness[i])[:candidates]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    left = sorted((i for i in left if min(width[i], height[i]) >= min_size), key=lambda i: -objectness[i])
    kept = []
    for i in left:
        if all(level[i] != level[j] or box_ops.iou(boxes[i : i + 1], boxes[j : j + 1]) <= threshold for j in kept):
            kept.append(i)
    rows = np.zeros((proposals, 4))
    rows[: len(kept[:proposals])] = boxes[kept[:proposals]]
    return rows


@pytest.mark.parametrize(("levels", "candidates", "proposals"), [((52,), 30, 10), ((40, 12), 20, 15), ((52,), 60, 60)])
def test_proposals_are_the_best_boxes_that_do_not_overlap(levels, candidates, proposals):
    objectness, deltas, anchors = scene(levels)
    layer = RegionProposals(SIZE, levels, candidates, proposals, iou_threshold=0.5, min_size=4.0)
    found = keras.ops.convert_to_numpy(layer(objectness, deltas, anchors))
    for b in range(2):
        expected = plain(objectness[b], deltas[b], anchors, levels, candidates, proposals, 0.5, 4.0)
        np.testing.assert_allclose(found[b], expected, atol=1e-3)


def test_an_image_of_thin_boxes_has_no_proposals():
    anchors = np.array([[5, 5, 5.5, 50], [200, 5, 240, 50]], "float32")  # half a pixel wide; outside the image
    found = RegionProposals(SIZE, [2], proposals=3)(np.ones((1, 2), "float32"), np.zeros((1, 2, 4), "float32"), anchors)
    np.testing.assert_array_equal(found, np.zeros((1, 3, 4)))


def test_layer_contract(run_layer_test):
    arguments = {"image_size": SIZE, "level_sizes": [40, 12], "candidates": 20, "proposals": 8}
    run_layer_test(RegionProposals, arguments, scene(), float32_output=True)
