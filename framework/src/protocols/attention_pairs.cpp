#include "protocols/attention_pairs.hpp"

#include "protocols/attention_call.hpp"

namespace borel {
namespace {

constexpr index_t k_n = 64, k_d = 64, k_heads = 4, k_layers = 12;

/// Row and column of the tokens of an image 8 tokens wide, or nothing for text.
std::vector<double> coordinates_for(const PositionEncoding& encoding) {
  std::vector<double> coordinates;
  const index_t n_axes = encoding.traits().n_axes;
  for (index_t t = 0; n_axes > 1 && t < k_n; ++t)
    for (index_t axis = 0; axis < n_axes; ++axis)
      coordinates.push_back(static_cast<double>(axis == 0 ? t / 8 : t % 8));
  return coordinates;
}

}  // namespace

std::vector<AttentionPairing> attention_pairings(const Registry& registry, const MethodSpec& only) {
  std::vector<AttentionPairing> pairings;
  const auto of = [&](std::string_view family, std::vector<std::string> all) {
    return only.family == family ? std::vector<std::string>{only.id} : std::move(all);
  };
  for (const std::string& attention : of("attention", registry.ids<Attention>()))
    for (const std::string& position : of("position", registry.ids<PositionEncoding>())) {
      const AttentionPair pair{
          only.family == "attention" ? registry.make<Attention>(only) : registry.make<Attention>(attention),
          only.family == "position" ? registry.make<PositionEncoding>(only)
                                    : registry.make<PositionEncoding>(position)};
      const std::vector<double> coordinates = coordinates_for(*pair.position);
      AttentionSetting setting;
      setting.train_length = k_n / 2;
      setting.has_embeddings = true;
      if (!coordinates.empty())
        setting.coordinates = {coordinates.data(), {k_n, pair.position->traits().n_axes}};
      AttentionPairing& found = pairings.emplace_back(AttentionPairing{attention, position});
      // The mask that the mechanism has comes last, so that the reason is about the plan and not about the mask.
      for (const bool causal : {!pair.attention->traits().causal, pair.attention->traits().causal}) {
        setting.causal = causal;
        std::string reason;
        setting.n_layers = pair.position->traits().layer_dependent ? k_layers : 1;
        for (setting.layer_index = 0; setting.layer_index < setting.n_layers && reason.empty();
             ++setting.layer_index)
          reason = refuses_setting(pair, k_heads, k_n, k_n, k_d, k_d, setting);
        (causal ? found.causal : found.bidirectional) = reason.empty();
        found.reason = reason;
      }
      if (found.works()) found.reason.clear();
    }
  return pairings;
}

}  // namespace borel
