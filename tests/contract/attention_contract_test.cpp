// That the attention rules catch what they are for, shown on mechanisms that break them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/attention.hpp"
#include "borel/plugin.hpp"
#include "contract/contract.hpp"

namespace {

using borel::index_t;
using borel::TensorView;
using borel::contract::Verdict;

/// Softmax by the book, and what can be wrong with it.
class Liar final : public borel::Attention {
 public:
  enum class Lie { none, hides_nan, hides_infinity, sees_future, negative, unnormalised };
  struct Params {
    Lie lie = Lie::none;
    void declare(borel::ParamBinder& p) {
      p.choice("lie", lie,
               {{"none", Lie::none},
                {"hides_nan", Lie::hides_nan},
                {"hides_infinity", Lie::hides_infinity},
                {"sees_future", Lie::sees_future},
                {"negative", Lie::negative},
                {"unnormalised", Lie::unnormalised}},
               "what is wrong");
    }
  };
  explicit Liar(const Params& params) : lie_(params.lie) {}

  borel::AttentionTraits traits() const override { return {.row_normalised = true, .non_negative = true}; }
  double state_bytes(const borel::AttentionContext&, index_t) const override { return 0; }
  void forward(const borel::AttentionCall& call, TensorView<float, 3> o) const override {
    for (index_t h = 0; h < call.h_q(); ++h)
      for (index_t r = 0; r < call.n_q(); ++r) row(call, h, r, o);
  }

 private:
  void row(const borel::AttentionCall& call, index_t h, index_t r, TensorView<float, 3> o) const {
    const index_t kv = call.kv_head(h), i = r + call.query_offset;
    const bool whole = !call.causal || (lie_ == Lie::sees_future && i % 8 == 3);
    const index_t n = whole ? call.n_k() : std::min(call.n_k(), i + 1);
    std::vector<double> w;
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (index_t j = 0; j < n; ++j) {
      double score = 0;
      for (index_t c = 0; c < call.d_k(); ++c)
        score += static_cast<double>(call.q(h, r, c)) * static_cast<double>(call.k(kv, j, c));
      score /= std::sqrt(static_cast<double>(call.d_k()));
      if (lie_ == Lie::hides_nan && std::isnan(score)) score = 0;
      if (lie_ == Lie::hides_infinity && std::isinf(score)) score = -1e30;
      w.push_back(score);
      largest = std::max(largest, score);
    }
    for (double& x : w) sum += x = std::exp(x - largest);
    for (double& x : w) x /= lie_ == Lie::unnormalised ? 1.1 * sum : sum;
    if (lie_ == Lie::negative && n > 1) w[0] -= 2 * w[1], w[1] *= 3;  // the sum stays
    for (index_t c = 0; c < call.d_v(); ++c) {
      double out = 0;
      for (index_t j = 0; j < n; ++j)
        out += w[static_cast<std::size_t>(j)] * static_cast<double>(call.v(kv, j, c));
      o(h, r, c) = static_cast<float>(out);
    }
  }
  Lie lie_;
};

Verdict verdict(std::string_view rule_name, const std::string& lie) {
  static const borel::Registry* registry = [] {
    auto* made = new borel::Registry;
    made->add<borel::Attention, Liar>("liar", {.summary = "tells lies", .source = "this test"});
    return made;
  }();
  const borel::MethodSpec spec = borel::parse_method_spec("liar{lie=" + lie + "}", "attention");
  for (const borel::contract::Rule* rule : borel::contract::rules_for("attention"))
    if (rule->name == rule_name)
      return borel::contract::run_rule(
          *rule, {*registry, registry->entry("attention", "liar"), spec, borel::Seed{1}});
  ADD_FAILURE() << "no rule " << rule_name;
  return {};
}

// Rules run over every choice of a method, so that the liar as a whole breaks them; its texts name the lie.
void expect_broken_by(std::string_view rule, const std::string& lie) {
  const Verdict found = verdict(rule, lie);
  EXPECT_TRUE(found.kind == Verdict::Kind::broken) << rule << " does not catch " << lie;
  EXPECT_NE(found.text.find(lie), std::string::npos) << rule << " on " << lie << ": " << found.text;
}

TEST(AttentionRules, CatchWhatTheyAreFor) {
  expect_broken_by("DoesNotHideNaN", "hides_nan");
  expect_broken_by("DoesNotHideNaN", "hides_infinity");
  expect_broken_by("DoesNotSeeTheFuture", "sees_future");
  expect_broken_by("WeightsAreNotNegativeWhenClaimed", "negative");
  expect_broken_by("RowsSumToOneWhenClaimed", "unnormalised");
}

}  // namespace
