#include "lossless/pixel_model.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

// Chosen on photo_ascent and on 120 rows of photo_face; nothing is tuned per image.
constexpr PredictorShape k_grey_predictors[] = {{9, 0, 5, 0.7}, {17, 0, 7, 0.8}, {29, 0, 10, 0.85}};
constexpr PredictorShape k_first_plane_predictors[] = {{5, 3, 5, 0.7}, {11, 5, 7, 0.8}, {17, 5, 8, 0.85}};
// The planes that follow lean on the same pixel and on the counted experts; more predictors only dilute these.
constexpr PredictorShape k_later_plane_predictors[] = {{5, 3, 5, 0.7}};

constexpr double k_trust = 0.5;
constexpr std::int64_t k_first_fit = 4096;
/// Weight of the neighbours in scales and in trust, nearest first.
struct Around {
  index_t dy, dx;
  double weight;
};
constexpr Around k_around[] = {{0, -1, 1},   {-1, 0, 1},    {-1, -1, 0.7},  {-1, 1, 0.7},  {0, -2, 0.5},
                               {-2, 0, 0.5}, {-1, -2, 0.4}, {-1, 2, 0.4},   {-2, -1, 0.4}, {-2, 1, 0.4},
                               {0, -3, 0.3}, {-3, 0, 0.3},  {-2, -2, 0.25}, {-2, 2, 0.25}, {-3, -1, 0.2},
                               {-3, 1, 0.2}, {-1, -3, 0.2}, {-1, 3, 0.2}};
constexpr double k_same_pixel = 2;  // weight of an error in another plane of the pixel

constexpr double k_reach = 16;  // of tables, in scales
constexpr std::size_t k_nodes = 4097;
constexpr double k_share = 0.02, k_uniform_share = 0.001;

constexpr double k_first_scale = 4, k_smallest_sigma = 0.05;
constexpr double k_prior_error = 0.3, k_prior_weight = 0.5;
constexpr std::size_t k_scale_classes = 24, k_texture_bits = 8, k_energy_classes = 8;
constexpr double k_scale_prior = 20, k_bias_prior = 8, k_bias_memory = 300;

constexpr int k_steps = 64, k_most_error = 4, k_error_classes = 2 * k_most_error + 1;
constexpr double k_count_prior = 2;

}  // namespace

template <class F>
PixelModel::Shape PixelModel::Shape::tabulate(F&& value) {
  Shape shape;
  shape.value_.resize(k_nodes);
  for (std::size_t i = 0; i < k_nodes; ++i)
    shape.value_[i] = value(k_reach * (2 * static_cast<double>(i) / static_cast<double>(k_nodes - 1) - 1));
  return shape;
}

PixelModel::Shape PixelModel::Shape::student_t3() {
  return tabulate([](double z) {
    const double u = z / std::numbers::sqrt3;
    return 0.5 + (u / (1 + u * u) + std::atan(u)) / std::numbers::pi;
  });
}

PixelModel::Shape PixelModel::Shape::of(const FittedDensity& density) {
  static const Shape tails = student_t3();
  Shape at = tabulate([](double z) { return z; });
  std::vector<double> fitted(k_nodes);
  density.cdf(at.value_, fitted);
  double last = 0;
  for (std::size_t i = 0; i < k_nodes; ++i) {
    if (!(fitted[i] >= -1e-9 && fitted[i] <= 1 + 1e-9))
      throw MethodError(fmt::format("its cdf at {:g} is {:g}", at.value_[i], fitted[i]));
    last = std::max(last, std::clamp(fitted[i], 0.0, 1.0));
    at.value_[i] = (1 - k_share) * last + k_share * tails.value_[i];
  }
  return at;
}

double PixelModel::Shape::operator()(double z) const {
  const double at = std::clamp((z + k_reach) * (static_cast<double>(k_nodes - 1) / (2 * k_reach)), 0.0,
                               static_cast<double>(k_nodes - 1));
  const std::size_t node = std::min(static_cast<std::size_t>(at), k_nodes - 2);
  const double part = at - static_cast<double>(node);
  return value_[node] + part * (value_[node + 1] - value_[node]);
}

