// One real property of each trial mechanism.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "borel/attention.hpp"
#include "borel/optimizer.hpp"
#include "plan_scores.hpp"
#include "trial_registry.hpp"

namespace borel::trial {

namespace {

constexpr double k_float_error = 2e-5;     // two float32 paths to one number of size about 1
constexpr double k_gradient_error = 5e-3;  // central differences of float32, relative to the largest entry

std::unique_ptr<Attention> attention(std::string_view spec) { return trial_registry().make<Attention>(spec); }

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double worst = a.size() == b.size() ? 0 : NAN;
  for (std::size_t c = 0; c < std::min(a.size(), b.size()); ++c)
    if (!(std::abs(a[c] - b[c]) <= worst)) worst = std::abs(static_cast<double>(a[c]) - b[c]);
  return worst;
}

/// Random extra inputs in the declared ranges: what the framework and the contract tests have to do for any
/// method.
class RandomExtras {
 public:
  RandomExtras(const Attention& method, const AttentionCall& call, Seed seed) {
    Rng rng(seed);
    for (const ExtraInput& input : method.extra_inputs(call.context)) {
      const index_t heads = input.heads == ExtraInput::Heads::kv ? call.h_kv() : call.h_q();
      const index_t tokens = input.tokens == ExtraInput::Tokens::key ? call.n_k() : call.n_q();
      std::vector<float>& values =
          storage_.emplace_back(static_cast<std::size_t>(heads * tokens * input.width));
      rng.fill_normal(values);
      for (float& x : values) {
        if (input.values == ExtraInput::Values::non_negative) x = std::log1p(std::exp(x));
        if (input.values == ExtraInput::Values::unit_interval) x = 1 / (1 + std::exp(-x));
        if (input.values == ExtraInput::Values::non_positive) x = -std::log1p(std::exp(-x));
      }
      views_.emplace_back(values.data(), TensorView<const float, 3>::Shape{heads, tokens, input.width});
    }
  }
  std::span<const TensorView<const float, 3>> views() const { return views_; }
  /// The extras of token t, as a step sees them.
  std::vector<TensorView<const float, 2>> at(index_t t) const {
    std::vector<TensorView<const float, 2>> token;
    for (const auto& view : views_)
      token.emplace_back(&view(0, t, 0), TensorView<const float, 2>::Shape{view.shape(0), view.shape(2)},
                         TensorView<const float, 2>::Shape{view.stride(0), 1});
    return token;
  }

