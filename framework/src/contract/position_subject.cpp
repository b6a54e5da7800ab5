#include "contract/position_subject.hpp"

#include <fmt/format.h>

#include <cmath>

#include "borel/attention.hpp"
#include "contract/variants.hpp"

namespace borel::contract {

using reference::Matrix;

PositionSetting::PositionSetting(const PositionEncoding& encoding, index_t n_q, index_t n_k, index_t offset,
                                 bool causal, index_t test_length)
    : context{.n_q = n_q,
              .n_k = n_k,
              .query_offset = offset,
              .n_heads = k_position_heads,
              .d_head = k_position_d,
              .train_length = 24,
              .test_length = test_length,
              .causal = causal,
              .seed = Seed{5}} {
  const index_t n_axes = encoding.traits().n_axes;
  if (n_axes == 1) return;
  for (index_t t = 0; t < n_k; ++t)
    for (index_t axis = 0; axis < n_axes; ++axis)
      coordinates.push_back(static_cast<double>(axis == 0 ? t / 8 : t % 8));
  context.coordinates = {coordinates.data(), {n_k, n_axes}};
}

std::vector<bool> position_modes(const PositionEncoding& encoding) {
  return encoding.traits().causal_only ? std::vector<bool>{true} : std::vector<bool>{true, false};
}

ParameterSet position_parameters(const PositionEncoding& encoding) {
  return {encoding.parameters(k_position_heads, k_position_d, k_position_heads * k_position_d), Seed{9}};
}

PositionPlan make_plan(const PositionEncoding& encoding, const PositionContext& context) {
  const ParameterSet parameters = position_parameters(encoding);
  return position_plan(encoding, context, parameters.values());
}

Matrix scores_of(const PositionPlan& plan, const PositionContext& context, index_t head,
                 std::span<const float> q, std::span<const float> k) {
  if (!plan.ensemble.empty()) {
    Matrix all(0, context.n_k);
    for (const PositionPlan& member : plan.ensemble) {
      const Matrix part = scores_of(member, context, head, q, k);
      all.n_rows += part.n_rows;
      all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    }
    return all;
  }
  AttentionCall call;
  call.q = {q.data(), {context.n_heads, context.n_q, context.d_head}, {0, context.d_head, 1}};
  call.k = {k.data(), {context.n_heads, context.n_k, context.d_head}, {0, context.d_head, 1}};
  call.v = call.k;
  call.causal = context.causal;
  call.query_offset = context.query_offset;
  call.position = &plan;
  return reference::scores(call, head, 1, [](index_t) { return 1.0; });
}

std::vector<float> random_rows(index_t n, Seed seed) {
  std::vector<float> rows(static_cast<std::size_t>(n * k_position_d));
  Rng(seed).fill_normal(std::span<float>(rows));
  return rows;
}

bool same_score(double a, double b, double bound) { return a == b || std::abs(a - b) <= bound; }

Verdict for_every_position(const Subject& subject,
                           const std::function<std::string(const PositionEncoding&)>& check) {
  for (const MethodSpec& spec : choice_variants(subject.registry, subject.method, subject.spec))
    if (const std::string failure = check(*subject.registry.make<PositionEncoding>(spec)); !failure.empty())
      return broken(fmt::format("{}: {}", spec.text(), failure));
  return kept();
}

}  // namespace borel::contract
