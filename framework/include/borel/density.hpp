// The density family: from samples to a normalised density. All numbers double, logarithms in nats.
#pragma once

#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "borel/rng.hpp"
#include "borel/state.hpp"
#include "borel/tensor.hpp"
#include "borel/termination.hpp"
#include "borel/trait_list.hpp"

namespace borel {

struct RealInterval {
  double begin = -std::numeric_limits<double>::infinity();
  double end = std::numeric_limits<double>::infinity();
};

/// Samples in memory: x [n_samples, n_dims], finite; weights empty (all equal) or [n_samples], >= 0 with a positive sum.
/// Weights count as repetitions up to a common factor.
struct Samples {
  TensorView<const double, 2> x = {};
  std::span<const double> weights = {};
  index_t n_samples() const { return x.shape(0); }
  index_t n_dims() const { return x.shape(1); }
};

/// Samples that do not fit in memory, block by block in file order.
class SampleStream {
 public:
  virtual ~SampleStream() = default;
  virtual index_t n_samples() const = 0;
  virtual index_t n_dims() const = 0;
  /// The next block, valid until the next call; n_samples() == 0 at the end.
  virtual Samples next() = 0;
  /// Starts over for another pass. Who reads a stream rewinds it first.
  virtual void rewind() = 0;
};

/// Samples in memory as a stream of one block: fit() of a method that is written for streams.
class SamplesAsStream final : public SampleStream {
 public:
  explicit SamplesAsStream(const Samples& samples) : samples_(samples) {}
  index_t n_samples() const override { return samples_.n_samples(); }
  index_t n_dims() const override { return samples_.n_dims(); }
  Samples next() override { return std::exchange(given_, true) ? Samples{} : samples_; }
  void rewind() override { given_ = false; }

 private:
  Samples samples_;
  bool given_ = false;
};

/// Equal-width weighted histogram of one dimension, fine enough that binning error is far below sampling error. The
/// framework makes it in one pass over a stream.
struct FineHistogram {
  RealInterval range = {};          ///< covers every sample
  std::vector<double> weight = {};  ///< per bin; the sum is the total weight
  double n_samples = 0;             ///< samples behind it
  double mean = 0, variance = 0;    ///< of the samples themselves, not of the bins
  double bin_width() const { return (range.end - range.begin) / static_cast<double>(weight.size()); }
};

/// A normalised density. Immutable; every member may be called from many threads at once. Lives on its own: it may outlive
/// the samples and the method that it came from, so it copies or shares what it needs of them.
class BOREL_EXPORT FittedDensity {
 public:
  virtual ~FittedDensity();

  virtual index_t n_dims() const { return 1; }
  /// log p(x_i) in nats, -infinity where the density is zero. @param x [n, n_dims]   @param out [n]
  virtual void log_pdf(TensorView<const double, 2> x, std::span<double> out) const = 0;
  /// Closure of {p > 0}, per dimension.
  virtual RealInterval support(index_t dim = 0) const = 0;
  /// Degrees of freedom: numbers that were fitted, for BIC and for capacity figures.
  virtual index_t parameter_count() const = 0;
  virtual Outcome outcome() const = 0;
  virtual void save(StateWriter& out) const = 0;

  /// d log p / d x [n, n_dims]; false when there is none to offer (flows of particles refuse then).
  virtual bool log_pdf_gradient(TensorView<const double, 2> /*x*/, TensorView<double, 2> /*out*/) const {
    return false;
  }

  // One dimension only (n_dims() == 1), otherwise a MethodError. The defaults work from log_pdf: adaptive
  // Gauss-Kronrod quadrature, bracketed inversion of cdf, inverse transform. Override what has a closed form.
  /// P(X <= x_i), to 1e-10 absolute.
  virtual void cdf(std::span<const double> x, std::span<double> out) const;
  /// Smallest x with cdf(x) >= p_i, p in [0, 1]; 0 and 1 give the ends of the support.
  virtual void quantile(std::span<const double> p, std::span<double> out) const;
  /// Local maxima of the density, ascending; plateaus by their middle. The default scans between extreme quantiles.
  virtual std::vector<double> modes() const;
  /// [n, n_dims]; deterministic in the seed of `rng`.
  virtual void sample(Rng& rng, TensorView<double, 2> out) const;
};

struct DensityTraits {
  index_t max_dims = 1;
  bool accepts_weights = true;
  bool closed_form_cdf = false;
  bool closed_form_quantile = false;
  bool affine_equivariant =
      false;           ///< fitting a x + b gives the transformed density; contract-tested when claimed
  bool smooth = true;  ///< continuous density
  /// The fit comes near any distribution as n grows (a parametric family does not); contract-tested when claimed.
  bool follows_any_data = false;
};

/// Everything a fit needs besides the data.
struct FitContext {
  Budget budget = {};
  Seed seed = {};                ///< restarts, initialisation
  Progress* progress = nullptr;  ///< may be null
};

/// Optional ability: fitting in one or more passes over a stream, with memory independent of n_samples.
class StreamFit {
 public:
  virtual ~StreamFit() = default;
  virtual std::unique_ptr<FittedDensity> fit_stream(SampleStream& samples,
                                                    const FitContext& context) const = 0;
};

/// Optional ability: fitting from a fine weighted histogram; gives any such method one-pass fits of unlimited data.
class HistogramFit {
 public:
  virtual ~HistogramFit() = default;
  virtual index_t bins_wanted() const = 0;
  virtual std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& histogram,
                                                       const FitContext& context) const = 0;
};

