// Rules of the mechanisms made of the chunk engine: long contexts and strong decays against float64.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "contract/attention_subject.hpp"

namespace borel::contract {
namespace {

const ChunkAttention* chunk_method(const Attention& method) {
  return dynamic_cast<const ChunkAttention*>(&method);
}

/// The recurrence of chunk_engine.hpp in double, token after token, on the method's own maps; no positions.
class Recurrence64 {
 public:
  Recurrence64(const ChunkAttention& method, const AttentionCall& call, index_t head)
      : method_(method),
        call_(call),
        head_(head),
        form_(method.form()),
        f_(method.feature_size(call.context)) {
    q_ = map(ExtraInput::Tokens::query, call.n_q());
    k_ = map(ExtraInput::Tokens::key, call.n_k());
    if (form_.log_keys && !k_.empty()) largest_log_ = static_cast<double>(std::ranges::max(k_));
  }

  /// The outputs, and per row a bound on sum_j |w_ij|, which errors are relative to.
  void run(std::vector<double>& o, std::vector<double>& unit) const {
    const index_t n = call_.n_q(), d_v = call_.d_v(), width = width_of();
    const auto at = [](index_t x) { return static_cast<std::size_t>(x); };
    std::vector<double> s(at(f_ * d_v), 0.0), z(at(f_), 0.0), size(at(f_), 0.0), written(at(d_v));
    std::vector<TensorView<const float, 2>> extra;
    const ChunkRows keys = rows(ExtraInput::Tokens::key, n, extra);
    std::vector<float> decay(at(n * std::max<index_t>(1, width)), 0.0f), strength(at(n), 1.0f),
        bonus(at(f_), 1.0f);
    if (width > 0) method_.log_decay(keys, {decay.data(), {n, width}});
    if (form_.delta_rule) method_.write_strength(keys, strength);
    if (form_.read_before_write) method_.bonus(keys, bonus);
    o.assign(at(n * d_v), 0.0), unit.assign(at(n), 0.0);
    for (index_t t = 0; t < n; ++t) {
      const auto q = [&](index_t c) { return static_cast<double>(q_[at(t * f_ + c)]); };
      const auto k = [&](index_t c) {
        const auto x = static_cast<double>(k_[at(t * f_ + c)]);
        return form_.log_keys ? std::exp(x - largest_log_) : x;  // any common factor cancels
      };
      const auto v = [&](index_t c) { return static_cast<double>(call_.v(call_.kv_head(head_), t, c)); };
      const auto read = [&] {
        for (index_t c = 0; c < f_; ++c) {
          for (index_t x = 0; x < d_v; ++x) o[at(t * d_v + x)] += q(c) * s[at(c * d_v + x)];
          unit[at(t)] += std::abs(q(c)) * size[at(c)];
        }
      };
      if (form_.read_before_write) read();
      for (index_t c = 0; c < f_ && width > 0; ++c) {
        const double a = std::exp(static_cast<double>(decay[at(t * width + (width == 1 ? 0 : c))]));
        for (index_t x = 0; x < d_v; ++x) s[at(c * d_v + x)] *= a;
        z[at(c)] *= a, size[at(c)] *= a;
      }
      for (index_t x = 0; x < d_v; ++x) {
        double known = 0;
        for (index_t c = 0; c < f_ && form_.delta_rule; ++c) known += k(c) * s[at(c * d_v + x)];
        written[at(x)] = static_cast<double>(strength[at(t)]) * (v(x) - known);
      }
      double own = 0;
      for (index_t c = 0; c < f_; ++c) {
        for (index_t x = 0; x < d_v; ++x) s[at(c * d_v + x)] += k(c) * written[at(x)];
        z[at(c)] += k(c), size[at(c)] += std::abs(k(c));
        own += q(c) * static_cast<double>(bonus[at(c)]) * k(c);
      }
      if (form_.read_before_write) {
        for (index_t x = 0; x < d_v; ++x) o[at(t * d_v + x)] += own * v(x);
        unit[at(t)] += std::abs(own);
      } else {
        read();
      }
      if (!form_.normalised) continue;
      double denominator = form_.epsilon;
      for (index_t c = 0; c < f_; ++c) denominator += q(c) * z[at(c)];
      for (index_t x = 0; x < d_v; ++x)
        o[at(t * d_v + x)] = denominator == 0 ? 0 : o[at(t * d_v + x)] / denominator;
      unit[at(t)] = denominator == 0 ? 0 : unit[at(t)] / denominator;
    }
  }

