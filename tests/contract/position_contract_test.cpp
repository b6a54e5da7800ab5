// That the position rules catch what they are for, shown on encodings that break them; and what is drawn in training.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "borel/draft/position_wrapper.hpp"
#include "borel/error.hpp"
#include "contract/contract.hpp"
#include "loader/plugin_set.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionEncoding;
using borel::PositionPlan;
using borel::contract::Verdict;

/// The inner encoding, with a claim or a fault of its own.
class Liar final : public borel::PositionWrapper {
 public:
  enum class Lie { invariance, gradient, row, mask, steady, fickle };
  struct Params {
    borel::MethodSpec of{.family = "position", .id = "none"};
    Lie lie = Lie::invariance;
    void declare(borel::ParamBinder& p) {
      p.method("of", of, "position", "what is told wrongly");
      p.choice("lie", lie,
               {{"invariance", Lie::invariance},
                {"gradient", Lie::gradient},
                {"row", Lie::row},
                {"mask", Lie::mask},
                {"steady", Lie::steady},
                {"fickle", Lie::fickle}},
               "what is wrong");
    }
  };
  Liar(const Params& params, const borel::Registry& registry)
      : PositionWrapper(params.of, registry), lie_(params.lie) {}
  borel::PositionTraits traits() const override {
    borel::PositionTraits traits = inner_traits();
    if (lie_ == Lie::invariance) traits.shift_invariant = true;
    if (lie_ == Lie::mask) traits.causal_only = true;
    if (lie_ == Lie::steady) traits.length_dependent = false;
    if (lie_ == Lie::fickle) traits.length_dependent = true;
    return traits;
  }
  PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    PositionContext told = context;
    if (lie_ == Lie::row) told.query_offset = 0;
    PositionPlan plan = inner_plan(told, parameters);
    return plan;
  }
  void backward(const PositionContext& context, borel::ParameterValues parameters,
                const borel::PositionGradients& d_plan,
                borel::ParameterGradients d_parameters) const override {
    PositionWrapper::backward(context, parameters, d_plan, d_parameters);
    if (lie_ == Lie::gradient && !d_parameters[0].empty()) d_parameters[0][0] *= 1.1F;
  }

 private:
  Lie lie_;
};

const borel::Registry& registry() {
  static const borel::Registry* filled = [] {
    auto* made = new borel::Registry;
    borel::load_plugins({{}, false, true}, *made);
    made->add<PositionEncoding, Liar>("liar", {.summary = "tells lies", .source = "this test"});
    return made;
  }();
  return *filled;
}

Verdict verdict(std::string_view rule_name, const std::string& spec) {
  const borel::MethodSpec parsed = borel::parse_method_spec(spec, "position");
  for (const borel::contract::Rule* rule : borel::contract::rules_for("position"))
    if (rule->name == rule_name)
      return borel::contract::run_rule(
          *rule, {registry(), registry().entry("position", parsed.id), parsed, borel::Seed{1}});
  ADD_FAILURE() << "no rule " << rule_name;
  return {};
}

void expect_broken(std::string_view rule, const std::string& spec) {
  EXPECT_TRUE(verdict(rule, spec).kind == Verdict::Kind::broken) << rule << " does not catch " << spec;
}
void expect_kept(std::string_view rule, const std::string& spec) {
  const Verdict found = verdict(rule, spec);
  EXPECT_TRUE(found.kind == Verdict::Kind::kept) << rule << " on " << spec << ": " << found.text;
}

TEST(PositionRules, CatchThatPublishedCocaIsNotRelative) {
  expect_kept("ShiftInvariantWhenClaimed", "coca");
  expect_broken("ShiftInvariantWhenClaimed", "liar{of=coca{form=code}}");
  for (const char* absolute : {"self_extend", "dynamic", "log_n", "longrope{n_start=5}", "streaming"})
    expect_broken("ShiftInvariantWhenClaimed", std::string("liar{of=") + absolute + "}");
}

