// The attention engines against the float64 definitions, over plans that use every field, and against closed
// forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <cmath>

#include "attention_inputs.hpp"
#include "borel/draft/chunk_engine.hpp"
#include "borel/error.hpp"
#include "contract/attention_subject.hpp"
#include "reference/attention_reference.hpp"

namespace {

using borel::AttentionCall;
using borel::Band;
using borel::index_t;
using borel::PositionPlan;
using borel::TensorView;
using borel::reference::Matrix;
using borel::test::band_for;
using borel::test::Inputs;
using borel::test::plans_for;
using borel::test::ramp;
using borel::test::TileSoftmax;

constexpr double k_bound = 2e-5;  // float32 scores up to about 10

/// Softmax again, but row by row and without the online form.
struct RowSoftmax final : borel::TileAttention {
  borel::AttentionTraits traits() const override { return {.row_normalised = true, .non_negative = true}; }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::whole_row; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh_row(const AttentionCall&, borel::ScoreTile& row) const override {
    double sum = 0;
    for (index_t c = 0; c < row.n_cols; ++c) sum += std::exp(static_cast<double>(row.scores[c]));
    for (index_t c = 0; c < row.n_cols; ++c)
      row.scores[c] = static_cast<float>(std::exp(static_cast<double>(row.scores[c])) / sum);
  }
};

const borel::MethodSpec k_softmax{"attention",
                                  "softmax",
                                  {{"scale", "0"},
                                   {"softcap", "0"},
                                   {"log_n", "none"},
                                   {"log_n_length", "512"},
                                   {"sink", "off"},
                                   {"sink_logit", "0"}}};
borel::MethodSpec linear_spec() { return {"attention", "linear", {{"feature", "elu1"}}}; }

/// Largest |engine - reference| over all heads, NaN included.
double error_of(const borel::Attention& method, const AttentionCall& call, const borel::MethodSpec& spec) {
  std::vector<float> storage(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v()), std::nanf(""));
  const TensorView<float, 3> o(storage.data(), {call.h_q(), call.n_q(), call.d_v()});
  method.forward(call, o);
  const auto weights = borel::reference::attention_weights(spec).value();
  double worst = 0;
  for (index_t h = 0; h < call.h_q(); ++h) {
    const Matrix truth = borel::reference::attention_output(call, h, weights(call, h));
    for (index_t r = 0; r < call.n_q(); ++r)
      for (index_t c = 0; c < call.d_v(); ++c) {
        const double error = std::abs(static_cast<double>(o(h, r, c)) - truth(r, c));
        if (!(error <= worst)) worst = error;
        if (std::isnan(error)) return error;
      }
  }
  return worst;
}

borel::PositionContext context_of(const AttentionCall& call) {
  return {.n_q = call.n_q(),
          .n_k = call.n_k(),
          .query_offset = call.query_offset,
          .n_heads = call.h_q(),
          .d_head = call.d_k(),
          .causal = call.causal};
}

/// Both statistics of rows under a plan against the definition.
void expect_agreement(Inputs& inputs, const std::string& name, const PositionPlan& plan) {
  AttentionCall& call = inputs.call;
  ASSERT_EQ(borel::check_plan(plan, context_of(call)), "") << name;
  call.position = &plan;
  for (const bool in_tiles : {false, true})
    EXPECT_LE(error_of(TileSoftmax(in_tiles), call, k_softmax), k_bound)
        << name << ", causal " << call.causal << ", n_q " << call.n_q() << ", in tiles " << in_tiles;
  EXPECT_LE(error_of(RowSoftmax(), call, k_softmax), k_bound)
      << name << ", whole rows, causal " << call.causal << ", n_q " << call.n_q();
}

TEST(TileEngine, AgreesWithTheDefinitionForEveryFieldOfAPlan) {
  for (const bool causal : {true, false})
    for (const index_t n_q : {index_t{150}, index_t{49}}) {
      Inputs inputs(4, 2, n_q, 150, 20, 12, 7);
      inputs.call.causal = causal;
      for (const auto& [name, plan] : plans_for(inputs.call)) expect_agreement(inputs, name, plan);
    }
}

