#include "probe/architecture.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace borel::probe {
namespace {

const MethodSpec& of_layer(const std::vector<MethodSpec>& specs, index_t layer) {
  return specs.size() == 1 ? specs.front() : specs[static_cast<std::size_t>(layer)];
}

void check(const ModelConfig& config) {
  const auto positive = [](std::string_view name, index_t value) {
    if (value < 1) throw ParamError(fmt::format("model: {} must be at least 1; got {}", name, value));
  };
  positive("n_layers", config.n_layers);
  positive("d_model", config.d_model);
  positive("n_heads", config.n_heads);
  positive("d_feed_forward", config.d_feed_forward);
  positive("train_length", config.train_length);
  if (config.short_convolution < 0)
    throw ParamError(
        fmt::format("model: short_convolution must be at least 0; got {}", config.short_convolution));
  if (config.patches.used()) {
    positive("patches.n_columns", config.patches.n_columns);
    positive("patches.n_values", config.patches.n_values);
    if (!(config.patches.sigma_data > 0))
      throw ParamError(
          fmt::format("model: patches.sigma_data must be above 0; got {}", config.patches.sigma_data));
    if (config.train_length != config.patches.n_tokens())
      throw ParamError(fmt::format("model: train_length must be the number of patches, {}; got {}",
                                   config.patches.n_tokens(), config.train_length));
    if (config.short_convolution > 0)
      throw ParamError("model: the short convolution looks at tokens before its own, and patches have none");
  }
  if (config.block == Block::gau) {
    positive("expansion", config.expansion);
    positive("key_width", config.key_width);
    if (config.n_heads != 1)
      throw ParamError(fmt::format("model: a gated attention unit has one head, so heads must be 1; got {}",
                                   config.n_heads));
    if (config.short_convolution > 0)
      throw ParamError("model: a gated attention unit has no short convolution; it must be 0");
  }
  if (config.d_model % config.n_heads != 0)
    throw ParamError(fmt::format("model: d_model must be a multiple of n_heads; got {} and {}",
                                 config.d_model, config.n_heads));
  for (const auto* specs : {&config.attention, &config.position})
    if (specs->size() != 1 && static_cast<index_t>(specs->size()) != config.n_layers)
      throw ParamError(fmt::format("model: name one method for all layers or one for each of the {}; got {}",
                                   config.n_layers, specs->size()));
}

// Where the map of ExtraInput::Values gives the default. The ends of a range are reached by no x: half a percent before.
double bias_of_default(const ExtraInput& input) {
  constexpr double k_end = 0.005;
  switch (input.values) {
    case ExtraInput::Values::real:
      return input.default_value;
    case ExtraInput::Values::non_negative:
      return std::log(std::expm1(std::max(input.default_value, k_end)));
    case ExtraInput::Values::unit_interval: {
      const double p = std::clamp(input.default_value, k_end, 1 - k_end);
      return std::log(p / (1 - p));
    }
    case ExtraInput::Values::non_positive:
      return -std::log(std::expm1(std::max(-input.default_value, k_end)));
  }
  return 0;
}

}  // namespace

index_t Architecture::add(ParameterSlice slice) {
  slice.size = 1;
  for (index_t extent : slice.shape) slice.size *= extent;
  slice.offset = n_parameters_;
  n_parameters_ += slice.size;
  slices_.push_back(std::move(slice));
  return static_cast<index_t>(slices_.size()) - 1;
}

index_t Architecture::add_matrix(std::string name, index_t rows, index_t columns, double sd) {
  return add({std::move(name), {rows, columns}, 0, 0, true, true, [sd](Rng& rng, std::span<float> values) {
                for (float& value : values) value = static_cast<float>(sd * rng.normal());
              }});
}

index_t Architecture::add_constant(std::string name, index_t n, float value) {
  return add({std::move(name), {n}, 0, 0, true, false, [value](Rng&, std::span<float> values) {
                std::fill(values.begin(), values.end(), value);
              }});
}

// Starts as the identity, with some of the tokens before, so that what needs them is found soon.
index_t Architecture::add_convolution(std::string name) {
  const index_t n_taps = config_.short_convolution, width = 3 * config_.d_model;
  return add({std::move(name), {n_taps, width}, 0, 0, true, false, [=](Rng& rng, std::span<float> values) {
                const double sd = 1 / std::sqrt(static_cast<double>(n_taps));
                for (float& value : values) value = static_cast<float>(sd * rng.normal());
                std::fill_n(values.begin(), width, 1.0F);
              }});
}

void Architecture::add_extra_inputs(Layer& layer, const std::string& prefix) {
  for (const ExtraInput& input : layer.extra) {
    const index_t width = layer.context.h_q * input.width;
    // Small weights: the mechanism starts near the default that its authors chose.
    layer.extra_weight.push_back(add_matrix(prefix + "extra/" + input.name + "/weight", config_.d_model,
                                            width, 0.1 / std::sqrt(static_cast<double>(config_.d_model))));
    layer.extra_bias.push_back(add_constant(prefix + "extra/" + input.name + "/bias", width,
                                            static_cast<float>(bias_of_default(input))));
  }
}