 private:
  std::vector<std::vector<float>> storage_;
  std::vector<TensorView<const float, 3>> views_;
};

TEST(AttentionTrial, GatedDeltaStepsAsItRuns) {
  for (const char* spec : {"gated_delta", "gated_delta{output_norm=true}"}) {
    const auto method = attention(spec);
    const RandomCall random(4, 2, 30, 30, 8, 6, {1});
    AttentionCall call = random.call();
    const RandomExtras extras(*method, call, {2});
    const ParameterSet parameters(method->parameters(call.context), {3});
    call.extra = extras.views();
    call.parameters = parameters.values();
    PositionPlan plan;
    plan.n_rot_dims = 8;
    plan.bands.push_back({.query_position = running_positions(0, 30),
                          .key_position = running_positions(0, 30),
                          .angle = rotary_angles(10000, 8)});
    call.position = &plan;
    ASSERT_EQ(method->refuses(plan), "");
    std::vector<float> o(4 * 30 * 6), stepped(o);
    method->forward(call, {o.data(), {4, 30, 6}});

    std::vector<float> state(static_cast<std::size_t>(method->step()->state_size(call.context)), NAN);
    EXPECT_EQ(4.0 * static_cast<double>(state.size()), method->state_bytes(call.context, 30));
    method->step()->start(call.context, call.parameters, state);
    std::vector<float> row(4 * 6);
    for (index_t t = 0; t < 30; ++t) {
      const PositionPlan now = plan_for_rows(plan, t, t + 1);
      const auto token_extras = extras.at(t);
      const auto token_of = [&](TensorView<const float, 3> x) {
        return TensorView<const float, 2>(&x(0, t, 0), {x.shape(0), x.shape(2)}, {x.stride(0), 1});
      };
      method->step()->step({.t = t,
                            .q = token_of(call.q),
                            .k = token_of(call.k),
                            .v = token_of(call.v),
                            .position = &now,
                            .extra = token_extras,
                            .parameters = call.parameters,
                            .context = call.context},
                           state, {row.data(), {4, 6}});
      for (index_t h = 0; h < 4; ++h)
        std::copy_n(&row[static_cast<std::size_t>(h * 6)], 6,
                    &stepped[static_cast<std::size_t>((h * 30 + t) * 6)]);
    }
    EXPECT_LE(largest_difference(o, stepped), k_float_error) << spec;
  }
}

TEST(AttentionTrial, GatedDeltaWeightsGiveItsOutput) {
  for (const char* spec : {"gated_delta", "gated_delta{output_norm=true}"}) {
    const auto method = attention(spec);
    const RandomCall random(4, 2, 20, 33, 8, 6, {4});
    AttentionCall call = random.call();
    const RandomExtras extras(*method, call, {5});
    const ParameterSet parameters(method->parameters(call.context), {6});
    call.extra = extras.views();
    call.parameters = parameters.values();
    PositionPlan plan;
    plan.n_rot_dims = 8;
    plan.bands.push_back({.query_position = running_positions(13, 20),
                          .key_position = running_positions(0, 33),
                          .angle = rotary_angles(100, 8)});
    call.position = &plan;
    std::vector<float> o(4 * 20 * 6);
    method->forward(call, {o.data(), {4, 20, 6}});
    for (index_t head : {0, 3}) {
      std::vector<float> weights(7 * 33);
      effective_weights(*method, call, head, 5, 12, {weights.data(), {7, 33}});
      for (index_t r = 0; r < 7; ++r) {
        std::vector<float> expected(6, 0.0F);
        double squares = 0;
        for (index_t c = 0; c < 6; ++c) {
          double sum = 0;
          for (index_t j = 0; j < 33; ++j)
            sum +=
                static_cast<double>(weights[static_cast<std::size_t>(r * 33 + j)]) * call.v(head / 2, j, c);
          expected[static_cast<std::size_t>(c)] = static_cast<float>(sum);
          squares += sum * sum;
        }
        if (!method->traits().linear_in_v)
          for (float& x : expected) x = static_cast<float>(x / std::sqrt(squares / 6 + 1e-6));
        EXPECT_LE(largest_difference(
                      expected, std::span(o).subspan(static_cast<std::size_t>((head * 20 + 5 + r) * 6), 6)),
                  k_float_error)
            << spec << " head " << head << " row " << r;
      }
    }
  }
}

TEST(AttentionTrial, SparsemaxRowsAreProjections) {
  const auto method = attention("sparsemax");
  const RandomCall random(2, 1, 70, 130, 16, 4, {7});
  AttentionCall call = random.call();
  const PositionPlan plan = position_plan(
      *trial_registry().make<PositionEncoding>("self_extend{window=20, group=4}"), context_of(call));
  call.position = &plan;
  std::vector<float> weights(70 * 130);
  effective_weights(*method, call, 1, 0, 70, {weights.data(), {70, 130}});
  for (index_t row = 0; row < 70; ++row) {
    std::vector<double> x;
    for (index_t j = 0; j <= row + call.query_offset; ++j)
      x.push_back(plan_product(plan, call, 1, row, j) / 4);
    project_onto_simplex(x);
    x.resize(130, 0);
    double worst = 0;
    for (std::size_t j = 0; j < 130; ++j)
      if (const double error = std::abs(weights[static_cast<std::size_t>(row) * 130 + j] - x[j]);
          !(error <= worst))
        worst = error;
    EXPECT_LE(worst, k_float_error) << row;
  }
}

TEST(AttentionTrial, DifferentialSubtractsTwoMapsThatTurnSeparately) {
  for (const bool norm : {false, true}) {
    const auto method = attention(norm ? "differential" : "differential{norm=false}");
    const RandomCall random(4, 2, 25, 40, 16, 6, {8});
    AttentionCall call = random.call();
    call.context.layer_index = 2;
    const ParameterSet parameters(method->parameters(call.context), {9});
    call.parameters = parameters.values();
    PositionContext context = context_of(call);
    context.d_head = method->plan_d_head(call.context);
    ASSERT_EQ(context.d_head, 8);
    const PositionPlan plan =
        position_plan(*trial_registry().make<PositionEncoding>("streaming{sinks=2, window=20}"), context);
    call.position = &plan;
    std::vector<float> o(4 * 25 * 6);
    method->forward(call, {o.data(), {4, 25, 6}});

    const double lambda_init = 0.8 - 0.6 * std::exp(-0.6);
    double dots[2] = {0, 0};
    for (std::size_t c = 0; c < 8; ++c)
      for (std::size_t pair = 0; pair < 2; ++pair)
        dots[pair] += static_cast<double>(call.parameters[2 * pair][c]) * call.parameters[2 * pair + 1][c];
    const double lambda = std::exp(dots[0]) - std::exp(dots[1]) + lambda_init;
    std::vector<double> maps[2];
    for (index_t which : {0, 1}) {
      AttentionCall half = call;
      half.q = call.q.slice(2, 8 * which, 8 * which + 8);
      half.k = call.k.slice(2, 8 * which, 8 * which + 8);
      maps[which] = softmax_by_definition(plan, half);
    }
    for (std::size_t row = 0; row < 4 * 25; ++row) {
      double expected[6], squares = 0;
      for (std::size_t c = 0; c < 6; ++c) {
        expected[c] = maps[0][row * 6 + c] - lambda * maps[1][row * 6 + c];
        squares += expected[c] * expected[c];
      }
      const double factor = norm ? (1 - lambda_init) / std::sqrt(squares / 6 + 1e-5) : 1;
      for (std::size_t c = 0; c < 6; ++c)
        EXPECT_LE(std::abs(o[row * 6 + c] - factor * expected[c]), 1e-4) << norm << " " << row;
    }
    std::vector<float> weights(25 * 40);
    effective_weights(*method, call, 3, 0, 25, {weights.data(), {25, 40}});
    for (std::size_t row = 0; row < 25; ++row) {
      double sum = 0;
      for (std::size_t j = 0; j < 40; ++j) sum += weights[row * 40 + j];
      EXPECT_LE(std::abs(sum - (1 - lambda)), k_float_error);
    }
  }
}

TEST(AttentionTrial, PerformerApproachesSoftmaxWithMoreFeatures) {
  RandomCall random(2, 1, 40, 40, 8, 4, {12});
  // The variance of the features grows as exp(|q + k|^2): vectors of half the usual length.
  for (float& x : std::span(&random.q()(0, 0, 0), 2 * 40 * 8)) x *= 0.5F;
  for (float& x : std::span(&random.k()(0, 0, 0), 40 * 8)) x *= 0.5F;
  AttentionCall call = random.call();
  const std::vector<double> exact = softmax_by_definition(PositionPlan(), call);
  double before = INFINITY;
  for (const char* spec : {"performer{features=16}", "performer{features=4096}"}) {
    const auto method = attention(spec);
    const std::vector<ParameterTensor> declared = method->parameters(call.context);
    EXPECT_FALSE(declared.at(0).trainable);
    const ParameterSet parameters(declared, {13});
    const TensorView<const float, 2> w(parameters.values()[0].data(), {declared[0].shape[0], 8});
    for (index_t a = 0; a < 8; ++a)
      for (index_t b = 0; b < a; ++b) {
        double inner = 0;
        for (index_t c = 0; c < 8; ++c) inner += static_cast<double>(w(a, c)) * w(b, c);
        EXPECT_LE(std::abs(inner), 1e-4) << "rows of one block are orthogonal";
      }
    call.parameters = parameters.values();
    std::vector<float> o(2 * 40 * 4);
    method->forward(call, {o.data(), {2, 40, 4}});
    double square = 0;
    for (std::size_t c = 0; c < o.size(); ++c)
      square += std::pow(o[c] - exact[c], 2) / static_cast<double>(o.size());
    EXPECT_LT(std::sqrt(square), 0.5 * before) << spec;
    before = std::sqrt(square);
  }
  EXPECT_LE(before, 0.02);
}

/// Largest difference between gradients and central differences, relative to the largest gradient.
double gradient_error(std::span<float> x, std::span<const float> gradient,
                      const std::function<double()>& loss) {
  double worst = 0, largest = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    constexpr float k_step = 0.02F;
    const float keep = x[c];
    x[c] = keep + k_step;
    const double up = loss();
    x[c] = keep - k_step;
    const double down = loss();
    x[c] = keep;
    const double error = std::abs((up - down) / (2 * k_step) - gradient[c]);
    if (!(error <= worst)) worst = error;
    largest = std::max(largest, std::abs(static_cast<double>(gradient[c])));
  }
  return worst / largest;
}

