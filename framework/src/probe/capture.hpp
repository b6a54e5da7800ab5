// Queries, keys and values that a trained network makes of a text, as datasets of kind `qkv`.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "borel/registry.hpp"
#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"

namespace borel::probe {

/// As the name of a dataset: `qkv{model=model_rope_128, layer=2}`.
struct CaptureOptions {
  std::string model;
  std::int64_t layer = 0;
  std::int64_t n = 0;      ///< bytes; 0 = the training length
  std::int64_t first = 0;  ///< of the held-out text

  void declare(ParamBinder& p);
};

bool is_capture(std::string_view dataset);
/// The second takes a model's path as it is, whatever signs stand in it. @throws ParamError
CaptureOptions parse_capture(std::string_view dataset);
CaptureOptions parse_capture(const MethodSpec& spec);

/// q, k, v float32 [heads, n, d_head] of one layer while the network reads held-out text in its own encoding; a row is a token.
/// They are those that the attention plugin is given: before its position encoding, whose name is an attribute, so that any
/// encoding and any mechanism can be tried on them. @throws ParamError: no such layer or piece of text, negative numbers; DatasetError; MethodError
DatasetWriter capture(const Dataset& model, const CaptureOptions& options, std::string_view id,
                      const Registry& registry);

}  // namespace borel::probe
