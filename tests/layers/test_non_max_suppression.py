"""NMS against a plain greedy loop in NumPy, in each of its forms."""

import contextlib

import keras
import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo.layers import NonMaxSuppression
from kzoo.layers.kernels import portable_operators

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
FORMS = ["loop", "portable kernel", "combined kernel"] if ON_TENSORFLOW else ["loop"]


@pytest.fixture(params=FORMS)
def fused(request):
    """The layer's argument, within the switch of the form."""
    with portable_operators() if request.param == "portable kernel" else contextlib.nullcontext():
        yield False if request.param == "loop" else None


def greedy(boxes, scores, iou_threshold, score_threshold, max_detections, class_agnostic, max_candidates):
    """The definition, one image: candidates by score, ties in input order, drop what overlaps a kept one."""
    pairs = [(s, i, c) for i, row in enumerate(scores) for c, s in enumerate(row)]
    pairs = sorted(pairs, key=lambda p: -p[0])[:max_candidates]  # sorted() is stable
    kept = []
    for score, i, c in pairs:
        if score <= score_threshold or len(kept) == max_detections:
            break
        rivals = [k for k in kept if class_agnostic or k[2] == c]
        if all(box_ops.iou(boxes[i : i + 1], boxes[k[1] : k[1] + 1])[0, 0] <= iou_threshold for k in rivals):
            kept.append((score, i, c))
    return kept


def random_scene(rng, batch, count, classes, clusters=8):
    centre = rng.uniform(20, 280, (batch, clusters, 2))
    which = rng.integers(0, clusters, (batch, count))
    xy = np.take_along_axis(centre, which[..., None], axis=1) + rng.normal(0, 6, (batch, count, 2))
    wh = rng.uniform(20, 60, (batch, count, 2))
    boxes = np.concatenate([xy - wh / 2, xy + wh / 2], axis=-1).astype("float32")
    return boxes, rng.uniform(0, 1, (batch, count, classes)).astype("float32")


def run(layer, boxes, scores):
    return {key: keras.ops.convert_to_numpy(value) for key, value in layer(boxes, scores).items()}


def assert_equals_greedy(found, boxes, scores, **settings):
    for b in range(len(boxes)):
        kept = greedy(boxes[b], scores[b], **settings)
        n = found["num_detections"][b]
        assert n == len(kept)
        np.testing.assert_array_equal(found["labels"][b, :n], [k[2] for k in kept])
        np.testing.assert_array_equal(found["scores"][b, :n], np.array([k[0] for k in kept], "float32"))
        np.testing.assert_array_equal(found["boxes"][b, :n], boxes[b][[k[1] for k in kept]].reshape(-1, 4))
        assert (found["labels"][b, n:] == -1).all()
        assert (found["scores"][b, n:] == 0).all()
        assert (found["boxes"][b, n:] == 0).all()


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("classes", [1, 3, 20])
def test_equals_the_greedy_loop_on_random_scenes(fused, class_agnostic, classes):
    settings = {
        "iou_threshold": 0.45,
        "score_threshold": 0.3,
        "max_detections": 40,
        "class_agnostic": class_agnostic,
        "max_candidates": 300,
    }
    layer = NonMaxSuppression(**settings, fused=fused)
    for seed in range(4):
        boxes, scores = random_scene(np.random.default_rng(seed), 3, 80, classes)
        assert_equals_greedy(run(layer, boxes, scores), boxes, scores, **settings)


def test_among_equal_scores_the_earlier_box_comes_first(fused):
    boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [51, 50, 61, 60]]], "float32")
    found = run(NonMaxSuppression(fused=fused, max_detections=4), boxes, np.full((1, 4, 1), 0.5, "float32"))
    np.testing.assert_array_equal(found["boxes"][0, :2], boxes[0, [0, 2]])
    assert found["num_detections"] == [2]


def test_the_slides_example(fused):
    # Two puppies: blue .9 and orange .8 overlap at IoU .78, purple .75 and yellow .7 at .74; threshold .7.
    boxes = np.array([[[0, 0, 100, 100], [0, 0, 100, 78], [200, 0, 300, 100], [200, 0, 300, 74]]], "float32")
    scores = np.array([[[0.9], [0.8], [0.75], [0.7]]], "float32")
    found = run(NonMaxSuppression(iou_threshold=0.7, max_detections=4, fused=fused), boxes, scores)
    np.testing.assert_allclose(found["scores"], [[0.9, 0.75, 0, 0]])


