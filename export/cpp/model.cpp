#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include "litert_c_api.h"

namespace {

void check(LiteRtStatus status, const std::string& what) {
  if (status) throw std::runtime_error(what + " (LiteRT status " + std::to_string(status) + ")");
}

unsigned read_le(const std::string& bytes, size_t place, int count) {
  unsigned value = 0;
  for (int i = 0; i < count; ++i) value |= static_cast<unsigned char>(bytes.at(place + i)) << (8 * i);
  return value;
}

// The files that are stored, not compressed, in a zip archive at the end of some bytes, by name.
std::map<std::string, std::string> zip_entries(const std::string& bytes) {
  std::map<std::string, std::string> files;
  const size_t end = bytes.rfind("PK\5\6");
  if (end == std::string::npos || end + 22 > bytes.size()) return files;
  size_t place = read_le(bytes, end + 16, 4);
  for (unsigned i = 0, count = read_le(bytes, end + 10, 2); i < count; ++i) {
    const unsigned size = read_le(bytes, place + 20, 4), length = read_le(bytes, place + 28, 2);
    const size_t local = read_le(bytes, place + 42, 4);
    const size_t start = local + 30 + read_le(bytes, local + 26, 2) + read_le(bytes, local + 28, 2);
    if (read_le(bytes, place + 10, 2) == 0) files[bytes.substr(place + 46, length)] = bytes.substr(start, size);
    place += 46 + length + read_le(bytes, place + 30, 2) + read_le(bytes, place + 32, 2);
  }
  return files;
}

struct Tensor {
  LiteRtRankedTensorType type{};
  LiteRtTensorBuffer buffer = nullptr;

  size_t size() const {
    size_t count = 1;
    for (unsigned i = 0; i < type.layout.rank; ++i) count *= std::max(0, type.layout.dimensions[i]);
    return count;
  }

  template <typename T>
  std::vector<T> read() const {
    void* address = nullptr;
    check(LiteRtLockTensorBuffer(buffer, &address, kLiteRtLockRead), "cannot read an output");
    std::vector<T> values(static_cast<T*>(address), static_cast<T*>(address) + size());
    LiteRtUnlockTensorBuffer(buffer);
    return values;
  }

  // Labels and counts, which a file for MediaPipe Tasks holds as floats.
  std::vector<int> read_integers() const {
    if (type.element_type == kLiteRtElementTypeInt32) return read<int>();
    const auto values = read<float>();
    return {values.begin(), values.end()};
  }

  template <typename T>
  void write(const std::vector<T>& values) const {
    void* address = nullptr;
    check(LiteRtLockTensorBuffer(buffer, &address, kLiteRtLockWrite), "cannot write the input");
    std::memcpy(address, values.data(), values.size() * sizeof(T));
    LiteRtUnlockTensorBuffer(buffer);
  }
};

// The best class of each pixel, for probabilities (1, height, width, classes).
std::vector<int> most_likely(const Tensor& probabilities) {
  const auto values = probabilities.read<float>();
  const size_t classes = probabilities.type.layout.dimensions[3];
  std::vector<int> labels(values.size() / classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto first = values.begin() + i * classes;
    labels[i] = static_cast<int>(std::max_element(first, first + classes) - first);
  }
  return labels;
}

}  // namespace

struct Model::Runtime {
  LiteRtEnvironment environment = nullptr;
  LiteRtModel model = nullptr;
  LiteRtOptions options = nullptr;
  LiteRtCompiledModel compiled = nullptr;
  Tensor input;
  std::vector<std::string> names;
  std::vector<Tensor> outputs;

  ~Runtime() {
    for (const Tensor& one : outputs) {
      if (one.buffer) LiteRtDestroyTensorBuffer(one.buffer);
    }
    if (input.buffer) LiteRtDestroyTensorBuffer(input.buffer);
    if (compiled) LiteRtDestroyCompiledModel(compiled);
    if (options) LiteRtDestroyOptions(options);
    if (model) LiteRtDestroyModel(model);
    if (environment) LiteRtDestroyEnvironment(environment);
  }

  const Tensor* find(const std::string& name) const {
    const auto place = std::find(names.begin(), names.end(), name);
    return place == names.end() ? nullptr : &outputs[place - names.begin()];
  }
};

