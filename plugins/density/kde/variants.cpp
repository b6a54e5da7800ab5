#include "variants.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "borel/error.hpp"

using namespace borel;

namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

TensorView<const double, 2> column(std::span<const double> x) {
  return {x.data(), {static_cast<index_t>(x.size()), 1}};
}

/// log(exp(a) + exp(b)) into a.
void add_logarithm(double& a, double b) {
  const double top = std::max(a, b);
  if (top > -k_infinity) a = top + std::log1p(std::exp(std::min(a, b) - top));
}

}  // namespace

AdaptiveKde::AdaptiveKde(const std::vector<double>& x, const std::vector<double>& w, Kernel kernel, double h,
                         double alpha, bool tabulate, Outcome outcome)
    : outcome_(std::move(outcome)) {
  const KdeDensity pilot(x, w, kernel, h, tabulate, {});
  std::vector<double> log_p(x.size());
  pilot.log_pdf(column(x), log_p);
  double log_g = 0;
  for (std::size_t i = 0; i < x.size(); ++i) log_g += w[i] * log_p[i];
  std::map<long, std::vector<std::size_t>> members;  // by the eighths of the factor's binary logarithm
  for (std::size_t i = 0; i < x.size(); ++i)
    members[std::lround(-8 * alpha * (log_p[i] - log_g) / std::log(2.0))].push_back(i);
  for (const auto& [eighths, rows] : members) {
    std::vector<double> class_x, class_w;
    double total = 0;
    for (const std::size_t i : rows) total += w[i];
    for (const std::size_t i : rows) class_x.push_back(x[i]), class_w.push_back(w[i] / total);
    classes_.push_back(std::make_unique<KdeDensity>(
        std::move(class_x), std::move(class_w), kernel, h * std::exp2(static_cast<double>(eighths) / 8),
        tabulate, Outcome{Termination::converged, "one bandwidth of several", 0}));
    weight_.push_back(total);
  }
  outcome_.sentence += ", times " + std::to_string(classes_.size()) + " local factors";
}

AdaptiveKde::AdaptiveKde(const StateReader& in)
    : weight_(in.get("class_weight")), outcome_{Termination::converged, in.get_text("sentence"), 0} {
  for (std::size_t k = 0; k < weight_.size(); ++k)
    classes_.push_back(std::make_unique<KdeDensity>(in.group("class" + std::to_string(k))));
}

void AdaptiveKde::log_pdf(TensorView<const double, 2> x, std::span<double> out) const {
  std::vector<double> part(out.size());
  std::fill(out.begin(), out.end(), -k_infinity);
  for (std::size_t k = 0; k < classes_.size(); ++k) {
    classes_[k]->log_pdf(x, part);
    const double log_weight = std::log(weight_[k]);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (std::isnan(part[i]))
        out[i] = part[i];
      else
        add_logarithm(out[i], part[i] + log_weight);
  }
}

void AdaptiveKde::cdf(std::span<const double> x, std::span<double> out) const {
  std::vector<double> part(out.size());
  std::fill(out.begin(), out.end(), 0.0);
  for (std::size_t k = 0; k < classes_.size(); ++k) {
    classes_[k]->cdf(x, part);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight_[k] * part[i];
  }
  double total = 0;
  for (const double w : weight_) total += w;
  for (double& value : out) value = std::min(1.0, value / total);  // exactly 1 at the end
}

void AdaptiveKde::sample(Rng& rng, TensorView<double, 2> out) const {
  for (index_t i = 0; i < out.shape(0); ++i) {
    double u = rng.uniform();
    std::size_t k = 0;
    while (k + 1 < classes_.size() && (u -= weight_[k]) >= 0) ++k;
    classes_[k]->sample(rng, TensorView<double, 2>(&out(i, 0), {1, 1}));
  }
}

RealInterval AdaptiveKde::support(index_t) const {
  RealInterval all = classes_.front()->support();
  for (const auto& one : classes_) {
    all.begin = std::min(all.begin, one->support().begin);
    all.end = std::max(all.end, one->support().end);
  }
  return all;
}

void AdaptiveKde::save(StateWriter& out) const {
  out.put("class_weight", weight_);
  out.put_text("sentence", outcome_.sentence);
  for (std::size_t k = 0; k < classes_.size(); ++k) classes_[k]->save(out.group("class" + std::to_string(k)));
}