@pytest.mark.parametrize("count", [0, 1, 5])
def test_images_without_boxes_or_without_a_score_above_the_threshold(fused, count):
    layer = NonMaxSuppression(max_detections=7, fused=fused)
    boxes, scores = np.zeros((2, count, 4), "float32"), np.zeros((2, count, 3), "float32")
    found = run(layer, boxes, scores)
    assert (found["num_detections"] == 0).all()
    assert (found["labels"] == -1).all()
    assert found["boxes"].shape == (2, 7, 4)


def scene_with_flat_boxes():
    boxes, scores = random_scene(np.random.default_rng(11), 1, 30, 3)
    boxes[:, ::3, 3] = boxes[:, ::3, 1]  # every third box has no height
    sound = np.arange(30) % 3 > 0
    return boxes, scores, boxes[:, sound], scores[:, sound]


def test_boxes_without_area_are_never_detections(fused):
    boxes, scores, sound_boxes, sound_scores = scene_with_flat_boxes()
    found = run(NonMaxSuppression(fused=fused), boxes, scores)
    settings = {"iou_threshold": 0.45, "score_threshold": 0.01, "max_detections": 200, "class_agnostic": False}
    assert_equals_greedy(found, sound_boxes, sound_scores, **settings, max_candidates=2000)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="LiteRT files are made from TensorFlow graphs")
def test_boxes_without_area_do_not_flood_a_litert_file():
    import tensorflow as tf

    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    boxes, scores, _, _ = scene_with_flat_boxes()
    layer = NonMaxSuppression()
    inputs = [tf.TensorSpec(x.shape, tf.float32) for x in (boxes, scores)]
    with portable_operators():
        function = tf.function(lambda boxes, scores: layer(boxes, scores)["scores"]).get_concrete_function(*inputs)
    content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    file = interpreter.Interpreter(model_content=content)
    file.allocate_tensors()
    for details, value in zip(file.get_input_details(), (boxes, scores), strict=True):
        file.set_tensor(details["index"], value)
    file.invoke()
    np.testing.assert_allclose(
        file.get_tensor(file.get_output_details()[0]["index"]), run(layer, boxes, scores)["scores"], atol=1e-6
    )


def test_a_partly_empty_batch(fused):
    boxes, scores = random_scene(np.random.default_rng(9), 2, 30, 4)
    scores[0] = 0
    found = run(NonMaxSuppression(fused=fused), boxes, scores)
    assert found["num_detections"][0] == 0
    assert found["num_detections"][1] > 0


@pytest.mark.skipif(not ON_TENSORFLOW, reason="compares TensorFlow's kernels with the loop in keras.ops")
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_every_form_gives_the_same_also_under_xla(class_agnostic):
    import tensorflow as tf

    boxes, scores = random_scene(np.random.default_rng(3), 2, 200, 5)
    scores = np.round(scores, 2)  # many are equal
    results = []
    for fused in (None, False):
        layer = NonMaxSuppression(max_detections=50, class_agnostic=class_agnostic, fused=fused)
        results += [layer(boxes, scores), tf.function(layer, jit_compile=True)(boxes, scores)]
    with portable_operators():
        results.append(NonMaxSuppression(max_detections=50, class_agnostic=class_agnostic)(boxes, scores))
    for other in results[1:]:
        for key in other:
            np.testing.assert_array_equal(results[0][key], other[key])


@pytest.mark.skipif(not ON_TENSORFLOW, reason="XLA is asked through TensorFlow")
def test_fewer_candidates_than_detections_also_under_xla():
    import tensorflow as tf

    layer = NonMaxSuppression(0.5, 0.1, max_detections=10)
    boxes = np.array([[[0, 0, 4, 4], [0, 0, 4, 4.1], [8, 8, 9, 9]]], "float32")
    scores = np.array([[[0.8], [0.9], [0.7]]], "float32")
    found = tf.function(layer, jit_compile=True)(boxes, scores)
    assert found["boxes"].shape == (1, 10, 4)
    np.testing.assert_array_equal(found["num_detections"], [2])
    np.testing.assert_allclose(found["scores"][0, :3], [0.9, 0.7, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [1e8, np.inf, np.nan])
def test_a_box_below_the_threshold_changes_nothing_however_bad_it_is(fused, bad):
    boxes = np.array([[[0, 0, 4, 4], [8, 8, 9, 9], [0, 0, bad, bad]]], "float32")
    scores = np.array([[[0.9, 0], [0, 0.8], [0.01, 0]]], "float32")
    found = NonMaxSuppression(0.5, 0.15, max_detections=4, fused=fused)(boxes, scores)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found["num_detections"]), [2])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found["boxes"])[0, :2], boxes[0, :2])


