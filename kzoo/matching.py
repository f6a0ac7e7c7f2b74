"""One matcher for the whole zoo: which ground-truth box each anchor answers for."""

import keras
from keras import ops

from kzoo import boxes as box_ops
from kzoo.types import Tensor

NEGATIVE = -1
IGNORED = -2


def match(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    positive: float = 0.5,
    negative: float | None = None,
    claim: str = "one_to_one",
    lowest: float = 0.0,
) -> Tensor:
    """Assigns each anchor a ground-truth box, "background" or "ignored".

    With positive=.5, negative=.4 and claim="none", anchors whose best IoU is .7, .45 and .2 become the index of that
    box, IGNORED and NEGATIVE.

    Args:
        anchors: (A, 4) xyxy, or (B, A, 4) where each image has its own, as proposals are.
        boxes: (B, N, 4) xyxy, padded; labels: (B, N), -1 where padded.
        positive: an anchor with IoU > positive takes the box that it overlaps most.
        negative: an anchor with IoU < negative for all boxes is background, between the two it is ignored; None means
            the same as `positive`: nothing is ignored.
        claim: whether a box may claim an anchor below `positive`, so that no box goes without.
            "one_to_one": boxes and anchors pair off, highest IoU first, no anchor twice (SSD);
            "best": each box claims every anchor of its highest IoU, ties included, but for those that are positive
            for a box which they overlap more (Faster R-CNN's RPN);
            "none": no claims (RetinaNet).
        lowest: an anchor whose best IoU is below it is ignored rather than background (Fast R-CNN: 0.1).

    Returns:
        (B, A) int32: index of the box, NEGATIVE or IGNORED.
    """
    if claim not in ("one_to_one", "best", "none"):
        raise ValueError(f"claim must be 'one_to_one', 'best' or 'none'. Received: {claim!r}.")
    anchors = ops.convert_to_tensor(anchors)
    anchors = anchors[None] if len(anchors.shape) == 2 else anchors
    boxes, labels = ops.convert_to_tensor(boxes), ops.convert_to_tensor(labels)
    if boxes.shape[1] is None:  # batches of changing N, 0 among them
        boxes = ops.pad(boxes, [[0, 0], [0, 1], [0, 0]])
        labels = ops.pad(labels, [[0, 0], [0, 1]], constant_values=-1)
    overlap = box_ops.iou(boxes, anchors)  # (B, N, A)
    if overlap.shape[1] == 0:
        nothing = NEGATIVE if lowest <= 0 else IGNORED
        return ops.full_like(ops.sum(overlap, axis=1), nothing, dtype="int32")
    overlap = ops.where((labels >= 0)[..., None], overlap, -1.0)
    best = ops.max(overlap, axis=1)
    index = ops.cast(ops.argmax(overlap, axis=1), "int32")
    others = NEGATIVE if negative is None else ops.where(best < negative, NEGATIVE, IGNORED)
    matched = ops.where(best > positive, index, others)
    if lowest > 0:
        matched = ops.where(best < lowest, IGNORED, matched)
    if claim == "none":
        return matched
    if claim == "one_to_one":
        claimed = _pair_off(overlap)
        return ops.where(claimed >= 0, claimed, matched)
    claimed = _claim_best(overlap)
    return ops.where((claimed >= 0) & (best <= positive), claimed, matched)


