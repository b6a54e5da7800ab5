// Counter-based random numbers: the n-th number of a stream depends on nothing but the seed and n.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "borel/export.hpp"

namespace borel {

/// Identity of a random stream.
struct Seed {
  std::uint64_t value = 0;

  /// Seed of a named part ("init", "repetition 3", a cell id): the same name gives the same stream, and different
  /// names give streams that do not overlap in practice (64-bit hash). Independent of the order of calls.
  BOREL_EXPORT Seed derive(std::string_view name) const;
  BOREL_EXPORT Seed derive(std::uint64_t number) const;
  bool operator==(const Seed&) const = default;
};

/// Philox4x32-10 (Salmon et al., SC 2011, section 3.3), 2^64 blocks of 128 bits per seed. Cheap to copy and to make.
/// Meets UniformRandomBitGenerator, but use the members below: std distributions differ between libraries.
/// Threads: one object per thread; derive a stream per block of work, never per thread.
class BOREL_EXPORT Rng {
 public:
  using result_type = std::uint64_t;

  explicit Rng(Seed seed) noexcept;

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }
  result_type operator()() noexcept;

  /// In [0, 1), 53 random bits.
  double uniform() noexcept;
  /// In (0, 1): safe for log().
  double uniform_open() noexcept;
  /// In [0, n). @pre n >= 1. Unbiased (Lemire 2019).
  std::uint64_t below(std::uint64_t n) noexcept;
  /// Standard normal, Box-Muller.
  double normal() noexcept;
  void fill_uniform(std::span<double> out) noexcept;
  void fill_normal(std::span<double> out) noexcept;
  void fill_normal(std::span<float> out) noexcept;

  /// An independent stream; does not advance this one.
  Rng stream(std::uint64_t number) const;
  Seed seed() const noexcept { return seed_; }

 private:
  void refill() noexcept;

  Seed seed_;
  std::uint64_t block_ = 0;
  std::array<std::uint64_t, 2> words_{};
  int used_ = 2;
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

}  // namespace borel
