#include "image.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

// `count` bytes as a number; 0 beyond the end, so that a cut file says nothing.
static unsigned number_at(const std::string& bytes, size_t place, int count, bool little_endian) {
  if (place + count > bytes.size()) return 0;
  unsigned value = 0;
  for (int i = 0; i < count; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[place + (little_endian ? count - 1 - i : i)]);
  }
  return value;
}

// The orientation 1 to 8 that the EXIF of a JPEG file names; 1, upright, without.
static unsigned exif_orientation(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (number_at(bytes, 0, 2, false) != 0xffd8) return 1;
  for (size_t place = 2; place + 18 <= bytes.size(); place += 2 + number_at(bytes, place + 2, 2, false)) {
    const unsigned marker = number_at(bytes, place, 2, false);
    if (marker < 0xff00 || marker == 0xffda) break;  // the pixels begin
    if (marker != 0xffe1 || bytes.compare(place + 4, 6, "Exif\0\0", 6) != 0) continue;
    const size_t tiff = place + 10;
    const bool little_endian = bytes[tiff] == 'I';
    const size_t table = tiff + number_at(bytes, tiff + 4, 4, little_endian);
    for (unsigned i = 0, count = number_at(bytes, table, 2, little_endian); i < count; ++i) {
      const size_t entry = table + 2 + 12 * i;
      if (number_at(bytes, entry, 2, little_endian) == 0x0112) return number_at(bytes, entry + 8, 2, little_endian);
    }
    break;
  }
  return 1;
}

// Turns an image upright that was stored in an orientation of EXIF.
static Image upright(const Image& image, unsigned orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool sideways = orientation >= 5;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  Image result{sideways ? image.width : image.height, sideways ? image.height : image.width, {}};
  result.pixels.reserve(image.pixels.size());
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const int row = sideways ? x : y, column = sideways ? y : x;
      const size_t from = static_cast<size_t>(from_below ? image.height - 1 - row : row) * image.width +
                          (from_right ? image.width - 1 - column : column);
      result.pixels.insert(result.pixels.end(), &image.pixels[3 * from], &image.pixels[3 * from] + 3);
    }
  }
  return result;
}

Image read_image(const std::string& path) {
  int width = 0, height = 0, channels = 0;
  unsigned char* bytes = stbi_load(path.c_str(), &width, &height, &channels, 3);
  if (!bytes) throw std::runtime_error(path + ": not a readable image (" + stbi_failure_reason() + ")");
  Image image{height, width, std::vector<float>(bytes, bytes + static_cast<size_t>(height) * width * 3)};
  stbi_image_free(bytes);
  return upright(image, exif_orientation(path));
}

// Resizes the middle side of values (outer, length, inner) to `wanted`.
static std::vector<float> along(const std::vector<float>& values, size_t outer, int length, size_t inner, int wanted) {
  std::vector<float> result(outer * wanted * inner);
  const double scale = static_cast<double>(length) / wanted, spread = std::max(scale, 1.0);
  for (int to = 0; to < wanted; ++to) {
    const double centre = (to + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - spread + 0.5));
    const int last = std::min(length, static_cast<int>(centre + spread + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (int from = first; from < last; ++from) {
      weights.push_back(std::max(0.0, 1 - std::abs((from - centre + 0.5) / spread)));
      total += weights.back();
    }
    for (double& weight : weights) weight /= total;
    for (size_t row = 0; row < outer; ++row) {
      for (size_t k = 0; k < inner; ++k) {
        const float* from = &values[(row * length + first) * inner + k];
        double sum = 0;
        for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * from[i * inner];
        result[(row * wanted + to) * inner + k] = static_cast<float>(sum);
      }
    }
  }
  return result;
}

Image resize(const Image& image, int height, int width) {
  if (image.height == height && image.width == width) return image;
  const std::vector<float> across = along(image.pixels, image.height, image.width, 3, width);
  // The rows are now one long line each: their values lie width * 3 apart.
  return {height, width, along(across, 1, image.height, static_cast<size_t>(width) * 3, height)};
}

std::vector<int> nearest(const std::vector<int>& map, int have_height, int have_width, int height, int width) {
  std::vector<int> result(static_cast<size_t>(height) * width);
  for (int y = 0; y < height; ++y) {
    const int row = static_cast<int>((y + 0.5) * have_height / height);
    for (int x = 0; x < width; ++x) {
      const int column = static_cast<int>((x + 0.5) * have_width / width);
      result[static_cast<size_t>(y) * width + x] = map[static_cast<size_t>(row) * have_width + column];
    }
  }
  return result;
}