PixelModel::PixelModel(index_t height, index_t width, index_t planes, const DensityEstimator& estimator,
                       const LosslessSettings& settings)
    : planes_(height, width, planes),
      estimator_(estimator),
      settings_(settings),
      shape_(Shape::student_t3()),
      next_fit_(std::min(k_first_fit, settings.fit_samples)) {
  const auto n = static_cast<std::size_t>(height * width * planes);
  for (index_t plane = 0; plane < planes; ++plane) {
    const std::span<const PredictorShape> shapes =
        planes == 1  ? std::span<const PredictorShape>(k_grey_predictors)
        : plane == 0 ? std::span<const PredictorShape>(k_first_plane_predictors)
                     : k_later_plane_predictors;
    for (const PredictorShape& shape : shapes) add_scaled(plane, shape, n);
    for (index_t reference = 0; reference < plane; ++reference)
      for (const bool north : {false, true}) add_counted(plane, reference, north, n);
  }
  recent_.reserve(static_cast<std::size_t>(settings.fit_samples));
}

void PixelModel::add_scaled(index_t plane, const PredictorShape& shape, std::size_t n_samples) {
  Scaled expert{.predictor = LocalPredictor(planes_, plane, shape)};
  expert.error.assign(n_samples, 0);
  expert.bits.assign(n_samples, 0);
  expert.bias_sum.assign(k_energy_classes << k_texture_bits, 0);
  expert.bias_count = expert.bias_sum;
  expert.scale_error.assign(k_scale_classes, k_scale_prior);
  expert.scale_sum.assign(k_scale_classes, k_scale_prior);
  scaled_[static_cast<std::size_t>(plane)].push_back(std::move(expert));
}

void PixelModel::add_counted(index_t plane, index_t reference, bool north, std::size_t n_samples) {
  Counted expert{.north = north, .reference = reference};
  expert.counts.resize(2 * k_error_classes * k_error_classes * k_error_classes * k_steps);
  for (std::size_t i = 0; i < expert.counts.size(); ++i) {
    const auto d = static_cast<double>(i % k_steps) - k_steps / 2;
    expert.counts[i] = static_cast<float>(k_count_prior / (1 + d * d));
  }
  expert.bits.assign(n_samples, 0);
  expert.error.assign(n_samples, 0);
  expert.below.resize(k_steps + 1);
  counted_[static_cast<std::size_t>(plane)].push_back(std::move(expert));
}

double PixelModel::memory_bytes(index_t height, index_t width, index_t planes) {
  constexpr double k_bytes_per_sample = 80;
  return k_bytes_per_sample * static_cast<double>((height + 2) * (width + 2 * PixelPlanes::k_side) * planes) +
         1e7;
}

template <class Get>
double PixelModel::around(Get&& get) const {
  double sum = 0;
  for (const Around& at : k_around) {
    const index_t y = y_ + at.dy, x = x_ + at.dx;
    if (y >= 0 && x >= 0 && x < planes_.width()) sum += at.weight * get(sample(y, x, plane_));
  }
  return sum;
}

void PixelModel::begin(index_t y, index_t x, index_t plane) {
  y_ = y;
  x_ = x;
  plane_ = plane;
  if (plane == 0) planes_.begin_pixel(y, x);
  weight_.clear();
  const auto trust = [&](const std::vector<float>& bits) {
    weight_.push_back(
        std::exp2(-k_trust * around([&](std::size_t i) { return static_cast<double>(bits[i]); })));
  };
  for (Scaled& expert : scaled()) {
    begin_scaled(expert);
    trust(expert.bits);
  }
  for (std::size_t i = 0; i < counted().size(); ++i) {
    begin_counted(counted()[i], i);
    trust(counted()[i].bits);
  }
  double sum = 0;
  for (const double weight : weight_) sum += weight;
  if (!(sum > 0)) {  // all did badly beyond the range of double
    std::ranges::fill(weight_, 1.0);
    sum = static_cast<double>(weight_.size());
  }
  for (double& weight : weight_) weight /= sum;
}

