"""The same as kzoo_lite.py on a camera or a film, frame by frame; needs kzoo_lite.py beside it, and OpenCV.

pip install ai-edge-litert numpy pillow opencv-python
python video.py model.tflite 0                              # the first camera, in a window; q ends it
python video.py model.tflite film.mp4 --output drawn.mp4    # a film, into a film
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from kzoo_lite import Model, draw


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Draws what a .tflite file of kzoo finds in a camera's or film's frames."
    )
    parser.add_argument("model", type=Path, help="a .tflite file that kzoo exported")
    parser.add_argument("source", help="a film, or the number of a camera")
    parser.add_argument("--output", "-o", type=Path, help="write a film (.mp4 or .avi) instead of opening a window")
    parser.add_argument("--score", type=float, default=0.5, help="leave out what scores less [0.5]")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = Model(options.model, options.threads)
    source = cv2.VideoCapture(int(options.source) if options.source.isdecimal() else options.source)
    if not source.isOpened():
        print(f"error: {options.source}: no camera or film that OpenCV can open", file=sys.stderr)
        return 2
    film, frames, spent = None, 0, 0.0
    while True:
        more, frame = source.read()
        if not more:
            break
        image = np.ascontiguousarray(frame[..., ::-1])  # OpenCV's frames are BGR
        start = time.perf_counter()
        found = model(image)
        spent += time.perf_counter() - start
        frames += 1
        drawn = np.ascontiguousarray(np.asarray(draw(image, found, model, options.score))[..., ::-1])
        if options.output is None:
            cv2.imshow("kzoo", drawn)
            if cv2.waitKey(1) & 0xFF == ord("q"):
                break
            continue
        if film is None:
            codec = cv2.VideoWriter_fourcc(*("MJPG" if options.output.suffix == ".avi" else "mp4v"))
            rate = source.get(cv2.CAP_PROP_FPS) or 25
            film = cv2.VideoWriter(str(options.output), codec, rate, (drawn.shape[1], drawn.shape[0]))
        film.write(drawn)
    source.release()
    if film is not None:
        film.release()
    print(f"{frames} frames, {1000 * spent / max(frames, 1):.1f} ms each for the model")
    return 0 if frames else 2


if __name__ == "__main__":
    sys.exit(main())
