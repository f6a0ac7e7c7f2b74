#include "image.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

Image read_image(const std::string& path) {
  int width = 0, height = 0, channels = 0;
  unsigned char* bytes = stbi_load(path.c_str(), &width, &height, &channels, 3);
  if (!bytes) throw std::runtime_error(path + ": not a readable image (" + stbi_failure_reason() + ")");
  Image image{height, width, std::vector<float>(bytes, bytes + static_cast<size_t>(height) * width * 3)};
  stbi_image_free(bytes);
  return image;
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
