// Scores keep the scale that the mechanism and the encoding mean.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace borel
