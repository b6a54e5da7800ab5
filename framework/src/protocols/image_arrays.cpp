#include "protocols/image_arrays.hpp"

namespace borel {

std::vector<std::string> image_names(const Dataset& dataset) {
  std::vector<std::string> names;
  for (const auto& [name, fact] : dataset.info().facts) names.push_back(name);
  return names;
}

ImageArray image_array(const Dataset& dataset, std::string_view name) {
  const std::vector<std::int64_t> shape = dataset.shape(name);
  const std::size_t axes = shape.size();  // 3, or 4 for a set
  return {axes == 4 ? shape[0] : 1, shape[axes - 3], shape[axes - 2], shape[axes - 1], dataset.bytes(name)};
}

}  // namespace borel