TEST(PositionRules, CatchWrongGradients) {
  for (const char* learned : {"kerple", "kerple{kernel=power}", "t5"}) {
    expect_kept("PlanGradientsMatchDifferences", learned);
    expect_broken("PlanGradientsMatchDifferences", std::string("liar{lie=gradient, of=") + learned + "}");
  }
  expect_kept("EmbeddingIsAddedByToken", "learned");
}

TEST(PositionRules, CatchRowsAndMasks) {
  expect_broken("OneRowHasThePlanOfItsToken", "liar{lie=row, of=rope}");
  // Decoding differs from one pass, as in programs that scale by the length of the call; a claim of it must be true.
  expect_kept("OneRowHasThePlanOfItsToken", "dynamic{form=local_static}");
  expect_broken("OneRowHasThePlanOfItsToken", "liar{of=dynamic{form=local_static}, lie=steady}");
  expect_broken("OneRowHasThePlanOfItsToken", "liar{of=rope, lie=fickle}");
  expect_kept("OneRowHasThePlanOfItsToken", "dynamic");
  expect_kept("RefusesWhatItCannotServe", "liar{lie=mask}");
}

PositionPlan training_plan(const std::string& spec, index_t n, borel::Seed seed, index_t test_length) {
  PositionContext context;
  context.n_q = context.n_k = n;
  context.test_length = test_length;
  context.training = true;
  context.seed = seed;
  return position_plan(*registry().make<PositionEncoding>(spec), context);
}

TEST(RandomPositions, AreAnOrderedSubsetThatCoversTheRange) {
  std::set<double> seen;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const PositionPlan plan = training_plan("random_positions{max_length=50}", 10, {seed}, 0);
    const std::vector<double>& keys = *plan.bands.at(0).key_position;
    ASSERT_EQ(keys.size(), 10U);
    EXPECT_TRUE(std::ranges::adjacent_find(keys, std::greater_equal<>()) == keys.end());
    EXPECT_EQ(keys, *plan.bands.at(0).query_position);
    seen.insert(keys.begin(), keys.end());
  }
  EXPECT_EQ(seen.size(), 50U);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 49);
  EXPECT_THROW(training_plan("random_positions{max_length=50}", 51, {1}, 0), borel::MethodError);
  EXPECT_THROW(training_plan("random_positions{of=alibi}", 5, {1}, 0), borel::MethodError);
}

TEST(Pose, ChunksSkipAheadWithinTheTargetLength) {
  index_t farthest = 0;
  for (const char* spec : {"pose{target_length=100}", "pose{target_length=100, n_chunks=4}"})
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      const std::vector<double> keys = *training_plan(spec, 20, {seed}, 0).bands.at(0).key_position;
      ASSERT_EQ(keys.size(), 20U);
      EXPECT_EQ(keys.front(), 0);
      int n_jumps = 0;
      for (std::size_t t = 1; t < keys.size(); ++t) {
        EXPECT_GE(keys[t], keys[t - 1] + 1);
        n_jumps += keys[t] > keys[t - 1] + 1;
      }
      EXPECT_LE(n_jumps, std::string(spec).find("n_chunks") == std::string::npos ? 1 : 3);
      EXPECT_LT(keys.back(), 100);
      farthest = std::max(farthest, static_cast<index_t>(keys.back()));
    }
  EXPECT_GE(farthest, 97);  // a hundred positions are really used
  EXPECT_EQ(training_plan("pose", 20, {1}, 0).bands.at(0).key_position->back(), 19);
}

TEST(InvLeakyReRope, StretchesInTrainingOnly) {
  PositionContext context;
  context.n_q = context.n_k = 40;
  context.train_length = 40;
  const auto encoding = registry().make<PositionEncoding>("inv_leaky_rerope");
  EXPECT_TRUE(is_plain_rotation(position_plan(*encoding, context)));
  context.training = true;
  EXPECT_EQ(position_plan(*encoding, context).bands.size(), 2U);
}

}  // namespace
