// The forms of one mechanism agree: recurrent, chunked, strided, grouped, by weights, and on any number of
// threads.
#include <fmt/format.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/error.hpp"
#include "contract/attention_subject.hpp"

namespace borel::contract {
namespace {

double bound_of(const Attention& method, const AttentionCall& call) {
  std::vector<float> storage(static_cast<std::size_t>(call.n_q() * call.n_k()));
  double unit = 0;
  for (index_t h = 0; h < call.h_q(); ++h) {
    reference::Matrix weights(call.n_q(), call.n_k());
    if (method.weights() || method.traits().linear_in_v) {
      effective_weights(method, call, h, 0, call.n_q(), {storage.data(), {call.n_q(), call.n_k()}});
      std::ranges::copy(storage, weights.values.begin());
    }
    unit = std::max(unit, error_unit(call, &weights));
  }
  return 2 * method.traits().max_error * unit;  // both forms may be off by max_error
}

Verdict step_equals_forward(const Subject& subject) {
  if (!subject.make<Attention>()->step()) return not_applicable("no recurrent form");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    const Attention& method = *variant.method;
    if (!method.step()) return {};
    AttentionInputs inputs(method, {.n_q = 67, .n_k = 67}, seed);
    std::vector<std::string> encodings = {""};
    for (const std::string& id : subject.registry.ids<PositionEncoding>()) encodings.push_back(id);
    for (const std::string& id : encodings) {
      std::unique_ptr<PositionEncoding> encoding;
      std::optional<PositionPlan> plan;
      inputs.call.position = nullptr;
      if (!id.empty()) {
        encoding = subject.registry.make<PositionEncoding>(id);
        // Learned tables and image axes have their own tests; decoding here is one token of text after
        // another.
        if (encoding->traits().n_axes > 1 || !encoding->parameters(4, 16, 64).empty()) continue;
        plan = plan_for(*encoding, method, inputs.call, seed.derive(id));
        if (!plan || !method.refuses(*plan).empty()) continue;
        inputs.call.position = &*plan;
      }
      const double difference =
          distance(forward(method, inputs.call),
                   run_steps(method, *method.step(), inputs.call, encoding.get(), seed.derive(id)));
      const double bound = bound_of(method, inputs.call);
      if (!(difference <= bound))
        return fmt::format("position '{}': steps differ from forward by {:.3g} > {:.3g}", id, difference,
                           bound);
    }
    return {};
  });
}

Verdict state_bytes_are_honest(const Subject& subject) {
  const auto method = subject.make<Attention>();
  if (!method->step()) return not_applicable("no recurrent form");
  for (const index_t n : {1, 64, 1000}) {
    const AttentionContext context{.h_q = 4, .h_kv = 2, .d_k = 16, .d_v = 8, .max_n = n};
    const double held = 4.0 * static_cast<double>(method->step()->state_size(context)),
                 declared = method->state_bytes(context, n);
    if (!(std::abs(held - declared) <= 0.01 * held))
      return broken(fmt::format("n {}: the state holds {} bytes, state_bytes says {}", n, held, declared));
  }
  return kept();
}

/// What state_bytes counts is what is needed: the state alone carries the text on, and all of it is used.
Verdict state_is_all_that_is_kept(const Subject& subject) {
  if (!subject.make<Attention>()->step()) return not_applicable("no recurrent form");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const AttentionStep* step = variant.method->step();
    if (!step) return {};
    constexpr index_t k_n = 40, k_moved = 23;
    const AttentionInputs inputs(*variant.method, {.n_q = k_n, .n_k = k_n}, seed);
    const AttentionCall& call = inputs.call;
    std::vector<float> first(static_cast<std::size_t>(step->state_size(call.context)));
    step->start(call.context, call.parameters, first);
    std::vector<bool> used(first.size());
    const auto stays =
        run_steps(*variant.method, *step, call, nullptr, seed, [&](index_t, std::vector<float>& state) {
          for (std::size_t x = 0; x < state.size(); ++x)
            if (state[x] != first[x]) used[x] = true;
        });
    std::vector<float> left;  // keeps its memory, so that nobody gets it by chance
    const auto moves =
        run_steps(*variant.method, *step, call, nullptr, seed, [&](index_t t, std::vector<float>& state) {
          if (t != k_moved) return;
          left = state;
          std::ranges::fill(state, std::nanf(""));
          state.swap(left);
        });
    if (stays != moves) return "a copy of the state does not carry the text on";
    const auto n_used = static_cast<double>(std::ranges::count(used, true));
    constexpr double k_used = 0.9;  // features may stay zero, padding may not
    if (!(n_used >= k_used * static_cast<double>(used.size())))
      return fmt::format("only {} of the {} floats of the state are ever written", n_used, used.size());
    return {};
  });
}

