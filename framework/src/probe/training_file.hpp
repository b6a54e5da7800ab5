// Training configurations as text: the TOML file that `borel train` reads, and the canonical form in checkpoints.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "probe/training.hpp"

namespace borel::probe {

/// A file of `key = value` lines. Keys, defaults and ranges: see TrainingFields::declare in training_file.cpp.
///   attention = "softmax"                       one method for all layers,
///   position = ["window{window=32}", "rope"]     or a list, one for each layer
/// @throws ParamError naming file, key, rule and what was given
/// @param changes  more such lines, which replace those of the file
/// @param origin  what messages call them
TrainingConfig read_training(const std::filesystem::path& file, std::string_view changes = {},
                             std::string_view origin = "changes");
TrainingConfig parse_training(std::string_view toml, std::string_view file, std::string_view changes = {},
                              std::string_view origin = "changes");

/// All fields with their values, `train{...}`; training_from() gives the same configuration back.
std::string training_text(const TrainingConfig& config);
TrainingConfig training_from(std::string_view text);

}  // namespace borel::probe
