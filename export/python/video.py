"""The same as kzoo_lite.py on a camera or a film, frame by frame; needs kzoo_lite.py beside it, and OpenCV.

pip install ai-edge-litert numpy pillow opencv-python
python video.py model.tflite 0                              # the first camera, in a window; q ends it
python video.py model.tflite film.mp4 --output drawn.mp4    # a film, into a film
"""

import argparse
import os
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
    try:
        return run(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    model = Model(options.model, options.threads)
    source = cv2.VideoCapture(int(options.source) if options.source.isdecimal() else options.source)
    if not source.isOpened():
        raise ValueError(f"{options.source}: no camera or film that OpenCV can open")
    if options.output is None:
        open_window()
    elif options.output.resolve() == Path(options.source).resolve():
        raise ValueError(f"{options.output}: is the film that is read. Give another --output.")
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
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
            codec = cv2.VideoWriter_fourcc(*("MJPG" if options.output.suffix.lower() == ".avi" else "mp4v"))
            rate = source.get(cv2.CAP_PROP_FPS) or 25
            film = cv2.VideoWriter(str(options.output), codec, rate, (drawn.shape[1], drawn.shape[0]))
            if not film.isOpened():
                raise ValueError(f"{options.output}: OpenCV cannot write this film. Give a name in .mp4 or .avi.")
        film.write(drawn)
    source.release()
    if film is not None:
        film.release()
    print(f"{frames} frames, {1000 * spent / max(frames, 1):.1f} ms each for the model")
    return 0 if frames else 2


def open_window() -> None:
    """Opens the window before the first frame, where it can be opened.

    Raises:
        ValueError: on a machine without display, or for an OpenCV that was built without windows.
    """
    remedy = "Write a film with --output drawn.mp4."
    # OpenCV's windows do not raise without a display, they end the process.
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError(f"no display for a window (DISPLAY is not set). {remedy}")
    try:
        cv2.namedWindow("kzoo", cv2.WINDOW_AUTOSIZE)
    except cv2.error as error:
        raise ValueError(f"this OpenCV opens no windows (opencv-python does). {remedy}") from error


if __name__ == "__main__":
    sys.exit(main())