TEST(TileEngine, AgreesAtTinyAndRaggedSizes) {
  for (const index_t n : {0, 1, 63, 65, 127, 128, 129})
    for (const bool causal : {true, false}) {
      Inputs inputs(2, 1, n, n, 8, 5, 11);
      inputs.call.causal = causal;
      EXPECT_LE(error_of(TileSoftmax(), inputs.call, k_softmax), k_bound) << n;
    }
  Inputs no_keys(1, 1, 3, 0, 8, 5, 11);
  EXPECT_EQ(error_of(TileSoftmax(), no_keys.call, k_softmax), 0);
}

/// Long calls in which every block sees few tiles: tasks pack them for themselves where every thread has some, and a call
/// makes only the rotations that it needs.
TEST(TileEngine, AgreesInLongCallsWithWindows) {
  tbb::task_arena one_thread(1);
  one_thread.execute([] {
    for (const bool causal : {true, false})
      for (const index_t n_q : {index_t{1300}, index_t{700}, index_t{3}}) {
        Inputs inputs(4, 2, n_q, 1300, 20, 12, 19);
        inputs.call.causal = causal;
        PositionPlan window;
        window.visible = {{.distance = {-9, 40}}};
        PositionPlan turned = window;
        turned.n_rot_dims = inputs.call.d_k() / 4 * 2;
        turned.bands = {band_for(inputs.call)};
        PositionPlan bands = turned;
        bands.bands = {band_for(inputs.call), band_for(inputs.call, 0.25)};
        bands.bands[0].region.distance = {-3, 17};
        bands.bands[1].region.key = {600, 1250};
        bands.bands[1].region.distance.begin = 17;
        PositionPlan sinks = bands;
        sinks.visible.push_back({.key = {0, 3}});
        for (const auto& [name, plan] :
             {std::pair{"window", window}, {"turned", turned}, {"bands", bands}, {"sinks", sinks}})
          expect_agreement(inputs, name, plan);
      }
  });
}

/// The nearest bfloat16, ties to even, by arithmetic: 8 significant bits.
float nearest_bf16(float x) {
  if (x == 0) return 0;
  const float unit = std::ldexp(1.0f, std::ilogb(x) - 7);
  return std::nearbyint(x / unit) * unit;
}

TEST(TileEngine, Bf16RoundsEveryFactorOnceAndSumsInFloat32) {
  struct Rounded final : TileSoftmax {
    bool rounds_to_bf16() const override { return true; }
  };
  const Rounded method;
  borel::contract::on_every_instruction_set([&](std::string_view target) -> std::string {
    for (const auto& [d_k, d_v] : {std::pair<index_t, index_t>{64, 64}, {20, 12}, {13, 7}, {1, 17}})
      for (const bool causal : {false, true}) {
        Inputs inputs(4, 2, 61, 150, d_k, d_v, 7);
        inputs.call.causal = causal;
        const AttentionCall& call = inputs.call;
        std::vector<float> storage(static_cast<std::size_t>(4 * 61 * d_v));
        const TensorView<float, 3> o(storage.data(), {4, 61, d_v});
        method.forward(call, o);
        const auto scale = static_cast<float>(method.scale(call));
        double worst = 0;
        for (index_t h = 0; h < 4; ++h)
          for (index_t r = 0; r < 61; ++r) {
            std::vector<double> sum(static_cast<std::size_t>(d_v));
            double total = 0, largest = 0;
            for (index_t j = 0; j < (causal ? r + call.query_offset + 1 : 150); ++j) {
              double score = 0;
              for (index_t c = 0; c < d_k; ++c)
                score += static_cast<double>(nearest_bf16(call.q(h, r, c) * scale)) *
                         static_cast<double>(nearest_bf16(call.k(h / 2, j, c)));
              total += std::exp(score);
              for (index_t c = 0; c < d_v; ++c) {
                const double v = static_cast<double>(nearest_bf16(call.v(h / 2, j, c)));
                sum[static_cast<std::size_t>(c)] += std::exp(score) * v;
                largest = std::max(largest, std::abs(v));
              }
            }
            for (index_t c = 0; c < d_v; ++c)
              worst = std::max(worst, std::abs(static_cast<double>(o(h, r, c)) -
                                               sum[static_cast<std::size_t>(c)] / total) /
                                          largest);
          }
        // Only the weights are rounded otherwise here.
        EXPECT_LE(worst, 0x1p-8 + k_bound) << target << " d " << d_k << " causal " << causal;
        EXPECT_GT(worst, 1e-5) << "nothing was rounded";
      }
    return {};
  });
}

