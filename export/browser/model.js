// A .tflite file of kzoo in LiteRT.js: read what it says about itself, run it, give boxes or a map of labels.

import {Tensor, loadAndCompile, loadLiteRt} from "@litertjs/core";
import {mirrored, nearest, resize, tileStarts} from "./pixels.js";

const DETECTOR = ["boxes", "labels", "num_detections", "scores"];
const SEGMENTER = ["labels", "scores"];
// Of a file for MediaPipe Tasks: boxes y1, x1, y2, x2 in fractions of the image; each pixel's probabilities.
const MEDIAPIPE_DETECTOR = ["detection_boxes", "detection_classes", "detection_scores", "num_detections"];
const MEDIAPIPE_SEGMENTER = ["segmentation"];
const WASM = "/node_modules/@litertjs/core/wasm/";

let runtime = null;

/** Loads LiteRT once; with threads where the page's headers allow them. */
export function start() {
  runtime ??= loadLiteRt(WASM, {threads: self.crossOriginIsolated});
  return runtime;
}

export class Model {
  /** Loads the bytes of a file: `task` is "detection" or "segmentation", `size` the [height, width] of its input. */
  static async load(bytes, threads) {
    await start();
    const about = readMetadata(bytes);
    const compiled = await loadAndCompile(bytes, {accelerator: "wasm", cpuOptions: {numThreads: threads}});
    const outputs = compiled.getOutputDetails().map((one) => one.name).sort().join();
    const inputs = compiled.getInputDetails();
    const oneOf = (...forms) => forms.some((names) => outputs === names.join());
    const detects = oneOf(DETECTOR, MEDIAPIPE_DETECTOR);
    if (inputs.length !== 1 || (!detects && !oneOf(SEGMENTER, MEDIAPIPE_SEGMENTER))) {
      compiled.delete();
      throw new Error(`The outputs ${outputs} are not those of a detector or segmenter of kzoo.`);
    }
    const model = new Model();
    model.task = detects ? "detection" : "segmentation";
    model.size = [...inputs[0].shape].slice(1, 3);
    model.classNames = about.class_names ?? [];
    model.compiled = compiled;
    model.input = inputs[0];
    model.outputs = compiled.getOutputDetails();
    model.tile = about.tile_size ?? null;
    model.stride = about.stride ?? 1;
    return model;
  }

  name(label) {
    return this.classNames[label] ?? String(label);
  }

  /** What is in an image of `pixelsOf`: {detections: [{box, label, score}]} or {labels, scores, height, width}. */
  async find(image) {
    if (this.task === "detection") return {detections: await this.detect(image)};
    const found = this.tile ? await this.inTiles(image) : await this.resized(image);
    return {...found, height: image.height, width: image.width};
  }

  async detect(image) {
    const found = await this.run(resize(image, ...this.size));
    const [sy, sx] = [image.height / this.size[0], image.width / this.size[1]];
    return Array.from({length: found.num_detections.data[0]}, (_, i) => {
      const [x1, y1, x2, y2] = found.boxes.data.subarray(4 * i, 4 * i + 4);
      return {box: [x1 * sx, y1 * sy, x2 * sx, y2 * sy], label: found.labels.data[i], score: found.scores.data[i]};
    });
  }

  async resized(image) {
    const found = await this.run(resize(image, ...this.size));
    const [, height, width] = found.labels.shape;
    const toImage = (map) => nearest(map, height, width, image.height, image.width);
    return {labels: toImage(found.labels.data), scores: toImage(found.scores.data)};
  }

