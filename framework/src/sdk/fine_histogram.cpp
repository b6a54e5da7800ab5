// Fine histograms of streams in one pass. Bins are [j 2^e, (j + 1) 2^e); when a value lies outside of what the table can
// hold, e grows and pairs of bins are joined, so no value has to be seen twice.
#include <algorithm>
#include <cmath>
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
    double check = 0;
    for (const double x : piece_) check += x - x;  // NaN when one is not finite
    if (check != 0 || std::isnan(check)) refuse_row();
    if (!weights.empty()) check_weights(weights);

    Extent seen;
    Moments moments;
    for (std::size_t i = 0; i < piece_.size(); ++i) {
      const double w = weights.empty() ? 1.0 : weights[i];
      if (w == 0) continue;
      seen.low = std::min(seen.low, piece_[i]);
      seen.high = std::max(seen.high, piece_[i]);
      moments.weight += w;
      moments.n += 1;
    }
    if (!(moments.weight > 0)) return;
    const double near = piece_[0];  // differences to it lose less than the values themselves would
    double sum = 0;
    for (std::size_t i = 0; i < piece_.size(); ++i)
      sum += (weights.empty() ? 1.0 : weights[i]) * (piece_[i] - near);
    moments.mean = near + sum / moments.weight;
    for (std::size_t i = 0; i < piece_.size(); ++i) {
      const double d = piece_[i] - moments.mean;
      moments.m2 += (weights.empty() ? 1.0 : weights[i]) * d * d;
    }
    moments_.merge(moments);
    make_room(seen);

    const double scale = std::ldexp(1.0, -exponent_);
    if (std::isfinite(scale) && scale > 0) {
      for (std::size_t i = 0; i < piece_.size(); ++i) {
        const double w = weights.empty() ? 1.0 : weights[i];
        if (w > 0) counts_[static_cast<std::size_t>(std::floor(piece_[i] * scale) - origin_)] += w;
      }
    } else {  // bins narrower than 1 / DBL_MAX
      for (std::size_t i = 0; i < piece_.size(); ++i) {
        const double w = weights.empty() ? 1.0 : weights[i];
        if (w > 0) counts_[static_cast<std::size_t>(index_of(piece_[i]))] += w;
      }
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
