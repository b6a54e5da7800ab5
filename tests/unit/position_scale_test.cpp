// Scores keep the scale that the mechanism and the encoding mean.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "borel/rng.hpp"
#include "built_plugins.hpp"
#include "protocols/attention_call.hpp"

namespace borel {
namespace {

using test::registry;

constexpr index_t k_n = 24, k_d = 16;

/// The factor that the plan puts on queries of this mechanism; nothing when it refuses the plan.
std::optional<float> query_factor(const std::string& attention, const std::string& position) {
  const std::vector<float> rows(k_n * k_d);
  const TensorView<const float, 3> x(rows.data(), {1, k_n, k_d});
  const AttentionPair pair{registry().make<Attention>(attention),
                           registry().make<PositionEncoding>(position)};
  AttentionSetting setting;
  setting.causal = pair.attention->traits().causal;
  if (!refuses_setting(pair, 1, k_n, k_n, k_d, k_d, setting).empty()) return std::nullopt;
  const PreparedCall prepared(pair, x, x, x, setting, Seed{1}, {});
  const PositionPlan& plan = *prepared.call().position;
  return plan.query_scale ? plan.query_scale->back() : 1;
}

// T5 has no 1 / sqrt(d), so it undoes that of softmax; qk_norm and others never had it.
TEST(T5, UndoesOnlyAScaleThatIsThere) {
  const float root = std::sqrt(static_cast<float>(k_d));
  EXPECT_EQ(query_factor("softmax", "t5"), root);
  EXPECT_EQ(query_factor("softmax", "t5{unscaled=false}"), 1);
  EXPECT_EQ(query_factor("softmax{scale=1}", "t5"), 1);
  EXPECT_EQ(query_factor("qk_norm", "t5"), 1);
  EXPECT_EQ(query_factor("relu2{scaling=gau_n2}", "t5"), 1);
  EXPECT_EQ(query_factor("relu2{scaling=normalised}", "t5"), root);
}

/// The plan of one query at the end of a text.
PositionPlan last_query(const std::string& spec, index_t n) {
  PositionContext context;
  context.n_q = 1, context.n_k = n, context.query_offset = n - 1, context.d_head = k_d;
  return position_plan(*registry().make<PositionEncoding>(spec), context);
}

TEST(Dynamic, GivesTheLastQueryThePlanOfItsFactor) {
  constexpr index_t k_trained = 512;
  int n_encodings = 0;
  for (const std::string& id : registry().ids<PositionEncoding>()) {
    const std::vector<ParamInfo>& params = registry().get<PositionEncoding>(id).params;
    if (std::ranges::none_of(params, [](const ParamInfo& info) { return info.name == "scale"; })) continue;
    ++n_encodings;
    for (const index_t n : {100, 512, 2048}) {
      const index_t factor = std::max<index_t>(1, n / k_trained);
      const PositionPlan fixed =
          last_query(id + "{scale=" + std::to_string(factor) + ", train_length=512}", n);
      for (const char* form : {"per_position", "local_static"}) {
        const PositionPlan plan =
            last_query("dynamic{of=" + id + "{train_length=512}, train_length=512, form=" + form + "}", n);
        ASSERT_EQ(plan.bands.size(), 1u) << id;
        EXPECT_EQ(*plan.bands.front().angle, *fixed.bands.front().angle) << id << " " << form << " " << n;
        EXPECT_EQ(plan.bands.front().logit_scale, fixed.bands.front().logit_scale)
            << id << " " << form << " " << n;
        EXPECT_EQ(*plan.bands.front().query_position, *fixed.bands.front().query_position) << id;
      }
    }
  }
  EXPECT_GE(n_encodings, 4);  // pi, ntk, yarn, longrope
}

}  // namespace
}  // namespace borel
