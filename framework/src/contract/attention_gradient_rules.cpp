// Gradients against central differences of the float64 reference, for everything that backward() may be asked for:
// q, k, v, extra inputs, parameters, and the bias, query scale and angles of a position plan.
#include <fmt/format.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/error.hpp"
#include "contract/attention_subject.hpp"

namespace borel::contract {
namespace {

using reference::Matrix;

// Single numbers tried per tensor, besides two random directions that move all of it. Few where the reference is slow.
constexpr int k_components = 8, k_few_components = 2;
// More than the way back takes in one range of keys.
constexpr index_t k_many_keys = 2500;
// A gradient may be off by this share of the tensor's largest component (float32 sums of a few hundred terms), or by
// this many times the method's own max_error, which is about values, not slopes.
constexpr double k_relative_error = 2e-3, k_error_growth = 40;

/// Loss = sum over o of a fixed random factor times o, in float64.
class Loss {
 public:
  Loss(const AttentionCall& call, Seed seed)
      : factors_(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v())) {
    Rng(seed).fill_normal(factors_);
  }
  double operator()(const reference::AttentionOutputOf& output, const AttentionCall& call) const {
    double sum = 0;
    std::size_t x = 0;
    for (index_t h = 0; h < call.h_q(); ++h)
      for (double value : output(call, h).values) sum += value * static_cast<double>(factors_[x++]);
    return sum;
  }
  TensorView<const float, 3> d_o(const AttentionCall& call) const {
    return {factors_.data(), {call.h_q(), call.n_q(), call.d_v()}};
  }

