// KERPLE: biases from conditionally positive definite kernels, learned per head. Chi, Fan, Ramadge, Rudnicky 2022,
// arXiv:2205.09921, equations 4 and 5; code chijames/KERPLE.
//
//   log     bias(h, r) = -r1 ln(1 + r2 |r|)
//   power   bias(h, r) = -r1 |r|^r2,   r2 <= 2
//
// r1 = max(bias_p, 0.01) from U[0, 2], r2 = max(bias_a, 0.01) from U[0, 1], as in the code, which clamps its parameters
// before use. Below the clamp a gradient passes only when a descent step would raise the parameter, as after that clamp.
#include <algorithm>
#include <cmath>

#include "borel/draft/distance_bias.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

constexpr float k_least = 0.01F, k_most_power = 2;

class Kerple final : public borel::PositionEncoding {
 public:
  enum class Kernel { log, power };
  struct Params {
    Kernel kernel = Kernel::log;
    void declare(borel::ParamBinder& p) {
      p.choice("kernel", kernel, {{"log", Kernel::log}, {"power", Kernel::power}},
               "-r1 ln(1 + r2 |r|), or -r1 |r|^r2.");
    }
  };
  explicit Kerple(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  std::vector<borel::ParameterTensor> parameters(index_t n_heads, index_t, index_t) const override {
    const auto uniform = [](float top) {
      return [top](borel::Rng& rng, std::span<float> values) {
        for (float& x : values) x = std::max(k_least, top * static_cast<float>(rng.uniform()));
      };
    };
    return {{.name = "bias_p", .shape = {n_heads}, .init = uniform(2), .doc = "r1, the strength, >= 0.01"},
            {.name = "bias_a",
             .shape = {n_heads},
             .init = uniform(1),
             .doc = "r2, the reach (log) or the power (power, <= 2), >= 0.01"}};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    return borel::bias_plan(context, [&](index_t h, index_t r) {
      const Head head = at(parameters, h);
      return -head.r1 * shape(head, r);
    });
  }

  void backward(const PositionContext& context, borel::ParameterValues parameters,
                const borel::PositionGradients& d_plan,
                borel::ParameterGradients d_parameters) const override {
    std::vector<double> d_r1(static_cast<std::size_t>(context.n_heads)), d_r2 = d_r1;
    borel::for_each_bias_gradient(context, d_plan.bias, [&](index_t h, index_t r, double d) {
      const Head head = at(parameters, h);
      const double x = std::abs(static_cast<double>(r));
      d_r1[static_cast<std::size_t>(h)] -= d * shape(head, r);
      if (x == 0) return;
      d_r2[static_cast<std::size_t>(h)] -=
          d * head.r1 *
          (params_.kernel == Kernel::log ? x / (1 + head.r2 * x) : std::pow(x, head.r2) * std::log(x));
    });
    pass(d_r1, parameters[0], std::numeric_limits<float>::infinity(), d_parameters[0]);
    pass(d_r2, parameters[1], most_r2(), d_parameters[1]);
  }

 private:
  struct Head {
    double r1, r2;
  };
  float most_r2() const {
    return params_.kernel == Kernel::power ? k_most_power : std::numeric_limits<float>::infinity();
  }
  Head at(borel::ParameterValues parameters, index_t h) const {
    const auto i = static_cast<std::size_t>(h);
    return {static_cast<double>(std::max(k_least, parameters[0][i])),
            static_cast<double>(std::clamp(parameters[1][i], k_least, most_r2()))};
  }
  double shape(const Head& head, index_t r) const {
    const double x = std::abs(static_cast<double>(r));
    return params_.kernel == Kernel::log ? std::log1p(head.r2 * x) : std::pow(x, head.r2);
  }
  static void pass(std::span<const double> gradient, std::span<const float> value, float most,
                   std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const bool stuck = (value[i] < k_least && gradient[i] > 0) || (value[i] > most && gradient[i] < 0);
      if (!stuck) out[i] += static_cast<float>(gradient[i]);
    }
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Kerple>(
      "kerple", {.summary = "Learned kernel bias by distance, logarithmic or power, per head",
                 .formula = "bias(h, r) = -r1 ln(1 + r2 |r|), or -r1 |r|^r2",
                 .source = "Chi et al. 2022, arXiv:2205.09921, equations 4 and 5",
                 .complexity = "O(H n) once per call",
                 .notes = "parameters are clamped to >= 0.01 (power: r2 <= 2), as in the authors' code"});
}