  /** Tile by tile, for a network whose labels are good in the centre of its input only. */
  async inTiles(image) {
    const labels = new Int32Array(image.height * image.width);
    const scores = new Float32Array(labels.length);
    const margins = this.size.map((side, i) => (side - this.tile[i]) / 2);
    for (const top of tileStarts(image.height, this.tile[0], this.stride)) {
      for (const left of tileStarts(image.width, this.tile[1], this.stride)) {
        const found = await this.run(mirrored(image, top - margins[0], left - margins[1], ...this.size));
        const [, height, width] = found.labels.shape;
        const [dy, dx] = [Math.floor((height - this.tile[0]) / 2), Math.floor((width - this.tile[1]) / 2)];
        for (let y = 0; y < Math.min(this.tile[0], image.height - top); y++) {
          const from = (y + dy) * width + dx;
          const count = Math.min(this.tile[1], image.width - left);
          const to = (top + y) * image.width + left;
          labels.set(found.labels.data.subarray(from, from + count), to);
          scores.set(found.scores.data.subarray(from, from + count), to);
        }
      }
    }
    return {labels, scores};
  }

  /** Every output by kzoo's name, {data, shape}, for an image of the file's own size. */
  async run(image) {
    const values = this.input.dtype === "uint8" ? Uint8Array.from(image.data, (v) => Math.round(v)) : image.data;
    const tensor = new Tensor(values, [1, ...this.size, 3]);
    const results = await this.compiled.run({[this.input.name]: tensor});
    tensor.delete();
    const found = {};
    for (const [name, result] of Object.entries(results)) {
      found[name] = {data: (await result.data()).slice(), shape: [...result.type.layout.dimensions]};
      result.delete();
    }
    if (found.segmentation) return mostLikely(found.segmentation);
    return found.detection_boxes ? inPixels(found, ...this.size) : found;
  }

  delete() {
    this.compiled.delete();
  }
}

/** The outputs of a detector for MediaPipe as kzoo's. */
function inPixels(found, height, width) {
  const boxes = found.detection_boxes.data;
  for (let i = 0; i < boxes.length; i += 4) {
    const [y1, x1, y2, x2] = boxes.subarray(i, i + 4);
    boxes.set([x1 * width, y1 * height, x2 * width, y2 * height], i);
  }
  return {
    boxes: found.detection_boxes,
    labels: {...found.detection_classes, data: Int32Array.from(found.detection_classes.data)},
    scores: found.detection_scores,
    num_detections: found.num_detections,
  };
}

/** The output of a segmenter for MediaPipe as kzoo's: each pixel's best class, and its probability. */
function mostLikely({data, shape: [count, height, width, classes]}) {
  const labels = new Int32Array(count * height * width);
  const scores = new Float32Array(labels.length);
  for (let i = 0; i < labels.length; i++) {
    const pixel = data.subarray(i * classes, (i + 1) * classes);
    scores[i] = Math.max(...pixel);
    labels[i] = pixel.indexOf(scores[i]);
  }
  const shape = [count, height, width];
  return {labels: {data: labels, shape}, scores: {data: scores, shape}};
}

/** kzoo.json from the zip archive behind a model; without one the class names of a labels.txt, or nothing. */
export function readMetadata(bytes) {
  const files = zipEntries(bytes);
  const text = (name) => new TextDecoder().decode(files.get(name));
  if (files.has("kzoo.json")) return JSON.parse(text("kzoo.json"));
  if (files.has("labels.txt")) return {class_names: text("labels.txt").trimEnd().split(/\r?\n/)};
  return {};
}

/** The files that are stored, not compressed, in a zip archive at the end of some bytes, by name. */
function zipEntries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const files = new Map();
  let end = bytes.length - 22;
  while (end >= Math.max(0, bytes.length - 65557) && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return files;
  let place = view.getUint32(end + 16, true);
  for (let i = 0; i < view.getUint16(end + 10, true) && view.getUint32(place, true) === 0x02014b50; i++) {
    const [size, nameLength] = [view.getUint32(place + 20, true), view.getUint16(place + 28, true)];
    const name = new TextDecoder().decode(bytes.subarray(place + 46, place + 46 + nameLength));
    const local = view.getUint32(place + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (view.getUint16(place + 10, true) === 0) files.set(name, bytes.subarray(start, start + size));
    place += 46 + nameLength + view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
  }
  return files;
}
