// Every form of the chunk engine, also those that no plugin uses, against the recurrence in float64.
#include "borel/draft/chunk_engine.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>

#include "borel/draft/feature_maps.hpp"
#include "borel/error.hpp"

namespace {

using borel::AttentionCall;
using borel::ChunkForm;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

constexpr index_t k_n = 150, k_d = 6, k_d_v = 5;

/// q and k as they are, or positive when normalised; gates and strengths are extra inputs.
struct AnyForm final : borel::ChunkAttention {
  explicit AnyForm(const ChunkForm& form) : form_(form) {}
  borel::AttentionTraits traits() const override { return {.bidirectional = false}; }
  ChunkForm form() const override { return form_; }
  index_t feature_size(const borel::AttentionContext&) const override { return k_d; }
  std::vector<borel::ExtraInput> extra_inputs(const borel::AttentionContext&) const override {
    return {{.name = "gate", .width = k_d}, {.name = "strength"}};
  }
  void query_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override { map(in, out); }
  void key_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override { map(in, out); }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    for (index_t t = 0; t < rows.n; ++t)
      for (index_t c = 0; c < out.shape(1); ++c) out(t, c) = rows.extra[0](t, c);
  }
  void write_strength(const ChunkRows& rows, std::span<float> out) const override {
    for (std::size_t t = 0; t < out.size(); ++t) out[t] = rows.extra[1](static_cast<index_t>(t), 0);
  }
  void bonus(const ChunkRows&, std::span<float> out) const override { std::ranges::fill(out, 0.7f); }
  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, Rows, Rows out, Rows d_out,
                               const ChunkRowGradients& into) const override {
    through_map(out, d_out, into.d_in);
  }
  void key_features_backward(const ChunkRows&, Rows, Rows out, Rows d_out,
                             const ChunkRowGradients& into) const override {
    through_map(out, d_out, into.d_in);
  }
  void log_decay_backward(const ChunkRows& rows, Rows d_out, const ChunkRowGradients& into) const override {
    for (index_t t = 0; t < rows.n; ++t)
      for (index_t c = 0; c < d_out.shape(1); ++c) into.d_extra[0](t, c) += d_out(t, c);
  }
  void write_strength_backward(const ChunkRows& rows, std::span<const float> d_out,
                               const ChunkRowGradients& into) const override {
    for (index_t t = 0; t < rows.n; ++t) into.d_extra[1](t, 0) += d_out[static_cast<std::size_t>(t)];
  }

 private:
  void map(Rows in, TensorView<float, 2> out) const {
    if (form_.normalised)
      borel::exp_rows(in, 1, {}, out);
    else
      borel::scale_rows(in, 1, out);
  }
  void through_map(Rows out, Rows d_out, TensorView<float, 2> d_in) const {
    for (index_t t = 0; t < out.shape(0); ++t)
      for (index_t c = 0; c < k_d; ++c) d_in(t, c) += (form_.normalised ? out(t, c) : 1.0f) * d_out(t, c);
  }
  ChunkForm form_;
};

struct Inputs {
  explicit Inputs(double gate_strength) {
    borel::Rng rng(borel::Seed{7});
    for (std::vector<float>* values : {&q, &k, &gate}) values->resize(k_n * k_d);
    v.resize(k_n * k_d_v), strength.resize(k_n);
    for (std::vector<float>* values : {&q, &k, &v}) rng.fill_normal(std::span<float>(*values));
    for (float& x : k) x *= 0.4f;  // |beta k k^T| < 2, so that the delta rule does not expand
    for (float& x : gate)
      x = static_cast<float>(-gate_strength * std::abs(rng.normal()) * std::pow(10, 3 * rng.uniform() - 3));
    for (float& x : strength) x = static_cast<float>(rng.uniform());
    views = {{gate.data(), {1, k_n, k_d}}, {strength.data(), {1, k_n, 1}}};
    call.q = {q.data(), {1, k_n, k_d}}, call.k = {k.data(), {1, k_n, k_d}},
    call.v = {v.data(), {1, k_n, k_d_v}};
    call.extra = views;
    call.context = {.d_k = k_d, .d_v = k_d_v};  // of any length: sums of two floats
  }
  Inputs(const Inputs&) = delete;
  std::vector<float> q, k, v, gate, strength;
  std::vector<TensorView<const float, 3>> views;
  AttentionCall call;
};

