// What an encoding's plans must be: valid for every context, and the same scores however the context is cut.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/error.hpp"
#include "contract/golden.hpp"
#include "contract/position_subject.hpp"

namespace borel::contract {
namespace {

using reference::Matrix;

struct Layer {
  index_t index, count;
};
constexpr Layer k_layers[] = {{0, 1}, {0, 3}, {1, 3}};  // alone, a lower one, the middle one

Verdict plans_are_valid(const Subject& subject) {
  return for_every_position(subject, [](const PositionEncoding& encoding) -> std::string {
    for (const bool causal : position_modes(encoding))
      for (const index_t n : {0, 1, 2, 63, 65, 127, 300})
        for (const index_t n_q : {n, std::min<index_t>(n, 1), n / 2})
          for (const bool training : {false, true})
            for (const Layer layer : k_layers) {
              if (layer.count > 1 && !encoding.traits().layer_dependent) continue;
              PositionSetting setting(encoding, n_q, n, n - n_q, causal, std::max<index_t>(n, 1));
              setting.context.training = training;
              setting.context.layer_index = layer.index, setting.context.n_layers = layer.count;
              const PositionPlan plan = make_plan(encoding, setting.context);
              if (const std::string fault = check_plan(plan, setting.context); !fault.empty())
                return fmt::format("n_q {}, n_k {}, causal {}, training {}, layer {} of {}: {}", n_q, n,
                                   causal, training, layer.index, layer.count, fault);
            }
    return {};
  });
}

Verdict shift_invariant_when_claimed(const Subject& subject) {
  bool claimed = false;
  const Verdict verdict = for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    if (!encoding.traits().shift_invariant || encoding.traits().n_axes > 1) return {};
    claimed = true;
    constexpr index_t k_n = 60, k_shift = 37;
    const std::vector<float> rows = random_rows(k_n + k_shift, subject.seed);
    const std::span<const float> near(rows.data(), static_cast<std::size_t>(k_n * k_position_d));
    std::vector<float> far_rows(static_cast<std::size_t>((k_n + k_shift) * k_position_d));
    std::ranges::copy(near, far_rows.begin() + k_shift * k_position_d);
    for (const bool causal : position_modes(encoding)) {
      const PositionSetting here(encoding, k_n, k_n, 0, causal, 200);
      // The same queries; the keys before them are other tokens.
      const PositionSetting there(encoding, k_n, k_n + k_shift, k_shift, causal, 200);
      const PositionPlan plan_here = make_plan(encoding, here.context),
                         plan_there = make_plan(encoding, there.context);
      for (index_t h = 0; h < k_position_heads; ++h) {
        const Matrix a = scores_of(plan_here, here.context, h, near, near),
                     b = scores_of(plan_there, there.context, h, near, far_rows);
        for (index_t i = 0; i < a.n_rows; ++i)
          for (index_t j = 0; j < k_n; ++j)
            if (!same_score(a(i, j), b(i, j + k_shift)))
              return fmt::format("head {}, causal {}: score ({}, {}) is {:.9g}, moved by {} it is {:.9g}", h,
                                 causal, i, j, a(i, j), k_shift, b(i, j + k_shift));
      }
    }
    return {};
  });
  return claimed || verdict.kind == Verdict::Kind::broken ? verdict : not_applicable("not claimed");
}

bool is_empty(const PositionPlan& plan) {
  return plan.bands.empty() && !plan.bias && !plan.query_scale && plan.visible.empty() && !plan.query_map &&
         !plan.key_map && plan.ensemble.empty();
}

Verdict changes_with_order_unless_none(const Subject& subject) {
  const auto encoding = subject.make<PositionEncoding>();
  if (encoding->embedding()) return not_applicable("positions enter through the embedding");
  constexpr index_t k_n = 40;
  const std::vector<float> rows = random_rows(k_n, subject.seed);
  const PositionSetting setting(*encoding, k_n, k_n, 0, true, k_n);
  const PositionPlan plan = make_plan(*encoding, setting.context);
  const Matrix with = scores_of(plan, setting.context, 1, rows, rows),
               without = scores_of(PositionPlan(), setting.context, 1, rows, rows);
  return with.values != without.values || is_empty(plan)
             ? kept()
             : broken("the plan is not empty, but changes no score");
}