void PixelModel::begin_scaled(Scaled& expert) {
  const double mu = expert.predictor.predict(y_, x_);
  double error = around([&](std::size_t i) { return std::abs(static_cast<double>(expert.error[i])); });
  double weight = around([](std::size_t) { return 1.0; });
  for (index_t known = 0; known < plane_; ++known) {
    const Scaled& before = scaled_[static_cast<std::size_t>(known)].back();
    error += k_same_pixel * std::abs(static_cast<double>(before.error[sample(y_, x_, known)]));
    weight += k_same_pixel;
  }
  expert.raw_scale = weight > 0 ? (error + k_prior_error) / (weight + k_prior_weight) : k_first_scale;

  const auto value = [&](index_t dy, index_t dx) {
    return planes_.at(y_, x_)[planes_.offset({dy, dx, plane_})];
  };
  const double neighbours[k_texture_bits] = {value(0, -1),
                                             value(-1, 0),
                                             value(-1, -1),
                                             value(-1, 1),
                                             value(0, -2),
                                             value(-2, 0),
                                             2 * value(0, -1) - value(0, -2),
                                             2 * value(-1, 0) - value(-2, 0)};
  std::size_t texture = 0;
  for (std::size_t i = 0; i < k_texture_bits; ++i)
    texture |= static_cast<std::size_t>(neighbours[i] > mu) << i;
  const auto clamped = [](double at, std::size_t count) {
    return static_cast<std::size_t>(std::clamp(at, 0.0, static_cast<double>(count - 1)));
  };
  const std::size_t energy = clamped(std::log2(expert.raw_scale + 0.25) + 2, k_energy_classes);
  expert.bias_context = texture * k_energy_classes + energy;
  expert.scale_class = clamped(3 * std::log2(expert.raw_scale) + 6, k_scale_classes);

  expert.prediction = mu;
  expert.mean = std::clamp(
      mu + expert.bias_sum[expert.bias_context] / (expert.bias_count[expert.bias_context] + k_bias_prior),
      0.0, static_cast<double>(k_values - 1));
  expert.sigma = std::max(k_smallest_sigma, expert.raw_scale * expert.scale_error[expert.scale_class] /
                                                expert.scale_sum[expert.scale_class]);
  expert.below = shape_((-0.5 - expert.mean) / expert.sigma);
  expert.inside = shape_((k_values - 0.5 - expert.mean) / expert.sigma) - expert.below;
}

double PixelModel::below(const Scaled& expert, int v) const {
  const double uniform = static_cast<double>(v) / k_values;
  if (v == 0 || v == k_values || !(expert.inside > 0)) return uniform;
  const double f = (shape_((v - 0.5 - expert.mean) / expert.sigma) - expert.below) / expert.inside;
  return (1 - k_uniform_share) * f + k_uniform_share * uniform;
}

int PixelModel::counted_error(const Counted& expert, index_t dy, index_t dx, index_t plane) const {
  const index_t y = y_ + dy, x = x_ + dx;
  if (y < 0 || x < 0 || x >= planes_.width()) return k_most_error;
  return std::clamp<int>(expert.error[sample(y, x, plane)], -k_most_error, k_most_error) + k_most_error;
}

/// Contexts: odd or even column (row), because subsampled colours repeat every second one; the expert's last errors; and,
/// for the last plane, the error of the same guess in the plane before.
void PixelModel::begin_counted(Counted& expert, std::size_t which) {
  const index_t dy = expert.north ? -1 : 0, dx = expert.north ? 0 : -1;
  const double* here = planes_.at(y_, x_);
  const auto value = [&](index_t down, index_t right, index_t plane) {
    return here[planes_.offset({down, right, plane})];
  };
  expert.guess = static_cast<int>(value(dy, dx, plane_) + value(0, 0, expert.reference) -
                                  value(dy, dx, expert.reference));
  const auto odd = static_cast<std::size_t>((expert.north ? y_ : x_) & 1);
  const auto along = static_cast<std::size_t>(counted_error(expert, dy, dx, plane_));
  const auto across =
      static_cast<std::size_t>(counted_error(expert, expert.north ? 0 : -1, expert.north ? -1 : 0, plane_));
  std::size_t before = 0;
  if (plane_ > 1 && expert.reference == 0)
    before = static_cast<std::size_t>(
        counted_error(counted_[static_cast<std::size_t>(plane_ - 1)][which % 2], 0, 0, plane_ - 1));
  expert.context = ((odd * k_error_classes + along) * k_error_classes + across) * k_error_classes + before;
  const float* counts = expert.counts.data() + expert.context * k_steps;
  double sum = 0;
  for (std::size_t i = 0; i < k_steps; ++i) expert.below[i + 1] = sum += static_cast<double>(counts[i]);
  for (double& f : expert.below) f /= sum;
}