std::vector<double> recurrence(const ChunkForm& form, const Inputs& in) {
  std::vector<double> o(k_n * k_d_v, 0.0), s(k_d * k_d_v, 0.0), z(k_d, 0.0);
  const auto at = [](index_t x) { return static_cast<std::size_t>(x); };
  const auto feature = [&](const std::vector<float>& x, index_t t, index_t c) {
    const auto value = static_cast<double>(x[at(t * k_d + c)]);
    return form.normalised ? std::exp(value) : value;
  };
  for (index_t t = 0; t < k_n; ++t) {
    const auto read = [&](index_t x) {
      double sum = 0;
      for (index_t c = 0; c < k_d; ++c) sum += feature(in.q, t, c) * s[at(c * k_d_v + x)];
      return sum;
    };
    double own = 0, denominator = form.normalised ? form.epsilon : 1;
    for (index_t x = 0; x < k_d_v && form.read_before_write; ++x) o[at(t * k_d_v + x)] = read(x);
    for (index_t c = 0; c < k_d && form.decay != ChunkForm::Decay::none; ++c) {
      const bool token = form.decay == ChunkForm::Decay::token;
      const double a = std::exp(static_cast<double>(in.gate[at(t * k_d + (token ? 0 : c))]));
      for (index_t x = 0; x < k_d_v; ++x) s[at(c * k_d_v + x)] *= a;
      z[at(c)] *= a;
    }
    for (index_t x = 0; x < k_d_v; ++x) {
      auto u = static_cast<double>(in.v[at(t * k_d_v + x)]);
      for (index_t c = 0; c < k_d && form.delta_rule; ++c) u -= feature(in.k, t, c) * s[at(c * k_d_v + x)];
      if (form.delta_rule) u *= static_cast<double>(in.strength[at(t)]);
      for (index_t c = 0; c < k_d; ++c) s[at(c * k_d_v + x)] += feature(in.k, t, c) * u;
    }
    for (index_t c = 0; c < k_d; ++c) {
      z[at(c)] += feature(in.k, t, c);
      own += static_cast<double>(0.7f) * feature(in.q, t, c) * feature(in.k, t, c);
      if (form.normalised) denominator += feature(in.q, t, c) * z[at(c)];
    }
    for (index_t x = 0; x < k_d_v; ++x) {
      double& out = o[at(t * k_d_v + x)];
      out = form.read_before_write ? out + own * static_cast<double>(in.v[at(t * k_d_v + x)]) : read(x);
      out /= denominator;
    }
  }
  return o;
}

struct FormCase {
  std::string name;
  ChunkForm form;
};
void PrintTo(const FormCase& made, std::ostream* out) { *out << made.name; }

std::vector<FormCase> forms() {
  using Decay = ChunkForm::Decay;
  return {{"Plain", {}},
          {"Normalised", {.normalised = true, .epsilon = 1e-3}},
          {"TokenDecay", {.decay = Decay::token}},
          {"ChannelDecay", {.decay = Decay::channel}},
          {"NormalisedTokenDecay", {.decay = Decay::token, .normalised = true, .epsilon = 1e-3}},
          {"NormalisedChannelDecay", {.decay = Decay::channel, .normalised = true, .epsilon = 1e-3}},
          {"Delta", {.delta_rule = true}},
          {"DeltaTokenDecay", {.decay = Decay::token, .delta_rule = true}},
          {"DeltaChannelDecay", {.decay = Decay::channel, .delta_rule = true}},  // Kimi delta attention
          {"BonusTokenDecay", {.decay = Decay::token, .read_before_write = true}},
          {"BonusChannelDecay", {.decay = Decay::channel, .read_before_write = true}}};
}

class EveryForm : public testing::TestWithParam<FormCase> {};

TEST_P(EveryForm, AgreesWithTheRecurrenceInAnyChunkAndBySteps) {
  const AnyForm method(GetParam().form);
  for (const double gates : {0.3, 30.0, 3000.0}) {
    Inputs in(gates);
    in.gate[40 * k_d] = -std::numeric_limits<float>::infinity();  // a gate that is shut
    const std::vector<double> expected = recurrence(GetParam().form, in);
    double largest = 1;
    for (double x : expected) largest = std::max(largest, std::abs(x));
    for (const index_t chunk : {1, 7, 64, 150}) {
      std::vector<float> o(k_n * k_d_v, std::nanf(""));
      method.forward_in_chunks(in.call, {o.data(), {1, k_n, k_d_v}}, chunk);
      for (std::size_t x = 0; x < o.size(); ++x)
        ASSERT_LE(std::abs(static_cast<double>(o[x]) - expected[x]), 2e-5 * largest)
            << "chunk " << chunk << " gates " << gates << " at " << x;
    }
    std::vector<float> state(static_cast<std::size_t>(method.state_size(in.call.context))), o(k_d_v);
    method.start(in.call.context, {}, state);
    for (index_t t = 0; t < k_n; ++t) {
      const auto row = [t](const std::vector<float>& x, index_t width) {
        return TensorView<const float, 2>(x.data() + t * width, {1, width});
      };
      const std::vector<TensorView<const float, 2>> extra = {row(in.gate, k_d), row(in.strength, 1)};
      method.step({t, row(in.q, k_d), row(in.k, k_d), row(in.v, k_d_v), nullptr, extra, {}, in.call.context},
                  state, {o.data(), {1, k_d_v}});
      for (std::size_t x = 0; x < o.size(); ++x)
        ASSERT_LE(std::abs(static_cast<double>(o[x]) - expected[static_cast<std::size_t>(t * k_d_v) + x]),
                  2e-5 * largest)
            << "step " << t << " gates " << gates;
    }
  }
}

