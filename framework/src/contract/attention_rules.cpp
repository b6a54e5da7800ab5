// What an attention mechanism computes: against float64, golden values, and the properties that it claims.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/error.hpp"
#include "contract/attention_subject.hpp"
#include "contract/golden.hpp"

namespace borel::contract {
namespace {

using reference::Matrix;

constexpr index_t k_sizes[] = {0, 1, 63, 65, 127};

/// The canonical spec of a variant with its family, as the reference wants it.
std::optional<reference::AttentionWeightsOf> reference_of(const Subject& subject, const MethodSpec& spec) {
  return reference::attention_weights(parse_method_spec(subject.method.canonical(spec), "attention"));
}

std::optional<reference::AttentionOutputOf> output_of(const Subject& subject, const MethodSpec& spec) {
  return reference::attention_output_of(parse_method_spec(subject.method.canonical(spec), "attention"));
}

/// "" or how far the output is from the reference.
std::string against_reference(const Attention& method, const AttentionCall& call,
                              const reference::AttentionWeightsOf& truth,
                              const reference::AttentionOutputOf& true_output, double bound) {
  const std::vector<float> o = forward(method, call);
  for (index_t h = 0; h < call.h_q(); ++h) {
    const Matrix weights = truth(call, h);
    const Matrix expected = true_output(call, h);
    const double unit = error_unit(call, &weights);
    for (index_t r = 0; r < call.n_q(); ++r)
      for (index_t c = 0; c < call.d_v(); ++c) {
        const double found =
            static_cast<double>(o[static_cast<std::size_t>((h * call.n_q() + r) * call.d_v() + c)]);
        const double error = std::abs(found - expected(r, c));
        if (!(error <= bound * unit))
          return fmt::format(
              "head {} row {} column {}: {:.9g}, float64 reference {:.9g}, error {:.3g} > bound {:.3g} x "
              "{:.3g}",
              h, r, c, found, expected(r, c), error, bound, unit);
      }
  }
  return {};
}

Verdict agrees_with_reference(const Subject& subject) {
  if (!reference_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    const reference::AttentionWeightsOf truth = reference_of(subject, variant.spec).value();
    const reference::AttentionOutputOf true_output = output_of(subject, variant.spec).value();
    for (const bool causal : modes(*variant.method))
      for (const index_t n : k_sizes)
        for (const double largest : {8.0, 80.0}) {
          const AttentionInputs inputs(
              *variant.method, {.n_q = n, .n_k = n, .causal = causal, .largest_score = largest}, seed);
          const std::string failure = against_reference(*variant.method, inputs.call, truth, true_output,
                                                        variant.method->traits().max_error);
          if (!failure.empty())
            return fmt::format("n {}, causal {}, scores up to {}: {}", n, causal, largest, failure);
        }
    return {};
  });
}

/// Feature maps of such keys are far below or above the epsilon of the denominator.
Verdict small_and_large_keys_agree_with_reference(const Subject& subject) {
  const auto probe = subject.make<Attention>();
  const auto* chunks = dynamic_cast<const ChunkAttention*>(probe.get());
  if (!chunks || !chunks->form().normalised) return not_applicable("not a normalised recurrence");
  if (!reference_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    const reference::AttentionWeightsOf truth = reference_of(subject, variant.spec).value();
    const reference::AttentionOutputOf true_output = output_of(subject, variant.spec).value();
    for (const bool causal : modes(*variant.method))
      for (const float offset : {-24.0f, -16.0f, 16.0f}) {
        AttentionInputs inputs(*variant.method, {.causal = causal}, seed);
        for (float& x : inputs.k) x += offset;
        const std::string failure = against_reference(*variant.method, inputs.call, truth, true_output,
                                                      variant.method->traits().max_error);
        if (!failure.empty()) return fmt::format("keys + {}, causal {}: {}", offset, causal, failure);
      }
    return {};
  });
}