/// Optional ability: the density as the last layer of a conditional model: a row of numbers theta per context (any
/// real values) gives a density of y. Used by neural autoregression and by lossless coding.
class DensityHead {
 public:
  virtual ~DensityHead() = default;
  virtual index_t n_outputs() const = 0;
  /// Bias of theta for data y: what a network should output before it has learned anything. @param theta [n_outputs]
  virtual void initialise(std::span<const double> y, Seed seed, std::span<double> theta) const = 0;
  /// @param theta [n, n_outputs]  @param y [n]  @param log_p [n]  @param d_theta [n, n_outputs] d log_p / d theta, written;
  /// a view of size 0 is not asked for
  virtual void log_pdf(TensorView<const double, 2> theta, std::span<const double> y, std::span<double> log_p,
                       TensorView<double, 2> d_theta) const = 0;
  virtual void cdf(TensorView<const double, 2> theta, std::span<const double> y,
                   std::span<double> out) const = 0;
  /// The density for one row theta [n_outputs]: for samples, quantiles, support and plots.
  virtual std::unique_ptr<FittedDensity> density(std::span<const double> theta) const = 0;
};

/// A density estimator. Immutable after construction; every member may be called from many threads at once.
class BOREL_EXPORT DensityEstimator {
 public:
  static constexpr std::string_view family = "density";
  virtual ~DensityEstimator();

  virtual DensityTraits traits() const = 0;

  /// @throws MethodError for data that the method cannot fit (too few samples, no spread, outside its support), Stopped
  virtual std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const = 0;
  /// Restores what save() wrote.
  virtual std::unique_ptr<FittedDensity> load(const StateReader& in) const = 0;

  /// Estimate of the extra memory of fit, for the plan.
  virtual double fit_memory_bytes(index_t n_samples, index_t n_dims) const;

  virtual const StreamFit* stream_fit() const { return nullptr; }
  virtual const HistogramFit* histogram_fit() const { return nullptr; }
  virtual const DensityHead* head() const { return nullptr; }

  TraitList describe() const;
};

/// Checks samples (finite, shapes, weights) the same way for every method. @throws MethodError naming the first bad row
BOREL_EXPORT void check_samples(const Samples& samples, const DensityTraits& traits);

/// Samples of one dimension, gathered for a fit: rows of weight 0 dropped, ascending in x (equal x by weight).
struct WeightedPoints {
  std::vector<double> x = {}, weight = {};  ///< [n]; weights as given, 1 where the samples had none
  double weight_sum = 0;                    ///< added in row order
  double n_effective = 0;  ///< Kish's (sum w)^2 / sum w^2; the number of rows for equal weights
  std::size_t size() const { return x.size(); }
};

/// @pre check_samples() and one dimension. O(n log n); equal weights are sorted with SIMD.
BOREL_EXPORT WeightedPoints weighted_points(const Samples& samples);
/// The bins that are not empty, by their centres; n_effective = n_samples.
BOREL_EXPORT WeightedPoints weighted_points(const FineHistogram& histogram);

/// Refuses points without spread, or with a range that double precision cannot scale. O(1)
/// @param who "density kde"   @throws MethodError naming the value or the range
BOREL_EXPORT void check_spread(const WeightedPoints& points, std::string_view who);

/// Points moved to mean 0 and standard deviation 1, without overflow at any scale: x = shift + scale u.
struct StandardPoints {
  std::vector<double> u = {}, weight = {};  ///< [n] ascending; weights sum to 1
  std::vector<double> variance = {};        ///< [n] within a point that stands for several; empty = none
  double shift = 0, scale = 1;
  double n_effective = 0;
  std::size_t size() const { return u.size(); }
};

/// @throws MethodError as check_spread()
BOREL_EXPORT StandardPoints standardise(const WeightedPoints& points, std::string_view who);
/// Neighbours joined to at most n_groups points of about equal weight, mean and variance kept: for searching on large
/// data.
BOREL_EXPORT StandardPoints thin(const StandardPoints& points, std::size_t n_groups);

/// Fits from a stream by the best ability the method has: stream, histogram, or all samples in memory when they fit the
/// budget. @throws MethodError when none applies
BOREL_EXPORT std::unique_ptr<FittedDensity> fit_from_stream(const DensityEstimator& method,
                                                            SampleStream& samples, const FitContext& context);

/// One pass. At least n_bins and at most 4 n_bins bins over the range of the data, with edges at multiples of a power of two
/// (fewer bins where doubles are no finer). O(samples), about 3 ns each; memory 4 n_bins numbers.
/// @throws MethodError: no sample of positive weight, a row or weight that is not finite (with its number), more dimensions
BOREL_EXPORT FineHistogram make_fine_histogram(SampleStream& samples, index_t n_bins);
BOREL_EXPORT FineHistogram make_fine_histogram(const Samples& samples, index_t n_bins);

}  // namespace borel