TEST_P(EveryForm, GradientsAreThoseOfTheRecurrence) {
  const AnyForm method(GetParam().form);
  Inputs in(3);
  std::vector<float> o(k_n * k_d_v), d_o(o.size());
  borel::Rng(borel::Seed{11}).fill_normal(std::span<float>(d_o));
  method.forward(in.call, {o.data(), {1, k_n, k_d_v}});
  struct Tensor {
    const char* name;
    std::vector<float>* values;
    std::vector<float> gradient;
  };
  std::vector<Tensor> tensors = {{"q", &in.q, {}},
                                 {"k", &in.k, {}},
                                 {"v", &in.v, {}},
                                 {"gate", &in.gate, {}},
                                 {"strength", &in.strength, {}}};
  for (Tensor& t : tensors) t.gradient.assign(t.values->size(), 0.0f);
  const std::vector<TensorView<float, 3>> d_extra = {{tensors[3].gradient.data(), {1, k_n, k_d}},
                                                     {tensors[4].gradient.data(), {1, k_n, 1}}};
  method.backward()->backward(in.call, {o.data(), {1, k_n, k_d_v}}, {}, {d_o.data(), {1, k_n, k_d_v}},
                              {{tensors[0].gradient.data(), {1, k_n, k_d}},
                               {tensors[1].gradient.data(), {1, k_n, k_d}},
                               {tensors[2].gradient.data(), {1, k_n, k_d_v}},
                               d_extra,
                               {},
                               nullptr});
  const auto loss = [&] {
    const std::vector<double> out = recurrence(GetParam().form, in);
    double sum = 0;
    for (std::size_t x = 0; x < out.size(); ++x) sum += out[x] * static_cast<double>(d_o[x]);
    return sum;
  };
  for (const Tensor& t : tensors) {
    double largest = 1;
    for (float g : t.gradient) largest = std::max(largest, std::abs(static_cast<double>(g)));
    for (std::size_t x = 1; x < t.values->size(); x += t.values->size() / 23) {
      float& value = (*t.values)[x];
      const float start = value;
      const auto slope = [&](float step) {
        value = start + step;
        const double up = loss(), high = static_cast<double>(value);
        value = start - step;
        const double down = loss(), low = static_cast<double>(value);
        value = start;
        return (up - down) / (high - low);
      };
      const double expected = (4 * slope(1.0f / 512) - slope(1.0f / 256)) / 3;
      ASSERT_LE(std::abs(static_cast<double>(t.gradient[x]) - expected), 1e-4 * largest)
          << t.name << " " << x;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ChunkEngine, EveryForm, testing::ValuesIn(forms()),
                         [](const auto& made) { return made.param.name; });

TEST(ChunkEngineForms, RefusesFormsThatHaveNoMeaning) {
  Inputs in(1);
  std::vector<float> o(k_n * k_d_v);
  const TensorView<float, 3> out(o.data(), {1, k_n, k_d_v});
  for (const ChunkForm& form :
       {ChunkForm{.normalised = true, .delta_rule = true},
        ChunkForm{.normalised = true, .read_before_write = true},
        ChunkForm{.delta_rule = true, .read_before_write = true}, ChunkForm{.log_keys = true},
        ChunkForm{.read_before_write = true, .shared_keys = true}})
    EXPECT_THROW(AnyForm(form).forward(in.call, out), borel::MethodError);
}

TEST(ChunkEngineForms, SharedKeysHaveOneStateAKeyHead) {
  const borel::AttentionContext context{.h_q = 8, .h_kv = 2, .d_k = k_d, .d_v = k_d_v, .max_n = k_n};
  EXPECT_EQ(AnyForm({}).state_size(context), 8 * k_d * k_d_v);
  EXPECT_EQ(AnyForm({.shared_keys = true}).state_size(context), 2 * k_d * k_d_v);
  EXPECT_EQ(AnyForm({.normalised = true, .shared_keys = true}).state_size(context), 2 * k_d * (k_d_v + 1));
  borel::AttentionContext long_context = context;  // sums of two floats
  long_context.max_n = 257;
  EXPECT_EQ(AnyForm({.normalised = true, .shared_keys = true}).state_size(long_context),
            2 * 2 * k_d * (k_d_v + 1));
  // 2 f d_v operations a token: queries of eight heads read, keys of eight or two heads write.
  const double one = 2.0 * k_d * k_d_v * k_n, within = 64.0 * (k_d + k_d_v) * k_n;
  EXPECT_DOUBLE_EQ(AnyForm({}).flops(context, k_n, k_n), 8 * (one + within) + 8 * one);
  EXPECT_DOUBLE_EQ(AnyForm({.shared_keys = true}).flops(context, k_n, k_n), 8 * (one + within) + 2 * one);
}

}  // namespace