TEST(TileEngine, WeightsOfRowsEqualThoseOfTheIdentityAsValues) {
  struct Blind final : borel::Attention {  // without the ability, so that the blocks of the identity are used
    TileSoftmax inner;
    borel::AttentionTraits traits() const override { return inner.traits(); }
    std::string refuses(const PositionPlan&) const override { return {}; }
    void forward(const AttentionCall& call, TensorView<float, 3> o) const override { inner.forward(call, o); }
    double state_bytes(const borel::AttentionContext&, index_t) const override { return 0; }
  };
  Inputs inputs(4, 2, 130, 150, 16, 12, 3);
  for (const auto& [name, plan] : plans_for(inputs.call)) {
    inputs.call.position = &plan;
    std::vector<float> direct(7 * 150, -1), blind(7 * 150, -1);
    borel::effective_weights(TileSoftmax(), inputs.call, 3, 60, 67, {direct.data(), {7, 150}});
    borel::effective_weights(Blind(), inputs.call, 3, 60, 67, {blind.data(), {7, 150}});
    for (std::size_t x = 0; x < direct.size(); ++x)
      ASSERT_LE(std::abs(direct[x] - blind[x]), 1e-6f) << name << " at " << x;
  }
}

struct Elu1 final : borel::ChunkAttention {
  explicit Elu1(bool decays) : decays_(decays) {}
  borel::AttentionTraits traits() const override {
    return {.bidirectional = !decays_, .non_negative = true, .own_scale = true};
  }
  index_t feature_size(const borel::AttentionContext& context) const override { return context.d_k; }
  void query_features(const borel::ChunkRows&, TensorView<const float, 2> in,
                      TensorView<float, 2> out) const override {
    for (index_t t = 0; t < in.shape(0); ++t)
      for (index_t c = 0; c < in.shape(1); ++c) out(t, c) = in(t, c) > 0 ? in(t, c) + 1 : std::exp(in(t, c));
  }
  void key_features(const borel::ChunkRows& rows, TensorView<const float, 2> in,
                    TensorView<float, 2> out) const override {
    query_features(rows, in, out);
  }
  borel::ChunkForm form() const override {
    return {.decay = decays_ ? borel::ChunkForm::Decay::token : borel::ChunkForm::Decay::none,
            .normalised = true,
            .epsilon = 1e-6};
  }
  void log_decay(const borel::ChunkRows& rows, TensorView<float, 2> out) const override {
    for (index_t t = 0; t < rows.n; ++t) out(t, 0) = -0.05f * static_cast<float>((rows.first_token + t) % 5);
  }

 private:
  bool decays_;
};

TEST(ChunkEngine, AgreesWithTheDefinitionAtEverySize) {
  for (const index_t n : {0, 1, 63, 65, 127, 200})
    for (const bool causal : {true, false}) {
      Inputs inputs(2, 1, n, n, 8, 5, 13);
      inputs.call.causal = causal;
      EXPECT_LE(error_of(Elu1(false), inputs.call, linear_spec()), k_bound) << n;
      const PositionPlan plan = plans_for(inputs.call).front().second;
      inputs.call.position = &plan;
      EXPECT_LE(error_of(Elu1(false), inputs.call, linear_spec()), k_bound) << n << " with rotation";
    }
}

TEST(ChunkEngine, DoesNotDependOnTheChunk) {
  Inputs inputs(2, 2, 100, 150, 8, 5, 17);
  const PositionPlan plan = plans_for(inputs.call).front().second;
  inputs.call.position = &plan;
  const Elu1 method(true);
  std::vector<float> one(2 * 100 * 5), other(one.size());
  method.forward_in_chunks(inputs.call, {one.data(), {2, 100, 5}}, 1);
  for (const index_t chunk : {2, 7, 64, 149, 150, 1000}) {
    method.forward_in_chunks(inputs.call, {other.data(), {2, 100, 5}}, chunk);
    for (std::size_t x = 0; x < one.size(); ++x)
      ASSERT_LE(std::abs(one[x] - other[x]), k_bound) << "chunk " << chunk;
  }
  EXPECT_THROW(method.forward_in_chunks(inputs.call, {other.data(), {2, 100, 5}}, 0), borel::MethodError);
}

