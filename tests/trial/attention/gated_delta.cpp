// Gated DeltaNet (Yang et al., arXiv 2412.06464), recurrent form, keys normalised to length 1:
//   S_t = a_t S_{t-1} + beta_t k_t (v_t - a_t S_{t-1}^T k_t)^T   [d_k, d_v],   o_t = S_t^T q_t / sqrt(d_k)
// and, with output_norm, an RMS norm with a learned gain per channel.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/attention.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_norm_epsilon = 1e-6;

/// One key-value head's state takes in one token.
void take_in(TensorView<float, 2> state, std::span<const float> k, std::span<const float> v, float log_gate,
             float beta) {
  double length = 0;
  for (float x : k) length += static_cast<double>(x) * x;
  const double inverse = 1 / std::sqrt(length + k_norm_epsilon),
               gate = std::exp(static_cast<double>(log_gate));
  for (index_t c = 0; c < state.shape(1); ++c) {
    double known = 0;
    for (index_t r = 0; r < state.shape(0); ++r)
      known += gate * state(r, c) * k[static_cast<std::size_t>(r)] * inverse;
    const double write = beta * (v[static_cast<std::size_t>(c)] - known);
    for (index_t r = 0; r < state.shape(0); ++r)
      state(r, c) = static_cast<float>(gate * state(r, c) + k[static_cast<std::size_t>(r)] * inverse * write);
  }
}

void read_out(TensorView<const float, 2> state, std::span<const float> q, std::span<float> o) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size()));
  for (index_t c = 0; c < state.shape(1); ++c) {
    double sum = 0;
    for (index_t r = 0; r < state.shape(0); ++r)
      sum += static_cast<double>(state(r, c)) * q[static_cast<std::size_t>(r)];
    o[static_cast<std::size_t>(c)] = static_cast<float>(scale * sum);
  }
}

void normalise(std::span<const float> gain, std::span<float> o) {
  double squares = 0;
  for (float x : o) squares += static_cast<double>(x) * x;
  const double factor = 1 / std::sqrt(squares / static_cast<double>(o.size()) + k_norm_epsilon);
  for (std::size_t c = 0; c < o.size(); ++c) o[c] = static_cast<float>(o[c] * factor * gain[c]);
}

/// A row turned by the plan's only band, or as it is.
std::span<const float> turned(const PositionPlan* plan, bool query, index_t row, std::span<const float> in,
                              std::span<float> storage) {
  if (!plan || plan->bands.empty()) return in;
  const Band& band = plan->bands.front();
  const std::vector<double>& table = query ? *band.query_position : *band.key_position;
  const auto at = static_cast<std::size_t>(row * band.n_axes), axes = static_cast<std::size_t>(band.n_axes);
  const auto d = static_cast<index_t>(in.size());
  rotate_rows(*plan, band, std::span(table).subspan(at, axes), query ? 1 : -1, 0,
              TensorView<const float, 2>(in.data(), {1, d}), TensorView<float, 2>(storage.data(), {1, d}));
  return storage;
}

class GatedDelta final : public Attention, public AttentionStep, public AttentionWeights {
 public:
  struct Params {
    bool output_norm = false;
    void declare(ParamBinder& p) {
      p.flag("output_norm", output_norm, "RMS norm of the output with a learned gain");
    }
  };
  explicit GatedDelta(const Params& params) : p_(params) {}

  AttentionTraits traits() const override {
    return {.bidirectional = false, .linear_in_v = !p_.output_norm, .max_error = 1e-4};
  }