def sample(
    matched: Tensor, count: int, positive_fraction: float, seed: keras.random.SeedGenerator
) -> tuple[Tensor, Tensor]:
    """Draws `count` anchors of each image, at most `positive_fraction` of them matched, the rest background.

    Where matched anchors are few, background fills up. The RPN of Faster R-CNN draws 256 with a fraction of 1/2,
    Fast R-CNN 64 with 1/4.

    Args:
        matched: (B, A) int32, from `match`.
        count: how many anchors an image.
        positive_fraction: 0..1.
        seed: gives other draws at each call.

    Returns:
        index: (B, count) int32 of the anchors drawn, matched ones first.
        drawn: (B, count) int32, `matched` of these; IGNORED in the places for which no anchor is left.
    """
    size = matched.shape[1]  # None where the number of boxes differs from batch to batch
    short = count if size is None else max(count - size, 0)
    matched = ops.pad(ops.cast(matched, "int32"), [[0, 0], [0, short]], constant_values=IGNORED)
    lot = keras.random.uniform(ops.shape(matched), seed=seed, dtype="float32")
    most = int(count * positive_fraction)
    lots, index = [], []
    for wanted, limit in ((matched >= 0, most), (matched == NEGATIVE, count)):
        lot_drawn, index_drawn = ops.top_k(ops.where(wanted, lot, -1.0), limit)
        lots.append(lot_drawn >= 0)
        index.append(ops.cast(index_drawn, "int32"))
    # What was drawn moves to the front (top_k keeps the order of equals), and the first `count` are taken.
    places = ops.concatenate([ops.where(lots[0], 2.0, 0.0), ops.where(lots[1], 1.0, 0.0)], axis=1)
    found, places = ops.top_k(places, count)
    index = ops.take_along_axis(ops.concatenate(index, axis=1), ops.cast(places, "int32"), axis=1)
    drawn = ops.where(found > 0, ops.take_along_axis(matched, index, axis=1), IGNORED)
    index = ops.where(found > 0, index, 0)
    return ops.reshape(index, (-1, count)), ops.reshape(drawn, (-1, count))  # static, whatever A is


def gather_matched(values: Tensor, matched: Tensor, background: Tensor | float) -> Tensor:
    """values (B, N) or (B, N, D) of each anchor's box: (B, A) or (B, A, D); `background` where there is none."""
    shape = values.shape
    if not shape[1]:  # 0, or unknown and maybe 0
        values = ops.pad(values, [[0, 0], [0, 1]] + [[0, 0]] * (len(shape) - 2))
    index = ops.maximum(matched, 0)
    positive = matched >= 0
    if len(shape) == 3:
        index, positive = index[..., None], positive[..., None]
    return ops.where(positive, ops.take_along_axis(values, index, axis=1), background)


def _claim_best(overlap):
    """(B, N, A) -> (B, A): the box that claims the anchor because no anchor suits it better, or -1."""
    highest = ops.max(overlap, axis=2, keepdims=True)
    claims = ops.where((overlap == highest) & (overlap > 0), overlap, -1.0)
    return ops.where(ops.max(claims, axis=1) > 0, ops.cast(ops.argmax(claims, axis=1), "int32"), -1)


def _pair_off(overlap):
    """(B, N, A) -> (B, A): greedy one-to-one pairs, the highest IoU of all first; -1 for anchors without one.

    A pair that is the best for both its box and its anchor is exactly one that the greedy order would pick, so all such
    pairs are taken at once; two or three rounds settle an image, where one box at a time would take N.
    """
    num_boxes, num_anchors = ops.shape(overlap)[1:]
    boxes, anchors = ops.arange(num_boxes)[None, :, None], ops.arange(num_anchors)[None, None]

    def some_left(left, claimed):
        return ops.any(left > 0)

    def take_mutual_bests(left, claimed):
        best_anchor = ops.cast(ops.argmax(left, axis=2), "int32")[..., None] == anchors
        best_box = ops.cast(ops.argmax(left, axis=1), "int32")[:, None] == boxes
        pairs = best_anchor & best_box & (left > 0)
        taken = ops.any(pairs, axis=1)
        claimed = ops.where(taken, ops.cast(ops.argmax(ops.cast(pairs, "int32"), axis=1), "int32"), claimed)
        gone = taken[:, None] | ops.any(pairs, axis=2, keepdims=True)
        return ops.where(gone, -1.0, left), claimed

    start = ops.full_like(overlap[:, 0], -1, dtype="int32")
    # Ground truth and anchors carry no gradient; saying so lets every backend differentiate around the loop.
    _, claimed = ops.while_loop(some_left, take_mutual_bests, (ops.stop_gradient(overlap), start))
    return claimed


__all__ = ["IGNORED", "NEGATIVE", "gather_matched", "match", "sample"]