Verdict one_row_has_the_plan_of_its_token(const Subject& subject) {
  return for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    constexpr index_t k_n = 50;
    const std::vector<float> q = random_rows(k_n, subject.seed),
                             k = random_rows(k_n, subject.seed.derive("k"));
    const PositionSetting all(encoding, k_n, k_n, 0, true, k_n);
    const PositionPlan plan = make_plan(encoding, all.context);
    const auto n_members = static_cast<index_t>(std::max<std::size_t>(1, plan.ensemble.size()));
    bool differs = false;
    for (index_t h = 0; h < k_position_heads; ++h) {
      const Matrix full = scores_of(plan, all.context, h, q, k);
      for (const index_t t : {0, 1, 17, 30, 49}) {
        const PositionSetting one(encoding, 1, t + 1, t, true, k_n);
        const Matrix row =
            scores_of(make_plan(encoding, one.context), one.context, h,
                      std::span(q).subspan(static_cast<std::size_t>(t * k_position_d), k_position_d), k);
        for (index_t member = 0; member < n_members; ++member)
          for (index_t j = 0; j <= t; ++j) {
            const double expected = full(member * k_n + t, j), found = row(member, j);
            if (same_score(expected, found)) continue;
            differs = true;
            if (!encoding.traits().length_dependent)
              return fmt::format(
                  "head {}: score ({}, {}) is {:.9g} in the plan of all rows, {:.9g} in that of its row", h,
                  t, j, expected, found);
          }
      }
    }
    return encoding.traits().length_dependent && !differs
               ? "length_dependent is claimed, but every row has the scores of the whole context"
               : "";
  });
}

/// The plan with rows for the keys before its first one, so that it can be read by absolute position.
PositionPlan from_first_key(PositionPlan plan) {
  for (Band& band : plan.bands) {
    std::vector<double> rows(static_cast<std::size_t>(plan.key_offset * band.n_axes));
    rows.insert(rows.end(), band.key_position->begin(), band.key_position->end());
    band.key_position = make_table(std::move(rows));
  }
  if (plan.bias) {
    std::vector<float> padded;
    for (std::size_t at = 0; at < plan.bias->size(); at += static_cast<std::size_t>(plan.bias_width)) {
      padded.insert(padded.end(), static_cast<std::size_t>(plan.key_offset), 0.0F);
      const auto row = plan.bias->begin() + static_cast<std::ptrdiff_t>(at);
      padded.insert(padded.end(), row, row + plan.bias_width);
    }
    plan.bias = std::make_shared<const std::vector<float>>(std::move(padded));
    plan.bias_zero += plan.key_offset, plan.bias_width += plan.key_offset;
  }
  plan.key_offset = 0;
  for (PositionPlan& member : plan.ensemble) member = from_first_key(member);
  return plan;
}