Verdict agrees_with_reference_in_long_contexts(const Subject& subject) {
  if (!reference_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  // The references of recurrent mechanisms may need n_k^2 steps; their length is covered by chunk invariance.
  if (!dynamic_cast<const TileMethod*>(subject.make<Attention>().get()))
    return not_applicable("not made of tiles");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    constexpr index_t k_n = 8192;
    const reference::AttentionWeightsOf truth = reference_of(subject, variant.spec).value();
    const reference::AttentionOutputOf true_output = output_of(subject, variant.spec).value();
    // Few rows take another way through the keys than many.
    for (const bool causal : modes(*variant.method))
      for (const auto& [n_q, offset, largest] :
           {std::tuple<index_t, index_t, double>{5, 3001, 20}, {5, k_n - 5, 80}, {1, k_n - 1, 80}}) {
        AttentionInputs inputs(
            *variant.method,
            {.h_q = 1, .h_kv = 1, .n_q = n_q, .n_k = k_n, .causal = causal, .largest_score = largest}, seed);
        inputs.call.query_offset = offset;
        const std::string failure = against_reference(*variant.method, inputs.call, truth, true_output,
                                                      variant.method->traits().max_error);
        if (!failure.empty())
          return fmt::format("{} queries from {} on, {} keys, causal {}, scores up to {}: {}", n_q, offset,
                             k_n, causal, largest, failure);
      }
    return {};
  });
}

/// max_error has to allow for scores of 80, whose own rounding is 3e-5 and comes through any threshold one to one. With
/// moderate scores what is left is the error of the threshold itself.
Verdict whole_rows_are_exact(const Subject& subject) {
  const auto method = subject.make<Attention>();
  const auto* tiles = dynamic_cast<const TileMethod*>(method.get());
  if (!tiles || tiles->statistic() != RowStatistic::whole_row)
    return not_applicable("its weights do not come from whole rows");
  if (!reference_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    constexpr double k_exact = 1e-5;
    const reference::AttentionWeightsOf truth = reference_of(subject, variant.spec).value();
    const reference::AttentionOutputOf true_output = output_of(subject, variant.spec).value();
    for (const bool causal : modes(*variant.method))
      for (const index_t n_k : {1, 2, 17, 129, 1000, 4096})
        for (const double largest : {0.5, 8.0}) {
          AttentionInputs inputs(*variant.method,
                                 {.h_q = 2,
                                  .h_kv = 1,
                                  .n_q = std::min<index_t>(n_k, 6),
                                  .n_k = n_k,
                                  .causal = causal,
                                  .largest_score = largest},
                                 seed);
          inputs.call.query_offset = n_k - inputs.call.n_q();
          const std::string failure =
              against_reference(*variant.method, inputs.call, truth, true_output, k_exact);
          if (!failure.empty())
            return fmt::format("{} keys, causal {}, scores up to {}: {}", n_k, causal, largest, failure);
        }
    return {};
  });
}

