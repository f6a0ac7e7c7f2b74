// A .tflite file of kzoo, run by LiteRT.

#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "image.h"

struct Detection {
  float x1, y1, x2, y2;  // pixels of the image given
  int label;
  float score;
};

class Model {
 public:
  // Throws std::runtime_error where the file cannot be run, or is no detector or segmenter of kzoo.
  Model(const std::string& path, int threads);
  ~Model();

  bool is_detector() const;
  std::string name(int label) const;

  std::vector<Detection> detect(const Image& image);  // best first
  std::vector<int> segment(const Image& image);       // a label for each pixel, height * width

 private:
  struct Runtime;  // LiteRT's objects
  void run(const Image& image);

  std::unique_ptr<Runtime> runtime_;
  std::vector<std::string> class_names_;
  int height_ = 0, width_ = 0;
};