TEST(ChunkEngine, WeightsTimesValuesIsForwardWithDecay) {
  Inputs inputs(2, 1, 90, 150, 8, 5, 19);
  const PositionPlan plan = plans_for(inputs.call).front().second;
  inputs.call.position = &plan;
  const Elu1 method(true);
  std::vector<float> o(2 * 90 * 5), weights(90 * 150);
  method.forward(inputs.call, {o.data(), {2, 90, 5}});
  borel::effective_weights(method, inputs.call, 1, 0, 90, {weights.data(), {90, 150}});
  for (index_t r = 0; r < 90; ++r)
    for (index_t c = 0; c < 5; ++c) {
      double sum = 0;
      for (index_t j = 0; j < 150; ++j)
        sum += static_cast<double>(weights[static_cast<std::size_t>(r * 150 + j)] * inputs.call.v(0, j, c));
      ASSERT_LE(std::abs(sum - static_cast<double>(o[static_cast<std::size_t>((90 + r) * 5 + c)])), k_bound)
          << r;
    }
}

TEST(ChunkEngine, RowsBeyondTheLastKeyOnlyDecay) {
  Inputs inputs(2, 1, 100, 150, 8, 5, 29);
  inputs.call.query_offset = 90;  // positions 90 .. 189 for keys 0 .. 149
  EXPECT_LE(error_of(Elu1(false), inputs.call, linear_spec()), k_bound);
  // The decay cancels between numerator and denominator, so all rows beyond the last key with one query
  // agree.
  const Elu1 method(true);
  std::vector<float> one_query(inputs.q.size(), 0.3f), chunks(2 * 100 * 5), steps(chunks.size());
  inputs.call.q = {one_query.data(), {2, 100, 8}};
  method.forward_in_chunks(inputs.call, {chunks.data(), {2, 100, 5}}, 64);
  method.forward_in_chunks(inputs.call, {steps.data(), {2, 100, 5}}, 1);
  std::vector<float> weights(100 * 150);
  borel::effective_weights(method, inputs.call, 0, 0, 100, {weights.data(), {100, 150}});
  for (std::size_t r = 0; r < 100; ++r)
    for (std::size_t c = 0; c < 5; ++c) {
      double sum = 0;
      for (std::size_t j = 0; j < 150; ++j)
        sum += static_cast<double>(weights[r * 150 + j] *
                                   inputs.call.v(0, static_cast<index_t>(j), static_cast<index_t>(c)));
      ASSERT_LE(std::abs(static_cast<double>(chunks[r * 5 + c]) - sum), k_bound) << r;
      ASSERT_LE(std::abs(chunks[r * 5 + c] - steps[r * 5 + c]), k_bound) << r;
      if (r > 60) {
        ASSERT_LE(std::abs(chunks[r * 5 + c] - chunks[60 * 5 + c]), k_bound) << r;
      }
    }
}