void Architecture::add_declared(std::span<const ParameterTensor> declared, const std::string& prefix,
                                std::vector<index_t>& out) {
  for (const ParameterTensor& tensor : declared) {
    // A tensor that all layers share is made by the first of them.
    const std::string name =
        (tensor.shared_by_layers ? prefix.substr(prefix.find('/') + 1) : prefix) + tensor.name;
    const auto known = std::find_if(slices_.begin(), slices_.end(),
                                    [&](const ParameterSlice& slice) { return slice.name == name; });
    if (known == slices_.end())
      out.push_back(add({name, tensor.shape, 0, 0, tensor.trainable, false, tensor.init}));
    else if (known->shape == tensor.shape)
      out.push_back(known - slices_.begin());
    else
      throw MethodError(fmt::format(
          "parameter {} is shared by all layers, but they declare it with different shapes", name));
  }
}

AffineMap Architecture::add_affine(const std::string& name, index_t rows, index_t columns, double sd) {
  AffineMap map;
  map.weight = add_matrix(name + "/weight", rows, columns, sd);
  map.bias = add_constant(name + "/bias", columns, 0);
  return map;
}

// Every branch adds to the residual stream; its last matrix starts smaller the more of them there are.
double Architecture::residual_scale() const {
  return std::sqrt(static_cast<double>(norms_per_layer() * config_.n_layers));
}

void Architecture::add_attention(Layer& layer, const std::string& prefix) {
  const index_t d = config_.d_model;
  const double sd = 1 / std::sqrt(static_cast<double>(d));
  layer.attention_norm = add_constant(prefix + "attention_norm", d, 1);
  layer.qkv = add_matrix(prefix + "qkv", d, 3 * d, sd);
  if (config_.short_convolution > 0) layer.convolution = add_convolution(prefix + "convolution");
  layer.attention_out = add_matrix(prefix + "attention_out", d, d, sd / residual_scale());
}

void Architecture::add_feed_forward(Layer& layer, const std::string& prefix) {
  const index_t d = config_.d_model;
  layer.feed_forward_norm = add_constant(prefix + "feed_forward_norm", d, 1);
  const index_t d_in = config_.d_feed_forward * (config_.feed_forward == FeedForward::gated ? 2 : 1);
  layer.feed_forward_in =
      add_matrix(prefix + "feed_forward_in", d, d_in, 1 / std::sqrt(static_cast<double>(d)));
  layer.feed_forward_out =
      add_matrix(prefix + "feed_forward_out", config_.d_feed_forward, d,
                 1 / std::sqrt(static_cast<double>(config_.d_feed_forward)) / residual_scale());
}

void Architecture::add_gau(Layer& layer, const std::string& prefix) {
  const index_t d = config_.d_model, e = layer.context.d_v, s = layer.context.d_k;
  layer.attention_norm = add_constant(prefix + "attention_norm", d, 1);
  layer.uvz = add_matrix(prefix + "uvz", d, 2 * e + s, 1 / std::sqrt(static_cast<double>(d)));
  layer.query_scale = add_constant(prefix + "query_scale", s, 1);
  layer.query_offset = add_constant(prefix + "query_offset", s, 0);
  layer.key_scale = add_constant(prefix + "key_scale", s, 1);
  layer.key_offset = add_constant(prefix + "key_offset", s, 0);
  layer.attention_out =
      add_matrix(prefix + "attention_out", e, d, 1 / std::sqrt(static_cast<double>(e)) / residual_scale());
}

void Architecture::add_layer(index_t l, const Registry& registry) {
  const index_t d = config_.d_model;
  const std::string prefix = fmt::format("layer_{}/", l);
  const bool gau = config_.block == Block::gau, causal = !config_.patches.used();
  Layer layer;
  layer.attention = registry.make<Attention>(of_layer(config_.attention, l));
  layer.position = registry.make<PositionEncoding>(of_layer(config_.position, l));
  const AttentionTraits traits = layer.attention->traits();
  const auto refuse = [&](std::string_view why) {
    throw MethodError(fmt::format("layer {} cannot use {} with {}: {}", l,
                                  of_layer(config_.attention, l).text(), of_layer(config_.position, l).text(),
                                  why));
  };
  if (causal && !traits.causal) refuse("the mechanism is not causal, and the network predicts the next byte");
  if (!causal && !traits.bidirectional)
    refuse("the mechanism is causal only, and every patch of an image sees all others");
  layer.context.h_q = layer.context.h_kv = config_.n_heads;
  layer.context.d_k = gau ? config_.key_width : d / config_.n_heads;
  layer.context.d_v = gau ? config_.expansion * d : d / config_.n_heads;
  layer.context.max_n = config_.train_length;
  layer.context.layer_index = l;
  layer.context.n_layers = config_.n_layers;
  layer.context.causal = causal;
  layer.d_plan = layer.attention->plan_d_head(layer.context);
  layer.extra = layer.attention->extra_inputs(layer.context);
  gau ? add_gau(layer, prefix) : add_attention(layer, prefix);
  add_extra_inputs(layer, prefix);
  add_declared(layer.attention->parameters(layer.context), prefix + "attention/", layer.attention_parameters);
  const auto positions = layer.position->parameters(config_.n_heads, layer.d_plan, d);
  add_declared(positions, prefix + "position/", layer.position_parameters);
  layer.learns_positions = !layer.position->embedding() &&
                           std::any_of(positions.begin(), positions.end(),
                                       [](const ParameterTensor& tensor) { return tensor.trainable; });
  if (!gau) add_feed_forward(layer, prefix);
  if (!causal) layer.modulation = add_affine(prefix + "modulation", d, 2 * norms_per_layer() * d, 0);
  layers_.push_back(std::move(layer));
}

