"""One matcher for the whole zoo: which ground-truth box each anchor answers for."""

from keras import ops

from kzoo import boxes as box_ops

NEGATIVE = -1
IGNORED = -2


def match(
    anchors,
    boxes,
    labels,
    positive: float = 0.5,
    negative: float | None = None,
    claim: str = "one_to_one",
):
    """Assigns each anchor a ground-truth box, "background" or "ignored".

    With positive=.5, negative=.4 and claim="none", anchors whose best IoU is .7, .45 and .2 become the index of that
    box, IGNORED and NEGATIVE.

    Args:
        anchors: (A, 4) xyxy.
        boxes: (B, N, 4) xyxy, padded; labels: (B, N), -1 where padded.
        positive: an anchor with IoU > positive takes the box that it overlaps most.
        negative: an anchor with IoU < negative for all boxes is background, between the two it is ignored; None means
            the same as `positive`: nothing is ignored.
        claim: whether a box may claim an anchor below `positive`, so that no box goes without.
            "one_to_one": boxes and anchors pair off, highest IoU first, no anchor twice (SSD);
            "best": each box claims every anchor of its highest IoU, ties included (Faster R-CNN's RPN);
            "none": no claims (RetinaNet).

    Returns:
        (B, A) int32: index of the box, NEGATIVE or IGNORED.
    """
    if claim not in ("one_to_one", "best", "none"):
        raise ValueError(f"claim must be 'one_to_one', 'best' or 'none'. Received: {claim!r}.")
    overlap = box_ops.iou(ops.convert_to_tensor(boxes), ops.convert_to_tensor(anchors)[None])  # (B, N, A)
    if overlap.shape[1] == 0:
        return ops.full_like(ops.sum(overlap, axis=1), NEGATIVE, dtype="int32")
    overlap = ops.where((labels >= 0)[..., None], overlap, -1.0)
    best = ops.max(overlap, axis=1)
    index = ops.cast(ops.argmax(overlap, axis=1), "int32")
    matched = ops.where(best > positive, index, IGNORED)
    matched = ops.where(best < (positive if negative is None else negative), NEGATIVE, matched)
    if negative is None:
        matched = ops.where(best > positive, index, NEGATIVE)
    if claim == "none":
        return matched
    claimed = _pair_off(overlap) if claim == "one_to_one" else _claim_best(overlap)
    return ops.where(claimed >= 0, claimed, matched)


def gather_matched(values, matched, background):
    """values (B, N) or (B, N, D) of each anchor's box: (B, A) or (B, A, D); `background` where there is none."""
    shape = ops.shape(values)
    if shape[1] == 0:
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


__all__ = ["IGNORED", "NEGATIVE", "gather_matched", "match"]
