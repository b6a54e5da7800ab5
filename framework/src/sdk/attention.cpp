#include "borel/attention.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

std::string text(const std::array<index_t, 3>& shape) {
  return fmt::format("[{}, {}, {}]", shape[0], shape[1], shape[2]);
}

[[noreturn]] void refuse(const std::string& fault) { throw MethodError("attention call: " + fault); }

/// The tables that an engine will index, without looking at their values.
void check_position(const PositionPlan& plan, const AttentionCall& call) {
  for (const PositionPlan& part : plan.ensemble) check_position(part, call);
  if (!plan.ensemble.empty()) return;
  const auto expect = [](std::string_view name, std::size_t held, index_t needed) {
    if (static_cast<index_t>(held) != needed)
      refuse(
          fmt::format("position plan: {} must hold {} values, holds {}; make the plan for this call's sizes",
                      name, needed, held));
  };
  if (plan.key_offset != 0)
    refuse(
        fmt::format("position plan: its first key stands at {}, the call's at 0; make it with key_offset = 0",
                    plan.key_offset));
  if (plan.n_rot_dims < 0 || plan.n_rot_dims % 2 != 0 || plan.n_rot_dims > call.d_k())
    refuse(fmt::format("position plan: n_rot_dims must be even and in [0, {}], is {}", call.d_k(),
                       plan.n_rot_dims));
  for (const Band& band : plan.bands) {
    expect("query_position", band.query_position ? band.query_position->size() : 0, call.n_q() * band.n_axes);
    expect("key_position", band.key_position ? band.key_position->size() : 0, call.n_k() * band.n_axes);
    if (band.angle) expect("angle", band.angle->size(), plan.n_rot_dims / 2 * band.n_axes);
    if (band.log_amplitude) expect("log_amplitude", band.log_amplitude->size(), plan.n_rot_dims / 2);
    if (band.region.distance_stride < 1) refuse("position plan: distance_stride must be >= 1");
  }
  if (plan.bias) expect("bias", plan.bias->size(), call.h_q() * plan.bias_width);
  if (plan.query_scale) expect("query_scale", plan.query_scale->size(), call.n_q());
  if (plan.documents) {
    expect("documents", plan.documents->size(), call.n_k());
    if (call.query_offset + call.n_q() > call.n_k())
      refuse(
          "position plan: documents must cover the queries, but the last query stands beyond the last key");
  }
}

constexpr index_t k_identity_block = 64;  // columns of v per pass in effective_weights
constexpr index_t k_many_keys =
    1024;  // from here on one backward pass costs less than passes over the identity

}  // namespace

Attention::~Attention() = default;

std::string Attention::refuses(const PositionPlan& plan) const {
  const std::string only = " (this mechanism takes no position encoding, or plain rotation only)";
  if (!plan.ensemble.empty()) return "the encoding averages several outputs" + only;
  if (plan.bias) return "the encoding adds a bias to the scores" + only;
  if (plan.query_scale) return "the encoding scales the queries" + only;
  if (!plan.visible.empty() || plan.documents) return "the encoding masks pairs" + only;
  if (plan.query_map || plan.key_map) return "the encoding maps tokens" + only;
  if (plan.bands.size() > 1) return "the encoding has more than one band of distances" + only;
  if (plan.bands.empty()) return {};
  const Band& band = plan.bands.front();
  if (band.region != PairRegion()) return "the rotation holds for a part of the pairs" + only;
  if (band.log_amplitude) return "the rotation has an amplitude" + only;
  if (band.logit_scale != 1) return "the encoding scales the scores" + only;
  return {};
}

double Attention::flops(const AttentionContext&, index_t, index_t) const { return 0; }
std::vector<ExtraInput> Attention::extra_inputs(const AttentionContext&) const { return {}; }
std::vector<ParameterTensor> Attention::parameters(const AttentionContext&) const { return {}; }

namespace {

/// Which plans a mechanism takes: "none", "rotation", "any but averages", "any".
std::string accepted_positions(const Attention& method) {
  PositionPlan rotation, biased, averaged;
  rotation.n_rot_dims = 2;
  rotation.bands.push_back({.angle = make_table({1})});
  biased.bias = std::make_shared<const std::vector<float>>();
  averaged.ensemble.resize(2);
  if (!method.refuses(rotation).empty()) return "none";
  if (!method.refuses(biased).empty()) return "rotation";
  return method.refuses(averaged).empty() ? "any" : "any but averages";
}

}  // namespace

