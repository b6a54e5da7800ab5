// Fine histograms of streams in one pass. Bins are [j 2^e, (j + 1) 2^e); when a value lies outside of what the table can
// hold, e grows and pairs of bins are joined, so no value has to be seen twice.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "borel/density.hpp"
#include "borel/error.hpp"

namespace borel {
namespace {

constexpr std::size_t k_piece = 4096;  // rows at a time: they stay in the first cache for three sweeps
constexpr int k_lowest_exponent = -1074, k_exact_bits = 51;

/// Weight, mean and sum of squares, pieces merged by Chan's update, so that 1e9 samples lose no digits.
struct Moments {
  double weight = 0, mean = 0, m2 = 0, n = 0;
  void merge(const Moments& other) {
    if (!(other.weight > 0)) return;
    const double step = other.mean - mean, sum = weight + other.weight;
    m2 += other.m2 + step * step * (weight * (other.weight / sum));
    mean += step * (other.weight / sum);
    weight = sum;
    n += other.n;
  }
};

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
};

/// Sums begin at a value of the piece: differences to it lose less than the values themselves would.
void look(std::span<const double> x, std::span<const double> weights, Extent& seen, Moments& moments) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (weights[i] == 0) continue;
    seen.low = std::min(seen.low, x[i]);
    seen.high = std::max(seen.high, x[i]);
    moments.weight += weights[i];
    moments.n += 1;
    sum += weights[i] * (x[i] - x[0]);
  }
  if (!(moments.weight > 0)) return;
  moments.mean = x[0] + sum / moments.weight;
  for (std::size_t i = 0; i < x.size(); ++i)
    moments.m2 += weights[i] * (x[i] - moments.mean) * (x[i] - moments.mean);
}

/// Equal weights: several sums at once, so that no addition waits for the one before.
void look(std::span<const double> x, Extent& seen, Moments& moments) {
  constexpr std::size_t k_sums = 8;
  const double near = x[0];
  std::array<double, k_sums> low, high, sum{}, square{};
  low.fill(near);
  high.fill(near);
  const std::size_t whole = x.size() - x.size() % k_sums;
  const auto add = [&](std::size_t i, std::size_t j) {
    const double d = x[i] - near;
    low[j] = x[i] < low[j] ? x[i] : low[j];
    high[j] = x[i] > high[j] ? x[i] : high[j];
    sum[j] += d;
  };
  for (std::size_t i = 0; i < whole; i += k_sums)
    for (std::size_t j = 0; j < k_sums; ++j) add(i + j, j);
  for (std::size_t i = whole; i < x.size(); ++i) add(i, i - whole);
  moments.n = moments.weight = static_cast<double>(x.size());
  double total = 0;
  for (std::size_t j = 0; j < k_sums; ++j) {
    seen.low = std::min(seen.low, low[j]);
    seen.high = std::max(seen.high, high[j]);
    total += sum[j];
  }
  moments.mean = near + total / moments.n;
  for (std::size_t i = 0; i < whole; i += k_sums)
    for (std::size_t j = 0; j < k_sums; ++j) {
      const double d = x[i + j] - moments.mean;
      square[j] += d * d;
    }
  for (std::size_t i = whole; i < x.size(); ++i) moments.m2 += (x[i] - moments.mean) * (x[i] - moments.mean);
  for (const double value : square) moments.m2 += value;
}

class Builder {
 public:
  explicit Builder(index_t n_bins) : n_bins_(n_bins), counts_(static_cast<std::size_t>(4 * n_bins), 0.0) {}

  void add(const Samples& block) {
    if (block.n_dims() != 1)
      throw MethodError(
          fmt::format("fine histogram: the stream has {} dimensions; only 1 can be binned", block.n_dims()));
    const auto n = static_cast<std::size_t>(block.n_samples());
    for (std::size_t first = 0; first < n; first += k_piece) {
      const std::size_t count = std::min(k_piece, n - first);
      piece_.resize(count);
      for (std::size_t i = 0; i < count; ++i) piece_[i] = block.x(static_cast<index_t>(first + i), 0);
      add_piece(block.weights.empty() ? block.weights : block.weights.subspan(first, count));
      row_ += static_cast<double>(count);
    }
  }

  FineHistogram finish() const {
    if (!(moments_.weight > 0))
      throw MethodError("fine histogram: the stream holds no sample with a positive weight");
    FineHistogram histogram;
    histogram.n_samples = moments_.n;
    histogram.mean = moments_.mean;
    histogram.variance = std::max(0.0, moments_.m2 / moments_.weight);
    if (!(extent_.high > extent_.low)) {  // one bin of the wanted number around the only value
      const double pad = std::max(std::abs(extent_.low), 1e-300) * 1e-9;
      histogram.range = {extent_.low - pad, extent_.low + pad};
      histogram.weight.assign(static_cast<std::size_t>(n_bins_), 0.0);
      histogram.weight[static_cast<std::size_t>(n_bins_ / 2)] = moments_.weight;
      return histogram;
    }
    const double first = index_of(extent_.low), last = index_of(extent_.high);
    histogram.range = {std::ldexp(first + origin_, exponent_), std::ldexp(last + origin_ + 1, exponent_)};
    histogram.weight.assign(counts_.begin() + static_cast<std::ptrdiff_t>(first),
                            counts_.begin() + static_cast<std::ptrdiff_t>(last) + 1);
    return histogram;
  }

