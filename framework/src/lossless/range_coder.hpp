// Range coder (Martin 1979): symbols of known integer frequencies to bytes and back, to within 2^-30 bits each of their
// ideal length. The encoder keeps its output in memory, so that a carry can run back through it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace borel {

/// Frequencies of all symbols add up to this.
inline constexpr int k_frequency_bits = 24;

namespace range_coder_detail {
/// The range is kept above 2^56 by moving bytes out (or in).
inline constexpr std::uint64_t k_bottom = 1ULL << 56;
inline constexpr int k_top_shift = 56, k_state_bytes = 8;
}  // namespace range_coder_detail

class RangeEncoder {
 public:
  /// The symbol that owns [begin, begin + size) of [0, 2^k_frequency_bits). @pre size > 0
  void encode(std::uint32_t begin, std::uint32_t size) {
    const std::uint64_t unit = range_ >> k_frequency_bits, step = unit * begin;
    low_ += step;
    if (low_ < step)
      for (std::size_t i = bytes_.size(); i-- > 0 && ++bytes_[i] == 0;) {
      }
    range_ = unit * size;
    while (range_ < range_coder_detail::k_bottom) {
      put_top_byte();
      range_ <<= 8;
    }
  }
  std::vector<std::uint8_t> finish() {
    for (int i = 0; i < range_coder_detail::k_state_bytes; ++i) put_top_byte();
    return std::move(bytes_);
  }

 private:
  void put_top_byte() {
    bytes_.push_back(static_cast<std::uint8_t>(low_ >> range_coder_detail::k_top_shift));
    low_ <<= 8;
  }
  std::uint64_t low_ = 0, range_ = ~0ULL;
  std::vector<std::uint8_t> bytes_;
};

/// Reads beyond the end give zeros; damaged bytes give wrong symbols, never an error: who needs to know keeps a checksum.
class RangeDecoder {
 public:
  explicit RangeDecoder(std::span<const std::uint8_t> bytes) : bytes_(bytes) {
    for (int i = 0; i < range_coder_detail::k_state_bytes; ++i) code_ = code_ << 8 | next();
  }
  /// A number in [0, 2^k_frequency_bits) that lies in the interval of the next symbol.
  std::uint32_t target() const {
    const std::uint64_t at = code_ / (range_ >> k_frequency_bits);
    constexpr std::uint64_t k_last = (1ULL << k_frequency_bits) - 1;
    return static_cast<std::uint32_t>(at < k_last ? at : k_last);
  }
  /// Takes the symbol that owns [begin, begin + size).
  void take(std::uint32_t begin, std::uint32_t size) {
    const std::uint64_t unit = range_ >> k_frequency_bits;
    code_ -= unit * begin;
    range_ = unit * size;
    while (range_ < range_coder_detail::k_bottom) {
      code_ = code_ << 8 | next();
      range_ <<= 8;
    }
  }

 private:
  std::uint8_t next() { return at_ < bytes_.size() ? bytes_[at_++] : std::uint8_t{0}; }
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  std::uint64_t code_ = 0, range_ = ~0ULL;
};

}  // namespace borel
