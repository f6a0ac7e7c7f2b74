// kzoo_lite MODEL.tflite IMAGE... [--threads 2] [--score 0.5] [--repeat 1]
//
// Prints one line of JSON an image, as kzoo_lite.py --json does: what was found, and milliseconds from decoded pixels
// to the end (with --repeat the median of so many runs). Images that cannot be read are passed over, and the exit code
// is 1 then.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "model.h"

static std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", c);
      out += code;
    } else {
      out += c;
    }
  }
  return out + '"';
}

static std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

static std::string detections_json(const std::vector<Detection>& found, const Model& model, double score) {
  std::string out;
  for (const Detection& one : found) {
    if (one.score < score) continue;
    out += (out.empty() ? "" : ", ") + ("{\"name\": " + quoted(model.name(one.label))) +
           ", \"label\": " + std::to_string(one.label) + ", \"score\": " + number("%.6f", one.score) + ", \"box\": [" +
           number("%.4f", one.x1) + ", " + number("%.4f", one.y1) + ", " + number("%.4f", one.x2) + ", " +
           number("%.4f", one.y2) + "]}";
  }
  return "\"detections\": [" + out + "]";
}

static std::string pixels_json(const std::vector<int>& labels, const Model& model) {
  std::map<int, size_t> counts;
  for (const int label : labels) ++counts[label];
  std::string out;
  for (const auto& [label, count] : counts) {
    out += (out.empty() ? "" : ", ") + quoted(model.name(label)) + ": " + std::to_string(count);
  }
  return "\"pixels\": {" + out + "}";
}

// The number behind an option. Throws std::runtime_error where there is none.
static double number_after(int argc, char** argv, int& i) {
  char* end = nullptr;
  const double value = i + 1 < argc ? std::strtod(argv[i + 1], &end) : 0;
  if (!end || end == argv[i + 1] || *end) throw std::runtime_error(std::string(argv[i]) + " needs a number");
  ++i;
  return value;
}

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  int threads = 2, repeat = 1;
  double score = 0.5;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      if (word == "--threads") {
        threads = std::max(1, static_cast<int>(number_after(argc, argv, i)));
      } else if (word == "--repeat") {
        repeat = std::max(1, static_cast<int>(number_after(argc, argv, i)));
      } else if (word == "--score") {
        score = number_after(argc, argv, i);
      } else if (word.compare(0, 2, "--") == 0) {
        throw std::runtime_error(word + ": no such option. There are --threads, --score and --repeat");
      } else {
        paths.push_back(word);
      }
    }
    if (paths.size() < 2) {
      std::cerr << "usage: kzoo_lite MODEL.tflite IMAGE... [--threads 2] [--score 0.5] [--repeat 1]\n";
      return 2;
    }
    Model model(paths[0], threads);
    bool all_read = true;
    for (size_t i = 1; i < paths.size(); ++i) {
      Image image;
      try {
        image = read_image(paths[i]);
      } catch (const std::exception& error) {
        std::cerr << "passed over " << error.what() << std::endl;
        all_read = false;
        continue;
      }
      std::vector<double> times;
      std::string said;
      for (int run = 0; run < repeat; ++run) {
        const auto start = std::chrono::steady_clock::now();
        if (model.is_detector()) {
          const auto found = model.detect(image);
          times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
          said = detections_json(found, model, score);
        } else {
          const auto labels = model.segment(image);
          times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
          said = pixels_json(labels, model);
        }
      }
      std::sort(times.begin(), times.end());
      std::cout << "{\"file\": " << quoted(paths[i]) << ", " << said << ", \"ms\": "
                << number("%.2f", times[times.size() / 2]) << "}" << std::endl;
    }
    return all_read ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