double PixelModel::below(const Counted& expert, int v) const {
  const double uniform = static_cast<double>(v) / k_values;
  if (v == 0 || v == k_values) return uniform;
  const int step = std::clamp(v - expert.guess + k_steps / 2, 0, k_steps);
  return (1 - k_uniform_share) * expert.below[static_cast<std::size_t>(step)] + k_uniform_share * uniform;
}

std::uint32_t PixelModel::cumulative(int v) const {
  // Two for each value keep the order strict when rounding makes the mixture fall by one unit.
  constexpr double k_free = static_cast<double>(1U << k_frequency_bits) - 2.0 * k_values;
  if (v == k_values) return 1U << k_frequency_bits;
  double f = 0;
  std::size_t i = 0;
  for (const Scaled& expert : scaled()) f += weight_[i++] * below(expert, v);
  for (const Counted& expert : counted()) f += weight_[i++] * below(expert, v);
  return static_cast<std::uint32_t>(2 * v) + static_cast<std::uint32_t>(k_free * std::clamp(f, 0.0, 1.0));
}

void PixelModel::end(int v) {
  const std::size_t at = sample(y_, x_, plane_);
  const auto spent = [&](const auto& expert) {
    return static_cast<float>(-std::log2(std::max(1e-9, below(expert, v + 1) - below(expert, v))));
  };
  for (Scaled& expert : scaled()) {
    expert.bits[at] = spent(expert);
    const double error = v - expert.mean;
    expert.error[at] = static_cast<float>(error);
    expert.scale_error[expert.scale_class] += std::abs(error);
    expert.scale_sum[expert.scale_class] += expert.raw_scale;
    double &sum = expert.bias_sum[expert.bias_context], &count = expert.bias_count[expert.bias_context];
    sum += v - expert.prediction;
    if (++count > k_bias_memory) {
      sum /= 2;
      count /= 2;
    }
  }
  for (Counted& expert : counted()) {
    expert.bits[at] = spent(expert);
    const int error = v - expert.guess, step = error + k_steps / 2;
    expert.error[at] = static_cast<std::int8_t>(std::clamp(error, -k_most_error, k_most_error));
    if (step >= 0 && step < k_steps)
      ++expert.counts[expert.context * k_steps + static_cast<std::size_t>(step)];
  }
  planes_.set(y_, x_, plane_, v);

  const Scaled& last = scaled().back();
  const double z = std::clamp((v - last.mean) / last.sigma, -k_reach, k_reach);
  if (static_cast<std::int64_t>(recent_.size()) < settings_.fit_samples)
    recent_.push_back(z);
  else
    recent_[static_cast<std::size_t>(n_seen_ % settings_.fit_samples)] = z;
  if (++n_seen_ == next_fit_) {
    refit();
    next_fit_ *= 2;
  }
}

void PixelModel::refit() {
  const Samples samples{
      TensorView<const double, 2>(recent_.data(), {static_cast<index_t>(recent_.size()), 1}), {}};
  const FitContext context{settings_.budget, settings_.seed.derive(static_cast<std::uint64_t>(n_tries_++)),
                           nullptr};
  try {
    shape_ = Shape::of(*estimator_.fit(samples, context));
    ++n_fits_;
  } catch (const MethodError& error) {
    refusal_ = error.what();
  }
}

}  // namespace borel
