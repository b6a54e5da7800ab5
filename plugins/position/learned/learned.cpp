// Learned absolute positions: one vector per position, added to the token embeddings. Gehring et al. 2017, arXiv:1705.03122;
// BERT (Devlin et al. 2018, arXiv:1810.04805: 512 positions, N(0, 0.02)).
//
//   x[t] += table[t],   t < max_length; longer contexts are refused
#include <algorithm>
#include <string>

#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

void check_length(index_t length, index_t max_length) {
  if (length > max_length)
    throw borel::MethodError(
        "position learned: its table ends at max_length = " + std::to_string(max_length) +
        ", the context has " + std::to_string(length) + " tokens; raise max_length and train it");
}

class Table final : public borel::TokenEmbedding {
 public:
  explicit Table(index_t max_length) : max_length_(max_length) {}

  void add(const PositionContext&, borel::ParameterValues parameters, index_t first_token,
           borel::TensorView<float, 2> x) const override {
    check_length(first_token + x.shape(0), max_length_);
    const index_t d = x.shape(1);
    for (index_t row = 0; row < x.shape(0); ++row)
      for (index_t c = 0; c < d; ++c)
        x(row, c) += parameters[0][static_cast<std::size_t>((first_token + row) * d + c)];
  }

  void backward(const PositionContext&, index_t first_token, borel::TensorView<const float, 2> d_x,
                borel::ParameterGradients gradients) const override {
    if (gradients[0].empty()) return;
    const index_t d = d_x.shape(1);
    for (index_t row = 0; row < d_x.shape(0); ++row)
      for (index_t c = 0; c < d; ++c)
        gradients[0][static_cast<std::size_t>((first_token + row) * d + c)] += d_x(row, c);
  }

 private:
  index_t max_length_;
};

class Learned final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t max_length = 512;
    double init_sigma = 0.02;
    void declare(borel::ParamBinder& p) {
      p.integer("max_length", max_length, borel::Range::closed(1, 1 << 24), "tokens", "Rows of the table.");
      p.real("init_sigma", init_sigma, borel::Range::closed(0, 100), "1",
             "Standard deviation of the initial values.");
    }
  };
  explicit Learned(const Params& params) : params_(params), table_(params.max_length) {}

  borel::PositionTraits traits() const override { return {.bounded_length = true}; }

  std::vector<borel::ParameterTensor> parameters(index_t, index_t, index_t d_model) const override {
    const auto sigma = static_cast<float>(params_.init_sigma);
    return {{.name = "position_table",
             .shape = {params_.max_length, d_model},
             .init =
                 [sigma](borel::Rng& rng, std::span<float> values) {
                   rng.fill_normal(values);
                   for (float& x : values) x *= sigma;
                 },
             .doc = "vector of each position",
             .shared_by_layers = true}};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    check_length(std::max(context.n_tokens(), context.query_offset + context.n_q), params_.max_length);
    return {};
  }
  /// The plan holds nothing that is learned; the table's gradient comes from the embedding.
  void backward(const PositionContext&, borel::ParameterValues, const borel::PositionGradients&,
                borel::ParameterGradients) const override {}

  const borel::TokenEmbedding* embedding() const override { return &table_; }

 private:
  Params params_;
  Table table_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Learned>(
      "learned", {.summary = "One learned vector per position, added to the token embeddings",
                  .formula = "x[t] += table[t]",
                  .source = "Gehring et al. 2017, arXiv:1705.03122; Devlin et al. 2018, arXiv:1810.04805",
                  .complexity = "O(n d_model); max_length d_model parameters",
                  .notes = "absolute and bounded: needs a network with token embeddings"});
}