TEST(AttentionTrial, SoftmaxGradientsReachInputsAndT5Table) {
  const auto method = attention("softmax");
  const auto t5 = trial_registry().make<PositionEncoding>("t5");
  RandomCall random(4, 2, 12, 20, 6, 5, {14});
  // Small scores: t5 takes away the 1 / sqrt(d).
  for (float& x : std::span(&random.q()(0, 0, 0), 4 * 12 * 6)) x *= 0.3F;
  AttentionCall call = random.call();
  const PositionContext context = context_of(call);
  ParameterSet table(t5->parameters(4, 6, 24), {15});
  std::vector<float> direction(4 * 12 * 5), o(direction.size()), saved(4 * 12);
  Rng(Seed{16}).fill_normal(direction);
  const TensorView<float, 3> out(o.data(), {4, 12, 5});
  const auto loss = [&] {
    const PositionPlan plan = position_plan(*t5, context, table.values());
    call.position = &plan;
    method->forward(call, out);
    double sum = 0;
    for (std::size_t c = 0; c < o.size(); ++c) sum += static_cast<double>(direction[c]) * o[c];
    return sum;
  };

  const PositionPlan plan = position_plan(*t5, context, table.values());
  call.position = &plan;
  method->backward()->forward_saving(call, out, {saved.data(), {4, 12, 1}});
  std::vector<float> d_q(4 * 12 * 6), d_k(2 * 20 * 6), d_v(2 * 20 * 5),
      d_bias(static_cast<std::size_t>(4 * plan.bias_width));
  PositionGradients d_plan{.bias = d_bias};
  method->backward()->backward(call, out, TensorView<const float, 3>(saved.data(), {4, 12, 1}),
                               TensorView<const float, 3>(direction.data(), {4, 12, 5}),
                               {.d_q = {d_q.data(), {4, 12, 6}},
                                .d_k = {d_k.data(), {2, 20, 6}},
                                .d_v = {d_v.data(), {2, 20, 5}},
                                .d_position = &d_plan});
  std::vector<float> d_table(4 * 32);
  const std::vector<std::span<float>> d_parameters = {d_table};
  t5->backward(context, table.values(), d_plan, d_parameters);

  EXPECT_LE(gradient_error(table[0], d_table, loss), k_gradient_error);
  EXPECT_LE(gradient_error({&random.q()(0, 0, 0), d_q.size()}, d_q, loss), k_gradient_error);
  EXPECT_LE(gradient_error({&random.k()(0, 0, 0), d_k.size()}, d_k, loss), k_gradient_error);
  EXPECT_LE(gradient_error({&random.v()(0, 0, 0), d_v.size()}, d_v, loss), k_gradient_error);
}

