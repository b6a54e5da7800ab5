#include "probe/checkpoint.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "dataset/dataset_writer.hpp"
#include "probe/training_file.hpp"
#include "study/plan.hpp"

namespace borel::probe {
namespace {

std::string array_of(const ParameterSlice& slice) { return "parameters/" + slice.name; }

void check_shape(const Dataset& model, const ParameterSlice& slice) {
  const std::vector<std::int64_t> found = model.shape(array_of(slice));
  if (!std::equal(found.begin(), found.end(), slice.shape.begin(), slice.shape.end()))
    throw DatasetError(fmt::format("{}: {} has shape [{}], and the network needs [{}]", model.info().path,
                                   array_of(slice), fmt::join(found, " "), fmt::join(slice.shape, " ")));
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const Architecture& architecture,
                     const TrainingConfig& config, const TrainingState& state, const CheckpointFacts& facts,
                     bool with_optimizer) {
  DatasetWriter writer(DatasetKind::model, file.stem().string(),
                       fmt::format("Probe network: {} layers, width {}, {} steps on {}",
                                   config.model.n_layers, config.model.d_model, state.step, config.dataset),
                       "borel train", "as the text it learned", config.seed);
  for (const ParameterSlice& slice : architecture.slices())
    writer.array(array_of(slice),
                 std::vector<float>(state.parameters.begin() + slice.offset,
                                    state.parameters.begin() + slice.offset + slice.size),
                 h5::Shape(slice.shape.begin(), slice.shape.end()));
  const auto n = static_cast<std::int64_t>(state.parameters.size());
  if (with_optimizer) {
    writer.array("optimizer/first_moment", state.first_moment, {n});
    writer.array("optimizer/second_moment", state.second_moment, {n});
  }
  writer.array("losses", state.losses, {static_cast<std::int64_t>(state.losses.size())});
  writer.attribute("", "training", training_text(config));
  writer.attribute("", "step", static_cast<std::int64_t>(state.step));
  writer.attribute("", "text_digest", facts.text_digest);
  if (!facts.plugins.empty()) writer.attribute("", "plugins", facts.plugins);
  if (facts.held_out_bits > 0) writer.attribute("", "held_out_bits", facts.held_out_bits);
  for (const auto& [name, value] : facts.machine) writer.attribute("", "machine_" + name, value);
  writer.save(file);
}

TrainingConfig checkpoint_config(const Dataset& model) {
  if (model.info().kind != DatasetKind::model)
    throw DatasetError(fmt::format("{}: a dataset of kind '{}', not a model; train one with: borel train",
                                   model.info().path, kind_name(model.info().kind)));
  if (!model.has_attribute("", "training"))
    throw DatasetError(fmt::format("{}: the root attribute 'training' is missing", model.info().path));
  return training_from(model.attribute("", "training"));
}

Checkpoint load_checkpoint(const Dataset& model, const Architecture& architecture) {
  Checkpoint out{checkpoint_config(model), {}, model.attribute("", "text_digest")};
  out.state.step = model.integer("", "step", 0, out.config.n_steps);
  out.state.parameters.resize(static_cast<std::size_t>(architecture.n_parameters()));
  for (const ParameterSlice& slice : architecture.slices()) {
    check_shape(model, slice);
    const auto values = model.floats(array_of(slice));
    std::copy(values.begin(), values.end(), out.state.parameters.begin() + slice.offset);
  }
  const auto losses = model.doubles("losses");
  out.state.losses.assign(losses.begin(), losses.end());
  if (!model.has("optimizer/first_moment")) return out;
  const auto first = model.floats("optimizer/first_moment"), second = model.floats("optimizer/second_moment");
  out.state.first_moment.assign(first.begin(), first.end());
  out.state.second_moment.assign(second.begin(), second.end());
  return out;
}

std::vector<float> parameters_for(const Dataset& model, const Architecture& architecture) {
  std::vector<float> flat =
      architecture.initial_parameters(Seed{checkpoint_config(model).seed}.derive("init"));
  for (const ParameterSlice& slice : architecture.slices()) {
    if (!model.has(array_of(slice))) {
      if (!slice.trainable) continue;
      throw MethodError(fmt::format("the network in {} was trained without '{}'; train one with this method",
                                    model.info().path, slice.name));
    }
    check_shape(model, slice);
    const auto values = model.floats(array_of(slice));
    std::copy(values.begin(), values.end(), flat.begin() + slice.offset);
  }
  return flat;
}

std::vector<std::string> plugin_provenance(const ModelConfig& config, const Registry& registry) {
  const auto digest = plugin_file_digests();
  std::set<std::string> lines;
  for (const auto* specs : {&config.attention, &config.position})
    for (const MethodSpec& spec : *specs) {
      const MethodEntry& entry = registry.entry(spec.family, spec.id);
      lines.insert(fmt::format("{}/{} {} {}", entry.family, entry.id,
                               std::filesystem::path(entry.origin).filename().string(),
                               digest(entry.origin)));
    }
  return {lines.begin(), lines.end()};
}

}  // namespace borel::probe