Verdict matches_golden_values(const Subject& subject) {
  const Golden golden = read_golden(subject.method);
  if (golden.lines.empty()) return no_golden_values(golden);
  std::unique_ptr<Attention> method;
  AttentionSizes sizes;
  std::vector<float> q, k, v;
  std::map<std::string, std::vector<float>> extra, parameters;  // by name; the others keep their defaults
  int n_compared = 0;
  const auto read = [](const GoldenLine& line, std::size_t first = 1) {
    std::vector<float> values;
    for (std::size_t f = first; f < line.fields.size(); ++f)
      values.push_back(static_cast<float>(line.real(f)));
    return values;
  };
  for (const GoldenLine& line : golden.lines) {
    const std::string& what = line.text(0);
    const auto integer = [&](std::size_t f) { return static_cast<index_t>(line.real(f)); };
    if (what == "case") {
      method = subject.registry.make<Attention>(parse_method_spec(line.text(1), "attention"));
      sizes = {integer(3), integer(4), integer(5), integer(6), integer(7), integer(8), integer(2) != 0, 8};
      extra.clear(), parameters.clear();
    } else if (what == "q") {
      q = read(line);
    } else if (what == "k") {
      k = read(line);
    } else if (what == "v") {
      v = read(line);
    } else if (what == "extra") {
      extra[line.text(1)] = read(line, 2);
    } else if (what == "parameter") {
      parameters[line.text(1)] = read(line, 2);
    } else if (what == "o") {
      AttentionInputs inputs(*method, sizes, subject.seed);
      if (q.size() != inputs.q.size() || k.size() != inputs.k.size() || v.size() != inputs.v.size())
        return broken(fmt::format("golden.csv line {}: sizes of q, k, v do not fit the case", line.number));
      std::ranges::copy(q, inputs.q.begin());
      std::ranges::copy(k, inputs.k.begin());
      std::ranges::copy(v, inputs.v.begin());
      const std::vector<ExtraInput> inputs_declared = method->extra_inputs(inputs.call.context);
      for (std::size_t e = 0; e < inputs_declared.size(); ++e)
        if (const auto given = extra.find(inputs_declared[e].name); given != extra.end()) {
          if (given->second.size() != inputs.extra[e].size())
            return broken(
                fmt::format("golden.csv line {}: '{}' does not fit the case", line.number, given->first));
          std::ranges::copy(given->second, inputs.extra[e].begin());
        }
      const std::vector<ParameterTensor> tensors = method->parameters(inputs.call.context);
      std::vector<std::span<const float>> values(inputs.call.parameters.begin(),
                                                 inputs.call.parameters.end());
      for (std::size_t t = 0; t < tensors.size(); ++t)
        if (const auto given = parameters.find(tensors[t].name); given != parameters.end())
          values[t] = given->second;
      inputs.call.parameters = values;
      const double error = distance(forward(*method, inputs.call), read(line));
      const double bound = method->traits().max_error * error_unit(inputs.call, nullptr);
      if (!(error <= bound))
        return broken(fmt::format("golden.csv line {}: error {:.3g} > {:.3g}", line.number, error, bound));
      ++n_compared;
    } else {
      return broken(fmt::format("golden.csv line {}: unknown word '{}'", line.number, what));
    }
  }
  return n_compared > 0 ? kept() : no_golden_values(golden);
}

Verdict does_not_see_the_future(const Subject& subject) {
  if (!subject.make<Attention>()->traits().causal) return not_applicable("no causal form");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    constexpr index_t k_n = 150;
    AttentionInputs inputs(*variant.method, {.n_q = k_n, .n_k = k_n}, seed);
    const std::vector<float> before = forward(*variant.method, inputs.call);
    const index_t d_v = inputs.call.d_v(), d_k = inputs.call.d_k();
    const std::vector<ExtraInput> declared = variant.method->extra_inputs(inputs.call.context);
    for (const auto& [t, strength] : {std::pair<index_t, float>{0, 0.5f},
                                      {1, 0.5f},
                                      {62, 50.0f},
                                      {63, 0.5f},
                                      {64, 0.5f},
                                      {127, 50.0f},
                                      {148, 0.5f}}) {
      AttentionInputs changed(*variant.method, {.n_q = k_n, .n_k = k_n}, seed);
      for (index_t h = 0; h < inputs.call.h_kv(); ++h)
        for (index_t j = t + 1; j < k_n; ++j) {
          for (index_t c = 0; c < d_k; ++c)
            changed.k[static_cast<std::size_t>((h * k_n + j) * d_k + c)] *= -3;
          for (index_t c = 0; c < d_v; ++c)
            changed.v[static_cast<std::size_t>((h * k_n + j) * d_v + c)] += 100;
        }
      for (index_t h = 0; h < inputs.call.h_q(); ++h)
        for (index_t x = (h * k_n + t + 1) * d_k; x < (h + 1) * k_n * d_k; ++x)
          changed.q[static_cast<std::size_t>(x)] *= 4;
      for (std::size_t e = 0; e < declared.size(); ++e) {
        const auto& shape = changed.call.extra[e].shape();
        for (index_t h = 0; h < shape[0]; ++h)
          for (index_t x = (h * shape[1] + t + 1) * shape[2]; x < (h + 1) * shape[1] * shape[2]; ++x)
            changed.extra[e][static_cast<std::size_t>(x)] *=
                declared[e].values == ExtraInput::Values::unit_interval ? 0.5f : strength;
      }
      const std::vector<float> after = forward(*variant.method, changed.call);
      for (index_t h = 0; h < inputs.call.h_q(); ++h) {
        const auto rows = [&](const std::vector<float>& o) {
          return std::span(o).subspan(static_cast<std::size_t>(h * k_n * d_v),
                                      static_cast<std::size_t>((t + 1) * d_v));
        };
        // Not even by rounding: what comes later must not decide how the sums of earlier rows are formed.
        const double change = distance(rows(before), rows(after));
        if (!(change == 0))
          return fmt::format("rows 0 .. {} of head {} changed by {:.3g} with the keys and values after them",
                             t, h, change);
      }
    }
    return {};
  });
}

