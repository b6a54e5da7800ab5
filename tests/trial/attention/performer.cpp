// Performer (Choromanski et al., arXiv 2009.14794): softmax kernel by positive random features,
//   phi(x) = exp(W x' - |x'|^2 / 2) / sqrt(m),  x' = x d^(-1/4),  W block-orthogonal with chi(d) row lengths.
// Without a stabiliser: a per-key constant would change the weights (only a common one cancels).
#include <cmath>
#include <vector>

#include "borel/attention.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_epsilon = 1e-30;

void fill_block_orthogonal(Rng& rng, index_t d, std::span<float> values) {
  const TensorView<float, 2> w(values.data(), {static_cast<index_t>(values.size()) / d, d});
  for (index_t block = 0; block < w.shape(0); block += d)
    for (index_t r = block; r < std::min(block + d, w.shape(0)); ++r) {
      rng.fill_normal(w.row(r));
      double chi = 0;
      for (index_t c = 0; c < d; ++c) chi += std::pow(rng.normal(), 2);
      // Gram-Schmidt against the rows of this block, then the length of a Gaussian vector.
      for (index_t other = block; other < r; ++other) {
        double inner = 0, square = 0;
        for (index_t c = 0; c < d; ++c) {
          inner += static_cast<double>(w(r, c)) * w(other, c);
          square += static_cast<double>(w(other, c)) * w(other, c);
        }
        for (index_t c = 0; c < d; ++c) w(r, c) -= static_cast<float>(inner / square * w(other, c));
      }
      double length = 0;
      for (float x : w.row(r)) length += static_cast<double>(x) * x;
      for (float& x : w.row(r)) x = static_cast<float>(x * std::sqrt(chi / length));
    }
}

class Performer final : public Attention {
 public:
  struct Params {
    std::int64_t features = 256;
    void declare(ParamBinder& p) {
      p.integer("features", features, Range::at_least(1), "1", "random features m");
    }
  };
  explicit Performer(const Params& params) : p_(params) {}

  AttentionTraits traits() const override {
    return {.row_normalised = true, .non_negative = true, .max_error = 1e-4};
  }

  std::vector<ParameterTensor> parameters(const AttentionContext& context) const override {
    return {{.name = "projection",
             .shape = {p_.features, context.d_k},
             .trainable = false,
             .init = [d = context.d_k](Rng& rng,
                                       std::span<float> values) { fill_block_orthogonal(rng, d, values); },
             .doc = "block-orthogonal random directions W"}};
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    const index_t m = p_.features, d_v = call.d_v();
    for (index_t head = 0; head < call.h_q(); ++head) {
      const index_t h = call.kv_head(head);
      std::vector<double> sums(static_cast<std::size_t>(m * (d_v + 1)), 0);
      index_t next = 0;
      for (index_t i = 0; i < call.n_q(); ++i) {
        const index_t end = call.causal ? std::min(call.n_k(), i + call.query_offset + 1) : call.n_k();
        for (; next < end; ++next) {
          const std::vector<double> phi = features(call, false, next, call.k.row(h, next));
          for (index_t f = 0; f < m; ++f) {
            double* row = &sums[static_cast<std::size_t>(f * (d_v + 1))];
            for (index_t c = 0; c < d_v; ++c) row[c] += phi[static_cast<std::size_t>(f)] * call.v(h, next, c);
            row[d_v] += phi[static_cast<std::size_t>(f)];
          }
        }
        const std::vector<double> phi = features(call, true, i, call.q.row(head, i));
        std::vector<double> out(static_cast<std::size_t>(d_v + 1), 0);
        for (index_t f = 0; f < m; ++f)
          for (index_t c = 0; c <= d_v; ++c)
            out[static_cast<std::size_t>(c)] +=
                phi[static_cast<std::size_t>(f)] * sums[static_cast<std::size_t>(f * (d_v + 1) + c)];
        for (index_t c = 0; c < d_v; ++c)
          o(head, i, c) = static_cast<float>(out[static_cast<std::size_t>(c)] / (out.back() + k_epsilon));
      }
    }
  }
  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(context.h_kv * p_.features * (context.d_v + 1));
  }

 private:
  std::vector<double> features(const AttentionCall& call, bool query, index_t row,
                               std::span<const float> x) const {
    std::vector<float> turned(x.begin(), x.end());
    const auto d = static_cast<index_t>(x.size());
    if (call.position && !call.position->bands.empty()) {
      const Band& band = call.position->bands.front();
      const std::vector<double>& table = query ? *band.query_position : *band.key_position;
      const auto axes = static_cast<std::size_t>(band.n_axes);
      rotate_rows(*call.position, band, std::span(table).subspan(static_cast<std::size_t>(row) * axes, axes),
                  query ? 1 : -1, 0, TensorView<const float, 2>(x.data(), {1, d}),
                  TensorView<float, 2>(turned.data(), {1, d}));
    }
    const double scale = std::pow(static_cast<double>(d), -0.25);
    double half_square = 0;
    for (float& c : turned) half_square += 0.5 * std::pow(scale * c, 2);
    const TensorView<const float, 2> w(call.parameters[0].data(), {p_.features, d});
    std::vector<double> phi;
    for (index_t f = 0; f < p_.features; ++f) {
      double inner = -half_square;
      for (index_t c = 0; c < d; ++c) inner += scale * w(f, c) * turned[static_cast<std::size_t>(c)];
      phi.push_back(std::exp(inner) / std::sqrt(static_cast<double>(p_.features)));
    }
    return phi;
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Attention, Performer>("performer",
                                     {.summary = "positive random features", .source = "arXiv 2009.14794"});
}
