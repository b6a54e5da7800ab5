#include "contract/attention_subject.hpp"

#include <fmt/format.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/error.hpp"
#include "contract/variants.hpp"

namespace borel::contract {
namespace {

float draw(const ExtraInput& input, Rng& rng) {
  switch (input.values) {
    case ExtraInput::Values::real:
      return static_cast<float>(rng.normal());
    case ExtraInput::Values::non_negative:
      return static_cast<float>(std::abs(rng.normal()));
    case ExtraInput::Values::unit_interval:
      return static_cast<float>(rng.uniform());
    case ExtraInput::Values::non_positive:
      return static_cast<float>(-0.1 * std::abs(rng.normal()));
  }
  return 0;
}

void fill(std::vector<float>& values, index_t n, double factor, Rng rng) {
  values.resize(static_cast<std::size_t>(n));
  rng.fill_normal(std::span<float>(values));
  for (float& x : values) x *= static_cast<float>(factor);
}

/// Largest |q . k| / sqrt(d_k) over pairs of rows: all of them, or about 512 x 512 of a long call.
double largest_score(const AttentionCall& call) {
  double largest = 0;
  for (index_t h = 0; h < call.h_q(); ++h)
    for (index_t r = 0; r < call.n_q(); r += 1 + call.n_q() / 512)
      for (index_t j = 0; j < call.n_k(); j += 1 + call.n_k() / 512) {
        double sum = 0;
        for (index_t c = 0; c < call.d_k(); ++c)
          sum += static_cast<double>(call.q(h, r, c)) * static_cast<double>(call.k(call.kv_head(h), j, c));
        largest = std::max(largest, std::abs(sum) / std::sqrt(static_cast<double>(call.d_k())));
      }
  return largest;
}

/// Row t of every head, as a token of the recurrent form.
TensorView<const float, 2> token_of(const TensorView<const float, 3>& tensor, index_t t) {
  return {tensor.data() + t * tensor.stride(1), {tensor.shape(0), tensor.shape(2)}, {tensor.stride(0), 1}};
}

}  // namespace

AttentionInputs::AttentionInputs(const Attention& method, const AttentionSizes& s, Seed seed) {
  fill(q, s.h_q * s.n_q * s.d_k, 1, Rng(seed.derive("q")));
  fill(k, s.h_kv * s.n_k * s.d_k, 1, Rng(seed.derive("k")));
  fill(v, s.h_kv * s.n_k * s.d_v, 1, Rng(seed.derive("v")));
  call.q = {q.data(), {s.h_q, s.n_q, s.d_k}};
  call.k = {k.data(), {s.h_kv, s.n_k, s.d_k}};
  call.v = {v.data(), {s.h_kv, s.n_k, s.d_v}};
  const double found = largest_score(call);
  const auto factor = static_cast<float>(found > 0 ? std::sqrt(s.largest_score / found) : 1);
  for (auto* values : {&q, &k})
    for (float& x : *values) x *= factor;
  call.causal = s.causal;
  call.query_offset = std::max<index_t>(0, s.n_k - s.n_q);
  const AttentionContext context{
      .h_q = s.h_q, .h_kv = s.h_kv, .d_k = s.d_k, .d_v = s.d_v, .max_n = s.n_k, .causal = s.causal};
  defaults.emplace(method, context, s.n_q, s.n_k, seed.derive("parameters"));
  defaults->attach(call);
  const std::vector<ExtraInput> declared = method.extra_inputs(context);
  for (std::size_t e = 0; e < declared.size(); ++e) {
    Rng rng(seed.derive(declared[e].name));
    std::vector<float>& values = extra.emplace_back(static_cast<std::size_t>(call.extra[e].size()));
    for (float& x : values) x = draw(declared[e], rng);
    extra_views.emplace_back(values.data(), call.extra[e].shape());
  }
  call.extra = extra_views;
}

PositionContext position_context(const Attention& method, const AttentionCall& call) {
  return {.n_q = call.n_q(),
          .n_k = call.n_k(),
          .query_offset = call.query_offset,
          .n_heads = call.h_q(),
          .d_head = method.plan_d_head(call.context),
          .train_length = std::max<index_t>(8, call.n_k() / 4),
          .test_length = std::max<index_t>(1, call.n_k()),
          .causal = call.causal,
          .scaled_scores = !method.traits().own_scale};
}

std::optional<PositionPlan> plan_for(const PositionEncoding& encoding, const Attention& method,
                                     const AttentionCall& call, Seed seed) {
  PositionContext context = position_context(method, call);
  context.seed = seed;
  std::vector<double> coordinates;
  if (const index_t n_axes = encoding.traits().n_axes; n_axes > 1) {
    for (index_t t = 0; t < call.n_k(); ++t)
      for (index_t axis = 0; axis < n_axes; ++axis)
        coordinates.push_back(static_cast<double>(axis == 0 ? t / 8 : t % 8));
    context.coordinates = {coordinates.data(), {call.n_k(), n_axes}};
  }
  const ParameterSet parameters(encoding.parameters(call.h_q(), context.d_head, call.h_q() * call.d_k()),
                                seed);
  try {
    return position_plan(encoding, context, parameters.values());
  } catch (const MethodError&) {
    return std::nullopt;
  }
}

std::vector<float> forward(const Attention& method, const AttentionCall& call) {
  std::vector<float> o(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v()),
                       std::numeric_limits<float>::quiet_NaN());
  method.forward(call, {o.data(), {call.h_q(), call.n_q(), call.d_v()}});
  return o;
}