 private:
  index_t width_of() const {
    return form_.decay == ChunkForm::Decay::none ? 0 : form_.decay == ChunkForm::Decay::token ? 1 : f_;
  }
  ChunkRows rows(ExtraInput::Tokens side, index_t n, std::vector<TensorView<const float, 2>>& extra) const {
    const std::vector<ExtraInput> declared = method_.extra_inputs(call_.context);
    for (std::size_t e = 0; e < declared.size(); ++e) {
      const index_t source = declared[e].heads == ExtraInput::Heads::query ? head_ : call_.kv_head(head_);
      extra.push_back(declared[e].tokens == side ? call_.extra[e][source] : TensorView<const float, 2>());
    }
    return {call_.context, call_.parameters, head_, 0, n, extra};
  }
  std::vector<float> map(ExtraInput::Tokens side, index_t n) const {
    std::vector<TensorView<const float, 2>> extra;
    const ChunkRows about = rows(side, n, extra);
    std::vector<float> out(static_cast<std::size_t>(n * f_));
    if (side == ExtraInput::Tokens::query)
      method_.query_features(about, call_.q[head_], {out.data(), {n, f_}});
    else
      method_.key_features(about, call_.k[call_.kv_head(head_)], {out.data(), {n, f_}});
    return out;
  }

  const ChunkAttention& method_;
  const AttentionCall& call_;
  index_t head_;
  ChunkForm form_;
  index_t f_;
  std::vector<float> q_, k_;
  double largest_log_ = 0;
};

std::string against_recurrence(const ChunkAttention& method, const AttentionCall& call,
                               const std::vector<float>& found) {
  const double largest_v = error_unit(call, nullptr);
  std::vector<double> expected, unit;
  for (index_t h = 0; h < call.h_q(); ++h) {
    Recurrence64(method, call, h).run(expected, unit);
    for (index_t r = 0; r < call.n_q(); ++r)
      for (index_t c = 0; c < call.d_v(); ++c) {
        const auto x = static_cast<std::size_t>(r * call.d_v() + c);
        const double value =
            static_cast<double>(found[static_cast<std::size_t>(h * call.n_q() * call.d_v()) + x]);
        const double bound =
            method.traits().max_error * largest_v * std::max(1.0, unit[static_cast<std::size_t>(r)]);
        if (!(std::abs(value - expected[x]) <= bound))
          return fmt::format("head {} row {} column {}: {:.9g}, float64 recurrence {:.9g}, allowed {:.3g}", h,
                             r, c, value, expected[x], bound);
      }
  }
  return {};
}

std::string both_forms_against_recurrence(const ChunkAttention& method, const AttentionCall& call,
                                          Seed seed) {
  std::string failure = against_recurrence(method, call, forward(method, call));
  if (!failure.empty()) return "forward, " + failure;
  failure = against_recurrence(method, call, run_steps(method, *method.step(), call, nullptr, seed));
  return failure.empty() ? "" : "steps, " + failure;
}

Verdict long_contexts_agree_with_float64(const Subject& subject) {
  if (!chunk_method(*subject.make<Attention>())) return not_applicable("not made of chunks");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const ChunkAttention& method = *chunk_method(*variant.method);
    if (!method.traits().causal) return {};
    const AttentionInputs inputs(method, {.h_q = 1, .h_kv = 1, .n_q = 64, .n_k = 64}, seed);
    const bool wide = method.feature_size(inputs.call.context) > 64;
    const index_t n = wide ? 2048 : 8192;  // wide states cost as much at a quarter of the length
    const AttentionInputs long_inputs(method, {.h_q = 1, .h_kv = 1, .n_q = n, .n_k = n, .d_k = 16, .d_v = 4},
                                      seed);
    return both_forms_against_recurrence(method, long_inputs.call, seed);
  });
}

/// The same token over and over: what one sum rounds away, the next one rounds away again.
Verdict sums_keep_their_accuracy(const Subject& subject) {
  const auto probe = subject.make<Attention>();
  if (!chunk_method(*probe) || !chunk_method(*probe)->form().normalised)
    return not_applicable("not a normalised recurrence");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const ChunkAttention& method = *chunk_method(*variant.method);
    constexpr index_t k_n = 16384;
    AttentionInputs inputs(method, {.h_q = 1, .h_kv = 1, .n_q = k_n, .n_k = k_n, .d_k = 4, .d_v = 2}, seed);
    for (std::vector<float>* values : {&inputs.q, &inputs.k, &inputs.v}) {
      const auto width = static_cast<index_t>(values->size()) / k_n;
      for (index_t x = width; x < k_n * width; ++x)
        (*values)[static_cast<std::size_t>(x)] = (*values)[static_cast<std::size_t>(x - width)];
    }
    return both_forms_against_recurrence(method, inputs.call, seed);
  });
}

/// Decays from nothing to far below what float32 can hold, in one context.
void make_decays_strong(const Attention& method, AttentionInputs& inputs, Seed seed) {
  const std::vector<ExtraInput> declared = method.extra_inputs(inputs.call.context);
  for (std::size_t e = 0; e < declared.size(); ++e) {
    const bool decay = declared[e].values == ExtraInput::Values::non_positive;
    if (!decay && declared[e].values != ExtraInput::Values::non_negative) continue;
    Rng rng(seed.derive("strength"));
    for (float& x : inputs.extra[e])
      x *= static_cast<float>(std::pow(10.0, 8 * rng.uniform() - (decay ? 4 : 7)));
  }
}