Verdict does_not_depend_on_the_chunk(const Subject& subject) {
  if (!dynamic_cast<const ChunkAttention*>(subject.make<Attention>().get()))
    return not_applicable("not made of chunks");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const auto& method = dynamic_cast<const ChunkAttention&>(*variant.method);
    for (const bool causal : modes(method)) {
      const AttentionInputs inputs(method, {.n_q = 131, .n_k = 131, .causal = causal}, seed);
      const std::vector<float> expected = forward(method, inputs.call);
      for (const index_t chunk : {1, 7, 33, 128, 131, 500}) {
        std::vector<float> o(expected.size(), std::nanf(""));
        method.forward_in_chunks(
            inputs.call, {o.data(), {inputs.call.h_q(), inputs.call.n_q(), inputs.call.d_v()}}, chunk);
        const double difference = distance(expected, o), bound = bound_of(method, inputs.call);
        if (!(difference <= bound))
          return fmt::format("chunk {}, causal {}: differs by {:.3g} > {:.3g}", chunk, causal, difference,
                             bound);
      }
    }
    return {};
  });
}

Verdict strides_do_not_matter(const Subject& subject) {
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    AttentionInputs inputs(*variant.method, {.n_q = 65, .n_k = 129, .causal = some_mode(*variant.method)},
                           seed);
    const std::vector<float> expected = forward(*variant.method, inputs.call);
    // The same values as [n, h, d + gap], with NaN in the gaps.
    std::vector<std::vector<float>> storage;
    const auto strided = [&](const TensorView<const float, 3>& view) {
      const index_t h = view.shape(0), n = view.shape(1), d = view.shape(2), row = d + 3;
      std::vector<float>& values = storage.emplace_back(static_cast<std::size_t>(n * h * row), std::nanf(""));
      for (index_t a = 0; a < h; ++a)
        for (index_t t = 0; t < n; ++t) std::ranges::copy(view.row(a, t), values.begin() + (t * h + a) * row);
      return TensorView<const float, 3>(values.data(), {h, n, d}, {row, h * row, 1});
    };
    AttentionCall call = inputs.call;
    call.q = strided(call.q), call.k = strided(call.k), call.v = strided(call.v);
    const index_t h = call.h_q(), n = call.n_q(), d = call.d_v();
    std::vector<float> out(static_cast<std::size_t>(n * h * (d + 2)), 7), packed;
    const TensorView<float, 3> o(out.data(), {h, n, d}, {d + 2, h * (d + 2), 1});
    variant.method->forward(call, o);
    for (index_t a = 0; a < h; ++a)
      for (index_t t = 0; t < n; ++t) packed.insert(packed.end(), o.row(a, t).begin(), o.row(a, t).end());
    if (!(distance(expected, packed) == 0))
      return fmt::format("strided inputs change the output by {:.3g}", distance(expected, packed));
    for (index_t x = d; x < static_cast<index_t>(out.size()); x += d + 2)
      if (out[static_cast<std::size_t>(x)] != 7) return "the method wrote between the rows of o";
    return {};
  });
}

