// CoCA, collinear constrained attention: each pair of a key is parallel to the query's. Zhu, Li, Ruan, Zhou 2023,
// arXiv:2309.08646, section 3.
//
//   t_m = relu(mean of pair m of the key projection), the same for both components;   k_m = t_m q_m
//   score(i, j) = sum_m |q_m|^2 t_m cos((i - j) theta_m)
//
// form = paper: a rotation of (|q_m|^2, 0) against (t_m, 0), so no tensor [n, n, d] is needed. form = code is the published
// program, einsum(q, rotated t, rotated q) over components: it multiplies the unrotated query into it and depends on where
// the pair stands (for r = 3 at (5, 2), (15, 12), (105, 102) 1.650, 1.319, 1.571 where the paper's form gives 1.321).
#include <algorithm>
#include <cmath>
#include <memory>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::Pairing;
using borel::TensorView;

/// Where the two components of pair m stand in a row, and the angle of the pair.
struct Pairs {
  Pairing pairing;
  index_t n_rot_dims;
  borel::PositionTable angle;
  index_t n() const { return n_rot_dims / 2; }
  index_t first(index_t m) const { return pairing == Pairing::half ? m : 2 * m; }
  index_t second(index_t m) const { return pairing == Pairing::half ? m + n() : 2 * m + 1; }
  double turn(index_t m, index_t token) const {
    return (*angle)[static_cast<std::size_t>(m)] * static_cast<double>(token);
  }
};

/// q_m -> (|q_m|^2, 0)
class SquaredLength final : public borel::TokenMap {
 public:
  explicit SquaredLength(Pairs pairs) : pairs_(std::move(pairs)) {}
  void apply(index_t, index_t, TensorView<float, 2> rows) const override {
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        float &a = rows(t, pairs_.first(m)), &b = rows(t, pairs_.second(m));
        a = a * a + b * b;
        b = 0;
      }
  }
  void backward(index_t, index_t, TensorView<const float, 2> input,
                TensorView<float, 2> d_rows) const override {
    for (index_t t = 0; t < input.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        const index_t a = pairs_.first(m), b = pairs_.second(m);
        const float d = d_rows(t, a);
        d_rows(t, a) = 2 * input(t, a) * d;
        d_rows(t, b) = 2 * input(t, b) * d;
      }
  }

 private:
  Pairs pairs_;
};

/// k_m -> (relu(mean), 0); with `rotated` instead (relu(mean), relu(mean)) turned by the token's position.
class PositiveMean final : public borel::TokenMap {
 public:
  PositiveMean(Pairs pairs, bool rotated) : pairs_(std::move(pairs)), rotated_(rotated) {}
  void apply(index_t, index_t first_token, TensorView<float, 2> rows) const override {
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        float &a = rows(t, pairs_.first(m)), &b = rows(t, pairs_.second(m));
        const float mean = 0.5F * (a + b), positive = mean < 0 ? 0 : mean;  // lets NaN through
        const auto [to_first, to_second] = weights(m, first_token + t);
        a = positive * to_first;
        b = positive * to_second;
      }
  }
  void backward(index_t, index_t first_token, TensorView<const float, 2> input,
                TensorView<float, 2> d_rows) const override {
    for (index_t t = 0; t < input.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        const index_t a = pairs_.first(m), b = pairs_.second(m);
        const auto [to_first, to_second] = weights(m, first_token + t);
        const float d = d_rows(t, a) * to_first + d_rows(t, b) * to_second;
        d_rows(t, a) = d_rows(t, b) = input(t, a) + input(t, b) > 0 ? 0.5F * d : 0.0F;
      }
  }

 private:
  std::pair<float, float> weights(index_t m, index_t token) const {
    if (!rotated_) return {1.0F, 0.0F};
    const double turn = pairs_.turn(m, token);
    return {static_cast<float>(std::cos(turn) - std::sin(turn)),
            static_cast<float>(std::sin(turn) + std::cos(turn))};
  }
  Pairs pairs_;
  bool rotated_;
};

/// q -> q * (q turned by the token's position), component by component.
class TimesRotated final : public borel::TokenMap {
 public:
  explicit TimesRotated(Pairs pairs) : pairs_(std::move(pairs)) {}
  void apply(index_t, index_t first_token, TensorView<float, 2> rows) const override {
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        float &a = rows(t, pairs_.first(m)), &b = rows(t, pairs_.second(m));
        const auto [c, s] = turned(m, first_token + t);
        const float x = a, y = b;
        a = x * (x * c - y * s);
        b = y * (x * s + y * c);
      }
  }
  void backward(index_t, index_t first_token, TensorView<const float, 2> input,
                TensorView<float, 2> d_rows) const override {
    for (index_t t = 0; t < input.shape(0); ++t)
      for (index_t m = 0; m < pairs_.n(); ++m) {
        const index_t first = pairs_.first(m), second = pairs_.second(m);
        const auto [c, s] = turned(m, first_token + t);
        const float x = input(t, first), y = input(t, second), d_a = d_rows(t, first),
                    d_b = d_rows(t, second);
        d_rows(t, first) = d_a * (2 * x * c - y * s) + d_b * y * s;
        d_rows(t, second) = -d_a * x * s + d_b * (x * s + 2 * y * c);
      }
  }

 private:
  std::pair<float, float> turned(index_t m, index_t token) const {
    const double turn = pairs_.turn(m, token);
    return {static_cast<float>(std::cos(turn)), static_cast<float>(std::sin(turn))};
  }
  Pairs pairs_;
};

class Coca final : public borel::PositionEncoding {
 public:
  enum class Form { paper, code };
  struct Params {
    Form form = Form::paper;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.choice("form", form, {{"paper", Form::paper}, {"code", Form::code}},
               "The paper's score, or that of the published program, which is not shift-invariant.");
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };
  explicit Coca(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = params_.form == Form::paper}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    const borel::PositionTable angle = params_.rotary.angles(context);
    const Pairs pairs{params_.rotary.pairing, params_.rotary.dims(context), angle};
    if (params_.form == Form::paper) {
      borel::PositionPlan plan = params_.rotary.plan(context, {borel::plain_band(context, angle)});
      plan.query_map = std::make_shared<const SquaredLength>(pairs);
      plan.key_map = std::make_shared<const PositiveMean>(pairs, false);
      return plan;
    }
    borel::PositionPlan plan = params_.rotary.plan(context, {});
    plan.query_map = std::make_shared<const TimesRotated>(pairs);
    plan.key_map = std::make_shared<const PositiveMean>(pairs, true);
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Coca>(
      "coca",
      {.summary = "Collinear constrained attention: keys parallel to the query, non-negative",
       .formula = "score(i, j) = sum_m |q_m|^2 relu(mean k_m) cos((i - j) theta_m)",
       .source = "Zhu et al. 2023, arXiv:2309.08646, section 3",
       .complexity = "O(n d) once per call",
       .notes = "form = code is the published program and is not relative; scores are cubic in the inputs"});
}
