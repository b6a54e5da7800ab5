// The probability of the next sample of an image, given all samples before it.
//
// A mixture of two kinds of experts, weighted by how well each did on the neighbours (2^(-k_trust * bits)):
//   scaled:  a local prediction mu (LocalPredictor), less the mean error seen in like contexts, and a scale sigma from the
//            errors of the neighbours; P(v) = F((v + 1/2 - mu) / sigma) - F((v - 1/2 - mu) / sigma). F is the distribution
//            that a density estimator fits to the scaled errors so far; before the first fit Student's t with 3 degrees.
//   counted: colour planes only. A neighbour plus the step that a known plane of the same pixel makes there; the
//            differences to that are counted in contexts of the last ones. Exact where colours were interpolated.
// Everything is learned from samples that a decoder knows, so nothing but the code is stored.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "borel/density.hpp"
#include "lossless/local_predictor.hpp"
#include "lossless/range_coder.hpp"

namespace borel {

struct LosslessSettings {
  std::int64_t fit_samples = 8192;  ///< latest scaled errors that a fit sees
  Seed seed = {};
  Budget budget = {};
};

/// Samples 0 ... 255. For each sample in raster order, planes innermost: begin(), cumulative() at will, end().
class PixelModel {
 public:
  PixelModel(index_t height, index_t width, index_t planes, const DensityEstimator& estimator,
             const LosslessSettings& settings);
  PixelModel(const PixelModel&) = delete;  // predictors refer to planes_
  PixelModel& operator=(const PixelModel&) = delete;

  void begin(index_t y, index_t x, index_t plane);
  /// Frequency of all values below v, of 2^k_frequency_bits; strictly increasing. v in [0, 256]
  std::uint32_t cumulative(int v) const;
  /// The sample was v.
  void end(int v);

  std::int64_t n_fits() const { return n_fits_; }
  /// Why the last refused fit was refused (errors without spread, for instance); the distribution before stays then.
  const std::string& refusal() const { return refusal_; }

  static double memory_bytes(index_t height, index_t width, index_t planes);

 private:
  static constexpr int k_values = 256;
  /// Distribution function on an even grid.
  class Shape {
   public:
    static Shape student_t3();
    /// 1 - k_share of it, and k_share of Student's t for the tails. @throws MethodError when it is none
    static Shape of(const FittedDensity& density);
    double operator()(double z) const;

   private:
    template <class F>
    static Shape tabulate(F&& value);
    std::vector<double> value_;
  };
  struct Scaled {
    LocalPredictor predictor;
    std::vector<float> error = {}, bits = {};              // [samples]
    std::vector<double> bias_sum = {}, bias_count = {};    // per context
    std::vector<double> scale_error = {}, scale_sum = {};  // per class of scales
    // of the sample at hand
    double prediction = 0, mean = 0, sigma = 1, below = 0, inside = 1, raw_scale = 1;
    std::size_t bias_context = 0, scale_class = 0;
  };
  struct Counted {
    bool north;
    index_t reference;  // plane
    std::vector<float> counts = {}, bits = {};
    std::vector<std::int8_t> error = {};  // [samples]
    // of the sample at hand
    int guess = 0;
    std::size_t context = 0;
    std::vector<double> below = {};  // distribution function over k_steps differences
  };

  void add_scaled(index_t plane, const PredictorShape& shape, std::size_t n_samples);
  void add_counted(index_t plane, index_t reference, bool north, std::size_t n_samples);
  void begin_scaled(Scaled& expert);
  void begin_counted(Counted& expert, std::size_t which);
  double below(const Scaled& expert, int v) const;
  double below(const Counted& expert, int v) const;
  /// Bits that an expert spent on the neighbours, nearest first.
  template <class Get>
  double around(Get&& get) const;
  std::vector<Scaled>& scaled() { return scaled_[static_cast<std::size_t>(plane_)]; }
  std::vector<Counted>& counted() { return counted_[static_cast<std::size_t>(plane_)]; }
  const std::vector<Scaled>& scaled() const { return scaled_[static_cast<std::size_t>(plane_)]; }
  const std::vector<Counted>& counted() const { return counted_[static_cast<std::size_t>(plane_)]; }
  std::size_t sample(index_t y, index_t x, index_t plane) const {
    return static_cast<std::size_t>((y * planes_.width() + x) * planes_.planes() + plane);
  }
  int counted_error(const Counted& expert, index_t dy, index_t dx, index_t plane) const;
  void refit();

  PixelPlanes planes_;
  const DensityEstimator& estimator_;
  LosslessSettings settings_;
  Shape shape_;
  // Per plane
  std::array<std::vector<Scaled>, 3> scaled_;
  std::array<std::vector<Counted>, 3> counted_;
  std::vector<double> weight_;
  std::vector<double> recent_;  // scaled errors, a ring
  std::int64_t n_seen_ = 0, next_fit_, n_tries_ = 0, n_fits_ = 0;
  std::string refusal_;
  index_t y_ = 0, x_ = 0, plane_ = 0;
};

}  // namespace borel