Verdict some_keys_have_the_plan_of_all(const Subject& subject) {
  return for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    constexpr index_t k_n = 50;
    const std::vector<float> q = random_rows(k_n, subject.seed),
                             k = random_rows(k_n, subject.seed.derive("k"));
    for (const index_t t : {0, 1, 23, 49})
      for (const index_t first : {t, t / 2}) {
        const PositionSetting all(encoding, 1, t + 1, t, true, k_n);
        PositionSetting some(encoding, 1, t + 1, t, true, k_n);
        some.context.key_offset = first;
        some.context.n_k = t + 1 - first;
        const PositionPlan plan = make_plan(encoding, all.context), part = make_plan(encoding, some.context);
        if (part.key_offset != first) return "the plan does not say where its first key stands";
        if (const std::string fault = check_plan(part, some.context); !fault.empty())
          return fmt::format("query {}, keys {} to {}: {}", t, first, t, fault);
        const auto row = std::span(q).subspan(static_cast<std::size_t>(t * k_position_d), k_position_d);
        for (index_t h = 0; h < k_position_heads; ++h) {
          const Matrix full = scores_of(plan, all.context, h, row, k),
                       cut = scores_of(from_first_key(part), all.context, h, row, k);
          for (index_t member = 0; member < full.n_rows; ++member)
            for (index_t j = first; j <= t; ++j)
              if (!same_score(full(member, j), cut(member, j)))
                return fmt::format(
                    "head {}: score ({}, {}) is {:.9g} in the plan of all keys, {:.9g} in that of "
                    "the keys from {} on",
                    h, t, j, full(member, j), cut(member, j), first);
        }
      }
    return {};
  });
}

Verdict same_context_same_plan(const Subject& subject) {
  return for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    const std::vector<float> rows = random_rows(65, subject.seed);
    for (const bool training : {false, true}) {
      PositionSetting setting(encoding, 65, 65, 0, true, 65);
      setting.context.training = training;
      const Matrix a = scores_of(make_plan(encoding, setting.context), setting.context, 0, rows, rows),
                   b = scores_of(make_plan(encoding, setting.context), setting.context, 0, rows, rows);
      if (a.values != b.values) return fmt::format("training {}: two plans for one context differ", training);
    }
    return {};
  });
}

/// keys_kept() decides how large a cache must be: too small loses keys that are still seen.
Verdict kept_keys_are_all_that_are_seen(const Subject& subject) {
  return for_every_position(subject, [](const PositionEncoding& encoding) -> std::string {
    constexpr index_t k_n = 90;
    const PositionSetting setting(encoding, k_n, k_n, 0, true, k_n);
    const PositionPlan plan = make_plan(encoding, setting.context);
    for (const index_t n : {0, 1, 3, 24, 40, 60}) {
      index_t seen = 0;
      for (index_t j = 0; j < n; ++j) {
        bool later = false;
        for (index_t i = n; i < k_n; ++i) {
          later = later || plan.sees(i, j);
          for (const PositionPlan& member : plan.ensemble) later = later || member.sees(i, j);
        }
        seen += later;
      }
      if (keys_kept(plan, n) < seen)
        return fmt::format("after {} tokens {} keys are still seen, keys_kept says {}", n, seen,
                           keys_kept(plan, n));
    }
    return {};
  });
}

/// "" or why the context was not refused as it should have been.
std::string refusal(const PositionEncoding& encoding, const PositionContext& context, std::string_view word) {
  try {
    make_plan(encoding, context);
  } catch (const MethodError& error) {
    return std::string_view(error.what()).find(word) != std::string_view::npos
               ? ""
               : fmt::format("the message does not name '{}': {}", word, error.what());
  }
  return fmt::format("accepted, though '{}' must be named as missing", word);
}

Verdict refuses_what_it_cannot_serve(const Subject& subject) {
  bool any = false;
  const Verdict verdict = for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    const PositionTraits traits = encoding.traits();
    std::string failure;
    const auto expect = [&](std::string_view what, const PositionContext& context, std::string_view word) {
      any = true;
      if (const std::string fault = refusal(encoding, context, word); failure.empty() && !fault.empty())
        failure = fmt::format("{}: {}", what, fault);
    };
    PositionSetting setting(encoding, 8, 8, 0, true, 8);
    PositionContext context = setting.context;
    context.train_length = 0;
    if (traits.needs_train_length) expect("without train_length", context, "train_length");
    context = setting.context;
    context.causal = false;
    if (traits.causal_only) expect("without a causal mask", context, "causal");
    context = setting.context;
    context.query_offset = context.key_offset = index_t{1} << 40;
    if (traits.bounded_length) expect("beyond its length", context, "max_length");
    context = setting.context;
    context.coordinates = {};
    if (traits.n_axes > 1) expect("without coordinates", context, "coordinates");
    return failure;
  });
  return any || verdict.kind == Verdict::Kind::broken ? verdict : not_applicable("serves every context");
}