Verdict heads_do_not_mix(const Subject& subject) {
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const bool causal = some_mode(*variant.method);
    const AttentionSizes sizes{.h_q = 4, .h_kv = 4, .causal = causal};
    AttentionInputs inputs(*variant.method, sizes, seed), swapped(*variant.method, sizes, seed);
    const std::vector<float> before = forward(*variant.method, inputs.call);
    // Heads may differ by construction (decays), so they are not permuted: one is changed, the others must
    // stay.
    for (auto* values : {&swapped.q, &swapped.k, &swapped.v})
      for (std::size_t x = values->size() / 4; x < values->size() / 2; ++x)
        (*values)[x] = -2 * (*values)[x] + 0.5f;
    const std::vector<float> after = forward(*variant.method, swapped.call);
    const std::size_t head = before.size() / 4;
    for (const std::size_t h : {0UL, 2UL, 3UL})
      if (!(distance(std::span(before).subspan(h * head, head), std::span(after).subspan(h * head, head)) ==
            0))
        return fmt::format("head {} changed with the inputs of head 1", h);
    if (distance(std::span(before).subspan(head, head), std::span(after).subspan(head, head)) == 0)
      return "head 1 did not change with its own inputs";
    return {};
  });
}

Verdict keys_may_be_permuted(const Subject& subject) {
  if (!subject.make<Attention>()->traits().bidirectional) return not_applicable("causal only");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    if (variant.method->traits().fixed_length_only) return {};  // its projections belong to places
    if (variant.method->traits().order_dependent) return {};
    AttentionInputs inputs(*variant.method, {.causal = false}, seed),
        reversed(*variant.method, {.causal = false}, seed);
    const auto reverse_tokens = [](std::vector<float>& values, const TensorView<const float, 3>& view) {
      const index_t n = view.shape(1), d = view.shape(2);
      const std::vector<float> old = values;
      for (index_t h = 0; h < view.shape(0); ++h)
        for (index_t t = 0; t < n; ++t)
          std::copy_n(old.begin() + (h * n + n - 1 - t) * d, d, values.begin() + (h * n + t) * d);
    };
    reverse_tokens(reversed.k, reversed.call.k);
    reverse_tokens(reversed.v, reversed.call.v);
    const std::vector<ExtraInput> declared = variant.method->extra_inputs(inputs.call.context);
    for (std::size_t e = 0; e < declared.size(); ++e)
      if (declared[e].tokens == ExtraInput::Tokens::key)
        reverse_tokens(reversed.extra[e], reversed.call.extra[e]);
    const double change =
        distance(forward(*variant.method, inputs.call), forward(*variant.method, reversed.call));
    const double bound = 10 * variant.method->traits().max_error * error_unit(inputs.call, nullptr);
    return change <= bound
               ? ""
               : fmt::format("the output changed by {:.3g} when keys and values were reversed together",
                             change);
  });
}

/// Weights of all heads, row by row, to a check of (row sum, smallest weight, query row).
std::string every_row(const AttentionVariant& variant, Seed seed,
                      const std::function<std::string(double, double)>& check) {
  for (const bool causal : modes(*variant.method)) {
    const AttentionInputs inputs(*variant.method, {.causal = causal}, seed);
    const index_t n_q = inputs.call.n_q(), n_k = inputs.call.n_k();
    std::vector<float> storage(static_cast<std::size_t>(n_q * n_k));
    const TensorView<float, 2> weights(storage.data(), {n_q, n_k});
    for (index_t h = 0; h < inputs.call.h_q(); ++h) {
      effective_weights(*variant.method, inputs.call, h, 0, n_q, weights);
      for (index_t r = 0; r < n_q; ++r) {
        double sum = 0, smallest = 0;
        for (float w : weights.row(r)) {
          sum += static_cast<double>(w);
          if (std::isnan(w) || static_cast<double>(w) < smallest)
            smallest = static_cast<double>(w);  // NaN stays
        }
        if (const std::string failure = check(sum, smallest); !failure.empty())
          return fmt::format("head {} row {}, causal {}: {}", h, r, causal, failure);
      }
    }
  }
  return {};
}