TraitList Attention::describe() const {
  const AttentionTraits t = traits();
  const AttentionContext context;
  const auto yes = [](bool value) { return std::string(value ? "yes" : "no"); };
  std::string extra;
  for (const ExtraInput& input : extra_inputs(context)) extra += (extra.empty() ? "" : ", ") + input.name;
  return {{"causal", yes(t.causal)},
          {"bidirectional", yes(t.bidirectional)},
          {"fixed_length_only", yes(t.fixed_length_only)},
          {"row_normalised", yes(t.row_normalised)},
          {"non_negative", yes(t.non_negative)},
          {"linear_in_v", yes(t.linear_in_v)},
          {"own_scale", yes(t.own_scale)},
          {"order_dependent", yes(t.order_dependent)},
          {"rows_interact", yes(t.rows_interact)},
          {"max_error", fmt::format("{:g}", t.max_error)},
          {"backward", yes(backward() != nullptr)},
          {"step", yes(step() != nullptr)},
          {"position", accepted_positions(*this)},
          {"state_bytes_n1024_d64", step() ? fmt::format("{:.0f}", state_bytes(context, 1024)) : "-"},
          {"extra_inputs", extra.empty() ? "none" : extra},
          {"learnable", yes(!parameters(context).empty())}};
}

void check_call(const Attention& method, const AttentionCall& call, TensorView<const float, 3> o) {
  const AttentionTraits traits = method.traits();
  if (call.h_kv() < 1 || call.h_q() < 1 || call.h_q() % call.h_kv() != 0)
    refuse(fmt::format("the number of query heads ({}) must be a multiple of the number of key heads ({})",
                       call.h_q(), call.h_kv()));
  if (call.d_k() < 1 || call.d_v() < 1) refuse("d_k and d_v must be >= 1");
  if (call.k.shape(2) != call.d_k() || call.v.shape(0) != call.h_kv() || call.v.shape(1) != call.n_k())
    refuse(fmt::format("shapes do not agree: q {}, k {}, v {}", text(call.q.shape()), text(call.k.shape()),
                       text(call.v.shape())));
  if (o.shape() != std::array<index_t, 3>{call.h_q(), call.n_q(), call.d_v()})
    refuse(fmt::format("o must be [{}, {}, {}], is {}", call.h_q(), call.n_q(), call.d_v(), text(o.shape())));
  if (call.query_offset < 0) refuse(fmt::format("query_offset must be >= 0, is {}", call.query_offset));
  if (call.causal && !traits.causal) refuse("this mechanism has no causal form");
  if (!call.causal && !traits.bidirectional) refuse("this mechanism is causal only");
  if (traits.fixed_length_only && call.n_k() > call.context.max_n)
    refuse(fmt::format("this mechanism was prepared for at most {} keys, got {}", call.context.max_n,
                       call.n_k()));

  const std::vector<ExtraInput> declared = method.extra_inputs(call.context);
  if (declared.size() != call.extra.size())
    refuse(fmt::format("{} extra inputs are declared, {} were given; AttentionDefaults makes them",
                       declared.size(), call.extra.size()));
  for (std::size_t e = 0; e < declared.size(); ++e) {
    const std::array<index_t, 3> shape = {
        declared[e].heads == ExtraInput::Heads::query ? call.h_q() : call.h_kv(),
        declared[e].tokens == ExtraInput::Tokens::query ? call.n_q() : call.n_k(), declared[e].width};
    if (call.extra[e].shape() != shape)
      refuse(fmt::format("extra input '{}' must be {}, is {}", declared[e].name, text(shape),
                         text(call.extra[e].shape())));
  }
  const std::vector<ParameterTensor> parameters = method.parameters(call.context);
  if (parameters.size() != call.parameters.size())
    refuse(fmt::format("{} parameter tensors are declared, {} were given; AttentionDefaults makes them",
                       parameters.size(), call.parameters.size()));
  for (std::size_t p = 0; p < parameters.size(); ++p)
    if (parameters[p].size() != static_cast<index_t>(call.parameters[p].size()))
      refuse(fmt::format("parameter '{}' must hold {} values, holds {}", parameters[p].name,
                         parameters[p].size(), call.parameters[p].size()));

  if (!call.position) return;
  if (const std::string reason = method.refuses(*call.position); !reason.empty())
    refuse("position refused: " + reason);
  check_position(*call.position, call);
}

