#include "probe/generation.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "probe/training.hpp"

namespace borel::probe {
namespace {

std::uint8_t draw(std::span<const float> logits, double temperature, Rng& rng) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(*largest)) throw MethodError("the network's logits are not finite");
  if (temperature == 0) return static_cast<std::uint8_t>(largest - logits.begin());
  std::vector<double> weights;
  double total = 0;
  for (float logit : logits) {
    weights.push_back(std::exp((static_cast<double>(logit) - static_cast<double>(*largest)) / temperature));
    total += weights.back();
  }
  double left = rng.uniform() * total;
  for (std::size_t byte = 0; byte < weights.size(); ++byte)
    if ((left -= weights[byte]) < 0) return static_cast<std::uint8_t>(byte);
  return static_cast<std::uint8_t>(largest - logits.begin());  // rounding ate the last weight
}

}  // namespace

void generate(const Architecture& architecture, std::span<const float> parameters, std::string_view prompt,
              const GenerationOptions& options, FunctionRef<void(std::uint8_t)> out, StopToken stop) {
  if (prompt.empty()) throw ParamError("generate: the prompt must have at least one byte");
  if (!(options.temperature >= 0))
    throw ParamError(fmt::format("generate: temperature must be at least 0; got {}", options.temperature));
  const index_t context = options.context > 0 ? options.context : architecture.config().train_length;
  const auto owned = plugin_mixers(architecture);
  std::vector<const Mixer<float>*> mixers;
  for (const auto& mixer : owned) mixers.push_back(mixer.get());
  std::vector<std::uint8_t> text(prompt.begin(), prompt.end());
  Rng rng(options.seed);
  for (index_t i = 0; i < options.n; ++i) {
    const index_t n = std::min(context, static_cast<index_t>(text.size()));
    Pass<float> pass(architecture, mixers, 1, n, false);
    pass.forward(parameters, architecture.plans(parameters, n, false, {}),
                 std::span(text).last(static_cast<std::size_t>(n)), stop);
    text.push_back(draw(pass.logits().last(k_vocabulary), options.temperature, rng));
    out(text.back());
  }
}

}  // namespace borel::probe