Verdict grouped_heads_equal_repeated_heads(const Subject& subject) {
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const bool causal = some_mode(*variant.method);
    AttentionInputs grouped(*variant.method, {.causal = causal}, seed);
    AttentionInputs repeated(*variant.method, {.h_q = 4, .h_kv = 4, .causal = causal}, seed);
    const auto repeat = [](std::span<const float> from, std::span<float> to) {
      const std::size_t head = from.size() / 2;
      for (std::size_t x = 0; x < to.size(); ++x) to[x] = from[x / head / 2 * head + x % head];
    };
    repeated.q = grouped.q;
    repeated.call.q = {repeated.q.data(), repeated.call.q.shape()};
    repeat(grouped.k, repeated.k);
    repeat(grouped.v, repeated.v);
    const std::vector<ExtraInput> declared = variant.method->extra_inputs(grouped.call.context);
    for (std::size_t e = 0; e < declared.size(); ++e) {
      if (declared[e].heads == ExtraInput::Heads::kv)
        repeat(grouped.extra[e], repeated.extra[e]);
      else
        std::ranges::copy(grouped.extra[e], repeated.extra[e].begin());
    }
    repeated.call.parameters = grouped.call.parameters;
    const double difference =
        distance(forward(*variant.method, grouped.call), forward(*variant.method, repeated.call));
    const double bound = bound_of(*variant.method, grouped.call);
    return difference <= bound
               ? ""
               : fmt::format("two query heads per key head differ from repeated key heads by {:.3g} > {:.3g}",
                             difference, bound);
  });
}

std::vector<std::pair<bool, index_t>> modes_and_sizes(const Attention& method) {
  std::vector<std::pair<bool, index_t>> list;
  for (const bool causal : modes(method))
    for (const index_t n_k : {131, 1100}) list.emplace_back(causal, n_k);
  return list;
}

Verdict weights_times_values_is_forward(const Subject& subject) {
  const auto probe = subject.make<Attention>();
  if (!probe->traits().linear_in_v) return not_applicable("not linear in v");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    // Few keys: by forward passes over the identity. Many: by the gradient with respect to v, where there is one.
    for (const auto& [causal, n_k] : modes_and_sizes(*variant.method)) {
      const AttentionInputs inputs(*variant.method, {.n_q = 66, .n_k = n_k, .causal = causal}, seed);
      const AttentionCall& call = inputs.call;
      const std::vector<float> o = forward(*variant.method, call);
      std::vector<float> storage(static_cast<std::size_t>(20 * call.n_k()), std::nanf(""));
      const TensorView<float, 2> weights(storage.data(), {20, call.n_k()});
      const double bound = bound_of(*variant.method, call);
      for (index_t h = 0; h < call.h_q(); ++h) {
        effective_weights(*variant.method, call, h, 40, 60, weights);
        for (index_t r = 0; r < 20; ++r)
          for (index_t c = 0; c < call.d_v(); ++c) {
            double sum = 0;
            for (index_t j = 0; j < call.n_k(); ++j)
              sum += static_cast<double>(weights(r, j)) * static_cast<double>(call.v(call.kv_head(h), j, c));
            const double found =
                static_cast<double>(o[static_cast<std::size_t>((h * call.n_q() + 40 + r) * call.d_v() + c)]);
            if (!(std::abs(sum - found) <= bound))
              return fmt::format(
                  "head {} row {}, {} keys, causal {}: weights times v give {:.9g}, forward {:.9g}", h,
                  40 + r, n_k, causal, sum, found);
          }
      }
    }
    return {};
  });
}

Verdict same_bits_on_one_and_two_threads(const Subject& subject) {
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    const AttentionInputs inputs(*variant.method,
                                 {.n_q = 333, .n_k = 333, .causal = some_mode(*variant.method)}, seed);
    tbb::task_arena one(1), two(2);
    const std::vector<float> alone = one.execute([&] { return forward(*variant.method, inputs.call); });
    for (int trial = 0; trial < 3; ++trial)
      if (alone != two.execute([&] { return forward(*variant.method, inputs.call); }))
        return "two threads gave other bits than one";
    return {};
  });
}

