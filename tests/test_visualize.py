"""Pictures: boxes where they belong, in the colours that they should have, on any image."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo import visualize
from kzoo.visualize import charts, draw, figures, fonts


def grey(height=120, width=160, value=128):
    return np.full((height, width, 3), value, np.uint8)


def colours_along(picture, box):
    """The set of colours on the four sides of a half-open box."""
    x1, y1, x2, y2 = box
    sides = [picture[y1, x1:x2], picture[y2 - 1, x1:x2], picture[y1:y2, x1], picture[y1:y2, x2 - 1]]
    return {tuple(int(v) for v in pixel) for pixel in np.concatenate(sides)}


def test_a_box_is_drawn_on_its_own_pixels_in_the_colour_of_its_class():
    picture = visualize.draw_boxes(grey(400, 400), np.array([[100, 150, 300, 350]]), np.array([3]))
    assert colours_along(picture, (100, 150, 300, 350)) == {visualize.colour(3)}
    assert tuple(picture[250, 200]) == (128, 128, 128)  # nothing inside


def test_padding_is_not_drawn():
    image = grey()
    picture = visualize.draw_boxes(image, np.array([[0, 0, 50, 50]]), np.array([-1]))
    np.testing.assert_array_equal(picture, image)


def test_no_box_at_all_leaves_the_image_as_it_is():
    image = grey()
    for scores in (None, np.zeros(0)):
        np.testing.assert_array_equal(visualize.draw_boxes(image, np.zeros((0, 4)), np.zeros(0, int), scores), image)


def test_boxes_below_the_threshold_are_not_drawn():
    picture = visualize.draw_boxes(
        grey(400, 400),
        np.array([[20, 100, 120, 200], [220, 100, 320, 200]]),
        np.array([0, 1]),
        np.array([0.9, 0.3]),
        score_threshold=0.5,
    )
    assert visualize.colour(0) in colours_along(picture, (20, 100, 120, 200))
    assert visualize.colour(1) not in colours_along(picture, (220, 100, 320, 200))


def test_ground_truth_is_dashed():
    picture = visualize.draw_boxes(grey(400, 400), np.array([[100, 150, 300, 350]]), np.array([0]), dashed=True)
    assert colours_along(picture, (100, 150, 300, 350)) == {visualize.colour(0), (255, 255, 255)}


@pytest.mark.parametrize(
    "box", [[-50, -50, 500, 500], [0, 0, 1, 1], [119, 90, 160, 120], [0, 0, 0, 0], [200, 200, 300, 300]]
)
def test_text_and_lines_stay_inside_the_picture(box):
    image = grey()
    picture = visualize.draw_boxes(image, np.array([box], np.float32), np.array([0]), np.array([0.5]), ["a long name"])
    assert picture.shape == image.shape
    assert (picture != image).any()


def test_boxes_that_are_no_numbers_are_not_drawn():
    image = grey()
    picture = visualize.draw_boxes(image, np.array([[np.nan, 0, 10, 10], [0, 0, np.inf, 5]]), np.array([0, 0]))
    np.testing.assert_array_equal(picture, image)


def test_labels_of_two_boxes_do_not_cover_each_other():
    font = fonts.font(12)
    image = Image.new("RGB", (200, 200))
    from PIL import ImageDraw

    taken = []
    for _ in range(4):
        draw._label(
            ImageDraw.Draw(image), np.array([60, 60, 140, 140]), "digit", (255, 0, 0), font, 2, (200, 200), taken
        )
    for i, a in enumerate(taken):
        assert min(a) >= 0
        assert max(a) <= 200
        assert all(draw._overlap(a, b) == 0 for b in taken[:i])


def a_character_that_dejavu_lacks():
    """One that a font beside DejaVu in matplotlib has, so that every machine can write it."""
    from matplotlib.ft2font import FT2Font

    folder = fonts._dejavu().parent
    dejavu, other = (FT2Font(str(folder / name)) for name in ("DejaVuSans-Bold.ttf", "STIXGeneral.ttf"))
    return next(chr(code) for code in other.get_charmap() if code > 0x3000 and not dejavu.get_char_index(code))


def test_a_name_that_dejavu_cannot_write_is_written_in_another_font():
    character = a_character_that_dejavu_lacks()
    chosen = fonts.font(20, f"{character} 0.93")
    assert chosen.path != fonts.font(20).path
    assert bytes(chosen.getmask(character)) != bytes(chosen.getmask("\U0010fffd"))  # not the box for what is missing
    assert bytes(chosen.getmask("9")) != bytes(chosen.getmask("\U0010fffd"))


@pytest.mark.parametrize("text", ["", "cell", "клетка", "λ…", "\U0010fffd"])
def test_dejavu_stays_where_no_other_font_has_more(text):
    assert Path(fonts.font(20, text).path).name == "DejaVuSans-Bold.ttf"


def test_charts_write_such_names_without_a_warning(tmp_path, recwarn):
    character = a_character_that_dejavu_lacks()
    made, (axis,) = figures.figure()
    axis.barh([0], [1])
    axis.set_yticks([0], [character])
    axis.set(title=f"boxes of {character}")
    figures.write(made, tmp_path / "a.png")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_tiny_image_is_enlarged_by_a_whole_factor_and_its_boxes_with_it():
    picture = visualize.draw_boxes(grey(32, 32), np.array([[8, 8, 24, 24]]), np.array([2]), min_side=320)
    assert picture.shape == (320, 320, 3)
    assert visualize.colour(2) in colours_along(picture, (80, 80, 240, 240))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 20)])
def test_any_image_size_can_be_drawn_on(size):
    picture = visualize.draw_boxes(
        grey(*size), np.array([[0, 0, size[1], size[0]]]), np.array([0]), np.array([1.0]), ["x"]
    )
    assert picture.shape == (*size, 3)


def test_float_and_single_channel_images_are_drawn_on():
    picture = visualize.draw_boxes(np.full((50, 50, 1), 300.0), np.zeros((0, 4)), np.zeros(0, int))
    assert picture.dtype == np.uint8
    assert (picture == 255).all()


def test_an_image_of_another_shape_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"\(4, 5, 2\)"):
        visualize.draw_boxes(np.zeros((4, 5, 2)), np.zeros((0, 4)), np.zeros(0))


def test_colours_are_distinct_for_eighty_classes_and_the_same_each_time():
    colours = [visualize.colour(c) for c in range(80)]
    assert len(set(colours)) == 80
    assert colours == [visualize.colour(np.int64(c)) for c in range(80)]


@pytest.mark.parametrize("label", range(20))
def test_text_contrasts_with_its_plate(label):
    def luminance(rgb):
        linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    plate = visualize.colour(label)
    dark, light = sorted((luminance(plate), luminance(draw.text_colour(plate))))
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG's bound for bold text


def test_a_grid_places_images_row_by_row():
    images = [np.full((10, 10, 3), value, np.uint8) for value in (10, 60, 110, 160, 210)]
    sheet = visualize.grid(images, columns=2, cell=100)
    gap = 4
    centres = [(gap + 50 + r * (100 + gap), gap + 50 + c * (100 + gap)) for r in range(3) for c in range(2)]
    assert [int(sheet[y, x, 0]) for y, x in centres[:5]] == [10, 60, 110, 160, 210]


def test_a_grid_needs_an_image_and_a_caption_each():
    with pytest.raises(ValueError, match="none"):
        visualize.grid([])
    with pytest.raises(ValueError, match="2 captions for 1 images"):
        visualize.grid([grey()], ["a", "b"])


def test_a_long_caption_is_cut_to_its_cell():
    sheet = visualize.grid([grey()], ["x" * 500], cell=100)
    assert sheet.shape[1] == 100 + 2 * 4


def test_a_batch_shows_its_boxes_scaled_to_the_cell():
    targets = {"boxes": np.array([[[10, 10, 40, 40], [0, 0, 0, 0]]], np.float32), "labels": np.array([[1, -1]])}
    sheet = visualize.batch_grid(grey(50, 50)[None], targets, ["a", "b"], cell=200)
    gap = 5
    picture = sheet[gap : gap + 200, gap : gap + 200]
    assert visualize.colour(1) in colours_along(picture, (40, 40, 160, 160))


def test_a_comparison_shows_truth_dashed_on_the_left_and_detections_on_the_right():
    found = {"boxes": [np.array([[10, 10, 40, 40]])], "labels": [np.array([1])], "scores": [np.array([0.9])]}
    truth = {"boxes": [np.array([[10, 10, 40, 40]])], "labels": [np.array([0])]}
    sheet = visualize.comparison_grid([grey(50, 50)], truth, found, ["a", "b"], cell=200)
    present = [
        {tuple(p) for p in half.reshape(-1, 3).tolist()} for half in np.split(sheet[:, : sheet.shape[1] // 2 * 2], 2, 1)
    ]
    assert visualize.colour(0) in present[0]
    assert visualize.colour(1) not in present[0]
    assert visualize.colour(1) in present[1]


def is_chart(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.shape[0] > 200 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_training_curves_read_a_results_file_with_gaps(tmp_path):
    results = tmp_path / "results.csv"
    results.write_text("epoch,loss,val_loss,val_mAP,learning_rate\n1,3,4,-1,0.1\n2,2,,0.5,0.05\n", encoding="utf-8")
    columns = charts.read_results(results)
    assert columns["loss"] == [3, 2]
    assert math.isnan(columns["val_loss"][1])
    assert is_chart(visualize.training_curves(results, tmp_path / "new" / "curves.png"))


@pytest.mark.parametrize(
    "results", [{}, {"epoch": [], "loss": []}, {"loss": [float("nan")]}, {"epoch": [1.0], "loss": [2.0]}]
)
def test_training_curves_of_next_to_nothing_are_drawn(tmp_path, results):
    assert visualize.training_curves(results, tmp_path / "c.png").is_file()


def test_curves_of_classes_are_drawn_and_missing_ones_left_out(tmp_path):
    points = np.linspace(0, 1, 11)
    values = np.stack([1 - points, np.full(11, np.nan)])
    assert is_chart(visualize.precision_recall(points, values, tmp_path / "pr.png", ["a", "b"], [0.5, math.nan]))
    assert is_chart(visualize.f1_curves(points, values, tmp_path / "f1.png", ["a", "b"]))


def test_curves_without_any_ground_truth_say_so(tmp_path):
    points, nothing = np.linspace(0, 1, 11), np.full((2, 11), np.nan)
    assert visualize.precision_recall(points, nothing, tmp_path / "pr.png").is_file()
    assert visualize.f1_curves(points, nothing, tmp_path / "f1.png").is_file()


def test_a_confusion_matrix_must_have_a_row_and_a_column_for_the_background(tmp_path):
    assert is_chart(visualize.confusion_matrix(np.eye(3) * 5, tmp_path / "c.png", ["a", "b"]))
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(2, 2\)"):
        visualize.confusion_matrix(np.eye(2), tmp_path / "c.png", ["a", "b"])


def test_label_statistics_take_images_without_boxes(tmp_path):
    boxes = [np.array([[0, 0, 30, 40], [0, 0, 0, 0]]), np.zeros((0, 4))]
    labels = [np.array([1, -1]), np.zeros(0, int)]
    path = visualize.label_statistics(boxes, labels, [(100, 100), (50, 80)], ["a", "b"], tmp_path / "labels.png")
    assert is_chart(path)
    assert visualize.label_statistics([], [], [], ["a"], tmp_path / "none.png").is_file()


def test_label_statistics_draw_default_boxes(tmp_path):
    path = visualize.label_statistics(
        [np.array([[0, 0, 30, 40]])],
        [np.array([0])],
        [(100, 100)],
        ["a"],
        tmp_path / "labels.png",
        network_size=(50, 50),
        default_boxes=np.array([[0, 0, 16, 16], [10, 10, 26, 26]]),
    )
    assert is_chart(path)


def test_the_best_default_box_is_compared_by_shape_alone():
    # 10 x 20 against 20 x 20: intersection 200, union 400. Against 10 x 10: intersection 100, union 200.
    np.testing.assert_allclose(visualize.best_default_box_iou([[10, 20], [20, 20]], [[20, 20], [10, 10]]), [0.5, 1])
    assert visualize.best_default_box_iou(np.zeros((0, 2)), [[1, 1]]).shape == (0,)


def test_charts_leave_no_figure_behind(tmp_path):
    from matplotlib import pyplot

    visualize.training_curves({"epoch": [1.0, 2.0], "loss": [2.0, 1.0]}, tmp_path / "c.png")
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_saved_with_its_folder(tmp_path, suffix):
    path = visualize.save(grey(), tmp_path / "a" / f"b{suffix}")
    with Image.open(path) as image:
        assert image.size == (160, 120)


def test_the_stages_of_a_two_stage_detector_stand_side_by_side():
    boxes = np.array([[[10, 10, 60, 50], [0, 0, 0, 0]]], "float32")
    proposed = {"anchors": boxes + 2, "anchor_scores": np.ones((1, 2)), "proposals": boxes}
    found = {"boxes": boxes, "labels": np.array([[0, -1]]), "scores": np.array([[0.9, 0.0]])}
    image = grey(120, 160)
    picture = visualize.region_stages(image[None], proposed, found, ["cell"], cell=160)
    columns = np.array_split(picture, 3, axis=1)
    assert all((column == visualize.colour(3)).all(-1).any() for column in columns[:2])
    assert (columns[2] == visualize.colour(0)).all(-1).any()
    assert not (columns[2] == visualize.colour(3)).all(-1).any()


def test_yolos_cells_show_who_is_responsible_and_the_class_of_each_cell():
    from kzoo.visualize import cells

    truth = {
        "boxes": np.array([[0, 0, 40, 40], [10, 10, 30, 30], [90, 50, 130, 110], [0, 0, 0, 0]], "float32"),
        "labels": np.array([1, 0, 2, -1]),
    }
    # Centres (20, 20), (20, 20) and (110, 80) in cells of 40 x 60 pixels: the second finds its cell taken.
    assert cells.responsible_cells(truth["boxes"], truth["labels"], (120, 160), (2, 4)) == {0: 0, 2: 6}
    said = {
        "boxes": np.zeros((8, 2, 4), "float32"),
        "confidences": np.zeros((8, 2), "float32"),
        "classes": np.eye(8, 3, -5).astype("float32"),  # cells 5, 6 and 7 are sure of classes 0, 1 and 2
    }
    found = {"boxes": np.zeros((1, 4)), "labels": np.array([-1]), "scores": np.zeros(1)}
    picture = visualize.cell_panels(grey(), (2, 4), truth, said, found, side=160)
    panels = [picture[4 : 4 + 120, 4 : 4 + 160], picture[-120 - 4 - 20 : -4 - 20, 4 : 4 + 160]]
    tint = [np.array(visualize.colour(label)) - 128 for label in range(3)]
    np.testing.assert_allclose(panels[0][70, 115] - 128.0, 0.45 * tint[2], atol=2)
    np.testing.assert_allclose(panels[1][90, 60] - 128.0, 0.7 * tint[0], atol=2)
    np.testing.assert_allclose(panels[1][90, 140] - 128.0, 0.7 * tint[2], atol=2)
    np.testing.assert_allclose(panels[1][30, 60], 128, atol=1)
    with pytest.raises(ValueError, match="has 6 cells"):
        visualize.cell_panels(grey(), (2, 3), truth, said, found)