  std::vector<ExtraInput> extra_inputs(const AttentionContext&) const override {
    return {{.name = "log_gate",
             .values = ExtraInput::Values::non_positive,
             .default_value = -0.01,
             .doc = "log a_t"},
            {.name = "beta",
             .values = ExtraInput::Values::unit_interval,
             .default_value = 0.5,
             .doc = "write strength"}};
  }
  std::vector<ParameterTensor> parameters(const AttentionContext& context) const override {
    if (!p_.output_norm) return {};
    return {{.name = "gain",
             .shape = {context.d_v},
             .init = [](Rng&, std::span<float> values) { std::fill(values.begin(), values.end(), 1.0F); },
             .doc = "gain of the output norm per channel"}};
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    run(call, o, p_.output_norm);
  }

  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(state_size(context));
  }

  const AttentionStep* step() const override { return this; }
  index_t state_size(const AttentionContext& context) const override {
    return context.h_kv * context.d_k * context.d_v;
  }
  void start(const AttentionContext&, ParameterValues, std::span<float> state) const override {
    std::fill(state.begin(), state.end(), 0.0F);
  }
  void step(const Token& token, std::span<float> state, TensorView<float, 2> o) const override {
    const index_t h_kv = token.k.shape(0), group = token.q.shape(0) / h_kv, d_k = token.k.shape(1),
                  d_v = token.v.shape(1);
    const TensorView<float, 3> states(state.data(), {h_kv, d_k, d_v});
    std::vector<float> storage(static_cast<std::size_t>(d_k));
    for (index_t h = 0; h < h_kv; ++h) {
      take_in(states[h], turned(token.position, false, token.t, token.k.row(h), storage), token.v.row(h),
              token.extra[0](h, 0), token.extra[1](h, 0));
      for (index_t head = h * group; head < (h + 1) * group; ++head) {
        read_out(states[h], turned(token.position, true, 0, token.q.row(head), storage), o.row(head));
        if (p_.output_norm) normalise(token.parameters[0], o.row(head));
      }
    }
  }

  const AttentionWeights* weights() const override { return p_.output_norm ? this : nullptr; }
  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override {
    const index_t n = call.n_k();
    std::vector<float> identity(static_cast<std::size_t>(n * n), 0.0F);
    for (index_t j = 0; j < n; ++j) identity[static_cast<std::size_t>(j * n + j)] = 1;
    AttentionCall block = call;
    block.v = TensorView<const float, 3>(identity.data(), {call.h_kv(), n, n}, {0, n, 1});
    block.q = call.q.slice(1, begin, end);
    block.query_offset += begin;
    const PositionPlan plan = call.position ? plan_for_rows(*call.position, begin, end) : PositionPlan();
    block.position = &plan;
    std::vector<float> storage(static_cast<std::size_t>(call.h_q() * (end - begin) * n));
    const TensorView<float, 3> o(storage.data(), {call.h_q(), end - begin, n});
    run(block, o, false);
    for (index_t r = 0; r < end - begin; ++r) std::copy_n(o.row(head, r).begin(), n, weights.row(r).begin());
  }

 private:
  static void run(const AttentionCall& call, TensorView<float, 3> o, bool norm) {
    if (!call.causal) throw MethodError("attention gated_delta: the recurrence is causal; set causal = true");
    const index_t group = call.h_q() / call.h_kv();
    std::vector<float> storage(static_cast<std::size_t>(call.d_k()));
    std::vector<float> state(static_cast<std::size_t>(call.d_k() * call.d_v()));
    const TensorView<float, 2> view(state.data(), {call.d_k(), call.d_v()});
    for (index_t h = 0; h < call.h_kv(); ++h) {
      std::fill(state.begin(), state.end(), 0.0F);
      // Row i reads after token i + query_offset, or after the last one.
      index_t next = 0;
      for (index_t i = 0; i < call.n_q(); ++i) {
        call.stop.throw_if_stopped();
        for (; next < call.n_k() && next <= i + call.query_offset; ++next)
          take_in(view, turned(call.position, false, next, call.k.row(h, next), storage), call.v.row(h, next),
                  call.extra[0](h, next, 0), call.extra[1](h, next, 0));
        for (index_t head = h * group; head < (h + 1) * group; ++head) {
          read_out(view, turned(call.position, true, i, call.q.row(head, i), storage), o.row(head, i));
          if (norm) normalise(call.parameters[0], o.row(head, i));
        }
      }
    }
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Attention, GatedDelta>(
      "gated_delta", {.summary = "gated delta rule", .source = "arXiv 2412.06464, equation 10"});
}
