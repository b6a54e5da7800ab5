// Gradients of what an encoding learns, its embedding, and its token maps, against central differences. Sums in double; the
// plans themselves are float32, so steps are large and extrapolated (Richardson).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "borel/error.hpp"
#include "contract/position_subject.hpp"

namespace borel::contract {
namespace {

constexpr double k_relative_error = 2e-3;  // of the largest entry of a gradient
constexpr float k_step = 0.02F;

/// (f(x + h) - f(x - h)) / 2h, extrapolated from h and h / 2. `at` evaluates the loss with x in place.
double difference(float& x, const std::function<double()>& at) {
  const float centre = x;
  const auto slope = [&](float h) {
    x = centre + h;
    const double up = at(), right = static_cast<double>(x);
    x = centre - h;
    const double down = at(), left = static_cast<double>(x);
    x = centre;
    return (up - down) / (right - left);
  };
  const double coarse = slope(k_step), fine = slope(k_step / 2);
  return (4 * fine - coarse) / 3;
}

template <class A, class B>
double dot(const A& a, const B& b) {
  double sum = 0;
  for (std::size_t x = 0; x < a.size(); ++x) sum += static_cast<double>(a[x]) * static_cast<double>(b[x]);
  return sum;
}

std::vector<float> random_values(std::size_t n, Seed seed) {
  std::vector<float> values(n);
  Rng(seed).fill_normal(std::span<float>(values));
  return values;
}

std::string compare(std::span<const float> gradient, std::span<float> values, std::string_view name,
                    const std::function<double()>& loss) {
  std::vector<double> expected;
  double largest = 0;
  for (float& x : values) {
    expected.push_back(difference(x, loss));
    largest = std::max(largest, std::abs(expected.back()));
  }
  for (std::size_t x = 0; x < expected.size(); ++x) {
    const double error = std::abs(static_cast<double>(gradient[x]) - expected[x]);
    if (!(error <= k_relative_error * std::max(largest, 1e-3)))
      return fmt::format("d / d {}[{}] is {:.6g}, differences give {:.6g} (largest entry {:.4g})", name, x,
                         gradient[x], expected[x], largest);
  }
  return {};
}

/// d loss / d plan for loss = <g, bias> + <s, query_scale>.
struct Loss {
  std::vector<float> bias, query_scale;
  double of(const PositionPlan& plan) const {
    return (plan.bias ? dot(*plan.bias, bias) : 0) +
           (plan.query_scale ? dot(*plan.query_scale, query_scale) : 0);
  }
};

Verdict plan_gradients_match_differences(const Subject& subject) {
  bool learns = false;
  const Verdict verdict = for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    const std::vector<ParameterTensor> declared =
        encoding.parameters(k_position_heads, k_position_d, k_position_heads * k_position_d);
    if (encoding.embedding() || encoding.traits().learns_angles ||
        std::ranges::none_of(declared, &ParameterTensor::trainable))
      return {};
    learns = true;
    for (const bool causal : position_modes(encoding))
      for (const auto& [n_q, n_k] : {std::pair<index_t, index_t>{40, 40}, {7, 150}, {1, 33}}) {
        const PositionSetting setting(encoding, n_q, n_k, n_k - n_q, causal, n_k);
        ParameterSet parameters = position_parameters(encoding);
        const auto plan = [&] { return position_plan(encoding, setting.context, parameters.values()); };
        const PositionPlan here = plan();
        if (!here.ensemble.empty()) return "trainable parameters in an ensemble cannot be reached";
        Loss loss{random_values(here.bias ? here.bias->size() : 0, subject.seed),
                  random_values(here.query_scale ? here.query_scale->size() : 0, subject.seed.derive("s"))};
        std::vector<std::vector<float>> storage;
        for (const ParameterTensor& tensor : declared)
          storage.emplace_back(tensor.trainable ? static_cast<std::size_t>(tensor.size()) : 0, 0.5F);
        const std::vector<std::span<float>> gradients(storage.begin(), storage.end());
        PositionGradients d_plan;
        d_plan.bias = loss.bias, d_plan.query_scale = loss.query_scale;
        encoding.backward(setting.context, parameters.values(), d_plan, gradients);
        for (std::size_t p = 0; p < declared.size(); ++p) {
          if (!declared[p].trainable) continue;
          for (float& g : storage[p]) g -= 0.5F;  // backward adds to what is there
          const std::string failure = compare(storage[p], parameters[static_cast<index_t>(p)],
                                              declared[p].name, [&] { return loss.of(plan()); });
          if (!failure.empty())
            return fmt::format("n_q {}, n_k {}, causal {}: {}", n_q, n_k, causal, failure);
        }
        // Nothing asked for: nothing written, and no access to empty spans.
        const std::vector<std::span<float>> none(declared.size());
        encoding.backward(setting.context, parameters.values(), d_plan, none);
      }
    return {};
  });
  return learns || verdict.kind == Verdict::Kind::broken ? verdict
                                                         : not_applicable("learns nothing in its plan");
}