TEST(AttentionTrial, SoftmaxGradientsPassThroughBandsMapsAndAngles) {
  const auto method = attention("softmax");
  for (const char* spec : {"self_extend{window=5, group=2}", "xpos{scale_base=16}", "coca"}) {
    RandomCall random(2, 1, 9, 12, 8, 4, {17});
    for (float& x : std::span(&random.q()(0, 0, 0), 2 * 9 * 8)) x *= 0.5F;
    AttentionCall call = random.call();
    PositionPlan plan = position_plan(*trial_registry().make<PositionEncoding>(spec), context_of(call));
    call.position = &plan;
    std::vector<float> direction(2 * 9 * 4), o(direction.size()), saved(2 * 9), d_q(2 * 9 * 8), d_k(12 * 8),
        d_v(12 * 4);
    Rng(Seed{18}).fill_normal(direction);
    const TensorView<float, 3> out(o.data(), {2, 9, 4});
    const auto loss = [&] {
      method->forward(call, out);
      double sum = 0;
      for (std::size_t c = 0; c < o.size(); ++c) sum += static_cast<double>(direction[c]) * o[c];
      return sum;
    };
    method->backward()->forward_saving(call, out, {saved.data(), {2, 9, 1}});
    std::vector<double> d_angle(4, 0);
    PositionGradients d_plan;
    d_plan.angle.resize(plan.bands.size());
    d_plan.angle[0] = d_angle;
    method->backward()->backward(call, out, TensorView<const float, 3>(saved.data(), {2, 9, 1}),
                                 TensorView<const float, 3>(direction.data(), {2, 9, 4}),
                                 {.d_q = {d_q.data(), {2, 9, 8}},
                                  .d_k = {d_k.data(), {1, 12, 8}},
                                  .d_v = {d_v.data(), {1, 12, 4}},
                                  .d_position = &d_plan});
    EXPECT_LE(gradient_error({&random.q()(0, 0, 0), d_q.size()}, d_q, loss), 2 * k_gradient_error) << spec;
    EXPECT_LE(gradient_error({&random.k()(0, 0, 0), d_k.size()}, d_k, loss), 2 * k_gradient_error) << spec;
    const PositionTable angle = plan.bands[0].angle;
    for (std::size_t m = 0; m < 4; ++m) {
      double sides[2];
      for (int side : {0, 1}) {
        std::vector<double> moved = *angle;
        moved[m] += side ? 2e-3 : -2e-3;
        plan.bands[0].angle = make_table(moved);
        sides[side] = loss();
      }
      plan.bands[0].angle = angle;
      EXPECT_LE(std::abs((sides[1] - sides[0]) / 4e-3 - d_angle[m]), 0.02 * (1 + std::abs(d_angle[m])))
          << spec << " angle " << m;
    }
  }
}

}  // namespace

}  // namespace borel::trial
