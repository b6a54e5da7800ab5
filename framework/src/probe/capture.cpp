#include "probe/capture.hpp"

#include <fmt/format.h>

#include "probe/checkpoint.hpp"

namespace borel::probe {
namespace {

constexpr std::string_view k_id = "qkv";

void add_heads(DatasetWriter& writer, const char* name, TensorView<const float, 3> heads) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(heads.shape(0) * heads.shape(1) * heads.shape(2)));
  for (index_t h = 0; h < heads.shape(0); ++h)
    for (index_t i = 0; i < heads.shape(1); ++i) {
      const std::span<const float> row = heads.row(h, i);
      values.insert(values.end(), row.begin(), row.end());
    }
  writer.array(name, std::move(values), {heads.shape(0), heads.shape(1), heads.shape(2)});
}

}  // namespace

void CaptureOptions::declare(ParamBinder& p) {
  p.text("model", model, "A trained network: id, file or model/<name>.");
  p.integer("layer", layer, Range::closed(0, 63), "1", "Layer, from 0.");
  p.integer("n", n, Range::closed(0, 1 << 16), "bytes",
            "Length that is read; 0 stands for the training length.");
  p.integer("first", first, Range::closed(0, 1LL << 40), "bytes", "Where the held-out text is read from.");
}

bool is_capture(std::string_view dataset) { return dataset.starts_with(fmt::format("{}{{", k_id)); }

CaptureOptions parse_capture(std::string_view dataset) { return parse_capture(parse_method_spec(dataset)); }

CaptureOptions parse_capture(const MethodSpec& spec) {
  CaptureOptions options = bind_params<CaptureOptions>("captured queries and keys", spec, nullptr);
  if (options.model.empty())
    throw ParamError(
        fmt::format("'{}': name the network, as in qkv{{model=model_rope_128, layer=0}}", spec.text()));
  return options;
}

DatasetWriter capture(const Dataset& model, const CaptureOptions& options, std::string_view id,
                      const Registry& registry) {
  const TrainingConfig config = checkpoint_config(model);
  const auto text = find_dataset(config.dataset);
  if (text->info().content_digest != model.attribute("", "text_digest"))
    throw DatasetError(
        fmt::format("{}: the network learned another text than today's '{}'", id, config.dataset));
  if (options.layer < 0 || options.n < 0 || options.first < 0)
    throw ParamError(fmt::format("{}: layer, n and first must be at least 0, got {}, {} and {}", id,
                                 options.layer, options.n, options.first));
  const index_t n = options.n == 0 ? config.model.train_length : options.n;
  const std::span<const std::uint8_t> bytes = text->bytes("test");
  if (options.layer >= config.model.n_layers)
    throw ParamError(fmt::format("{}: the network has layers 0 to {}", id, config.model.n_layers - 1));
  if (n > std::ssize(bytes) || options.first > std::ssize(bytes) - n)
    throw ParamError(fmt::format("{}: the held-out text has {} bytes", id, bytes.size()));

  const Architecture architecture(config.model, registry);
  const std::vector<float> parameters = parameters_for(model, architecture);
  const auto owned = plugin_mixers(architecture);
  std::vector<const Mixer<float>*> mixers;
  for (const auto& mixer : owned) mixers.push_back(mixer.get());
  Pass<float> pass(architecture, mixers, 1, n, true);
  pass.forward(parameters, architecture.plans(parameters, n, false, {}),
               bytes.subspan(static_cast<std::size_t>(options.first), static_cast<std::size_t>(n)));

  DatasetWriter writer(
      DatasetKind::qkv, id,
      fmt::format("Layer {} of a trained network, {} bytes of {}", options.layer, n, config.dataset),
      fmt::format("{} ({})", model.info().id, model.info().content_digest), model.info().licence,
      config.seed);
  constexpr const char* k_names[] = {"q", "k", "v"};
  for (index_t which = 0; which < 3; ++which)
    add_heads(writer, k_names[which], pass.heads(options.layer, 0, which));
  const auto of_layer = [&](const std::vector<MethodSpec>& specs) {
    return specs[specs.size() == 1 ? 0 : static_cast<std::size_t>(options.layer)].text();
  };
  writer.attribute("", "causal", std::int64_t{1});
  writer.attribute("", "train_length", static_cast<std::int64_t>(config.model.train_length));
  writer.attribute("", "layer", options.layer);
  writer.attribute("", "n_layers", static_cast<std::int64_t>(config.model.n_layers));
  writer.attribute("", "attention", of_layer(config.model.attention));
  writer.attribute("", "position", of_layer(config.model.position));
  return writer;
}

}  // namespace borel::probe
