// LongRoPE. Ding et al. 2024, arXiv:2402.13753, equation 3; code microsoft/LongRoPE.
//
//   token t turns pair m by   t theta_m             t < n_start
//                             t theta_m / lambda_m   otherwise,     scores times 1 + ln s / ln L
//
// lambda_m is found by an evolutionary search for each model: `long_factors` beyond the training length L, `short_factors`
// within. Without a list the search's own starting point is used, NTK-aware: lambda_m = s^(2m / (D - 2)); within L all 1.
// The code multiplies queries and keys by sqrt(1 + ln s / ln L), hence the square on scores; its other choice is YaRN's
// 0.1 ln s + 1.
//
// Start tokens that keep their positions (n_start > 0) break the shift invariance: a pair turns by t theta_m - u theta_m /
// lambda_m when one of the two is a start token. Two axes express it: one for start tokens, one for the others.
#include <cmath>
#include <string>

#include "borel/draft/rotary.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class LongRope final : public borel::PositionEncoding {
 public:
  enum class AttentionFactor { longrope, yarn, none };
  struct Params {
    std::vector<double> long_factors, short_factors;
    std::int64_t n_start = 0;
    AttentionFactor attention_factor = AttentionFactor::longrope;
    borel::LengthScaleParam length;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.reals("long_factors", long_factors, borel::Range::greater_than(0), "1",
              "lambda_m beyond the training length, one per pair; [] takes the NTK-aware ones.");
      p.reals("short_factors", short_factors, borel::Range::greater_than(0), "1",
              "lambda_m within the training length, one per pair; [] stands for all 1.");
      p.integer("n_start", n_start, borel::Range::closed(0, 1 << 30), "tokens",
                "First tokens whose positions are not interpolated.");
      p.choice("attention_factor", attention_factor,
               {{"longrope", AttentionFactor::longrope},
                {"yarn", AttentionFactor::yarn},
                {"none", AttentionFactor::none}},
               "Scores times 1 + ln s / ln L, times (0.1 ln s + 1)^2, or as they are.");
      length.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit LongRope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = params_.n_start == 0,
            .needs_train_length = params_.length.train.from_context()};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const double s = params_.length.in(context);
    const index_t train_length = params_.length.train.in(context);
    const std::vector<double> plain = *params_.rotary.angles(context);
    const std::vector<double> lambda = factors(plain.size(), s, context.longest_length() > train_length);
    borel::Band band;
    if (params_.n_start == 0) {
      std::vector<double> angle(plain.size());
      for (std::size_t m = 0; m < plain.size(); ++m) angle[m] = plain[m] / lambda[m];
      band = borel::plain_band(context, borel::make_table(std::move(angle)));
    } else {
      band.n_axes = 2;
      std::vector<double> angle;
      for (std::size_t m = 0; m < plain.size(); ++m) {
        angle.push_back(plain[m] / lambda[m]);
        angle.push_back(plain[m]);
      }
      band.angle = borel::make_table(std::move(angle));
      band.query_position = positions(context.query_offset, context.n_q);
      band.key_position = positions(context.key_offset, context.n_k);
    }
    if (s > 1 && params_.attention_factor == AttentionFactor::longrope)
      band.logit_scale = 1 + std::log(s) / std::log(static_cast<double>(train_length));
    if (s > 1 && params_.attention_factor == AttentionFactor::yarn)
      band.logit_scale = std::pow(0.1 * std::log(s) + 1, 2);
    return params_.rotary.plan(context, {std::move(band)});
  }

 private:
  std::vector<double> factors(std::size_t n_pairs, double s, bool is_long) const {
    const std::vector<double>& given = is_long ? params_.long_factors : params_.short_factors;
    if (!given.empty() && given.size() != n_pairs)
      throw borel::MethodError(std::string("position longrope: ") +
                               (is_long ? "long_factors" : "short_factors") + " must hold " +
                               std::to_string(n_pairs) + " factors, one per rotated pair; it holds " +
                               std::to_string(given.size()));
    if (!given.empty()) return given;
    std::vector<double> lambda(n_pairs, 1.0);
    for (std::size_t m = 0; is_long && m < n_pairs && n_pairs > 1; ++m)
      lambda[m] = std::pow(s, static_cast<double>(m) / static_cast<double>(n_pairs - 1));
    return lambda;
  }

  /// [n, 2]: (t, 0), for start tokens (0, t).
  borel::PositionTable positions(index_t first, index_t n) const {
    std::vector<double> values;
    for (index_t t = first; t < first + n; ++t) {
      const auto position = static_cast<double>(t);
      values.push_back(t < params_.n_start ? 0 : position);
      values.push_back(t < params_.n_start ? position : 0);
    }
    return borel::make_table(std::move(values));
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, LongRope>(
      "longrope",
      {.summary = "LongRoPE: one searched factor per frequency, start tokens left alone",
       .formula = "theta'_m = theta_m / lambda_m for tokens from n_start on; scores times 1 + ln s / ln L",
       .source = "Ding et al. 2024, arXiv:2402.13753, equation 3; code microsoft/LongRoPE",
       .complexity = "O(n d) once per call",
       .notes = "factors belong to a model: give the published list; without one, NTK-aware"});
}
