// Each encoding against its definition, pair by pair, and the engine against every plan.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "borel/attention.hpp"
#include "borel/error.hpp"
#include "plan_scores.hpp"
#include "trial_registry.hpp"

namespace borel::trial {

namespace {

constexpr double k_score_error = 1e-9;     // double arithmetic on both sides
constexpr double k_engine_error = 2e-5;    // float32 engine, |v| up to about 4
constexpr double k_gradient_error = 5e-3;  // central differences of float32, relative to the largest entry

std::unique_ptr<PositionEncoding> encoding(std::string_view spec) {
  return trial_registry().make<PositionEncoding>(spec);
}

/// Largest |score under the plan - q . k turned by distance(i, j)| over visible pairs of head 0.
template <class Distance>
double worst_error(const PositionPlan& plan, const AttentionCall& call, double base, Distance distance) {
  double worst = 0;
  for (index_t row = 0; row < call.n_q(); ++row)
    for (index_t j = 0; j < call.n_k(); ++j) {
      const index_t i = row + call.query_offset;
      if ((call.causal && j > i) || !plan.sees(i, j)) continue;
      const double expected = turned_product(call.q.row(0, row), call.k.row(0, j), base, distance(i, j));
      const double error = std::abs(plan_product(plan, call, 0, row, j) - expected);
      if (!(error <= worst)) worst = error;
    }
  return worst;
}

TEST(PositionTrial, SelfExtendIsExactNearAndGroupedFar) {
  for (bool causal : {true, false}) {
    const RandomCall random(1, 1, 40, 50, 8, 4, {1});
    const AttentionCall call = random.call(causal);
    const PositionPlan plan = position_plan(*encoding("self_extend{window=10, group=3}"), context_of(call));
    const auto distance = [](index_t i, index_t j) {
      if (std::abs(i - j) < 10) return static_cast<double>(i - j);
      return static_cast<double>(i / 3 - j / 3 + (i > j ? 10 - 10 / 3 : 10 / 3 - 10));
    };
    EXPECT_LE(worst_error(plan, call, 10000, distance), k_score_error) << "causal " << causal;
  }
}

TEST(PositionTrial, StreamingCountsPositionsInTheCache) {
  constexpr index_t k_sinks = 4, k_window = 7;
  const RandomCall random(1, 1, 40, 40, 8, 4, {2});
  const AttentionCall call = random.call();
  const PositionPlan plan = position_plan(*encoding("streaming{sinks=4, window=7}"), context_of(call));
  for (index_t i = 0; i < call.n_q(); ++i) {
    // The cache as StreamingLLM keeps it: tokens in order, slots counted from 0, the query on the last slot.
    std::vector<index_t> cache;
    for (index_t j = 0; j <= i; ++j)
      if (j < k_sinks || j > i - k_window) cache.push_back(j);
    for (index_t j = 0; j <= i; ++j) {
      const auto slot = std::find(cache.begin(), cache.end(), j);
      ASSERT_EQ(plan.sees(i, j), slot != cache.end()) << i << ", " << j;
      if (slot == cache.end()) continue;
      const auto distance = static_cast<double>(cache.end() - 1 - slot);
      EXPECT_LE(std::abs(plan_product(plan, call, 0, i, j) -
                         turned_product(call.q.row(0, i), call.k.row(0, j), 10000, distance)),
                k_score_error);
    }
  }
}

TEST(PositionTrial, WindowsSayHowManyKeysMustBeKept) {
  for (const char* spec : {"streaming{sinks=4, window=7}", "streaming{sinks=0, window=1}", "multi_base"})
    for (index_t n : {0, 1, 3, 9, 40}) {
      PositionContext context;
      context.n_q = context.n_k = 60;
      const PositionPlan plan = position_plan(*encoding(spec), context);
      index_t seen = 0;
      for (index_t j = 0; j < n; ++j) {
        bool visible = false;
        for (index_t i = n; i < 60; ++i) visible = visible || plan.sees(i, j);
        seen += visible;
      }
      EXPECT_EQ(keys_kept(plan, n), seen) << spec << " n = " << n;
    }
}

TEST(PositionTrial, XposDecaysWithDistance) {
  const RandomCall random(1, 1, 30, 30, 8, 4, {3});
  const AttentionCall call = random.call();
  const PositionPlan plan = position_plan(*encoding("xpos{scale_base=64}"), context_of(call));
  for (index_t i = 0; i < 30; ++i)
    for (index_t j = 0; j <= i; ++j) {
      double expected = 0;
      for (index_t m = 0; m < 4; ++m) {
        const double zeta = (static_cast<double>(m) / 4 + 0.4) / 1.4, r = static_cast<double>(i - j),
                     phase = r * std::pow(10000.0, -static_cast<double>(m) / 4);
        const double a = call.q(0, i, 2 * m), b = call.q(0, i, 2 * m + 1), c = call.k(0, j, 2 * m),
                     d = call.k(0, j, 2 * m + 1);
        expected +=
            std::pow(zeta, r / 64) * ((a * c + b * d) * std::cos(phase) + (a * d - b * c) * std::sin(phase));
      }
      EXPECT_LE(std::abs(plan_product(plan, call, 0, i, j) - expected), k_score_error) << i << ", " << j;
    }
}

TEST(PositionTrial, T5HasThePublishedBucketsAndUndoesTheScale) {
  const auto t5 = encoding("t5");
  std::vector<float> table(2 * 32);
  for (std::size_t c = 0; c < table.size(); ++c) table[c] = static_cast<float>(c);
  const std::vector<std::span<const float>> values = {table};
  PositionContext context;
  context.n_q = context.n_k = 300;
  context.n_heads = 2;
  const PositionPlan plan = position_plan(*t5, context, values);
  const auto bucket = [&](index_t h, index_t r) {
    return (*plan.bias)[static_cast<std::size_t>(h * plan.bias_width - r + plan.bias_zero)] -
           32 * static_cast<float>(h);
  };
  for (index_t h = 0; h < 2; ++h)
    for (const auto& [r, expected] : std::vector<std::pair<index_t, float>>{{0, 0},
                                                                            {7, 7},
                                                                            {15, 15},
                                                                            {16, 16},
                                                                            {18, 16},
                                                                            {19, 17},
                                                                            {20, 17},
                                                                            {21, 18},
                                                                            {64, 26},
                                                                            {112, 30},
                                                                            {113, 31},
                                                                            {299, 31}})
      EXPECT_EQ(bucket(h, r), expected) << "head " << h << ", distance " << r;
  EXPECT_FLOAT_EQ((*plan.query_scale)[0], 8.0F);
  EXPECT_TRUE(t5->parameters(2, 64, 128)[0].shared_by_layers);
}

TEST(PositionTrial, HwfaWindowsBelowAndEverythingOnTop) {
  const auto hwfa = encoding("hwfa{alpha=0.75}");
  PositionContext context;
  context.n_q = context.n_k = 200;
  context.train_length = 100;
  context.n_layers = 4;
  for (index_t layer = 0; layer < 4; ++layer) {
    context.layer_index = layer;
    const PositionPlan plan = position_plan(*hwfa, context);
    if (layer == 3) {
      EXPECT_TRUE(plan.bands.empty() && plan.sees(199, 0));
      EXPECT_FLOAT_EQ((*plan.query_scale)[50], 1.0F);
      EXPECT_LE(std::abs((*plan.query_scale)[199] - std::log(200.0) / std::log(100.0)), 1e-6);
      continue;
    }
    const index_t reach = plan.visible.at(0).distance.end;
    EXPECT_EQ(plan.bands.size(), 1U);
    EXPECT_LE((reach - 1) * 3 + 1, 75);
    EXPECT_GT(reach * 3 + 1, 75);
  }
  context.train_length = 0;
  EXPECT_THROW(position_plan(*hwfa, context), MethodError);
}

TEST(PositionTrial, Rope2dSeesDifferencesOfRowsAndColumnsOnly) {
  const auto rope = encoding("rope_2d");
  const RandomCall random(1, 1, 1, 1, 8, 4, {4});
  RandomCall repeated(1, 1, 12, 12, 8, 4, {4});
  for (index_t t = 0; t < 12; ++t)
    for (index_t c = 0; c < 8; ++c) {
      repeated.q()(0, t, c) = random.call().q(0, 0, c);
      repeated.k()(0, t, c) = random.call().k(0, 0, c);
    }
  const AttentionCall call = repeated.call(false);
  std::vector<double> coordinates;
  for (index_t t = 0; t < 12; ++t)
    coordinates.insert(coordinates.end(), {static_cast<double>(t / 4), static_cast<double>(t % 4)});
  PositionContext context = context_of(call);
  context.coordinates = TensorView<const double, 2>(coordinates.data(), {12, 2});
  const PositionPlan plan = position_plan(*rope, context);
  // The same step of one row and one column, anywhere; and another step gives another score.
  const double step = plan_product(plan, call, 0, 5, 0);
  EXPECT_LE(std::abs(plan_product(plan, call, 0, 6, 1) - step), k_score_error);
  EXPECT_LE(std::abs(plan_product(plan, call, 0, 11, 6) - step), k_score_error);
  EXPECT_GT(std::abs(plan_product(plan, call, 0, 4, 1) - step), 1e-3);
  EXPECT_GT(std::abs(plan_product(plan, call, 0, 1, 4) - step), 1e-3);
  context.coordinates = {};
  EXPECT_THROW(position_plan(*rope, context), MethodError);
}

TEST(PositionTrial, DynamicShrinksDistancesByTheLengthSoFar) {
  const RandomCall random(1, 1, 33, 48, 8, 4, {5});
  const AttentionCall call = random.call();
  PositionContext context = context_of(call);
  context.train_length = 20;
  const PositionPlan plan = position_plan(*encoding("dynamic"), context);
  const auto distance = [](index_t i, index_t j) {
    return static_cast<double>(i - j) * 20 / static_cast<double>(std::max<index_t>(20, i + 1));
  };
  EXPECT_LE(worst_error(plan, call, 10000, distance), k_score_error);
}

TEST(PositionTrial, CocaIsTheFormOfThePaperAndItsMapsHaveGradients) {
  const RandomCall random(1, 1, 20, 20, 8, 4, {6});
  const AttentionCall call = random.call();
  const PositionPlan plan = position_plan(*encoding("coca"), context_of(call));
  for (index_t i = 0; i < 20; ++i)
    for (index_t j = 0; j <= i; ++j) {
      double expected = 0;
      for (index_t m = 0; m < 4; ++m) {
        const double square = std::pow(call.q(0, i, m), 2) + std::pow(call.q(0, i, m + 4), 2);
        const double t = std::max(0.0, 0.5 * (static_cast<double>(call.k(0, j, m)) + call.k(0, j, m + 4)));
        expected += square * t *
                    std::cos(static_cast<double>(i - j) * std::pow(10000.0, -static_cast<double>(m) / 4));
      }
      EXPECT_LE(std::abs(plan_product(plan, call, 0, i, j) - expected), 1e-5) << i << ", " << j;
    }
  for (const TokenMap* map : {plan.query_map.get(), plan.key_map.get()})
    for (index_t c = 0; c < 8; ++c) {
      std::vector<float> input(call.q.row(0, 3).begin(), call.q.row(0, 3).end()), gradient(8, 1.0F),
          up = input, down = input;
      map->backward(0, 3, {input.data(), {1, 8}}, {gradient.data(), {1, 8}});
      up[static_cast<std::size_t>(c)] += 0.01F;
      down[static_cast<std::size_t>(c)] -= 0.01F;
      map->apply(0, 3, {up.data(), {1, 8}});
      map->apply(0, 3, {down.data(), {1, 8}});
      double difference = 0;
      for (std::size_t o = 0; o < 8; ++o) difference += (up[o] - down[o]) / 0.02;
      EXPECT_LE(std::abs(difference - gradient[static_cast<std::size_t>(c)]), k_gradient_error) << c;
    }
}

TEST(PositionTrial, RandomPositionsAreAnOrderedSubsetInTrainingOnly) {
  const auto wrapped = encoding("random_positions{max_length=500}");
  PositionContext context;
  context.n_q = context.n_k = 30;
  context.training = true;
  context.seed = {7};
  const PositionPlan plan = position_plan(*wrapped, context).ensemble.at(0);
  const std::vector<double>& keys = *plan.bands.at(0).key_position;
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end(), std::less_equal<>()));
  EXPECT_GE(keys.front(), 0);
  EXPECT_LT(keys.back(), 500);
  EXPECT_EQ(keys, *plan.bands.at(0).query_position);
  context.seed = {8};
  EXPECT_NE(keys, *position_plan(*wrapped, context).ensemble.at(0).bands.at(0).key_position);
  context.training = false;
  EXPECT_EQ(position_plan(*wrapped, context).ensemble.at(0).bands.at(0).key_position->at(29), 29);
}

