// The schemas of the dataset kinds: which arrays, of which type and shape. Written out in datasets/README.md.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/h5.hpp"

namespace borel {

enum class DatasetKind { samples, qkv, tokens, images, problem, model, results };

constexpr int k_schema_version = 1;

std::string_view kind_name(DatasetKind kind);
/// @throws DatasetError with the nearest kind
DatasetKind kind_from(std::string_view name);
/// Objectives that a problem may name, in the order of datasets/README.md.
const std::vector<std::string>& objective_names();

/// "samples/1": what the root attribute borel_schema says.
std::string schema_text(DatasetKind kind);

using Objects = std::map<std::string, h5::Object, std::less<>>;

/// Checks schema attributes, arrays, types and shapes; values are checked elsewhere. `who` starts the
/// messages.
/// @throws DatasetError naming the array, what the schema asks for and what was found. Returns the kind.
DatasetKind check_schema(const Objects& objects, const std::string& who);

}  // namespace borel
