#include "borel/rng.hpp"

#include <cassert>
#include <cmath>
#include <numbers>

#include "philox.hpp"

namespace borel {
namespace {

__extension__ using uint128 = unsigned __int128;

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all 64 bits.
std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

constexpr std::uint64_t k_name_domain = 0x9E3779B97F4A7C15ULL;
constexpr std::uint64_t k_number_domain = 0xD1B54A32D192ED03ULL;

/// FNV-1a.
std::uint64_t hash_text(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

}  // namespace

// mix() on both sides: derive(a).derive(b) differs from derive(b).derive(a), and a name never meets a number.
Seed Seed::derive(std::string_view name) const { return {mix(mix(value + k_name_domain) ^ hash_text(name))}; }
Seed Seed::derive(std::uint64_t number) const { return {mix(mix(value + k_number_domain) ^ number)}; }

Rng::Rng(Seed seed) noexcept : seed_(seed) {}

void Rng::refill() noexcept {
  const auto bits =
      philox4x32_10({static_cast<std::uint32_t>(block_), static_cast<std::uint32_t>(block_ >> 32), 0, 0},
                    {static_cast<std::uint32_t>(seed_.value), static_cast<std::uint32_t>(seed_.value >> 32)});
  words_ = {bits[0] | (std::uint64_t{bits[1]} << 32), bits[2] | (std::uint64_t{bits[3]} << 32)};
  ++block_;
  used_ = 0;
}

std::uint64_t Rng::operator()() noexcept {
  if (used_ == 2) refill();
  return words_[static_cast<std::size_t>(used_++)];
}

double Rng::uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

// 52 bits: with 53, the largest value would round to 1.
double Rng::uniform_open() noexcept { return (static_cast<double>((*this)() >> 12) + 0.5) * 0x1p-52; }

std::uint64_t Rng::below(std::uint64_t n) noexcept {
  assert(n >= 1);
  uint128 product = static_cast<uint128>((*this)()) * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t rejected = (0 - n) % n;
    while (static_cast<std::uint64_t>(product) < rejected) product = static_cast<uint128>((*this)()) * n;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

double Rng::normal() noexcept {
  if (has_spare_) {
    has_spare_ = false;
    return spare_normal_;
  }
  const double radius = std::sqrt(-2 * std::log(uniform_open()));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

void Rng::fill_uniform(std::span<double> out) noexcept {
  for (double& x : out) x = uniform();
}
void Rng::fill_normal(std::span<double> out) noexcept {
  for (double& x : out) x = normal();
}
void Rng::fill_normal(std::span<float> out) noexcept {
  for (float& x : out) x = static_cast<float>(normal());
}

Rng Rng::stream(std::uint64_t number) const { return Rng(seed_.derive(number)); }

}  // namespace borel
