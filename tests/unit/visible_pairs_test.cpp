#include "protocols/visible_pairs.hpp"

#include <gtest/gtest.h>

#include <string>

#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "rows_cell.hpp"

namespace borel {
namespace {

using test::metric;
using test::registry;

TEST(VisiblePairs, AreThoseThatThePlanSees) {
  constexpr index_t k_n_k = 90, k_n_q = 70, k_d = 4;
  const std::vector<float> rows(k_n_k * k_d);
  for (const char* spec :
       {"rope", "window{window=16}", "window{window=16, of=rope}", "streaming{window=12, n_sinks=3}",
        "lambda_mask{n_global=2, n_local=20}", "multi_base"})
    for (const bool causal : {true, false}) {
      const auto encoding = registry().make<PositionEncoding>(spec);
      if (!causal && encoding->traits().causal_only) continue;
      PositionContext context;
      context.n_q = k_n_q, context.n_k = k_n_k, context.query_offset = k_n_k - k_n_q, context.d_head = k_d;
      context.train_length = 32, context.causal = causal;
      const PositionPlan plan = position_plan(*encoding, context);
      AttentionCall call;
      call.q = {rows.data(), {1, k_n_q, k_d}}, call.k = call.v = {rows.data(), {1, k_n_k, k_d}};
      call.causal = causal, call.query_offset = context.query_offset, call.position = &plan;
      double expected = 0;
      const auto count = [&](const PositionPlan& one) {
        for (index_t i = call.query_offset; i < k_n_k; ++i)
          for (index_t j = 0; j < (causal ? i + 1 : k_n_k); ++j) expected += one.sees(i, j);
      };
      if (plan.ensemble.empty()) count(plan);
      for (const PositionPlan& member : plan.ensemble) count(member);
      EXPECT_EQ(visible_pairs(call), expected) << spec << ", causal " << causal;
    }
}

TEST(VisiblePairs, CountStridedRegionsAndUnionsOnce) {
  const std::vector<float> rows(30);
  AttentionCall call;
  call.q = call.k = call.v = {rows.data(), {1, 30, 1}};
  PositionPlan plan;
  plan.visible = {{.distance = {0, 4}}, {.distance = {2, 8}}};
  call.position = &plan;
  EXPECT_EQ(visible_pairs(call), 28 + 23 * 8);  // 1 + 2 + ... + 7, then 8 in each row
  plan.visible = {{.distance = {0, 30}, .distance_stride = 5}};
  EXPECT_EQ(visible_pairs(call), 5 * (1 + 2 + 3 + 4 + 5 + 6));
}

double gflop(const std::string& attention, const std::string& position) {
  CellInput input = test::rows_cell(128, "attention.cost");
  input.methods = {parse_method_spec(attention, "attention"), parse_method_spec(position, "position")};
  input.options.params = {{"contexts", "[32, 100]"}, {"n_heads", "2"}};
  const Protocol& protocol = find_protocol("attention.cost");
  EXPECT_EQ(protocol.refuses(input), "") << attention << " " << position;
  return metric(protocol.run(input), "gflop");
}

TEST(AttentionCost, CountsTheWorkOfVisiblePairs) {
  const double all = gflop("softmax", "none");
  EXPECT_DOUBLE_EQ(all, 1e-9 * 2 * 2 * (8 + 8) * (100 * 101 / 2));  // heads, operations, components, pairs
  EXPECT_DOUBLE_EQ(gflop("softmax", "rope"), all);
  EXPECT_NEAR(gflop("softmax", "window{window=10}") / all, (10 * 11 / 2 + 90 * 10) / 5050.0, 1e-12);
  EXPECT_NEAR(gflop("softmax", "multi_base{theta_bases=[100, 1000, 10000]}") / all, 3, 1e-12);
}

}  // namespace
}  // namespace borel