 private:
  std::vector<float> factors_;
};

/// A tensor whose gradient is checked: where its values are, and what backward() said.
template <class T>
struct Checked {
  std::string name;
  std::span<T> values;
  std::vector<double> gradient;
  double unit_step = 1;  ///< what the values move by where others move by 1
};

/// How far the slope of the loss along a direction is from the gradient's, by central differences with steps h and h / 2
/// that are put together by Richardson's rule; nullopt at a kink (relu at 0, a key that enters or leaves the support).
/// Both differences are taken of what the gradient leaves over, with the values as float rounds them: rounding a large
/// bias moves it by more than a small share of the step.
template <class T>
std::optional<double> slope_error(std::span<T> values, std::span<const double> gradient,
                                  std::span<const double> direction, double bound,
                                  const std::function<double()>& loss) {
  const std::vector<T> kept_values(values.begin(), values.end());
  const double here = loss();
  const auto left_over = [&](double step) {
    double predicted = 0;
    for (std::size_t x = 0; x < values.size(); ++x) {
      values[x] = static_cast<T>(static_cast<double>(kept_values[x]) + step * direction[x]);
      predicted += gradient[x] * (static_cast<double>(values[x]) - static_cast<double>(kept_values[x]));
    }
    const double result = loss() - here - predicted;
    std::ranges::copy(kept_values, values.begin());
    return result;
  };
  constexpr double k_step = 1.0 / 512;
  double error[2], bend[2];
  for (const int half : {0, 1}) {
    const double step = half == 0 ? k_step : k_step / 2, above = left_over(step), below = left_over(-step);
    error[half] = (above - below) / (2 * step);
    bend[half] = (above + below) / step;  // curvature times step where smooth; keeps its size at a kink
  }
  // Well below the bound: several small kinks on one path must not add up to a wrong gradient.
  if (!(std::abs(error[0] - error[1]) <= bound / 4) || !(std::abs(bend[1] - bend[0] / 2) <= bound / 4))
    return std::nullopt;
  return (4 * error[1] - error[0]) / 3;
}

struct Tally {
  int n_components = k_components;
  index_t n_compared = 0, n_kinks = 0;
};

/// "" or the first component whose gradient is wrong.
template <class T>
std::string check_tensor(const Checked<T>& tensor, double unit, Rng& rng, Tally& tally,
                         const std::function<double()>& loss) {
  if (tensor.values.empty()) return {};
  double largest = 0;
  for (double g : tensor.gradient) {
    if (!std::isfinite(g)) return fmt::format("gradient of {} is not finite", tensor.name);
    largest = std::max(largest, std::abs(g));
  }
  std::vector<double> direction(tensor.values.size());
  for (int trial = 0; trial < tally.n_components + 2; ++trial) {
    double along = 0, squares = 0;
    std::string where;
    if (trial < tally.n_components) {
      std::ranges::fill(direction, 0.0);
      const std::size_t x = static_cast<std::size_t>(rng.uniform() * static_cast<double>(direction.size()));
      direction[std::min(x, direction.size() - 1)] = tensor.unit_step;
      where = fmt::format("component {}", x);
    } else {
      for (double& d : direction)
        d = tensor.unit_step * rng.normal() / std::sqrt(static_cast<double>(direction.size()));
      where = "a random direction";
    }
    for (std::size_t x = 0; x < direction.size(); ++x)
      along += direction[x] * tensor.gradient[x], squares += direction[x] * direction[x];
    const double bound = std::max(k_relative_error * largest * std::sqrt(squares), unit);
    const std::optional<double> error = slope_error(tensor.values, std::span<const double>(tensor.gradient),
                                                    std::span<const double>(direction), bound, loss);
    ++tally.n_compared;
    if (!error) {
      ++tally.n_kinks;
      continue;
    }
    if (!(std::abs(*error) <= bound))
      return fmt::format(
          "gradient of {}, {}: {:.6g}, central difference of the float64 reference {:.6g}, allowed {:.2g}",
          tensor.name, where, along, along + *error, bound);
  }
  return {};
}

/// Owns the outcome of one backward() with everything asked for.
class BackwardRun {
 public:
  BackwardRun(const Attention& method, const AttentionCall& call, const Loss& loss) {
    const AttentionBackward& ability = *method.backward();
    const index_t h = call.h_q(), n = call.n_q(), d_v = call.d_v();
    o_.resize(static_cast<std::size_t>(h * n * d_v));
    const index_t n_saved = ability.saved_per_row(call.context);
    saved_.resize(static_cast<std::size_t>(h * n * n_saved));
    d_q = zeros(call.q), d_k = zeros(call.k), d_v_ = zeros(call.v);
    AttentionBackward::Gradients gradients;
    gradients.d_q = {d_q.data(), call.q.shape()};
    gradients.d_k = {d_k.data(), call.k.shape()};
    gradients.d_v = {d_v_.data(), call.v.shape()};
    std::vector<TensorView<float, 3>> extra_views;
    for (const auto& input : call.extra) d_extra.push_back(zeros(input));
    for (std::size_t e = 0; e < d_extra.size(); ++e)
      extra_views.emplace_back(d_extra[e].data(), call.extra[e].shape());
    gradients.d_extra = extra_views;
    std::vector<std::span<float>> parameter_views;
    for (const auto& values : call.parameters) d_parameters.emplace_back(values.size(), 0.0f);
    for (auto& values : d_parameters) parameter_views.emplace_back(values);
    gradients.d_parameters = parameter_views;
    PositionGradients d_position;
    if (const PositionPlan* plan = call.position; plan && plan->ensemble.empty()) {
      if (plan->bias) d_bias.assign(plan->bias->size(), 0);
      if (plan->query_scale) d_query_scale.assign(plan->query_scale->size(), 0);
      d_position.bias = d_bias, d_position.query_scale = d_query_scale;
      for (const Band& band : plan->bands) d_angles.emplace_back(band.angle ? band.angle->size() : 0);
      for (auto& d_angle : d_angles) d_position.angle.emplace_back(d_angle);
      gradients.d_position = &d_position;
    }
    ability.forward_saving(call, {o_.data(), {h, n, d_v}}, {saved_.data(), {h, n, n_saved}});
    ability.backward(call, {o_.data(), {h, n, d_v}}, {saved_.data(), {h, n, n_saved}}, loss.d_o(call),
                     gradients);
  }

  std::span<const float> output() const { return o_; }
  bool operator==(const BackwardRun& other) const {
    return o_ == other.o_ && d_q == other.d_q && d_k == other.d_k && d_v_ == other.d_v_ &&
           d_extra == other.d_extra && d_parameters == other.d_parameters && d_bias == other.d_bias &&
           d_query_scale == other.d_query_scale && d_angles == other.d_angles;
  }