ReflectedDensity::ReflectedDensity(std::unique_ptr<FittedDensity> inner, RealInterval bounds, double h)
    : inner_(std::move(inner)), bounds_(bounds), h_(h) {}

ReflectedDensity::ReflectedDensity(const StateReader& in) {
  const std::vector<double> bounds = in.get("bounds");
  if (bounds.size() != 3 || !(bounds[0] < bounds[1]))
    throw MethodError("density kde: the saved state has no valid bounds; save the fitted density again");
  bounds_ = {bounds[0], bounds[1]};
  h_ = bounds[2];
  const StateReader& inner = in.group("inner");
  if (inner.has("class_weight"))
    inner_ = std::make_unique<AdaptiveKde>(inner);
  else
    inner_ = std::make_unique<KdeDensity>(inner);
}

/// Images beyond one period count when the inner density is wider than the interval.
int ReflectedDensity::n_images() const {
  const double period = 2 * (bounds_.end - bounds_.begin);
  return std::isfinite(period) ? 1 + static_cast<int>(std::min(1000.0, std::ceil(40 * h_ / period))) : 0;
}

void ReflectedDensity::log_pdf(TensorView<const double, 2> x, std::span<double> out) const {
  const bool both = std::isfinite(bounds_.end - bounds_.begin);
  const double period = both ? 2 * (bounds_.end - bounds_.begin) : 0;
  const double mirror = std::isfinite(bounds_.begin) ? bounds_.begin : bounds_.end;
  std::vector<double> image(out.size()), part(out.size());
  std::fill(out.begin(), out.end(), -k_infinity);
  for (int m = -n_images(); m <= n_images(); ++m)
    for (const bool reflected : {false, true}) {
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double at = x(static_cast<index_t>(i), 0);
        image[i] = (reflected ? 2 * mirror - at : at) + m * period;
      }
      inner_->log_pdf(column(image), part);
      for (std::size_t i = 0; i < out.size(); ++i) add_logarithm(out[i], part[i]);
    }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double at = x(static_cast<index_t>(i), 0);
    if (std::isnan(at)) out[i] = at;
    if (at < bounds_.begin || at > bounds_.end) out[i] = -k_infinity;
  }
}

void ReflectedDensity::cdf(std::span<const double> x, std::span<double> out) const {
  // From the low end l when there is one: int_l^x sum_m [f(t + m P) + f(2 l - t + m P)] dt, terms F(..) - F(..).
  const bool from_low = std::isfinite(bounds_.begin);
  const double mirror = from_low ? bounds_.begin : bounds_.end;
  const double period = std::isfinite(bounds_.end - bounds_.begin) ? 2 * (bounds_.end - bounds_.begin) : 0;
  std::vector<double> image(2 * out.size()), part(image.size());
  std::vector<double> sum(out.size());
  for (int m = -n_images(); m <= n_images(); ++m) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double at = std::clamp(x[i], bounds_.begin, bounds_.end);
      image[2 * i] = at + m * period;
      image[2 * i + 1] = 2 * mirror - at + m * period;
    }
    inner_->cdf(image, part);
    for (std::size_t i = 0; i < out.size(); ++i) sum[i] += part[2 * i] - part[2 * i + 1];
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    // With the mirror at the high end only: 1 - int_x^h = 1 - (F(2 h - x) - F(x)).
    out[i] = std::isnan(x[i]) ? x[i] : std::clamp(from_low ? sum[i] : 1 + sum[i], 0.0, 1.0);
    if (x[i] >= bounds_.end) out[i] = 1;
    if (x[i] <= bounds_.begin) out[i] = 0;
  }
}

void ReflectedDensity::sample(Rng& rng, TensorView<double, 2> out) const {
  inner_->sample(rng, out);
  for (index_t i = 0; i < out.shape(0); ++i) {
    double& x = out(i, 0);
    for (int fold = 0; fold < 4000 && (x < bounds_.begin || x > bounds_.end); ++fold)
      x = x < bounds_.begin ? 2 * bounds_.begin - x : 2 * bounds_.end - x;
    x = std::clamp(x, bounds_.begin, bounds_.end);
  }
}

void ReflectedDensity::save(StateWriter& out) const {
  out.put("bounds", std::vector<double>{bounds_.begin, bounds_.end, h_});
  inner_->save(out.group("inner"));
}