TEST(PositionTrial, LogNCombinesWithAnyEncoding) {
  for (const char* inner : {"self_extend{window=10, group=3}", "multi_base", "xpos"}) {
    const RandomCall random(1, 1, 40, 40, 8, 4, {9});
    const AttentionCall call = random.call();
    PositionContext context = context_of(call);
    context.train_length = 16;
    const PositionPlan plain = position_plan(*encoding(inner), context);
    const PositionPlan scaled = position_plan(*encoding("log_n{of=" + std::string(inner) + "}"), context);
    const auto member = [](const PositionPlan& plan) -> const PositionPlan& {
      return plan.ensemble.empty() ? plan : plan.ensemble[0];
    };
    for (index_t i : {0, 15, 39}) {
      const double factor = std::max(1.0, std::log(static_cast<double>(i + 1)) / std::log(16.0));
      EXPECT_LE(std::abs(plan_product(member(scaled), call, 0, i, 0) -
                         factor * plan_product(member(plain), call, 0, i, 0)),
                1e-5)
          << inner << " i = " << i;
    }
  }
}

TEST(PositionTrial, DocumentsAreMaskedWhateverTheEncoding) {
  const std::vector<index_t> documents = {0, 0, 0, 1, 1, 2};
  PositionContext context;
  context.n_q = context.n_k = 6;
  context.documents = documents;
  for (const char* spec : {"self_extend", "multi_base", "coca"}) {
    const PositionPlan plan = position_plan(*encoding(spec), context);
    for (const PositionPlan* member : {&plan, plan.ensemble.empty() ? &plan : &plan.ensemble[0]})
      EXPECT_TRUE(member->sees(2, 0) && !member->sees(3, 2) && member->sees(4, 3) && !member->sees(5, 0))
          << spec;
  }
}