  std::vector<float> d_q, d_k, d_v_, d_bias, d_query_scale;
  std::vector<std::vector<float>> d_extra, d_parameters;
  std::vector<std::vector<double>> d_angles;

 private:
  static std::vector<float> zeros(const TensorView<const float, 3>& like) {
    return std::vector<float>(static_cast<std::size_t>(like.size()), 0.0f);
  }
  std::vector<float> o_, saved_;
};

std::vector<double> as_double(std::span<const float> values) { return {values.begin(), values.end()}; }

/// Every tensor of one call. The inputs are changed and restored.
std::string check_gradients(const Attention& method, AttentionInputs& inputs, const PositionPlan* plan,
                            const reference::AttentionOutputOf& truth, Seed seed, Tally& tally) {
  AttentionCall& call = inputs.call;
  // Parameters and plan tables, where the differences may move them.
  std::vector<std::vector<float>> parameters;
  std::vector<std::span<const float>> parameter_views;
  for (const auto& values : call.parameters) parameters.emplace_back(values.begin(), values.end());
  for (auto& values : parameters) parameter_views.emplace_back(values);
  call.parameters = parameter_views;
  PositionPlan own_plan;
  std::shared_ptr<std::vector<float>> bias, query_scale;
  std::vector<std::shared_ptr<std::vector<double>>> angles;  // per band; nullptr without a rotation
  if (plan) {
    own_plan = *plan;
    if (plan->bias) own_plan.bias = bias = std::make_shared<std::vector<float>>(*plan->bias);
    if (plan->query_scale)
      own_plan.query_scale = query_scale = std::make_shared<std::vector<float>>(*plan->query_scale);
    for (Band& band : own_plan.bands) {
      angles.push_back(band.angle ? std::make_shared<std::vector<double>>(*band.angle) : nullptr);
      band.angle = angles.back();
    }
    call.position = &own_plan;
  }
  const Loss loss(call, seed.derive("loss"));
  const BackwardRun found(method, call, loss);
  if (const double difference = distance(forward(method, call), found.output()); !(difference == 0))
    return fmt::format("forward_saving differs from forward by {:.3g}", difference);

  std::vector<Checked<float>> tensors = {{"q", inputs.q, as_double(found.d_q)},
                                         {"k", inputs.k, as_double(found.d_k)},
                                         {"v", inputs.v, as_double(found.d_v_)}};
  const std::vector<ExtraInput> extra = method.extra_inputs(call.context);
  for (std::size_t e = 0; e < extra.size(); ++e)
    tensors.push_back({"extra input " + extra[e].name, inputs.extra[e], as_double(found.d_extra[e])});
  const std::vector<ParameterTensor> declared = method.parameters(call.context);
  for (std::size_t p = 0; p < declared.size(); ++p)
    if (declared[p].trainable)
      tensors.push_back({"parameter " + declared[p].name, parameters[p], as_double(found.d_parameters[p])});
  if (bias) tensors.push_back({"the plan's bias", *bias, as_double(found.d_bias)});
  if (query_scale)
    tensors.push_back({"the plan's query scale", *query_scale, as_double(found.d_query_scale)});
  Rng rng(seed.derive("directions"));
  // An output component may be off by max_error * max|v|; so may its slope, times what a score moves.
  const double unit = k_error_growth * method.traits().max_error * error_unit(call, nullptr);
  for (const Checked<float>& tensor : tensors) {
    const std::string failure = check_tensor(tensor, unit, rng, tally, [&] { return loss(truth, call); });
    if (!failure.empty()) return failure;
  }
  for (std::size_t b = 0; b < found.d_angles.size(); ++b) {
    if (!angles[b]) continue;
    const Checked<double> tensor{fmt::format("the angles of band {}", b), *angles[b], found.d_angles[b],
                                 1 / static_cast<double>(call.n_k())};  // phases are angles times positions
    const std::string failure = check_tensor(tensor, unit, rng, tally, [&] { return loss(truth, call); });
    if (!failure.empty()) return failure;
  }
  return {};
}

std::string too_many_kinks(const Tally& tally) {
  return tally.n_kinks * 4 <= tally.n_compared
             ? ""
             : fmt::format("{} of {} differences met a kink: the gradients were hardly compared",
                           tally.n_kinks, tally.n_compared);
}

std::optional<reference::AttentionOutputOf> output_of(const Subject& subject, const MethodSpec& spec) {
  return reference::attention_output_of(parse_method_spec(subject.method.canonical(spec), "attention"));
}

Verdict gradients_match_central_differences(const Subject& subject) {
  if (!subject.make<Attention>()->backward()) return not_applicable("no backward()");
  if (!output_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->backward()) return {};
    const reference::AttentionOutputOf truth = output_of(subject, variant.spec).value();
    Tally tally;
    for (const bool causal : modes(*variant.method))
      // Ragged, queries that start late, grouped heads; more than one block and tile.
      for (const auto& [n_q, n_k] : {std::pair<index_t, index_t>{37, 37}, {1, 20}, {70, 150}}) {
        AttentionInputs inputs(
            *variant.method,
            {.n_q = n_q, .n_k = n_k, .d_k = 8, .d_v = 6, .causal = causal, .largest_score = 4}, seed);
        tally.n_components = n_k > 64 ? k_few_components : k_components;
        const std::string failure = check_gradients(*variant.method, inputs, nullptr, truth, seed, tally);
        if (!failure.empty()) return fmt::format("n_q {}, n_k {}, causal {}: {}", n_q, n_k, causal, failure);
      }
    // The way back cuts many keys into ranges. The references of recurrent mechanisms may need n_k^2 steps.
    if (dynamic_cast<const TileMethod*>(variant.method.get())) {
      AttentionInputs inputs(*variant.method,
                             {.h_q = 2,
                              .h_kv = 1,
                              .n_q = 30,
                              .n_k = k_many_keys,
                              .d_k = 8,
                              .d_v = 6,
                              .causal = some_mode(*variant.method),
                              .largest_score = 4},
                             seed);
      tally.n_components = 0;
      const std::string failure = check_gradients(*variant.method, inputs, nullptr, truth, seed, tally);
      if (!failure.empty()) return fmt::format("n_k {}: {}", k_many_keys, failure);
    }
    return too_many_kinks(tally);
  });
}

