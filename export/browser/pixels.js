// Images as plain arrays, resized and cut as kzoo does it in Python, so that a file finds the same everywhere.

/**
 * {data: Float32Array (height * width * 3), height, width} of an image that the browser can draw. Alpha is dropped, as
 * in the other clients; an image that has some must be an ImageBitmap made with premultiplyAlpha "none".
 */
export function pixelsOf(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(source, 0, 0, width, height);
  let rgba = context.getImageData(0, 0, width, height).data;
  // A canvas keeps colours multiplied by alpha: where alpha is 0 they are lost, elsewhere rounded.
  if (!isOpaque(rgba)) rgba = throughTexture(source, width, height) ?? rgba;
  const data = new Float32Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return {data, height, width};
}

function isOpaque(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] < 255) return false;
  return true;
}

/** RGBA by way of a texture, which keeps colours as they are; null without WebGL, or for an image beyond its limits. */
function throughTexture(source, width, height) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const rgba = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension("WEBGL_lose_context")?.loseContext(); // a page may have only so many of them
  return failed ? null : rgba;
}

/** Bilinear with antialiasing: a triangle as wide as the step where the image shrinks. Sides apart, columns first. */
export function resize(image, height, width) {
  if (image.height === height && image.width === width) return image;
  const across = along(image.data, image.height, image.width, 3, width);
  // The rows are now one long line each: their values lie width * 3 apart.
  const data = along(across, 1, image.height, width * 3, height);
  return {data, height, width};
}

/** Resizes the middle side of data (outer, length, inner) to `wanted`. */
function along(data, outer, length, inner, wanted) {
  const result = new Float32Array(outer * wanted * inner);
  const scale = length / wanted;
  const spread = Math.max(scale, 1);
  for (let to = 0; to < wanted; to++) {
    const centre = (to + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - spread + 0.5));
    const last = Math.min(length, Math.floor(centre + spread + 0.5));
    const weights = [];
    let total = 0;
    for (let from = first; from < last; from++) {
      const weight = Math.max(0, 1 - Math.abs((from - centre + 0.5) / spread));
      weights.push(weight);
      total += weight;
    }
    for (let row = 0; row < outer; row++) {
      const start = (row * wanted + to) * inner;
      for (let k = 0; k < inner; k++) {
        let sum = 0;
        for (let i = 0, from = (row * length + first) * inner + k; i < weights.length; i++, from += inner) {
          sum += data[from] * weights[i];
        }
        result[start + k] = sum / total;
      }
    }
  }
  return result;
}

/** A map (height * width) to another size, by the value under each new pixel's centre. */
export function nearest(map, height, width, newHeight, newWidth) {
  const result = new map.constructor(newHeight * newWidth);
  for (let y = 0; y < newHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / newHeight) * width;
    for (let x = 0; x < newWidth; x++) {
      result[y * newWidth + x] = map[row + Math.floor(((x + 0.5) * width) / newWidth)];
    }
  }
  return result;
}

/** Where tiles begin that cover 0..length: multiples of the stride, the last no further than it needs. */
export function tileStarts(length, tile, stride) {
  const step = Math.floor(tile / stride) * stride;
  const last = Math.max(0, Math.ceil((length - tile) / stride) * stride);
  const starts = [];
  for (let start = 0; start < last; start += step) starts.push(start);
  return [...starts, last];
}

/** A piece (height, width) of an image from (top, left) on, mirrored where it reaches beyond the border. */
export function mirrored(image, top, left, height, width) {
  const data = new Float32Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    const row = mirror(top + y, image.height) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (row + mirror(left + x, image.width)) * 3;
      data.set(image.data.subarray(from, from + 3), (y * width + x) * 3);
    }
  }
  return {data, height, width};
}

function mirror(place, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const within = ((place % period) + period) % period;
  return within < length ? within : period - within;
}