TEST(PositionTrial, EngineFollowsEveryPlan) {
  const auto softmax = trial_registry().make<Attention>("softmax");
  for (const char* spec :
       {"self_extend{window=10, group=3}", "streaming{sinks=4, window=17}", "xpos{scale_base=32}", "t5",
        "hwfa", "dynamic", "coca", "multi_base{theta_bases=[100, 10000, 50]}",
        "random_positions{max_length=400}", "log_n{of=self_extend{window=20, group=4}}"})
    for (const auto& [n_q, n_k] :
         std::vector<std::pair<index_t, index_t>>{{1, 1}, {1, 70}, {65, 65}, {40, 127}}) {
      const RandomCall random(4, 2, n_q, n_k, 16, 8, {10});
      AttentionCall call = random.call();
      PositionContext context = context_of(call);
      context.train_length = 24;
      context.n_layers = 4;
      context.layer_index = 1;
      context.training = true;
      const auto position = encoding(spec);
      const ParameterSet parameters(position->parameters(4, 16, 64), {11});
      const PositionPlan plan = position_plan(*position, context, parameters.values());
      EXPECT_EQ(check_plan(plan, context), "") << spec;
      call.position = &plan;
      ASSERT_EQ(softmax->refuses(plan), "");
      std::vector<float> o(static_cast<std::size_t>(4 * n_q * 8), NAN);
      softmax->forward(call, {o.data(), {4, n_q, 8}});
      const std::vector<double> expected = softmax_by_definition(plan, call);
      double worst = 0;
      for (std::size_t c = 0; c < o.size(); ++c)
        if (!(std::abs(o[c] - expected[c]) <= worst)) worst = std::abs(o[c] - expected[c]);
      EXPECT_LE(worst, k_engine_error) << spec << " n_q = " << n_q << ", n_k = " << n_k;
    }
}

}  // namespace

}  // namespace borel::trial