TEST(CheckCall, NamesWhatDoesNotFit) {
  Inputs inputs(4, 2, 10, 12, 8, 6, 1);
  const TileSoftmax method;
  std::vector<float> storage(4 * 10 * 6);
  const TensorView<float, 3> o(storage.data(), {4, 10, 6});
  const auto message = [&](const AttentionCall& call) -> std::string {
    try {
      borel::check_call(method, call, o);
      return "accepted";
    } catch (const borel::MethodError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message(inputs.call), "accepted");
  AttentionCall call = inputs.call;
  call.k = call.k.slice(2, 0, 7);
  EXPECT_THAT(message(call), testing::HasSubstr("shapes do not agree"));
  call = inputs.call;
  call.query_offset = -1;
  EXPECT_THAT(message(call), testing::HasSubstr("query_offset"));
  call = inputs.call;
  call.q = call.q.slice(0, 0, 3);
  EXPECT_THAT(message(call), testing::HasSubstr("multiple of"));
  PositionPlan plan = plans_for(inputs.call).front().second;
  plan.bands[0].query_position = borel::make_table({1, 2});
  call = inputs.call;
  call.position = &plan;
  EXPECT_THAT(message(call), testing::HasSubstr("query_position must hold 10 values"));
}

TEST(RotateRows, KeepsDoublePhaseAtFarPositions) {
  PositionPlan plan;
  plan.n_rot_dims = 2;
  Band band;
  band.angle = borel::make_table({1.0});
  const float in[2] = {1, 0};
  for (const double position : {0.5, 1e5 + 0.25, 3e6 + 0.125}) {
    float out[2];
    borel::rotate_rows(plan, band, std::vector{position}, 1, 0, {in, {1, 2}}, {out, {1, 2}});
    EXPECT_LE(std::abs(static_cast<double>(out[0]) - std::cos(position)), 1e-7) << position;
    EXPECT_LE(std::abs(static_cast<double>(out[1]) - std::sin(position)), 1e-7) << position;
  }
}

TEST(RotateRows, NegatedArgumentsGiveTheTranspose) {
  Inputs inputs(1, 1, 9, 9, 16, 4, 23);
  const auto plans = plans_for(inputs.call);
  const PositionPlan& plan = plans[4].second;  // with amplitude
  const Band& band = plan.bands[0];
  std::vector<double> positions = ramp(0, 9), negated = positions;
  for (double& p : negated) p = -p;
  std::vector<float> turned(9 * 16), back(9 * 16);
  borel::rotate_rows(plan, band, positions, 1, 4, inputs.call.q[0], {turned.data(), {9, 16}});
  borel::rotate_rows(plan, band, negated, -1, -4, inputs.call.k[0], {back.data(), {9, 16}});
  for (index_t t = 0; t < 9; ++t) {  // <R x, y> = <x, R^T y>
    double left = 0, right = 0;
    for (index_t c = 0; c < 16; ++c) {
      left += static_cast<double>(turned[static_cast<std::size_t>(t * 16 + c)] * inputs.call.k(0, t, c));
      right += static_cast<double>(back[static_cast<std::size_t>(t * 16 + c)] * inputs.call.q(0, t, c));
    }
    EXPECT_LE(std::abs(left - right), 1e-5) << t;
  }
}

TEST(CheckPlan, FindsEachBrokenRule) {
  Inputs inputs(4, 2, 10, 12, 8, 6, 1);
  const auto context = context_of(inputs.call);
  const auto plans = plans_for(inputs.call);
  PositionPlan plan = plans[0].second;
  plan.bands.push_back(plan.bands[0]);
  EXPECT_THAT(borel::check_plan(plan, context), testing::HasSubstr("2 bands hold"));
  plan = plans[0].second;
  plan.bands[0].key_position = nullptr;
  EXPECT_THAT(borel::check_plan(plan, context), testing::HasSubstr("key_position is missing"));
  plan = plans[0].second;
  plan.n_rot_dims = 3;
  EXPECT_THAT(borel::check_plan(plan, context), testing::HasSubstr("n_rot_dims"));
  plan = plans[5].second;
  plan.bias_zero = 0;
  EXPECT_THAT(borel::check_plan(plan, context), testing::HasSubstr("bias has no column"));
  plan = plans[5].second;
  plan.query_scale = std::make_shared<const std::vector<float>>(10, std::nanf(""));
  EXPECT_THAT(borel::check_plan(plan, context), testing::HasSubstr("not finite"));
}

TEST(ParameterSet, CopiesPointToTheirOwnValues) {
  const std::vector<borel::ParameterTensor> declared = {
      {.name = "a", .shape = {2, 3}, .init = [](borel::Rng& rng, std::span<float> x) {
         rng.fill_normal(x);
       }}};
  borel::ParameterSet first(declared, borel::Seed{1});
  borel::ParameterSet second = first;
  second[0][0] += 1;
  EXPECT_NE(first.values()[0][0], second.values()[0][0]);
  EXPECT_EQ(first.values()[0][1], second.values()[0][1]);
  first = second;
  EXPECT_EQ(first.values()[0].data(), first[0].data());
}

}  // namespace
