// Images as floats, read from files and resized as kzoo does it in Python.

#pragma once

#include <string>
#include <vector>

struct Image {
  int height = 0, width = 0;
  std::vector<float> pixels;  // height * width * 3, RGB 0..255
};

// Reads a JPEG, PNG, BMP or GIF file, a JPEG turned upright by its EXIF orientation. Throws std::runtime_error for what
// is no image.
Image read_image(const std::string& path);

// Bilinear with antialiasing: a triangle as wide as the step where the image shrinks.
Image resize(const Image& image, int height, int width);

// A map (have_height * have_width) to another size, by the value under each new pixel's centre.
std::vector<int> nearest(const std::vector<int>& map, int have_height, int have_width, int height, int width);
