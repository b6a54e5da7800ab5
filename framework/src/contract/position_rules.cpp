#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/error.hpp"
#include "borel/position.hpp"
#include "contract/attention_subject.hpp"
#include "contract/golden.hpp"

namespace borel::contract {
namespace {

using reference::Matrix;

constexpr index_t k_d = 16, k_heads = 4;

struct Setting {
  PositionContext context;
  std::vector<double> coordinates;
};

/// A context of the kind that the encoding serves. Coordinates are those of an image 8 tokens wide.
Setting setting_for(const PositionEncoding& encoding, index_t n_q, index_t n_k, index_t offset, bool causal,
                    index_t test_length) {
  Setting s;
  s.context = {.n_q = n_q,
               .n_k = n_k,
               .query_offset = offset,
               .n_heads = k_heads,
               .d_head = k_d,
               .train_length = 24,
               .test_length = test_length,
               .causal = causal,
               .seed = Seed{5}};
  if (const index_t n_axes = encoding.traits().n_axes; n_axes > 1) {
    for (index_t t = 0; t < n_k; ++t)
      for (index_t axis = 0; axis < n_axes; ++axis)
        s.coordinates.push_back(static_cast<double>(axis == 0 ? t / 8 : t % 8));
    s.context.coordinates = {s.coordinates.data(), {n_k, n_axes}};
  }
  return s;
}

PositionPlan make_plan(const PositionEncoding& encoding, const Setting& setting) {
  const ParameterSet parameters(encoding.parameters(k_heads, k_d, k_heads * k_d), Seed{9});
  return position_plan(encoding, setting.context, parameters.values());
}

/// Scores of one head for given rows of q and k, straight from the plan; hidden pairs are -infinity.
Matrix scores_of(const PositionPlan& plan, const PositionContext& context, index_t head,
                 std::span<const float> q, std::span<const float> k) {
  AttentionCall call;
  call.q = {q.data(), {k_heads, context.n_q, context.d_head}, {0, context.d_head, 1}};
  call.k = {k.data(), {k_heads, context.n_k, context.d_head}, {0, context.d_head, 1}};
  call.v = call.k;
  call.causal = context.causal;
  call.query_offset = context.query_offset;
  call.position = &plan;
  return reference::scores(call, head, 1, [](index_t) { return 1.0; });
}

std::vector<float> random_rows(index_t n, Seed seed) {
  std::vector<float> rows(static_cast<std::size_t>(n * k_d));
  Rng(seed).fill_normal(std::span<float>(rows));
  return rows;
}

bool same(double a, double b, double bound) { return a == b || std::abs(a - b) <= bound; }

Verdict plans_are_valid(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  for (const bool causal : {true, false})
    for (const index_t n : {0, 1, 2, 63, 65, 127, 300})
      for (const index_t n_q : {n, std::min<index_t>(n, 1), n / 2}) {
        const Setting setting = setting_for(*encoding, n_q, n, n - n_q, causal, std::max<index_t>(n, 1));
        const PositionPlan plan = make_plan(*encoding, setting);
        if (const std::string fault = check_plan(plan, setting.context); !fault.empty())
          return broken(fmt::format("n_q {}, n_k {}, causal {}: {}", n_q, n, causal, fault));
      }
  return kept();
}

Verdict shift_invariant_when_claimed(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  if (!encoding->traits().shift_invariant) return not_applicable("not claimed");
  if (encoding->traits().n_axes > 1) return not_applicable("several axes");
  constexpr index_t k_n = 60, k_shift = 37;
  const std::vector<float> rows = random_rows(k_n + k_shift, subject.seed);
  const std::span<const float> near(rows.data(), static_cast<std::size_t>(k_n * k_d));
  std::vector<float> far_rows(static_cast<std::size_t>((k_n + k_shift) * k_d));
  std::ranges::copy(near, far_rows.begin() + k_shift * k_d);
  for (const bool causal : {true, false}) {
    const Setting here = setting_for(*encoding, k_n, k_n, 0, causal, 200),
                  there = setting_for(*encoding, k_n + k_shift, k_n + k_shift, 0, causal, 200);
    const PositionPlan plan_here = make_plan(*encoding, here), plan_there = make_plan(*encoding, there);
    for (index_t h = 0; h < k_heads; ++h) {
      const Matrix a = scores_of(plan_here, here.context, h, near, near),
                   b = scores_of(plan_there, there.context, h, far_rows, far_rows);
      for (index_t i = 0; i < k_n; ++i)
        for (index_t j = 0; j < k_n; ++j)
          if (!same(a(i, j), b(i + k_shift, j + k_shift), 1e-6))
            return broken(
                fmt::format("head {}, causal {}: score ({}, {}) is {:.9g}, moved by {} it is {:.9g}", h,
                            causal, i, j, a(i, j), k_shift, b(i + k_shift, j + k_shift)));
    }
  }
  return kept();
}

Verdict changes_with_order_unless_none(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  if (encoding->embedding()) return not_applicable("positions enter through the embedding");
  constexpr index_t k_n = 40;
  const std::vector<float> rows = random_rows(k_n, subject.seed);
  const Setting setting = setting_for(*encoding, k_n, k_n, 0, true, k_n);
  const PositionPlan plan = make_plan(*encoding, setting);
  const Matrix with = scores_of(plan, setting.context, 1, rows, rows),
               without = scores_of(PositionPlan(), setting.context, 1, rows, rows);
  const bool changes = with.values != without.values;
  const bool empty = plan.bands.empty() && !plan.bias && !plan.query_scale && plan.visible.empty() &&
                     !plan.query_map && !plan.key_map && plan.ensemble.empty();
  return changes || empty ? kept() : broken("the plan is not empty, but changes no score");
}

Verdict one_row_has_the_plan_of_its_token(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  constexpr index_t k_n = 50;
  const std::vector<float> q = random_rows(k_n, subject.seed), k = random_rows(k_n, subject.seed.derive("k"));
  const Setting all = setting_for(*encoding, k_n, k_n, 0, true, k_n);
  const PositionPlan plan = make_plan(*encoding, all);
  for (index_t h = 0; h < k_heads; ++h) {
    const Matrix full = scores_of(plan, all.context, h, q, k);
    for (const index_t t : {0, 1, 17, 49}) {
      const Setting one = setting_for(*encoding, 1, t + 1, t, true, k_n);
      const PositionPlan token = make_plan(*encoding, one);
      const Matrix row =
          scores_of(token, one.context, h, std::span(q).subspan(static_cast<std::size_t>(t * k_d), k_d), k);
      for (index_t j = 0; j <= t; ++j)
        if (!same(full(t, j), row(0, j), 1e-6))
          return broken(fmt::format(
              "head {}: score ({}, {}) is {:.9g} in the plan of all rows, {:.9g} in that of its row", h, t, j,
              full(t, j), row(0, j)));
    }
  }
  return kept();
}

/// The plan with rows for the keys before its first one, so that it can be read by absolute position.
PositionPlan from_first_key(PositionPlan plan) {
  for (Band& band : plan.bands) {
    std::vector<double> rows(static_cast<std::size_t>(plan.key_offset * band.n_axes));
    rows.insert(rows.end(), band.key_position->begin(), band.key_position->end());
    band.key_position = make_table(std::move(rows));
  }
  plan.key_offset = 0;
  for (PositionPlan& member : plan.ensemble) member = from_first_key(member);
  return plan;
}

Verdict some_keys_have_the_plan_of_all(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  constexpr index_t k_n = 50;
  const std::vector<float> q = random_rows(k_n, subject.seed), k = random_rows(k_n, subject.seed.derive("k"));
  const Setting all = setting_for(*encoding, k_n, k_n, 0, true, k_n);
  const PositionPlan plan = make_plan(*encoding, all);
  for (const index_t t : {0, 1, 23, 49})
    for (const index_t first : {t, t / 2}) {
      Setting some = setting_for(*encoding, 1, t + 1, t, true, k_n);
      some.context.key_offset = first;
      some.context.n_k = t + 1 - first;
      const PositionPlan part = make_plan(*encoding, some);
      if (part.key_offset != first) return broken("the plan does not say where its first key stands");
      if (const std::string fault = check_plan(part, some.context); !fault.empty())
        return broken(fmt::format("query {}, keys {} to {}: {}", t, first, t, fault));
      some.context.key_offset = 0, some.context.n_k = t + 1;
      for (index_t h = 0; h < k_heads; ++h) {
        const Matrix full = scores_of(plan, all.context, h, q, k),
                     row = scores_of(from_first_key(part), some.context, h,
                                     std::span(q).subspan(static_cast<std::size_t>(t * k_d), k_d), k);
        for (index_t j = first; j <= t; ++j)
          if (!same(full(t, j), row(0, j), 1e-6))
            return broken(
                fmt::format("head {}: score ({}, {}) is {:.9g} in the plan of all keys, {:.9g} in that of "
                            "the keys from {} on",
                            h, t, j, full(t, j), row(0, j), first));
      }
    }
  return kept();
}

Verdict same_context_same_plan(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  const std::vector<float> rows = random_rows(65, subject.seed);
  const Setting setting = setting_for(*encoding, 65, 65, 0, true, 65);
  const Matrix a = scores_of(make_plan(*encoding, setting), setting.context, 0, rows, rows),
               b = scores_of(make_plan(*encoding, setting), setting.context, 0, rows, rows);
  return a.values == b.values ? kept() : broken("two plans for one context differ");
}

Verdict says_what_is_missing(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  if (!encoding->traits().needs_train_length) return not_applicable("needs no train length");
  Setting setting = setting_for(*encoding, 8, 8, 0, true, 8);
  setting.context.train_length = 0;
  try {
    make_plan(*encoding, setting);
  } catch (const MethodError& error) {
    return std::string_view(error.what()).find("train_length") != std::string_view::npos
               ? kept()
               : broken(fmt::format("the message does not name train_length: {}", error.what()));
  }
  return broken("a context without train_length was accepted");
}

Verdict matches_golden_values(const Subject& subject) {
  const Golden golden = read_golden(subject.method);
  std::unique_ptr<PositionEncoding> encoding;
  PositionContext context;
  std::vector<float> q, k;
  std::vector<double> coordinates;
  int n_compared = 0;
  for (const GoldenLine& line : golden.lines) {
    const auto integer = [&](std::size_t f) { return static_cast<index_t>(line.real(f)); };
    const auto numbers = [&] {
      std::vector<double> values;
      for (std::size_t f = 1; f < line.fields.size(); ++f)
        values.push_back(line.fields[f] == "hidden" ? -std::numeric_limits<double>::infinity()
                                                    : line.real(f));
      return values;
    };
    const std::string& what = line.text(0);
    if (what == "case") {
      encoding = subject.registry.make<PositionEncoding>(parse_method_spec(line.text(1), "position"));
      context = {.n_q = integer(3),
                 .n_k = integer(4),
                 .query_offset = integer(5),
                 .n_heads = integer(6),
                 .d_head = integer(7),
                 .train_length = integer(8),
                 .causal = integer(2) != 0};
      coordinates.clear();
    } else if (what == "coordinates") {
      coordinates = numbers();
      context.coordinates = {coordinates.data(),
                             {context.n_k, static_cast<index_t>(coordinates.size()) / context.n_k}};
    } else if (what == "q" || what == "k") {
      std::vector<float>& rows = what == "q" ? q : k;
      rows.clear();
      for (double x : numbers()) rows.push_back(static_cast<float>(x));
    } else if (what == "scores") {
      const ParameterSet parameters(
          encoding->parameters(context.n_heads, context.d_head, context.n_heads * context.d_head),
          subject.seed);
      const PositionPlan plan = position_plan(*encoding, context, parameters.values());
      const std::vector<double> expected = numbers();
      std::size_t at = 0;
      for (index_t h = 0; h < context.n_heads; ++h) {
        AttentionCall call;
        call.q = {q.data(), {context.n_heads, context.n_q, context.d_head}, {0, context.d_head, 1}};
        call.k = {k.data(), {context.n_heads, context.n_k, context.d_head}, {0, context.d_head, 1}};
        call.v = call.k, call.causal = context.causal, call.query_offset = context.query_offset,
        call.position = &plan;
        for (double found : reference::scores(call, h, 1, [](index_t) { return 1.0; }).values) {
          if (at >= expected.size() || !same(found, expected[at], 2e-6))
            return broken(fmt::format("golden.csv line {}: value {} is {:.9g}, expected {:.9g}", line.number,
                                      at, found, at < expected.size() ? expected[at] : 0.0));
          ++at;
        }
      }
      if (at != expected.size())
        return broken(fmt::format("golden.csv line {}: {} values, the plan gives {}", line.number,
                                  expected.size(), at));
      ++n_compared;
    } else {
      return broken(fmt::format("golden.csv line {}: unknown word '{}'", line.number, what));
    }
  }
  return n_compared > 0 ? kept() : no_golden_values(golden);
}

constexpr Rule k_rules[] = {
    {"PlansAreValid",
     "plans for sizes 0 to 300, with and without offset and mask, keep the rules of check_plan",
     plans_are_valid},
    {"MatchesGoldenValues", "scores equal values from an independent source", matches_golden_values},
    {"ShiftInvariantWhenClaimed", "moving all tokens changes no score", shift_invariant_when_claimed},
    {"ChangesScores", "a plan that is not empty changes some score", changes_with_order_unless_none},
    {"OneRowHasThePlanOfItsToken", "decoding token by token sees the scores of the whole context",
     one_row_has_the_plan_of_its_token},
    {"SomeKeysHaveThePlanOfAll",
     "a plan for the last keys alone (key_offset) holds the scores of the plan for all",
     some_keys_have_the_plan_of_all},
    {"SameContextSamePlan", "two plans for one context are equal", same_context_same_plan},
    {"SaysWhatIsMissing", "without the train length that it needs, it says so", says_what_is_missing},
};

}  // namespace

std::span<const Rule> position_rules() { return k_rules; }

}  // namespace borel::contract
