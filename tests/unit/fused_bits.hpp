// Instruction sets with fused multiply-adds must agree to the bit.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace borel::test {

inline bool fuses_multiply_adds(std::string_view target) {
  return target == "AVX2" || target.substr(0, 4) == "AVX3";
}

/// Remembers what the first of them gave.
class FusedBits {
 public:
  /// Whether these values are those of the one before; true for instruction sets without.
  bool agree(std::string_view target, const std::vector<float>& values) {
    if (!fuses_multiply_adds(target)) return true;
    if (first_.empty()) first_ = values;
    return first_ == values;
  }

 private:
  std::vector<float> first_;
};

}  // namespace borel::test
