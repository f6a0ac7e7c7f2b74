"""Shows one image as a trained YOLO sees it: grid, responsible cells, all boxes, class map, detections.

    python recipes/yolo_picture.py yolo.keras --data path/to/dataset --image 0 --output yolo_cells.png

The four panels are those of figure 2 of Redmon et al., You Only Look Once, CVPR 2016. Seconds.
"""

import argparse

import keras
import numpy as np

import kzoo


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a .keras file of YOLO, as best.keras of a run folder")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--image", type=int, default=0, help="which image of the split, from 0")
    parser.add_argument("--score", type=float, default=0.2, help="detections below it are not drawn")
    parser.add_argument("--output", default="yolo_cells.png")
    options = parser.parse_args(arguments)

    model = kzoo.models.load(options.model)
    data = kzoo.data.load(
        options.data, options.split, model.image_size, 1, class_names=model.class_names, limit=options.image + 1
    )
    images, targets = list(data)[options.image]
    images = np.asarray(images)
    said = model.said(model.predict(images, verbose=0))
    panels = kzoo.visualize.cell_panels(
        images[0],
        model.grid,
        {key: np.asarray(targets[key])[0] for key in ("boxes", "labels")},
        {key: keras.ops.convert_to_numpy(value)[0] for key, value in said.items()},
        {key: value[0] for key, value in model.detect(images).items()},
        model.class_names,
        options.score,
    )
    print(kzoo.visualize.save(panels, options.output))
    return options.output


if __name__ == "__main__":
    main()