Verdict embedding_is_added_by_token(const Subject& subject) {
  if (!subject.make<PositionEncoding>()->embedding()) return not_applicable("no embedding");
  return for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    constexpr index_t k_n = 20, k_model = k_position_heads * k_position_d, k_cut = 7;
    const PositionSetting setting(encoding, k_n, k_n, 0, true, k_n);
    ParameterSet parameters = position_parameters(encoding);
    const std::vector<float> before = random_values(k_n * k_model, subject.seed);
    const auto add = [&](std::vector<float>& x, index_t first, index_t n) {
      encoding.embedding()->add(setting.context, parameters.values(), first,
                                {x.data() + first * k_model, {n, k_model}});
    };
    std::vector<float> whole = before, parts = before;
    add(whole, 0, k_n);
    add(parts, 0, k_cut);
    add(parts, k_cut, k_n - k_cut);
    if (whole != parts) return "adding token by token differs from adding all at once";
    if (whole == before) return "it adds nothing";

    const std::vector<ParameterTensor> declared =
        encoding.parameters(k_position_heads, k_position_d, k_model);
    std::vector<std::vector<float>> storage;
    for (const ParameterTensor& tensor : declared)
      storage.emplace_back(tensor.trainable ? static_cast<std::size_t>(tensor.size()) : 0);
    const std::vector<std::span<float>> gradients(storage.begin(), storage.end());
    const std::vector<float> d_x = random_values(k_n * k_model, subject.seed.derive("d_x"));
    encoding.embedding()->backward(setting.context, 3, {d_x.data(), {2, k_model}}, gradients);
    for (std::size_t p = 0; p < declared.size(); ++p) {
      if (!declared[p].trainable) continue;
      // The tokens of the call, and some beyond: at most the first 10 rows' worth of entries.
      const std::size_t n = std::min<std::size_t>(storage[p].size(), 10 * k_model);
      const std::string failure = compare(
          std::span(storage[p]).first(n), parameters[static_cast<index_t>(p)].first(n), declared[p].name,
          [&] {
            std::vector<float> x(2 * k_model, 0.0F);
            encoding.embedding()->add(setting.context, parameters.values(), 3, {x.data(), {2, k_model}});
            return dot(x, std::span(d_x).first(x.size()));
          });
      if (!failure.empty()) return failure;
    }
    return {};
  });
}

std::string map_gradient_fault(const TokenMap& map, index_t first_token, Seed seed) {
  constexpr index_t k_n = 3;
  std::vector<float> input = random_rows(k_n, seed), gradient = random_rows(k_n, seed.derive("d"));
  const std::vector<float> weights = gradient;
  // Not at a kink: rows are kept away from the zeros of sums and components that a rectifier may look at.
  for (float& x : input) x += x < 0 ? -0.1F : 0.1F;
  const auto view = [](std::vector<float>& rows) {
    return TensorView<float, 2>(rows.data(), {k_n, k_position_d});
  };
  map.backward(1, first_token, TensorView<const float, 2>(input.data(), {k_n, k_position_d}), view(gradient));
  return compare(gradient, input, "row", [&] {
    std::vector<float> rows = input;
    map.apply(1, first_token, view(rows));
    return dot(rows, weights);
  });
}

Verdict token_maps_have_gradients(const Subject& subject) {
  bool maps = false;
  const Verdict verdict = for_every_position(subject, [&](const PositionEncoding& encoding) -> std::string {
    const PositionSetting setting(encoding, 40, 40, 0, true, 40);
    const PositionPlan plan = make_plan(encoding, setting.context);
    for (const TokenMap* map : {plan.query_map.get(), plan.key_map.get()})
      for (const index_t first : {0, 31}) {
        if (!map) continue;
        maps = true;
        if (const std::string fault = map_gradient_fault(*map, first, subject.seed); !fault.empty())
          return fmt::format("{} map, token {}: {}", map == plan.query_map.get() ? "query" : "key", first,
                             fault);
      }
    return {};
  });
  return maps || verdict.kind == Verdict::Kind::broken ? verdict : not_applicable("maps no tokens");
}

constexpr Rule k_rules[] = {
    {"PlanGradientsMatchDifferences", "backward of its plan agrees with central differences",
     plan_gradients_match_differences},
    {"EmbeddingIsAddedByToken",
     "the embedding of a token does not depend on the block it comes in, and has a gradient",
     embedding_is_added_by_token},
    {"TokenMapsHaveGradients", "backward of its token maps agrees with central differences",
     token_maps_have_gradients},
};

}  // namespace

std::span<const Rule> position_gradient_rules() { return k_rules; }

}  // namespace borel::contract
