#include "borel/parameter_tensor.hpp"

#include <cassert>

namespace borel {
namespace {

std::vector<std::span<const float>> views_of(const std::vector<std::vector<float>>& storage) {
  return {storage.begin(), storage.end()};
}

}  // namespace

ParameterSet::ParameterSet(std::span<const ParameterTensor> declared, Seed seed) {
  storage_.reserve(declared.size());
  for (const ParameterTensor& tensor : declared) {
    assert(tensor.init);
    std::vector<float>& values = storage_.emplace_back(static_cast<std::size_t>(tensor.size()));
    Rng rng(seed.derive(tensor.name));
    tensor.init(rng, values);
  }
  views_ = views_of(storage_);
}

ParameterSet::ParameterSet(const ParameterSet& other)
    : storage_(other.storage_), views_(views_of(storage_)) {}

// The heap blocks move with the vectors, so the views stay valid.
ParameterSet& ParameterSet::operator=(ParameterSet other) noexcept {
  storage_.swap(other.storage_);
  views_.swap(other.views_);
  return *this;
}

}  // namespace borel
