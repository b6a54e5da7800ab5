// What the gradient tests of all probe networks share: a float64 mixer, lively parameters, and differences of a loss.
#pragma once

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "probe/training.hpp"
#include "reference/softmax_gradient_reference.hpp"

namespace borel::test {

/// Softmax attention in float64.
class ReferenceMixer final : public probe::Mixer<double> {
 public:
  explicit ReferenceMixer(bool causal) : causal_(causal) {}
  index_t saved_per_row() const override { return 0; }
  void forward(const Call& call, TensorView<double, 3> o, TensorView<double, 3>) const override {
    reference::softmax_forward(call.q, call.k, call.v, *call.position, causal_, o);
  }
  void backward(const Call& call, TensorView<const double, 3>, TensorView<const double, 3>,
                TensorView<const double, 3> d_o, const Gradients& g) const override {
    reference::softmax_backward(call.q, call.k, call.v, *call.position, causal_, d_o, g.d_q, g.d_k, g.d_v);
  }

 private:
  bool causal_;
};

/// Larger than initial values, so that every part has a gradient that differences can see.
inline std::vector<float> lively_parameters(const probe::Architecture& architecture) {
  std::vector<float> p = architecture.initial_parameters(Seed{3});
  Rng rng(Seed{4});
  for (const probe::ParameterSlice& slice : architecture.slices())
    if (slice.trainable)
      for (index_t i = 0; i < slice.size; ++i)
        p[static_cast<std::size_t>(slice.offset + i)] +=
            static_cast<float>((slice.name == "embedding" ? 0.5 : 0.05) * rng.normal());
  return p;
}

template <class T>
probe::NetworkGradients<T> zero_gradients(const probe::Architecture& architecture,
                                          std::span<const PositionPlan> plans) {
  probe::NetworkGradients<T> out;
  out.flat.resize(static_cast<std::size_t>(architecture.n_parameters()));
  for (std::size_t l = 0; l < plans.size(); ++l) {
    const probe::Layer& layer = architecture.layers()[l];
    out.plans.push_back(layer.learns_positions
                            ? probe::PlanGradients(plans[l], layer.position->traits().learns_angles)
                            : probe::PlanGradients());
  }
  return out;
}

inline double norm(std::span<const double> x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

/// Half along the gradient (a measurable slope), half at random (an error across it shows).
inline std::vector<double> direction(std::span<const double> gradient, std::uint64_t seed) {
  std::vector<double> noise(gradient.size());
  Rng(Seed{seed}).fill_normal(noise);
  const double g = norm(gradient), r = norm(noise);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = noise[i] / r + (g > 0 ? gradient[i] / g : 0);
  return noise;
}

/// (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h, error O(h^4).
template <class F>
double slope(F&& f, double h) {
  return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
}

inline std::string test_name(std::string text) {
  for (char& c : text)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return text;
}

/// The float64 network's gradient against five-point differences of its loss, every tensor, to 1e-6.
/// @param subject  loss(parameters, plans) and gradient(parameters, plans)
template <class Subject>
void expect_exact_gradients(Subject& subject, const probe::Architecture& architecture,
                            std::span<const float> start, std::span<const PositionPlan> plans) {
  const std::vector<double> parameters(start.begin(), start.end());
  const std::vector<double> gradient = subject.gradient(parameters, plans).flat;
  for (const probe::ParameterSlice& slice : architecture.slices()) {
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    const auto its = std::span(gradient).subspan(offset, size);
    const std::vector<double> along = direction(its, 5);
    const double expected = std::inner_product(its.begin(), its.end(), along.begin(), 0.0);
    const double measured = slope(
        [&](double h) {
          std::vector<double> moved = parameters;
          for (std::size_t i = 0; i < size; ++i) moved[offset + i] += h * along[i];
          return subject.loss(moved, plans);
        },
        1e-3);
    EXPECT_GT(norm(its), 1e-6) << slice.name << " has no gradient, so nothing was checked";
    EXPECT_NEAR(measured / expected, 1, 1e-6) << slice.name << ": " << measured << " " << expected;
  }
}

/// The float network with plugins against the float64 network.
template <class FloatSubject, class ExactSubject>
void expect_float_agrees(FloatSubject& subject, ExactSubject& exact, const probe::Architecture& architecture,
                         std::span<const float> start, std::span<const PositionPlan> plans) {
  const std::vector<double> parameters(start.begin(), start.end());
  EXPECT_NEAR(subject.loss(start, plans), exact.loss(parameters, plans), 2e-6);
  const std::vector<double> truth = exact.gradient(parameters, plans).flat;
  const std::vector<float> gradient = subject.gradient(start, plans).flat;
  for (const probe::ParameterSlice& slice : architecture.slices()) {
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    std::vector<double> error(size);
    for (std::size_t i = 0; i < size; ++i)
      error[i] = static_cast<double>(gradient[offset + i]) - truth[offset + i];
    EXPECT_LE(norm(error) / norm(std::span(truth).subspan(offset, size)), 2e-5) << slice.name;
  }
}

/// The float network's gradient against differences of its own loss, where no float64 twin exists.
template <class Subject>
void expect_own_slopes(Subject& subject, const probe::Architecture& architecture,
                       std::span<const float> start, index_t n) {
  const auto plans = architecture.plans(start, n, true, Seed{9});
  probe::NetworkGradients<float> gradients = subject.gradient(start, plans);
  for (std::size_t l = 0; l < plans.size(); ++l) {
    const probe::Layer& layer = architecture.layers()[l];
    if (!layer.learns_positions) continue;
    const auto d_values = gradients.of(architecture, layer.position_parameters);
    layer.position->backward(architecture.position_context(static_cast<index_t>(l), n, true, Seed{9}),
                             architecture.values(layer.position_parameters, start), gradients.plans[l].view(),
                             d_values);
  }
  for (const probe::ParameterSlice& slice : architecture.slices()) {
    if (!slice.trainable) continue;
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    const std::vector<double> its(gradients.flat.begin() + slice.offset,
                                  gradients.flat.begin() + slice.offset + slice.size);
    const std::vector<double> along = direction(its, 6);
    const double expected = std::inner_product(its.begin(), its.end(), along.begin(), 0.0);
    const auto measured = [&](double step) {
      return slope(
          [&](double h) {
            std::vector<float> moved(start.begin(), start.end());
            for (std::size_t i = 0; i < size; ++i)
              moved[offset + i] = static_cast<float>(static_cast<double>(start[offset + i]) + h * along[i]);
            return subject.loss(moved, architecture.plans(moved, n, true, Seed{9}));
          },
          step / (1 + norm(its)));
    };
    // Rounding of the loss, about 1e-7, over h asks for a long step; the h^4 term of steep losses (retention's norm,
    // angles that flow) for a short one. A wrong gradient agrees with neither.
    const double tolerance = 1e-3 * std::abs(expected) + 3e-5, by_long = measured(0.008);
    if (std::abs(by_long - expected) > tolerance) {
      EXPECT_NEAR(measured(0.002), expected, tolerance) << slice.name << ", and by a longer step " << by_long;
    }
    EXPECT_GT(norm(its), 1e-8) << slice.name << " has no gradient";
  }
}

/// A parameter of the tests.
struct NamedModel {
  const char* name;
  probe::ModelConfig config;
};
inline void PrintTo(const NamedModel& model, std::ostream* out) { *out << model.name; }
inline std::string name_of(const testing::TestParamInfo<NamedModel>& tested) { return tested.param.name; }

}  // namespace borel::test