Architecture::Architecture(const ModelConfig& config, const Registry& registry) : config_(config) {
  check(config);
  const index_t d = config.d_model, n_values = config.patches.n_values;
  const auto sd = [](index_t rows) { return 1 / std::sqrt(static_cast<double>(rows)); };
  if (config.patches.used()) {
    for (index_t t = 0; t < config.patches.n_tokens(); ++t) {
      coordinates_.push_back(static_cast<double>(t / config.patches.n_columns));
      coordinates_.push_back(static_cast<double>(t % config.patches.n_columns));
    }
    denoiser_.patch_in = add_affine("patch_in", n_values, d, sd(n_values));
    denoiser_.level_in = add_affine("level_in", k_level_features, d, sd(k_level_features));
    denoiser_.level_out = add_affine("level_out", d, d, sd(d));
  } else {
    embedding_ = add_matrix("embedding", k_vocabulary, d, config.embedding_sd);
  }
  for (index_t l = 0; l < config.n_layers; ++l) add_layer(l, registry);
  final_norm_ = add_constant("final_norm", d, 1);
  if (config.patches.used()) {
    denoiser_.final_modulation = add_affine("final_modulation", d, 2 * d, 0);
    denoiser_.patch_out = add_affine("patch_out", d, n_values, 0);
  }
}

std::vector<float> Architecture::initial_parameters(Seed seed) const {
  std::vector<float> flat(static_cast<std::size_t>(n_parameters_));
  for (const ParameterSlice& slice : slices_) {
    Rng rng(seed.derive(slice.name));
    slice.init(rng, std::span(flat).subspan(static_cast<std::size_t>(slice.offset),
                                            static_cast<std::size_t>(slice.size)));
  }
  return flat;
}

std::vector<std::span<const float>> Architecture::values(std::span<const index_t> slices,
                                                         std::span<const float> flat) const {
  std::vector<std::span<const float>> out;
  for (index_t i : slices)
    out.push_back(
        flat.subspan(static_cast<std::size_t>(slice(i).offset), static_cast<std::size_t>(slice(i).size)));
  return out;
}

PositionContext Architecture::position_context(index_t l, index_t n, bool training, Seed seed) const {
  PositionContext context;
  context.n_q = context.n_k = n;
  context.n_heads = config_.n_heads;
  context.d_head = layers_[static_cast<std::size_t>(l)].d_plan;
  context.layer_index = l;
  context.n_layers = config_.n_layers;
  context.train_length = config_.train_length;
  context.test_length = n;
  context.causal = !config_.patches.used();
  context.scaled_scores = !layers_[static_cast<std::size_t>(l)].attention->traits().own_scale;
  if (config_.patches.used()) context.coordinates = {coordinates_.data(), {config_.patches.n_tokens(), 2}};
  context.training = training;
  context.seed = seed;
  return context;
}

std::vector<PositionPlan> Architecture::plans(std::span<const float> parameters, index_t n, bool training,
                                              Seed seed) const {
  std::vector<PositionPlan> out;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    if (layer.attention->traits().fixed_length_only && n != config_.train_length)
      throw MethodError(
          fmt::format("layer {}: the mechanism works at its training length of {} tokens only; got {}", l,
                      config_.train_length, n));
    const auto given = values(layer.position_parameters, parameters);
    PositionPlan plan =
        position_plan(*layer.position, position_context(static_cast<index_t>(l), n, training, seed), given);
    if (const std::string reason = layer.attention->refuses(plan); !reason.empty())
      throw MethodError(
          fmt::format("layer {}: the mechanism does not accept this position plan: {}", l, reason));
    out.push_back(std::move(plan));
  }
  return out;
}

index_t Architecture::n_trainable() const {
  index_t n = 0;
  for (const ParameterSlice& slice : slices_) n += slice.trainable ? slice.size : 0;
  return n;
}

}  // namespace borel::probe