std::vector<float> run_steps(const Attention& method, const AttentionStep& step, const AttentionCall& call,
                             const PositionEncoding* encoding, Seed seed,
                             const std::function<void(index_t, std::vector<float>&)>& after_token) {
  std::vector<float> o(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v()));
  std::vector<float> state(static_cast<std::size_t>(step.state_size(call.context)), std::nanf(""));
  step.start(call.context, call.parameters, state);
  for (index_t t = 0; t < call.n_q(); ++t) {
    AttentionCall row = call;
    row.q = call.q.slice(1, t, t + 1), row.k = call.k.slice(1, 0, t + 1), row.v = call.v.slice(1, 0, t + 1);
    row.query_offset = t;
    std::optional<PositionPlan> plan;
    if (encoding) {
      PositionContext context = position_context(method, row);
      context.train_length = position_context(method, call).train_length;
      context.test_length = call.n_k();
      context.seed = seed;
      plan = position_plan(*encoding, context);
    }
    std::vector<TensorView<const float, 2>> extra;
    for (const auto& input : call.extra) extra.push_back(token_of(input, t));
    const AttentionStep::Token token{.t = t,
                                     .q = token_of(call.q, t),
                                     .k = token_of(call.k, t),
                                     .v = token_of(call.v, t),
                                     .position = plan ? &*plan : nullptr,
                                     .extra = extra,
                                     .parameters = call.parameters,
                                     .context = call.context};
    step.step(token, state,
              {o.data() + t * call.d_v(), {call.h_q(), call.d_v()}, {call.n_q() * call.d_v(), 1}});
    if (after_token) after_token(t, state);
  }
  return o;
}

bool some_mode(const Attention& method) { return method.traits().causal; }

std::vector<bool> modes(const Attention& method) {
  std::vector<bool> result;
  if (method.traits().causal) result.push_back(true);
  if (method.traits().bidirectional) result.push_back(false);
  return result;
}

double error_unit(const AttentionCall& call, const reference::Matrix* weights) {
  double largest_v = 0, largest_sum = 1;
  for (index_t h = 0; h < call.h_kv(); ++h)
    for (index_t j = 0; j < call.n_k(); ++j)
      for (float x : call.v.row(h, j)) largest_v = std::max(largest_v, static_cast<double>(std::abs(x)));
  for (index_t r = 0; weights && r < weights->n_rows; ++r) {
    double sum = 0;
    for (index_t j = 0; j < weights->n_cols; ++j) sum += std::abs((*weights)(r, j));
    largest_sum = std::max(largest_sum, sum);
  }
  return largest_v * largest_sum;
}

double distance(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t x = 0; x < a.size(); ++x) {
    const double difference = std::abs(static_cast<double>(a[x]) - static_cast<double>(b[x]));
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

std::vector<AttentionVariant> attention_variants(const Subject& subject) {
  std::vector<AttentionVariant> variants;
  for (const MethodSpec& spec : choice_variants(subject.registry, subject.method, subject.spec))
    variants.push_back({spec, subject.registry.make<Attention>(spec)});
  return variants;
}

Verdict for_every_attention(const Subject& subject,
                            const std::function<std::string(const AttentionVariant&, Seed)>& check) {
  for (const AttentionVariant& variant : attention_variants(subject))
    if (const std::string failure = check(variant, subject.seed); !failure.empty())
      return broken(fmt::format("{}: {}", variant.spec.text(), failure));
  return kept();
}

std::string on_every_instruction_set(const std::function<std::string(std::string_view)>& check) {
  const std::int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  struct Restore {
    ~Restore() { hwy::SetSupportedTargetsForTest(0); }
  } restore;
  for (std::int64_t rest = supported; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    hwy::SetSupportedTargetsForTest(target);
    if (const std::string failure = check(hwy::TargetName(target)); !failure.empty()) return failure;
  }
  return {};
}

}  // namespace borel::contract