Verdict rows_sum_to_one_when_claimed(const Subject& subject) {
  if (!subject.make<Attention>()->traits().row_normalised) return not_applicable("not claimed");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->traits().row_normalised) return {};
    return every_row(variant, seed, [](double sum, double) {
      return std::abs(sum - 1) <= 1e-5 ? "" : fmt::format("weights sum to {:.9g}", sum);
    });
  });
}

Verdict weights_are_not_negative_when_claimed(const Subject& subject) {
  if (!subject.make<Attention>()->traits().non_negative) return not_applicable("not claimed");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->traits().non_negative) return {};
    return every_row(variant, seed, [](double, double smallest) {
      return smallest >= 0 ? "" : fmt::format("a weight is {:.3g}", smallest);
    });
  });
}

Verdict rows_without_keys_are_zero(const Subject& subject) {
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    for (const bool causal : modes(*variant.method)) {
      const auto all_zero = [](const std::vector<float>& o) {
        return std::ranges::all_of(o, [](float x) { return x == 0; });
      };
      AttentionInputs none(*variant.method, {.n_q = 5, .n_k = 0, .causal = causal}, seed);
      if (!all_zero(forward(*variant.method, none.call)))
        return fmt::format("without keys, causal {}: the output is not zero", causal);
      PositionPlan plan;
      plan.visible = {{.query = {20, 40}}};
      if (!variant.method->refuses(plan).empty()) continue;
      AttentionInputs some(*variant.method, {.causal = causal}, seed);
      some.call.position = &plan;
      const std::vector<float> o = forward(*variant.method, some.call);
      for (index_t h = 0; h < some.call.h_q(); ++h)
        for (index_t r = 0; r < some.call.n_q(); ++r) {
          const auto row =
              std::span(o).subspan(static_cast<std::size_t>((h * some.call.n_q() + r) * some.call.d_v()),
                                   static_cast<std::size_t>(some.call.d_v()));
          const bool zero = std::ranges::all_of(row, [](float x) { return x == 0; });
          if ((r < 20 || r >= 40) && !zero)
            return fmt::format("row {} sees no key, causal {}, but is not zero", r, causal);
        }
    }
    return {};
  });
}

bool all_finite(std::span<const float> o, const AttentionCall& call, index_t head, index_t row) {
  return std::ranges::all_of(o.subspan(static_cast<std::size_t>((head * call.n_q() + row) * call.d_v()),
                                       static_cast<std::size_t>(call.d_v())),
                             [](float x) { return std::isfinite(x); });
}

