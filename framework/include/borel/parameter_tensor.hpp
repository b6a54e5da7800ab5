// Arrays that a method needs besides its inputs: learnable parameters, and fixed random ones.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "borel/rng.hpp"
#include "borel/tensor.hpp"

namespace borel {

/// Declaration of one parameter tensor. The framework owns the values: it makes them with `init`, keeps them in
/// checkpoints, updates the trainable ones, and hands them to every call in the declared order.
struct ParameterTensor {
  std::string name = {};                                         ///< snake_case, unique within the method
  std::vector<index_t> shape = {};                               ///< row-major; may depend on the context
  bool trainable = true;                                         ///< false: fixed, e.g. random features
  std::function<void(Rng&, std::span<float> values)> init = {};  ///< fills all values; must not be empty
  std::string doc = {};
  bool shared_by_layers =
      false;  ///< true: one tensor for all layers of a network (T5's table), else one per layer

  index_t size() const {
    index_t product = 1;
    for (index_t extent : shape) product *= extent;
    return product;
  }
};

/// Values of all declared tensors, in declared order; each span is row-major and gapless.
using ParameterValues = std::span<const std::span<const float>>;
/// Gradients, same order and sizes; a method adds to them. A span of size 0 means "not asked for".
using ParameterGradients = std::span<const std::span<float>>;

/// Owns values for a list of declarations.
class BOREL_EXPORT ParameterSet {
 public:
  ParameterSet() = default;
  /// Runs every initialiser with its own stream, seed.derive(name).
  ParameterSet(std::span<const ParameterTensor> declared, Seed seed);

  ParameterValues values() const { return views_; }
  std::span<float> operator[](index_t i) { return storage_[static_cast<std::size_t>(i)]; }
  index_t size() const { return static_cast<index_t>(storage_.size()); }
  ParameterSet(const ParameterSet&);
  ParameterSet(ParameterSet&&) noexcept = default;
  ParameterSet& operator=(ParameterSet) noexcept;
  ~ParameterSet() = default;

 private:
  std::vector<std::vector<float>> storage_;
  std::vector<std::span<const float>> views_;
};

}  // namespace borel
