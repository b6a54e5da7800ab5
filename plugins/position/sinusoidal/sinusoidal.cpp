// Sinusoidal absolute encoding, added to the token embeddings. Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
//
//   x[t, 2 c] += sin(t / theta_base^(2 c / D)),   x[t, 2 c + 1] += cos(t / theta_base^(2 c / D)),   D = d_model
//
// Scores are left alone, so protocols that give q and k directly cannot use it. tensor2tensor put all sines first and all
// cosines behind them, with D / 2 - 1 in the exponent: an equal encoding up to a permutation and slightly other frequencies.
#include <cmath>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class Waves final : public borel::TokenEmbedding {
 public:
  explicit Waves(double theta_base) : theta_base_(theta_base) {}

  void add(const PositionContext&, borel::ParameterValues, index_t first_token,
           borel::TensorView<float, 2> x) const override {
    const index_t d = x.shape(1);
    for (index_t c = 0; c < d; ++c) {
      const double frequency =
          std::pow(theta_base_, -2.0 * static_cast<double>(c / 2) / static_cast<double>(d));
      for (index_t row = 0; row < x.shape(0); ++row) {
        const double angle = static_cast<double>(first_token + row) * frequency;
        x(row, c) += static_cast<float>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
      }
    }
  }
  void backward(const PositionContext&, index_t, borel::TensorView<const float, 2>,
                borel::ParameterGradients) const override {}  // a constant

 private:
  double theta_base_;
};

class Sinusoidal final : public borel::PositionEncoding {
 public:
  struct Params {
    double theta_base = 10000;
    void declare(borel::ParamBinder& p) {
      p.real("theta_base", theta_base, borel::Range::left_open(1, 1e12), "1", "Base of the frequencies.");
    }
  };
  explicit Sinusoidal(const Params& params) : waves_(params.theta_base) {}

  borel::PositionTraits traits() const override { return {}; }
  borel::PositionPlan plan(const PositionContext&, borel::ParameterValues) const override { return {}; }
  const borel::TokenEmbedding* embedding() const override { return &waves_; }

 private:
  Waves waves_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Sinusoidal>(
      "sinusoidal", {.summary = "Sines and cosines of the position, added to the token embeddings",
                     .formula = "x[t, 2c] += sin(t / 10000^(2c/D)), x[t, 2c+1] += cos(t / 10000^(2c/D))",
                     .source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
                     .complexity = "O(n d_model)",
                     .notes = "absolute: needs a network with token embeddings"});
}