/// An encoding made of another one must combine with each that exists, or say why not.
Verdict combines_with_every_encoding(const Subject& subject) {
  const auto inner = std::ranges::find_if(subject.method.params, [](const ParamInfo& param) {
    return param.type == ParamType::method && param.family == PositionEncoding::family;
  });
  if (inner == subject.method.params.end()) return not_applicable("not made of another encoding");
  int n_combined = 0;
  for (const std::string& id : subject.registry.ids<PositionEncoding>()) {
    MethodSpec spec = subject.spec;
    spec.params[inner->name] = id;
    try {
      const auto encoding = subject.registry.make<PositionEncoding>(spec);
      for (const bool causal : position_modes(*encoding))
        for (const bool training : {false, true}) {
          PositionSetting setting(*encoding, 30, 70, 40, causal, 70);
          setting.context.training = training;
          const PositionPlan plan = make_plan(*encoding, setting.context);
          if (const std::string fault = check_plan(plan, setting.context); !fault.empty())
            return broken(fmt::format("{}, causal {}: {}", spec.text(), causal, fault));
          ++n_combined;
        }
    } catch (const Error& error) {
      if (std::string_view(error.what()).size() < 20)
        return broken(
            fmt::format("{}: refused with too little of a reason: '{}'", spec.text(), error.what()));
    }
  }
  return n_combined > 0 ? kept() : broken("no encoding can be put in");
}

std::vector<std::span<const float>> views(const std::vector<std::vector<float>>& values) {
  return {values.begin(), values.end()};
}

/// One `name=value` of a golden file's context line.
void set_field(PositionContext& context, const std::string& field, int line) {
  const std::size_t equals = field.find('=');
  const std::string name = field.substr(0, equals);
  const index_t value = equals == std::string::npos ? 0 : std::stoll(field.substr(equals + 1));
  if (name == "training")
    context.training = value != 0;
  else if (name == "layer_index")
    context.layer_index = value;
  else if (name == "n_layers")
    context.n_layers = value;
  else if (name == "test_length")
    context.test_length = value;
  else
    throw DatasetError(fmt::format("golden.csv line {}: unknown context field '{}'", line, field));
}

std::string compare_embedding(const PositionEncoding& encoding, const PositionContext& context,
                              const std::vector<std::vector<float>>& parameters, const GoldenLine& line) {
  if (!encoding.embedding()) return "golden values of an embedding, but there is none";
  const index_t d_model = context.n_heads * context.d_head, first = static_cast<index_t>(line.real(1));
  const std::size_t n_values = line.fields.size() - 2;
  std::vector<float> x(n_values, 0.0F);
  encoding.embedding()->add(context, views(parameters), first,
                            {x.data(), {static_cast<index_t>(n_values) / d_model, d_model}});
  for (std::size_t f = 0; f < n_values; ++f)
    if (!same_score(static_cast<double>(x[f]), line.real(f + 2), 2e-6))
      return fmt::format("golden.csv line {}: value {} is {:.9g}, expected {:.9g}", line.number, f, x[f],
                         line.real(f + 2));
  return {};
}