/// Faults are put into the first head only: its own rows must show them, rows that do not see them must not.
Verdict does_not_hide_nan(const Subject& subject) {
  const auto method = subject.make<Attention>();
  const bool rows_interact = method->traits().rows_interact;
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    constexpr index_t k_at = 40;
    const AttentionSizes sizes{.h_q = 1, .h_kv = 1, .causal = some_mode(*variant.method)};
    const auto put = [&](std::vector<float> AttentionInputs::*where, index_t width, float value) {
      auto inputs = std::make_unique<AttentionInputs>(*variant.method, sizes, seed);
      (*inputs.*where)[static_cast<std::size_t>(k_at * width + 3)] = value;
      return inputs;
    };
    constexpr float k_nan = std::numeric_limits<float>::quiet_NaN(),
                    k_inf = std::numeric_limits<float>::infinity();
    const auto probe = AttentionInputs(*variant.method, sizes, seed).call;
    const index_t d_k = probe.d_k(), d_v = probe.d_v(), n = probe.n_q();
    {
      const auto inputs = put(&AttentionInputs::q, d_k, k_nan);
      const std::vector<float> o = forward(*variant.method, inputs->call);
      if (all_finite(o, inputs->call, 0, k_at)) return "a query with NaN gave a finite output";
      for (index_t r = 0; r < n && !rows_interact; ++r)
        if (r != k_at && !all_finite(o, inputs->call, 0, r))
          return fmt::format("NaN in query row {} reached output row {}", k_at, r);
    }
    for (const bool in_values : {false, true}) {
      const auto inputs =
          in_values ? put(&AttentionInputs::v, d_v, k_nan) : put(&AttentionInputs::k, d_k, k_nan);
      const std::vector<float> o = forward(*variant.method, inputs->call);
      // A value may have weight 0 in some rows, so one row must show it; a score that is NaN has no weight. Rows that do
      // not see it may show it as well: 0 * NaN is NaN, in a product of matrices by blocks as in one of whole ones.
      bool shown = false;
      for (index_t r = 0; r < n; ++r) {
        const bool sees = !sizes.causal || r >= k_at, finite = all_finite(o, inputs->call, 0, r);
        shown = shown || !finite;
        if (sees && finite && !in_values)
          return fmt::format("a key with NaN gave a finite output in row {}, which sees it", r);
      }
      if (!shown) return "a value with NaN gave finite outputs everywhere";
    }
    {
      const auto inputs = put(&AttentionInputs::q, d_k, k_inf);
      const std::vector<float> o = forward(*variant.method, inputs->call);
      if (!all_finite(o, inputs->call, 0, k_at)) return {};
      // Finite is right only where it is right in float64, too (bounded weights).
      const std::optional<reference::AttentionWeightsOf> truth = reference_of(subject, variant.spec);
      if (!truth) return "a query with +infinity gave a finite output";
      const Matrix expected = output_of(subject, variant.spec).value()(inputs->call, 0);
      for (index_t c = 0; c < d_v; ++c) {
        const auto found = static_cast<double>(o[static_cast<std::size_t>(k_at * d_v + c)]);
        if (!(std::abs(found - expected(k_at, c)) <= 1e-3))
          return fmt::format("a query with +infinity gave {:.6g} in column {}, float64 gives {:.6g}", found,
                             c, expected(k_at, c));
      }
    }
    return {};
  });
}

constexpr Rule k_rules[] = {
    {"AgreesWithReference",
     "the output is within max_error of float64, for scores up to 80 and sizes 0, 1, 63, 65, 127",
     agrees_with_reference},
    {"SmallAndLargeKeysAgreeWithReference",
     "normalised recurrences are within max_error of float64 for keys moved by -24, -16 and 16 in all "
     "components",
     small_and_large_keys_agree_with_reference},
    {"AgreesWithReferenceInLongContexts", "sampled rows over 8192 keys are within max_error of float64",
     agrees_with_reference_in_long_contexts},
    {"WholeRowsAreExact",
     "weights made from whole rows (projections, top-k) are within 1e-5 of float64 for up to 4096 keys",
     whole_rows_are_exact},
    {"MatchesGoldenValues", "the output equals values from an independent source", matches_golden_values},
    {"DoesNotSeeTheFuture", "later keys and values change no earlier row of a causal call",
     does_not_see_the_future},
    {"HeadsDoNotMix", "the inputs of one head change no other head", heads_do_not_mix},
    {"KeysMayBePermuted", "without positions and mask, the order of the keys does not matter",
     keys_may_be_permuted},
    {"RowsSumToOneWhenClaimed", "row_normalised: weights of a visible row sum to 1",
     rows_sum_to_one_when_claimed},
    {"WeightsAreNotNegativeWhenClaimed", "non_negative: no weight is below 0",
     weights_are_not_negative_when_claimed},
    {"RowsWithoutKeysAreZero", "a row that sees no key is written as zeros", rows_without_keys_are_zero},
    {"DoesNotHideNaN", "NaN in a query, key or value and +infinity in a query are not turned into numbers",
     does_not_hide_nan},
};

}  // namespace

std::span<const Rule> attention_rules() {
  static const std::vector<Rule> rules = [] {
    std::vector<Rule> all(std::begin(k_rules), std::end(k_rules));
    for (const std::span<const Rule> more :
         {attention_form_rules(), attention_gradient_rules(), chunk_rules()})
      all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return rules;
}

}  // namespace borel::contract