Model::Model(const std::string& path, int threads) : runtime_(new Runtime) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": no such file");
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto about = zip_entries(bytes);
  if (const auto labels = about.find("labels.txt"); labels != about.end()) {
    std::istringstream lines(labels->second);
    for (std::string line; std::getline(lines, line);) class_names_.push_back(line);
  }

  Runtime& r = *runtime_;
  const LiteRtEnvOption quiet{kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogError}};
  check(LiteRtCreateEnvironment(1, &quiet, &r.environment), "LiteRT does not start");
  check(LiteRtCreateModelFromFile(r.environment, path.c_str(), &r.model), path + ": not a LiteRT model");
  check(LiteRtCreateOptions(&r.options), "no options");
  check(LiteRtSetOptionsHardwareAccelerators(r.options, kLiteRtHwAcceleratorCpu), "no CPU");
  LiteRtOpaqueOptions cpu = nullptr;  // options of the CPU are a text under the name xnnpack
  const std::string text = "num_threads = " + std::to_string(threads) + "\n";
  check(LiteRtCreateOpaqueOptions("xnnpack", strdup(text.c_str()), std::free, &cpu), "no options for the CPU");
  check(LiteRtAddOpaqueOptions(r.options, cpu), "no options for the CPU");
  check(LiteRtCreateCompiledModel(r.environment, r.model, r.options, &r.compiled), path + ": LiteRT cannot run it");

  LiteRtSignature signature = nullptr;
  check(LiteRtGetModelSignature(r.model, 0, &signature), path + ": has no signature");
  LiteRtParamIndex inputs = 0, outputs = 0;
  LiteRtTensor tensor = nullptr;
  LiteRtTensorBufferRequirements needs = nullptr;
  check(LiteRtGetNumSignatureInputs(signature, &inputs), path + ": no inputs");
  check(LiteRtGetNumSignatureOutputs(signature, &outputs), path + ": no outputs");
  if (inputs != 1) throw std::runtime_error(path + ": takes more than an image");
  check(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor), path + ": no input");
  check(LiteRtGetRankedTensorType(tensor, &r.input.type), path + ": an input of no fixed shape");
  check(LiteRtGetCompiledModelInputBufferRequirements(r.compiled, 0, 0, &needs), "no buffer");
  check(LiteRtCreateManagedTensorBufferFromRequirements(r.environment, &r.input.type, needs, &r.input.buffer),
        "no buffer");
  r.outputs.resize(outputs);
  for (LiteRtParamIndex i = 0; i < outputs; ++i) {
    const char* name = nullptr;
    check(LiteRtGetSignatureOutputName(signature, i, &name), path + ": an output without a name");
    r.names.emplace_back(name);
    check(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor), path + ": no output");
    check(LiteRtGetRankedTensorType(tensor, &r.outputs[i].type), path + ": an output of no fixed shape");
    check(LiteRtGetCompiledModelOutputBufferRequirements(r.compiled, 0, i, &needs), "no buffer");
    check(LiteRtCreateManagedTensorBufferFromRequirements(r.environment, &r.outputs[i].type, needs,
                                                          &r.outputs[i].buffer),
          "no buffer");
  }
  const LiteRtLayout& layout = r.input.type.layout;
  const auto has = [&r](std::initializer_list<const char*> wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&r](const char* name) { return r.find(name) != nullptr; });
  };
  const bool detector = has({"boxes", "labels", "scores", "num_detections"}) ||
                        has({"detection_boxes", "detection_classes", "detection_scores", "num_detections"});
  if ((!detector && !r.find("labels") && !r.find("segmentation")) || layout.rank != 4 || layout.dimensions[3] != 3) {
    throw std::runtime_error(path + ": its outputs are not those of a detector or segmenter of kzoo");
  }
  const auto json = about.find("kzoo.json");
  if (json != about.end() && json->second.find("\"tile_size\": [") != std::string::npos) {
    throw std::runtime_error(path + ": a segmenter that wants tiles; the clients in Python and the browser make them");
  }
  height_ = layout.dimensions[1];
  width_ = layout.dimensions[2];
}

Model::~Model() = default;

bool Model::is_detector() const { return runtime_->find("num_detections") != nullptr; }

std::string Model::name(int label) const {
  const bool known = label >= 0 && label < static_cast<int>(class_names_.size());
  return known ? class_names_[label] : std::to_string(label);
}

void Model::run(const Image& image) {
  Runtime& r = *runtime_;
  const Image small = resize(image, height_, width_);
  if (r.input.type.element_type == kLiteRtElementTypeUInt8) {
    std::vector<uint8_t> bytes(small.pixels.size());
    std::transform(small.pixels.begin(), small.pixels.end(), bytes.begin(),
                   [](float v) { return static_cast<uint8_t>(std::min(255.0F, std::max(0.0F, std::rint(v)))); });
    r.input.write(bytes);
  } else {
    r.input.write(small.pixels);
  }
  std::vector<LiteRtTensorBuffer> outputs;
  for (const Tensor& one : r.outputs) outputs.push_back(one.buffer);
  check(LiteRtRunCompiledModel(r.compiled, 0, 1, &r.input.buffer, outputs.size(), outputs.data()), "the model failed");
}

std::vector<Detection> Model::detect(const Image& image) {
  run(image);
  // A file for MediaPipe Tasks has boxes as y1, x1, y2, x2 in fractions of the image.
  const bool mediapipe = runtime_->find("detection_boxes") != nullptr;
  const auto boxes = runtime_->find(mediapipe ? "detection_boxes" : "boxes")->read<float>();
  const auto labels = runtime_->find(mediapipe ? "detection_classes" : "labels")->read_integers();
  const auto scores = runtime_->find(mediapipe ? "detection_scores" : "scores")->read<float>();
  const int count = runtime_->find("num_detections")->read_integers().at(0);
  const int x = mediapipe ? 1 : 0, y = 1 - x;
  const float sx = static_cast<float>(image.width) / (mediapipe ? 1 : width_);
  const float sy = static_cast<float>(image.height) / (mediapipe ? 1 : height_);
  std::vector<Detection> found;
  for (int i = 0; i < count; ++i) {
    const float* box = &boxes[4 * i];
    found.push_back({box[x] * sx, box[y] * sy, box[x + 2] * sx, box[y + 2] * sy, labels[i], scores[i]});
  }
  return found;
}

std::vector<int> Model::segment(const Image& image) {
  run(image);
  const Tensor* probabilities = runtime_->find("segmentation");  // of a file for MediaPipe Tasks
  const Tensor& output = probabilities ? *probabilities : *runtime_->find("labels");
  const auto labels = probabilities ? most_likely(output) : output.read_integers();
  const int32_t* shape = output.type.layout.dimensions;
  return nearest(labels, shape[1], shape[2], image.height, image.width);
}