Verdict gradients_compose_with_every_position(const Subject& subject) {
  if (!subject.make<Attention>()->backward()) return not_applicable("no backward()");
  if (!output_of(subject, subject.spec)) return not_applicable("no float64 reference knows this id");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->backward()) return {};
    const reference::AttentionOutputOf truth = output_of(subject, variant.spec).value();
    const bool causal = some_mode(*variant.method);
    Tally tally{.n_components = k_few_components};
    std::vector<std::pair<std::string, index_t>> cases;
    for (const std::string& id : subject.registry.ids<PositionEncoding>()) cases.emplace_back(id, 60);
    // Several tiles of keys, the last of which nobody sees, or that only a far band turns.
    if (dynamic_cast<const TileMethod*>(variant.method.get()))
      for (const char* id : {"rope", "rerope"})
        if (std::ranges::find(cases, std::pair{std::string(id), index_t{60}}) != cases.end())
          cases.emplace_back(id, 300);
    for (const auto& [id, n_k] : cases) {
      const auto encoding = subject.registry.make<PositionEncoding>(id);
      AttentionInputs inputs(*variant.method,
                             {.h_q = 2,
                              .h_kv = 1,
                              .n_q = 50,
                              .n_k = n_k,
                              .d_k = 8,
                              .d_v = 4,
                              .causal = causal,
                              .largest_score = 4},
                             seed);
      if (n_k > 60) inputs.call.query_offset = 100;
      const std::optional<PositionPlan> plan =
          plan_for(*encoding, *variant.method, inputs.call, seed.derive(id));
      if (!plan || !variant.method->refuses(*plan).empty()) continue;
      try {
        const std::string failure = check_gradients(*variant.method, inputs, &*plan, truth, seed, tally);
        if (!failure.empty()) return fmt::format("with position {}, {} keys: {}", id, n_k, failure);
      } catch (const MethodError& error) {  // declared limit of the way back; the message must say which
        if (std::string_view(error.what()).size() < 20)
          return fmt::format("with position {}: refused with too little of a reason: '{}'", id, error.what());
      }
    }
    return too_many_kinks(tally);
  });
}