Verdict matches_golden_values(const Subject& subject) {
  const Golden golden = read_golden(subject.method);
  std::unique_ptr<PositionEncoding> encoding;
  PositionContext context;
  std::vector<float> q, k;
  std::vector<double> coordinates;
  std::vector<std::vector<float>> parameters;
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
    const auto check_parameters = [&] {
      const auto declared =
          encoding->parameters(context.n_heads, context.d_head, context.n_heads * context.d_head);
      bool agree = declared.size() == parameters.size();
      for (std::size_t p = 0; agree && p < declared.size(); ++p)
        agree = declared[p].size() == static_cast<index_t>(parameters[p].size());
      return agree
                 ? std::string()
                 : fmt::format("golden.csv line {}: the case does not give the parameters that are declared",
                               line.number);
    };
    const std::string& what = line.text(0);
    if (what == "case") {
      encoding = subject.registry.make<PositionEncoding>(parse_method_spec(line.text(1), "position"));
      parameters.clear();
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
    } else if (what == "context") {
      for (std::size_t f = 1; f < line.fields.size(); ++f) set_field(context, line.text(f), line.number);
    } else if (what == "parameters") {
      std::vector<float>& values = parameters.emplace_back();
      for (double x : numbers()) values.push_back(static_cast<float>(x));
    } else if (what == "embedding") {
      std::string fault = check_parameters();
      if (fault.empty()) fault = compare_embedding(*encoding, context, parameters, line);
      if (!fault.empty()) return broken(fault);
      ++n_compared;
    } else if (what == "q" || what == "k") {
      std::vector<float>& rows = what == "q" ? q : k;
      rows.clear();
      for (double x : numbers()) rows.push_back(static_cast<float>(x));
    } else if (what == "scores") {
      const std::string fault = check_parameters();
      if (!fault.empty()) return broken(fault);
      const PositionPlan plan = position_plan(*encoding, context, views(parameters));
      if (!plan.ensemble.empty() && plan.ensemble.size() != 1)
        return broken("golden values of an ensemble must name one member");
      const PositionPlan& only = plan.ensemble.empty() ? plan : plan.ensemble.front();
      const std::vector<double> expected = numbers();
      std::size_t at = 0;
      for (index_t h = 0; h < context.n_heads; ++h) {
        AttentionCall call;
        call.q = {q.data(), {context.n_heads, context.n_q, context.d_head}, {0, context.d_head, 1}};
        call.k = {k.data(), {context.n_heads, context.n_k, context.d_head}, {0, context.d_head, 1}};
        call.v = call.k, call.causal = context.causal, call.query_offset = context.query_offset,
        call.position = &only;
        for (double found : reference::scores(call, h, 1, [](index_t) { return 1.0; }).values) {
          if (at >= expected.size() || !same_score(found, expected[at], 2e-6))
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
     "plans for sizes 0 to 300, with and without offset, mask, training and other layers, keep the rules of "
     "check_plan",
     plans_are_valid},
    {"MatchesGoldenValues", "scores equal values from an independent source", matches_golden_values},
    {"ShiftInvariantWhenClaimed", "moving all tokens changes no score", shift_invariant_when_claimed},
    {"ChangesScores", "a plan that is not empty changes some score", changes_with_order_unless_none},
    {"OneRowHasThePlanOfItsToken",
     "decoding token by token sees the scores of the whole context, unless length_dependent is claimed",
     one_row_has_the_plan_of_its_token},
    {"SomeKeysHaveThePlanOfAll",
     "a plan for the last keys alone (key_offset) holds the scores of the plan for all",
     some_keys_have_the_plan_of_all},
    {"SameContextSamePlan", "two plans for one context are equal", same_context_same_plan},
    {"KeptKeysAreAllThatAreSeen", "keys_kept of its plan leaves out no key that a later query sees",
     kept_keys_are_all_that_are_seen},
    {"RefusesWhatItCannotServe",
     "a missing train length, mask or axis, or a context that is too long, is refused by name",
     refuses_what_it_cannot_serve},
    {"CombinesWithEveryEncoding", "an encoding made of another one takes each, or says why not",
     combines_with_every_encoding},
};

}  // namespace

std::span<const Rule> position_rules() {
  static const std::vector<Rule> rules = [] {
    std::vector<Rule> all(std::begin(k_rules), std::end(k_rules));
    const std::span<const Rule> gradients = position_gradient_rules();
    all.insert(all.end(), gradients.begin(), gradients.end());
    return all;
  }();
  return rules;
}

}  // namespace borel::contract