Verdict instruction_sets_agree(const Subject& subject) {
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    for (const bool causal : modes(*variant.method))
      for (const char* id : {"", "rope"}) {
        AttentionInputs inputs(*variant.method,
                               {.n_q = 61, .n_k = 150, .d_k = 20, .d_v = 12, .causal = causal}, seed);
        std::optional<PositionPlan> plan;
        if (*id) {
          const std::vector<std::string> ids = subject.registry.ids<PositionEncoding>();
          if (std::ranges::find(ids, id) == ids.end()) continue;
          plan = plan_for(*subject.registry.make<PositionEncoding>(id), *variant.method, inputs.call, seed);
          if (!plan || !variant.method->refuses(*plan).empty()) continue;
          inputs.call.position = &*plan;
        }
        const std::vector<float> best = forward(*variant.method, inputs.call);
        const double bound = bound_of(*variant.method, inputs.call);
        const std::string failure = on_every_instruction_set([&](std::string_view target) -> std::string {
          const double difference = distance(best, forward(*variant.method, inputs.call));
          return difference <= bound ? ""
                                     : fmt::format("causal {}, position '{}': {} differs by {:.3g} > {:.3g}",
                                                   causal, id, target, difference, bound);
        });
        if (!failure.empty()) return failure;
      }
    return {};
  });
}

Verdict refuses_bad_calls(const Subject& subject) {
  const auto method = subject.make<Attention>();
  const AttentionInputs inputs(*method, {.causal = some_mode(*method)}, subject.seed);
  const auto refused = [&](const AttentionCall& call) {
    std::vector<float> o(static_cast<std::size_t>(call.h_q() * call.n_q() * inputs.call.d_v()));
    try {
      method->forward(call, {o.data(), {call.h_q(), call.n_q(), inputs.call.d_v()}});
    } catch (const MethodError& error) {
      return std::string_view(error.what()).size() > 20;
    }
    return false;
  };
  AttentionCall call = inputs.call;
  call.k = call.k.slice(2, 0, 7);
  if (!refused(call)) return broken("keys with another d than the queries were accepted");
  call = inputs.call;
  call.v = call.v.slice(1, 0, 3);
  if (!refused(call)) return broken("fewer values than keys were accepted");
  call = inputs.call;
  call.q = call.q.slice(0, 0, 3);
  if (!refused(call)) return broken("3 query heads for 2 key heads were accepted");
  call = inputs.call;
  call.query_offset = -1;
  if (!refused(call)) return broken("a negative query_offset was accepted");
  const std::vector<TensorView<const float, 3>> surplus(call.extra.size() + 1, call.k);
  call = inputs.call;
  call.extra = surplus;
  if (!refused(call)) return broken("an extra input that is not declared was accepted");
  PositionPlan plan;
  plan.n_rot_dims = 4;
  plan.bands.resize(1);
  plan.bands[0].query_position = plan.bands[0].key_position = plan.bands[0].angle = make_table({1, 2});
  call = inputs.call;
  call.position = &plan;
  if (!refused(call)) return broken("a position plan for other sizes was accepted");
  for (const bool causal : {true, false}) {
    call = inputs.call;
    call.causal = causal;
    if (!(causal ? method->traits().causal : method->traits().bidirectional) && !refused(call))
      return broken(fmt::format("causal = {} was accepted against the declared traits", causal));
  }
  return kept();
}

constexpr Rule k_rules[] = {
    {"StepEqualsForward",
     "token by token gives the rows of the causal forward pass, with every position encoding it takes",
     step_equals_forward},
    {"StateBytesAreHonest", "state_bytes is the size of the state that step() keeps", state_bytes_are_honest},
    {"StateIsAllThatIsKept", "a copy of the state carries the text on, bit by bit, and all of it is used",
     state_is_all_that_is_kept},
    {"DoesNotDependOnTheChunk", "chunks of any size give the same output", does_not_depend_on_the_chunk},
    {"StridesDoNotMatter", "strided views give the same bits, and nothing is written between rows",
     strides_do_not_matter},
    {"GroupedHeadsEqualRepeatedHeads", "fewer key heads equal the same key heads repeated",
     grouped_heads_equal_repeated_heads},
    {"WeightsTimesValuesIsForward", "effective weights times v give the output",
     weights_times_values_is_forward},
    {"SameBitsOnOneAndTwoThreads", "the number of threads changes no bit", same_bits_on_one_and_two_threads},
    {"InstructionSetsAgree", "SSE4, AVX2, AVX-512, as far as the processor has them, agree within the bounds",
     instruction_sets_agree},
    {"RefusesBadCalls", "calls that break shapes, offsets, declarations or traits raise MethodError",
     refuses_bad_calls},
};

}  // namespace

std::span<const Rule> attention_form_rules() { return k_rules; }

}  // namespace borel::contract