Verdict gradients_have_the_same_bits_on_two_threads(const Subject& subject) {
  if (!subject.make<Attention>()->backward()) return not_applicable("no backward()");
  return for_every_attention(subject, [](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->backward()) return {};
    for (const auto& [n_q, n_k] : {std::pair<index_t, index_t>{300, 300}, {30, k_many_keys}}) {
      if (n_q != n_k && variant.method->traits().fixed_length_only) continue;
      const AttentionInputs inputs(*variant.method,
                                   {.n_q = n_q, .n_k = n_k, .causal = some_mode(*variant.method)}, seed);
      const Loss loss(inputs.call, seed.derive("loss"));
      tbb::task_arena one(1), two(2);
      const BackwardRun alone = one.execute([&] { return BackwardRun(*variant.method, inputs.call, loss); });
      for (int trial = 0; trial < 2; ++trial)
        if (!(alone == two.execute([&] { return BackwardRun(*variant.method, inputs.call, loss); })))
          return fmt::format("{} keys: two threads gave other bits than one", n_k);
    }
    return {};
  });
}

Verdict gradients_agree_on_all_instruction_sets(const Subject& subject) {
  if (!subject.make<Attention>()->backward()) return not_applicable("no backward()");
  return for_every_attention(subject, [&](const AttentionVariant& variant, Seed seed) -> std::string {
    if (!variant.method->backward()) return {};
    const AttentionInputs inputs(*variant.method,
                                 {.n_q = 61,
                                  .n_k = 150,
                                  .d_k = 20,
                                  .d_v = 12,
                                  .causal = some_mode(*variant.method),
                                  .largest_score = 4},
                                 seed);
    const Loss loss(inputs.call, seed.derive("loss"));
    const BackwardRun best(*variant.method, inputs.call, loss);
    const double unit =
        k_error_growth * variant.method->traits().max_error * error_unit(inputs.call, nullptr);
    return on_every_instruction_set([&](std::string_view target) -> std::string {
      const BackwardRun other(*variant.method, inputs.call, loss);
      const auto compare = [&](std::string_view what, std::span<const float> a,
                               std::span<const float> b) -> std::string {
        double largest = 0;
        for (const float x : a) largest = std::max(largest, std::abs(static_cast<double>(x)));
        const double difference = distance(a, b), bound = std::max(k_relative_error * largest, unit);
        return difference <= bound ? ""
                                   : fmt::format("gradient of {} on {} differs by {:.3g} > {:.3g}", what,
                                                 target, difference, bound);
      };
      for (const auto& [what, a, b] : {std::tuple{"q", &best.d_q, &other.d_q},
                                       {"k", &best.d_k, &other.d_k},
                                       {"v", &best.d_v_, &other.d_v_}})
        if (const std::string failure = compare(what, *a, *b); !failure.empty()) return failure;
      return {};
    });
  });
}

constexpr Rule k_rules[] = {
    {"GradientsMatchCentralDifferences",
     "backward() agrees with central differences of the float64 reference for q, k, v, extra inputs and "
     "parameters",
     gradients_match_central_differences},
    {"GradientsComposeWithEveryPosition",
     "so it does with every position encoding, for the plan's bias, query scale and angles too",
     gradients_compose_with_every_position},
    {"GradientsHaveTheSameBitsOnTwoThreads", "gradients do not depend on the number of threads",
     gradients_have_the_same_bits_on_two_threads},
    {"GradientsAgreeOnAllInstructionSets",
     "SSE4, AVX2, AVX-512, as far as the processor has them, give the same gradients within the bounds",
     gradients_agree_on_all_instruction_sets},
};

}  // namespace

std::span<const Rule> attention_gradient_rules() { return k_rules; }

}  // namespace borel::contract