Verdict strong_decays_stay_correct(const Subject& subject) {
  const auto probe = subject.make<Attention>();
  if (!chunk_method(*probe) || chunk_method(*probe)->form().decay == ChunkForm::Decay::none)
    return not_applicable("no decay");
  if (probe->extra_inputs({}).empty()) return not_applicable("the decay takes no input");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const ChunkAttention& method = *chunk_method(*variant.method);
    AttentionInputs inputs(method, {.h_q = 2, .h_kv = 1, .n_q = 300, .n_k = 300}, seed);
    make_decays_strong(method, inputs, seed);
    const std::vector<float> expected = forward(method, inputs.call);
    if (const std::string failure = against_recurrence(method, inputs.call, expected); !failure.empty())
      return failure;
    for (const index_t chunk : {1, 16, 300}) {
      std::vector<float> o(expected.size(), std::nanf(""));
      method.forward_in_chunks(inputs.call, {o.data(), {2, 300, inputs.call.d_v()}}, chunk);
      const double largest = std::ranges::max(expected, {}, [](float x) { return std::abs(x); });
      const double bound =
          4 * method.traits().max_error * std::max({1.0, largest, error_unit(inputs.call, nullptr)});
      if (const double difference = distance(expected, o); !(difference <= bound))
        return fmt::format("chunk {}: differs by {:.3g} > {:.3g}", chunk, difference, bound);
    }
    return {};
  });
}

/// Plans for n_q = n_k = 1, key_offset = t: a token costs O(1), not O(t) for the positions of all keys before it.
Verdict steps_take_the_plan_of_one_token(const Subject& subject) {
  if (!chunk_method(*subject.make<Attention>())) return not_applicable("not made of chunks");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    const ChunkAttention& method = *chunk_method(*variant.method);
    constexpr index_t k_n = 40;
    AttentionInputs inputs(method, {.h_q = 1, .h_kv = 1, .n_q = k_n, .n_k = k_n, .d_v = 4}, seed);
    const AttentionCall& call = inputs.call;
    for (const std::string& id : subject.registry.ids<PositionEncoding>()) {
      const auto encoding = subject.registry.make<PositionEncoding>(id);
      const PositionTraits traits = encoding->traits();
      if (traits.n_axes > 1 || traits.length_dependent || !encoding->parameters(1, 16, 16).empty()) continue;
      const std::optional<PositionPlan> plan = plan_for(*encoding, method, call, seed);
      if (!plan || !method.refuses(*plan).empty()) continue;
      AttentionCall whole = call;
      whole.position = &*plan;
      const std::vector<float> expected = forward(method, whole);
      std::vector<float> state(static_cast<std::size_t>(method.state_size(call.context))), o(4);
      method.start(call.context, call.parameters, state);
      for (index_t t = 0; t < k_n; ++t) {
        PositionContext context = position_context(method, call);
        context.n_q = context.n_k = 1, context.query_offset = context.key_offset = t;
        context.seed = seed;
        const PositionPlan own = position_plan(*encoding, context);
        std::vector<TensorView<const float, 2>> extra;
        for (const auto& input : call.extra) extra.push_back(input[0].slice(0, t, t + 1));
        method.step({t, call.q[0].slice(0, t, t + 1), call.k[0].slice(0, t, t + 1),
                     call.v[0].slice(0, t, t + 1), &own, extra, call.parameters, call.context},
                    state, {o.data(), {1, 4}});
        const double difference =
            distance(std::span(expected).subspan(static_cast<std::size_t>(4 * t), 4), o);
        const double largest = std::ranges::max(expected, {}, [](float x) { return std::abs(x); });
        const double bound =
            4 * method.traits().max_error *
            std::max({1.0, static_cast<double>(std::abs(largest)), error_unit(call, nullptr)});
        if (!(difference <= bound))
          return fmt::format("position '{}', token {}: differs from forward by {:.3g} > {:.3g}", id, t,
                             difference, bound);
      }
    }
    return {};
  });
}

constexpr Rule k_rules[] = {
    {"StepsTakeThePlanOfOneToken",
     "a step with the positions of its own token alone gives the row of forward",
     steps_take_the_plan_of_one_token},
    {"LongContextsAgreeWithFloat64",
     "8192 tokens, 2048 of wide states, agree with the recurrence in float64, in chunks and in steps",
     long_contexts_agree_with_float64},
    {"SumsKeepTheirAccuracy",
     "normalised: one token 16384 times gives what the recurrence in float64 gives, in chunks and in steps",
     sums_keep_their_accuracy},
    {"StrongDecaysStayCorrect",
     "decays from none to far below float32 give finite, correct outputs in any chunk",
     strong_decays_stay_correct},
};

}  // namespace

std::span<const Rule> chunk_rules() { return k_rules; }

}  // namespace borel::contract