 private:
  /// Bin of x in the table; a whole number, or far outside of it.
  double index_of(double x) const { return std::floor(std::ldexp(x, -exponent_)) - origin_; }
  double table() const { return static_cast<double>(counts_.size()); }

  void add_piece(std::span<const double> weights) {
    std::array<double, 4> check{};  // NaN when a value is not finite
    for (std::size_t i = 0; i < piece_.size(); ++i) check[i % 4] += piece_[i] - piece_[i];
    if (!(check[0] + check[1] + check[2] + check[3] == 0)) refuse_row();
    if (!weights.empty()) check_weights(weights);

    Extent seen;
    Moments moments;
    if (weights.empty())
      look(piece_, seen, moments);
    else
      look(piece_, weights, seen, moments);
    if (!(moments.weight > 0)) return;
    moments_.merge(moments);
    make_room(seen);

    const double scale = std::ldexp(1.0, -exponent_);
    if (weights.empty() && std::isfinite(scale) && scale > 0) {
      const auto origin = static_cast<std::int64_t>(origin_);
      for (const double x : piece_) {
        const double at = x * scale;
        auto bin = static_cast<std::int64_t>(at);  // towards 0
        bin -= at < static_cast<double>(bin);
        counts_[static_cast<std::size_t>(bin - origin)] += 1;
      }
      return;
    }
    for (std::size_t i = 0; i < piece_.size(); ++i) {
      const double w = weights.empty() ? 1.0 : weights[i];
      if (w > 0) counts_[static_cast<std::size_t>(index_of(piece_[i]))] += w;
    }
  }

  /// Widens the bins until the table holds both ends, with n_bins or more over the range (unless doubles are no finer).
  void make_room(const Extent& seen) {
    const bool is_first = !(extent_.low <= extent_.high);
    extent_.low = std::min(extent_.low, seen.low);
    extent_.high = std::max(extent_.high, seen.high);
    const double width = extent_.high - extent_.low;
    if (!std::isfinite(width))
      throw MethodError(
          fmt::format("fine histogram: the range [{}, {}] is wider than a double; rescale the data",
                      extent_.low, extent_.high));
    if (is_first) {
      // Half of the table is used, and what lies beyond doubles at a time.
      const double most = std::max(std::abs(extent_.low), std::abs(extent_.high));
      const int by_width =
          width > 0 ? std::ilogb(width / static_cast<double>(2 * n_bins_)) : k_lowest_exponent;
      const int by_size = most > 0 ? std::ilogb(most) - k_exact_bits : k_lowest_exponent;
      exponent_ = std::max({by_width, by_size, k_lowest_exponent});
      origin_ = 0;
      recentre();
      return;
    }
    if (fits()) return;
    recentre();
    while (!fits()) {
      coarsen();
      recentre();
    }
  }
  bool fits() const { return index_of(extent_.low) >= 0 && index_of(extent_.high) < table(); }

  /// Moves the counts so that the range lies in the middle, when it can.
  void recentre() {
    const double first = index_of(extent_.low), last = index_of(extent_.high);
    const double shift = std::floor((first + last - table()) / 2);
    if (last - first >= table() || shift == 0) return;
    std::vector<double> moved(counts_.size(), 0.0);
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if (counts_[i] > 0) moved[static_cast<std::size_t>(static_cast<double>(i) - shift)] = counts_[i];
    counts_ = std::move(moved);
    origin_ += shift;
  }

  void coarsen() {
    const double origin = std::floor(origin_ / 2);
    std::vector<double> joined(counts_.size(), 0.0);
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if (counts_[i] > 0)
        joined[static_cast<std::size_t>(std::floor((static_cast<double>(i) + origin_) / 2) - origin)] +=
            counts_[i];
    counts_ = std::move(joined);
    origin_ = origin;
    ++exponent_;
  }

  [[noreturn]] void refuse_row() const {
    for (std::size_t i = 0; i < piece_.size(); ++i)
      if (!std::isfinite(piece_[i]))
        throw MethodError(
            fmt::format("fine histogram: row {:.0f} is {}; every value must be finite; remove the row",
                        row_ + static_cast<double>(i), piece_[i]));
    throw MethodError("fine histogram: a value is not finite");
  }
  void check_weights(std::span<const double> weights) const {
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (!(weights[i] >= 0) || !std::isfinite(weights[i]))
        throw MethodError(
            fmt::format("fine histogram: row {:.0f} has weight {}; weights must be finite and >= 0",
                        row_ + static_cast<double>(i), weights[i]));
  }

  index_t n_bins_;
  std::vector<double> counts_, piece_;
  Moments moments_;
  Extent extent_;
  int exponent_ = 0;
  double origin_ = 0, row_ = 0;  // whole numbers
};

}  // namespace

FineHistogram make_fine_histogram(SampleStream& samples, index_t n_bins) {
  if (n_bins < 1)
    throw MethodError(fmt::format("fine histogram: n_bins = {}; at least 1 bin is needed", n_bins));
  Builder builder(n_bins);
  samples.rewind();
  for (Samples block = samples.next(); block.n_samples() > 0; block = samples.next()) builder.add(block);
  return builder.finish();
}

FineHistogram make_fine_histogram(const Samples& samples, index_t n_bins) {
  SamplesAsStream stream(samples);
  return make_fine_histogram(stream, n_bins);
}

}  // namespace borel
