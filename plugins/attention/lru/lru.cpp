// Linear recurrent unit in the roles of attention. Orvieto et al. 2023, arXiv:2303.06349, sections 3.2 to 3.4; real
// form and context: Su 2023, kexue.fm/archives/9554. Every channel c of a head has one learned eigenvalue lambda_c:
//
//   S_t = diag(lambda) S_{t-1} + gamma conj(k_t) v_t^T,   o_t = Re(q_t^T S_t),   gamma_c = sqrt(1 - |lambda_c|^2)
//
//   eigenvalue = real      lambda_c = exp(-exp(nu_c)), d_k of them
//   eigenvalue = complex   lambda_c = exp(-exp(nu_c) + i exp(theta_c)), d_k / 2 of them; components c and c + d_k / 2 of q
//                          and k are real and imaginary part: decay and rotation in real arithmetic, the real form
//
// Started as in the paper (lemma 3.2): |lambda| uniform on the ring [r_min, r_max], phases in [0, max_phase].
// gamma is tied to lambda, as in Griffin (arXiv:2402.19427); the paper starts it so and trains it apart. Causal only.
#include <cmath>

#include <string>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

class LinearRecurrentUnit final : public borel::ChunkAttention {
 public:
  enum class Eigenvalue { real, complex };
  struct Params {
    Eigenvalue eigenvalue = Eigenvalue::real;
    double r_min = 0.9, r_max = 0.999, max_phase = 0.314;
    void declare(borel::ParamBinder& p) {
      p.choice("eigenvalue", eigenvalue, {{"real", Eigenvalue::real}, {"complex", Eigenvalue::complex}},
               "Decay alone, or decay and rotation of pairs of channels.");
      p.real("r_min", r_min, borel::Range::right_open(0, 1), "1", "Smallest |lambda| at the start.");
      p.real("r_max", r_max, borel::Range::open(0, 1), "1", "Largest |lambda| at the start.");
      p.real("max_phase", max_phase, borel::Range::left_open(0, 6.2832), "rad",
             "Largest phase at the start.");
    }
    void check() const {
      if (r_min >= r_max)
        throw borel::ParamError("r_min must be below r_max, got " + std::to_string(r_min) + " and " +
                                std::to_string(r_max));
    }
  };
  explicit LinearRecurrentUnit(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.bidirectional = false, .own_scale = true, .max_error = 1e-5};
  }
  borel::ChunkForm form() const override { return {.decay = borel::ChunkForm::Decay::channel}; }
  index_t feature_size(const AttentionContext& context) const override {
    if (complex() && context.d_k % 2 != 0)
      throw borel::MethodError("lru{eigenvalue=complex} pairs channels, so d_k must be even, is " +
                               std::to_string(context.d_k));
    return context.d_k;
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    const index_t n = complex() ? context.d_k / 2 : context.d_k;
    std::vector<borel::ParameterTensor> all;
    all.push_back({.name = "nu",
                   .shape = {context.h_q, n},
                   .init =
                       [p = params_](borel::Rng& rng, std::span<float> values) {
                         const double low = p.r_min * p.r_min, high = p.r_max * p.r_max;
                         for (float& x : values)
                           x = static_cast<float>(
                               std::log(-0.5 * std::log(low + (high - low) * (1 - rng.uniform()))));
                       },
                   .doc = "log(-log |lambda|) by head and channel."});
    if (complex())
      all.push_back({.name = "theta",
                     .shape = {context.h_q, n},
                     .init =
                         [p = params_](borel::Rng& rng, std::span<float> values) {
                           for (float& x : values)
                             x = static_cast<float>(std::log(p.max_phase * (1 - rng.uniform())));
                         },
                     .doc = "Logarithm of the phase of lambda by head and channel."});
    return all;
  }

  void query_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
    if (complex()) turn(rows, out);
  }
  void key_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    for (index_t c = 0; c < in.shape(1); ++c) {
      const auto by = static_cast<float>(gamma(rows, c));
      for (index_t t = 0; t < rows.n; ++t) out(t, c) = by * in(t, c);
    }
    if (complex()) turn(rows, out);
  }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    for (index_t c = 0; c < out.shape(1); ++c) {
      const auto l = static_cast<float>(log_modulus(rows, c));
      for (index_t t = 0; t < rows.n; ++t) out(t, c) = l;
    }
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows& rows, Rows, Rows out, Rows d_out,
                               const ChunkRowGradients& into) const override {
    const borel::Scratch<float> storage(out.size());
    const TensorView<float, 2> d_plain(storage.data(), out.shape());
    turn_back(rows, out, d_out, d_plain, into);
    borel::add_rows(d_plain, 1, into.d_in);
  }
  void key_features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out,
                             const ChunkRowGradients& into) const override {
    const borel::Scratch<float> storage(out.size());
    const TensorView<float, 2> d_plain(storage.data(), out.shape());
    turn_back(rows, out, d_out, d_plain, into);
    for (index_t c = 0; c < in.shape(1); ++c) {
      const double by = gamma(rows, c), l = log_modulus(rows, c);
      double d_gamma = 0;
      for (index_t t = 0; t < rows.n; ++t) {
        into.d_in(t, c) += static_cast<float>(by) * d_plain(t, c);
        d_gamma += static_cast<double>(in(t, c) * d_plain(t, c));
      }
      // gamma^2 = 1 - exp(2 l), d l / d nu = l
      add_nu(rows, c, d_gamma * -std::exp(2 * l) / by * l, into);
    }
  }
  void log_decay_backward(const ChunkRows& rows, Rows d_out, const ChunkRowGradients& into) const override {
    for (index_t c = 0; c < d_out.shape(1); ++c) {
      double sum = 0;
      for (index_t t = 0; t < rows.n; ++t) sum += static_cast<double>(d_out(t, c));
      add_nu(rows, c, sum * log_modulus(rows, c), into);
    }
  }

 private:
  bool complex() const { return params_.eigenvalue == Eigenvalue::complex; }
  /// Place of channel c's eigenvalue in the parameters.
  std::size_t place(const ChunkRows& rows, index_t c) const {
    const index_t n = complex() ? rows.context.d_k / 2 : rows.context.d_k;
    return static_cast<std::size_t>(rows.head * n + c % n);
  }
  double log_modulus(const ChunkRows& rows, index_t c) const {
    return -std::exp(static_cast<double>(rows.parameters[0][place(rows, c)]));
  }
  double gamma(const ChunkRows& rows, index_t c) const {
    return std::sqrt(-std::expm1(2 * log_modulus(rows, c)));
  }
  void add_nu(const ChunkRows& rows, index_t c, double d_nu, const ChunkRowGradients& into) const {
    if (!into.d_parameters.empty() && !into.d_parameters[0].empty())
      into.d_parameters[0][place(rows, c)] += static_cast<float>(d_nu);
  }

  /// Multiplies pair c of the token at place t by exp(i theta_c t); the angle stays in double.
  void turn(const ChunkRows& rows, TensorView<float, 2> x) const {
    const index_t half = x.shape(1) / 2;
    for (index_t c = 0; c < half; ++c) {
      const double phase = std::exp(static_cast<double>(rows.parameters[1][place(rows, c)]));
      for (index_t t = 0; t < rows.n; ++t) {
        const double angle = phase * static_cast<double>(rows.first_token + t);
        const auto cosine = static_cast<float>(std::cos(angle)), sine = static_cast<float>(std::sin(angle));
        const float real = x(t, c), imaginary = x(t, c + half);
        x(t, c) = real * cosine - imaginary * sine;
        x(t, c + half) = real * sine + imaginary * cosine;
      }
    }
  }
  void turn_back(const ChunkRows& rows, Rows out, Rows d_out, TensorView<float, 2> d_in,
                 const ChunkRowGradients& into) const {
    if (!complex()) return borel::scale_rows(d_out, 1, d_in);
    const index_t half = out.shape(1) / 2;
    for (index_t c = 0; c < half; ++c) {
      const double phase = std::exp(static_cast<double>(rows.parameters[1][place(rows, c)]));
      double d_phase = 0;
      for (index_t t = 0; t < rows.n; ++t) {
        const auto place_of_token = static_cast<double>(rows.first_token + t);
        const auto cosine = static_cast<float>(std::cos(phase * place_of_token)),
                   sine = static_cast<float>(std::sin(phase * place_of_token));
        const float real = d_out(t, c), imaginary = d_out(t, c + half);
        d_in(t, c) = real * cosine + imaginary * sine;
        d_in(t, c + half) = imaginary * cosine - real * sine;
        d_phase += place_of_token * static_cast<double>(imaginary * out(t, c) - real * out(t, c + half));
      }
      if (into.d_parameters.size() > 1 && !into.d_parameters[1].empty())
        into.d_parameters[1][place(rows, c)] += static_cast<float>(phase * d_phase);
    }
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, LinearRecurrentUnit>(
      "lru",
      {.summary = "Linear recurrent unit: one learned eigenvalue per channel, real or complex in real form",
       .formula = "S_t = diag(lambda) S_{t-1} + sqrt(1 - |lambda|^2) conj(k_t) v_t^T,  o_t = Re(S_t^T q_t)",
       .source = "Orvieto et al. 2023, arXiv:2303.06349, sections 3.2 to 3.4",
       .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
       .notes = "gamma tied to lambda; eigenvalue = complex adds the rotation"});
}
