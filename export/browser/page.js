// The page: a model from the list, an image from disk, by drop or from the camera, and what the model finds in it.

import {Model} from "./model.js";
import {pixelsOf} from "./pixels.js";

const element = (id) => document.getElementById(id);
const [models, threads, score, file] = ["model", "threads", "score", "file"].map(element);
const [cameraButton, canvas] = [element("camera"), element("picture")];
const context = canvas.getContext("2d");

const state = {model: null, name: "", source: null, image: null, found: null, camera: null, busy: Promise.resolve()};

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

/** One thing after the other; a failure is shown and ends nothing. */
function queue(work) {
  state.busy = state.busy.then(work).catch((error) => {
    console.error(error);
    say(error.message ?? String(error), true);
  });
  return state.busy;
}

async function loadModel() {
  const name = models.value;
  say(`Loading ${name}…`);
  const response = await fetch(`/models/${encodeURIComponent(name)}`);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const next = await Model.load(bytes, Number(threads.value));
  state.model?.delete();
  Object.assign(state, {model: next, name, found: null});
  element("score-label").hidden = next.task !== "detection";
  const megabytes = (bytes.length / 1e6).toFixed(1);
  say(`${name}: ${next.task}, ${next.size.join(" × ")} pixels, ${megabytes} MB. Choose an image.`);
  if (state.image) await find();
}

async function showFile(blob) {
  // No colour conversion: a network sees the numbers of the file, as in training.
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none", premultiplyAlpha: "none"}).catch(() => {
    throw new Error(`${blob.name}: not an image that this browser can read.`);
  });
  stopCamera();
  state.source = bitmap;
  state.image = pixelsOf(bitmap, bitmap.width, bitmap.height);
  await find();
}

async function find() {
  if (!state.model) return;
  const start = performance.now();
  const found = await state.model.find(state.image);
  const milliseconds = performance.now() - start;
  Object.assign(state, {found});
  draw();
  const [size, count] = [`${state.image.width} × ${state.image.height} pixels`, Number(threads.value)];
  say(`${state.name}: ${milliseconds.toFixed(0)} ms for ${size}, ${count} thread${count === 1 ? "" : "s"}`);
  // For scripts: what was found last, and how many times something was looked for.
  window.kzoo = {model: state.name, threads: count, milliseconds, found, runs: (window.kzoo?.runs ?? 0) + 1};
}

/** Hues a golden angle apart, as the other clients have them. */
function colour(label) {
  return `hsl(${(360 * ((0.02 + label * 0.381966) % 1)).toFixed(0)} 85% 65%)`;
}

function draw() {
  const {source, image, found, model} = state;
  if (!source || !found) return;
  const zoom = Math.max(1, Math.floor(640 / Math.max(image.width, image.height))); // lines and names stay readable
  canvas.width = image.width * zoom;
  canvas.height = image.height * zoom;
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  if (found.detections) drawBoxes(found.detections.filter((one) => one.score >= Number(score.value)), model, zoom);
  else drawMask(found, model);
}

function drawBoxes(detections, model, zoom) {
  const unit = Math.max(canvas.width, canvas.height) / 640;
  context.font = `${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const {box, label, score: value} of [...detections].reverse()) {
    const [x1, y1, x2, y2] = box.map((side) => side * zoom);
    context.lineWidth = 5 * unit; // a dark rim, for pictures of the same colour
    context.strokeStyle = "#0008";
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.lineWidth = 2 * unit;
    context.strokeStyle = context.fillStyle = colour(label);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${model.name(label)} ${value.toFixed(2)}`;
    const top = Math.max(18 * unit, y1);
    context.fillRect(x1 - unit, top - 18 * unit, context.measureText(text).width + 6 * unit, 18 * unit);
    context.fillStyle = "black";
    context.fillText(text, x1 + 2 * unit, top - unit);
  }
  list(detections.map((one) => [one.label, model.name(one.label), one.score.toFixed(2)]));
}

function drawMask(found, model) {
  const layer = new OffscreenCanvas(found.width, found.height);
  const tint = new ImageData(found.width, found.height);
  const colours = new Map();
  const counts = new Map();
  found.labels.forEach((label, i) => {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    if (!colours.has(label)) colours.set(label, rgb(colour(label)));
    tint.data.set(colours.get(label), 4 * i);
    tint.data[4 * i + 3] = 115; // 45 %
  });
  layer.getContext("2d").putImageData(tint, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  const rows = [...counts].sort((a, b) => b[1] - a[1]);
  list(rows.map(([label, n]) => [label, model.name(label), `${((100 * n) / found.labels.length).toFixed(1)} %`]));
}

function rgb(css) {
  const one = new OffscreenCanvas(1, 1).getContext("2d");
  one.fillStyle = css;
  one.fillRect(0, 0, 1, 1);
  return one.getImageData(0, 0, 1, 1).data;
}

/** Names come from a file, so they enter the page as text only. */
function list(rows) {
  const items = rows.slice(0, 40).map(([label, name, value]) => {
    const item = document.createElement("li");
    const [dot, word, number] = ["i", "span", "b"].map((tag) => document.createElement(tag));
    dot.style.background = colour(label);
    word.textContent = name;
    number.textContent = value;
    item.append(dot, word, number);
    return item;
  });
  element("found").replaceChildren(...items);
  if (!rows.length) element("found").textContent = "nothing";
}

async function startCamera() {
  const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
  const video = document.createElement("video");
  Object.assign(video, {srcObject: stream, muted: true, playsInline: true});
  await video.play();
  state.camera = stream;
  cameraButton.textContent = "Stop the camera";
  const frame = () => {
    if (state.camera !== stream) return;
    queue(async () => {
      if (state.camera !== stream) return;
      state.source = video;
      state.image = pixelsOf(video, video.videoWidth, video.videoHeight);
      await find();
    }).then(() => requestAnimationFrame(frame));
  };
  frame();
}

function stopCamera() {
  state.camera?.getTracks().forEach((track) => track.stop());
  state.camera = null;
  cameraButton.textContent = "Camera";
}

async function main() {
  const most = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  threads.append(...[1, 2, 4, 8].filter((n) => n <= most).map((n) => new Option(n)));
  threads.value = String(Math.min(2, most));
  const names = await (await fetch("/models.json")).json();
  models.append(...names.map((name) => new Option(name)));
  const wanted = new URLSearchParams(location.search).get("model");
  if (names.includes(wanted)) models.value = wanted;
  models.addEventListener("change", () => queue(loadModel));
  threads.addEventListener("change", () => queue(loadModel));
  score.addEventListener("input", () => {
    element("score-value").value = Number(score.value).toFixed(2);
    draw();
  });
  file.addEventListener("change", () => {
    const [chosen] = file.files;
    if (chosen) queue(() => showFile(chosen));
    file.value = "";
  });
  cameraButton.addEventListener("click", () => (state.camera ? stopCamera() : queue(startCamera)));
  const drop = element("drop");
  for (const type of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
      if (type === "drop" && event.dataTransfer.files[0]) queue(() => showFile(event.dataTransfer.files[0]));
    });
  }
  await loadModel();
}

queue(main);