namespace {

/// o = A v is linear in v, so d(o)/d(v) has the rows of A: with d_o[row r] the unit vector e_r, d_v[key j][r] = A[r, j].
void weights_by_gradient(const Attention& method, AttentionCall call, index_t head,
                         TensorView<float, 2> weights) {
  const index_t n = call.n_q(), n_k = call.n_k(), h_q = call.h_q(), h_kv = call.h_kv(), d_k = call.q.shape(2);
  const AttentionBackward& ability = *method.backward();
  const auto floats = [](index_t a, index_t b, index_t c) {
    return std::vector<float>(static_cast<std::size_t>(a * b * c));
  };
  const std::vector<float> zeros = floats(1, n_k, n);
  call.v = {zeros.data(), {h_kv, n_k, n}, {0, n, 1}};
  call.context.d_v = n;
  const index_t n_saved = ability.saved_per_row(call.context);
  std::vector<float> o = floats(h_q, n, n), d_o = floats(h_q, n, n), saved = floats(h_q, n, n_saved),
                     d_q = floats(h_q, n, d_k), d_k_of = floats(h_kv, n_k, d_k), d_v = floats(h_kv, n_k, n);
  for (index_t r = 0; r < n; ++r) d_o[static_cast<std::size_t>((head * n + r) * n + r)] = 1;
  ability.forward_saving(call, {o.data(), {h_q, n, n}}, {saved.data(), {h_q, n, n_saved}});
  const TensorView<float, 3> slope(d_v.data(), {h_kv, n_k, n});
  ability.backward(
      call, {o.data(), {h_q, n, n}}, {saved.data(), {h_q, n, n_saved}}, {d_o.data(), {h_q, n, n}},
      {.d_q = {d_q.data(), {h_q, n, d_k}}, .d_k = {d_k_of.data(), {h_kv, n_k, d_k}}, .d_v = slope});
  const index_t kv_head = head / (h_q / h_kv);
  for (index_t r = 0; r < n; ++r)
    for (index_t j = 0; j < n_k; ++j) weights(r, j) = slope(kv_head, j, r);
}

}  // namespace

void effective_weights(const Attention& method, const AttentionCall& call, index_t head, index_t begin,
                       index_t end, TensorView<float, 2> weights) {
  assert(head >= 0 && head < call.h_q() && begin >= 0 && begin <= end && end <= call.n_q());
  assert(weights.shape(0) == end - begin && weights.shape(1) == call.n_k());
  if (const AttentionWeights* ability = method.weights())
    return ability->rows(call, head, begin, end, weights);
  if (!method.traits().linear_in_v)
    throw MethodError("effective weights: this mechanism is not linear in v, so it has no matrix of weights");
  // Row i of A is A e_j over the unit vectors e_j: forward with blocks of the identity as v, on the asked
  // rows only; for many keys and few rows one backward pass.
  if (method.traits().rows_interact && end - begin < call.n_q()) {  // all rows, then those asked for
    std::vector<float> all(static_cast<std::size_t>(call.n_q() * call.n_k()));
    const TensorView<float, 2> every_row(all.data(), {call.n_q(), call.n_k()});
    effective_weights(method, call, head, 0, call.n_q(), every_row);
    for (index_t r = begin; r < end; ++r) std::ranges::copy(every_row.row(r), weights.row(r - begin).begin());
    return;
  }
  AttentionCall part = call;
  part.q = call.q.slice(1, begin, end);
  part.query_offset = call.query_offset + begin;
  PositionPlan plan;
  if (call.position) plan = plan_for_rows(*call.position, begin, end), part.position = &plan;
  std::vector<TensorView<const float, 3>> extra(call.extra.begin(), call.extra.end());
  const std::vector<ExtraInput> declared = method.extra_inputs(call.context);
  for (std::size_t e = 0; e < declared.size(); ++e)
    if (declared[e].tokens == ExtraInput::Tokens::query) extra[e] = extra[e].slice(1, begin, end);
  part.extra = extra;
  const index_t n_k = call.n_k();
  if (n_k >= k_many_keys && end - begin <= k_identity_block && method.backward())
    return weights_by_gradient(method, part, head, weights);
  std::vector<float> identity(static_cast<std::size_t>(n_k * k_identity_block));
  std::vector<float> columns(static_cast<std::size_t>(call.h_q() * (end - begin) * k_identity_block));
  for (index_t j0 = 0; j0 < n_k; j0 += k_identity_block) {
    const index_t width = std::min(k_identity_block, n_k - j0);
    std::ranges::fill(identity, 0.0f);
    for (index_t c = 0; c < width; ++c) identity[static_cast<std::size_t>((j0 + c) * width + c)] = 1;
    part.v = {identity.data(), {call.h_kv(), n_k, width}, {0, width, 1}};  // one block for all heads
    part.context.d_v = width;
    const TensorView<float, 3> o(columns.data(), {call.h_q(), end - begin, width});
    method.forward(part, o);
    for (index_t row = 0; row < end - begin; ++row)
      std::ranges::copy(o.row(head, row), weights.row(row).begin() + j0);
  }
}

AttentionDefaults::AttentionDefaults(const Attention& method, const AttentionContext& context, index_t n_q,
                                     index_t n_k, Seed seed)
    : context_(context), parameters_(method.parameters(context), seed) {
  for (const ExtraInput& input : method.extra_inputs(context)) {
    const std::array<index_t, 3> shape = {
        input.heads == ExtraInput::Heads::query ? context.h_q : context.h_kv,
        input.tokens == ExtraInput::Tokens::query ? n_q : n_k, input.width};
    extra_storage_.emplace_back(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]),
                                static_cast<float>(input.default_value));
    extra_views_.emplace_back(extra_storage_.back().data(), shape);
  }
}

void AttentionDefaults::attach(AttentionCall& call) const {
  call.context = context_;
  call.extra = extra_views_;
  call.parameters = parameters_.values();
}

}  // namespace borel