def test_the_loop_keeps_boxes_that_overlap_by_just_the_threshold():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 640, (60, 2)).astype("float32")
    pairs = np.tile(low, 2)[:, None] + np.float32([[0, 0, 2, 6], [0, 0, 4, 6]])
    scores = np.zeros((60, 2, 80), "float32")
    scores[:, 0, 7], scores[:, 1, 7] = 0.9, 0.8
    found = NonMaxSuppression(0.5, 0.1, 4, fused=False)(pairs, scores)  # an image a pair, of IoU 1/2
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found["num_detections"]), 2)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="looks for TensorFlow's kernels")
def test_the_combined_kernel_is_for_graphs_that_run_on_this_cpu():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("beside a GPU the combined kernel is never used")
    boxes, scores = random_scene(np.random.default_rng(3), 2, 20, 2)
    inputs = [tf.TensorSpec(x.shape, tf.float32) for x in (boxes, scores)]

    def kernels(**options):
        graph = tf.function(NonMaxSuppression(), **options).get_concrete_function(*inputs).graph
        found = graph.as_graph_def()
        nodes = [*found.node, *(node for function in found.library.function for node in function.node_def)]
        return {node.op for node in nodes if "NonMaxSuppression" in node.op}

    assert kernels() == {"CombinedNonMaxSuppression"}
    assert kernels(jit_compile=True) == {"NonMaxSuppressionV4"}
    with portable_operators():
        assert kernels() == {"NonMaxSuppressionV4"}


def test_half_precision_inputs_are_computed_in_float32():
    boxes, scores = random_scene(np.random.default_rng(4), 1, 50, 2)
    found = NonMaxSuppression()(keras.ops.cast(boxes, "float16"), keras.ops.cast(scores, "float16"))
    assert keras.backend.standardize_dtype(found["boxes"].dtype) == "float32"
    expected = NonMaxSuppression()(
        boxes.astype("float16").astype("float32"), scores.astype("float16").astype("float32")
    )
    np.testing.assert_array_equal(found["labels"], expected["labels"])


def test_layer_contract(run_layer_test):
    boxes, scores = random_scene(np.random.default_rng(5), 2, 20, 3)
    run_layer_test(NonMaxSuppression, {"max_detections": 9, "class_agnostic": True}, (boxes, scores))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Give num_classes"):
        NonMaxSuppression()(np.zeros((1, 2, 4)), np.zeros((1, 2)), np.zeros((1, 2), "int32"))
    with pytest.raises(ValueError, match="iou_threshold"):
        NonMaxSuppression(iou_threshold=45)
    with pytest.raises(ValueError, match="at least 1"):
        NonMaxSuppression(max_detections=0)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_boxes_of_one_class_each_are_the_same_as_a_matrix_with_one_score_a_row(fused, class_agnostic):
    rng = np.random.default_rng(9)
    boxes, scores = random_scene(rng, 2, 120, 5)
    labels = rng.integers(0, 5, (2, 120)).astype("int32")
    matrix = np.where(labels[..., None] == np.arange(5), scores, -1.0).astype("float32")
    layer = NonMaxSuppression(0.4, 0.05, 30, class_agnostic, fused=fused)
    expected = run(layer, boxes, matrix)
    found = layer(boxes, np.take_along_axis(scores, labels[..., None], -1)[..., 0], labels, num_classes=5)
    assert expected["num_detections"].min() > 5
    for key, value in found.items():
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(value), expected[key])


def test_no_boxes_of_one_class_each(fused):
    empty = np.zeros((2, 0), "float32")
    found = NonMaxSuppression(fused=fused)(np.zeros((2, 0, 4), "float32"), empty, empty.astype("int32"), num_classes=3)
    assert keras.ops.convert_to_numpy(found["num_detections"]).tolist() == [0, 0]
    assert (keras.ops.convert_to_numpy(found["labels"]) == -1).all()
