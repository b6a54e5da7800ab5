#include "probe/training_file.hpp"

#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <toml++/toml.h>

namespace borel::probe {
namespace {

// Method specs with ';' between them: a comma may stand inside a spec.
std::string joined(const std::vector<MethodSpec>& specs) {
  std::string text;
  for (const MethodSpec& spec : specs) text += (text.empty() ? "" : "; ") + spec.text();
  return text;
}

std::vector<MethodSpec> separated(std::string_view text, std::string_view family) {
  std::vector<MethodSpec> specs;
  while (true) {
    const std::size_t end = text.find(';');
    specs.push_back(parse_method_spec(text.substr(0, end), family));
    if (end == std::string_view::npos) return specs;
    text.remove_prefix(end + 1);
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  }
}

struct TrainingFields {
  TrainingConfig config;
  std::string attention = joined(config.model.attention), position = joined(config.model.position);
  std::int64_t seed = static_cast<std::int64_t>(config.seed);

  void declare(ParamBinder& p) {
    ModelConfig& model = config.model;
    p.text("dataset", config.dataset, "Text to learn, a dataset of kind tokens.");
    p.integer("layers", model.n_layers, Range::closed(1, 64), "1", "Blocks.");
    p.integer("width", model.d_model, Range::closed(1, 4096), "1", "Size of a token's vector.");
    p.integer("heads", model.n_heads, Range::closed(1, 256), "1", "Heads of each layer.");
    p.choice("block", model.block, {{"transformer", Block::transformer}, {"gau", Block::gau}},
             "transformer: attention, then a feed-forward part; gau: a gated attention unit in place of "
             "both, with "
             "heads = 1 and about half the numbers of a transformer block.");
    p.integer("expansion", model.expansion, Range::closed(1, 64), "1",
              "Size of a gau's gate and values over the width.");
    p.integer("key_width", model.key_width, Range::closed(1, 4096), "1", "Size of a gau's queries and keys.");
    p.integer("feed_forward_width", model.d_feed_forward, Range::closed(1, 16384), "1",
              "Hidden units of a block.");
    p.choice("feed_forward", model.feed_forward, {{"gelu", FeedForward::gelu}, {"gated", FeedForward::gated}},
             "gelu (tanh form), or gated: silu(a) b.");
    p.integer("short_convolution", model.short_convolution, Range::closed(0, 64), "tokens",
              "Taps of a causal convolution on q, k and v; 0 switches it off.");
    p.integer("length", model.train_length, Range::closed(2, 1 << 16), "tokens",
              "Length of a training sequence.");
    p.text("attention", attention, "Attention of all layers, or one method per layer.");
    p.text("position", position, "Position encoding of all layers, or one method per layer.");
    p.integer("steps", config.n_steps, Range::closed(1, 100000000), "1", "Updates.");
    p.integer("batch", config.n_batch, Range::closed(1, 4096), "sequences", "Sequences in an update.");
    p.integer("chunk", config.n_chunk, Range::closed(1, 4096), "sequences",
              "Sequences in one parallel task; part of the result's bits.");
    p.real("learning_rate", config.learning_rate, Range::closed(1e-9, 10), "1", "Peak rate of AdamW.");
    p.real("final_rate", config.final_rate, Range::closed(0, 1), "1",
           "Share of the peak at the end (cosine).");
    p.integer("warmup", config.n_warmup, Range::closed(0, 1000000), "steps", "Linear rise of the rate.");
    p.real("beta1", config.beta1, Range::closed(0, 0.9999), "1", "Memory of the mean gradient.");
    p.real("beta2", config.beta2, Range::closed(0, 0.999999), "1", "Memory of the mean square.");
    p.real("epsilon", config.epsilon, Range::closed(1e-30, 1), "1", "Added to the root of the mean square.");
    p.real("weight_decay", config.weight_decay, Range::closed(0, 10), "1",
           "Decay of matrices, times the rate.");
    p.real("clip_norm", config.clip_norm, Range::closed(1e-6, 1e6), "1", "Largest norm of a gradient.");
    p.real("repeated_share", config.repeated_share, Range::closed(0, 1), "1",
           "Share of the sequences that repeat one piece of text.");
    p.integer("seed", seed, Range::closed(0, 9e15), "1", "Initial values and the choice of text.");
  }

  TrainingConfig finished() {
    config.model.attention = separated(attention, "attention");
    config.model.position = separated(position, "position");
    config.seed = static_cast<std::uint64_t>(seed);
    config.check();
    return config;
  }
};

// @return nullopt for what no field can be
std::optional<std::string> field_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return param_text(integer->get());
  if (const auto* real = node.as_floating_point()) return param_text(real->get());
  if (const auto* list = node.as_array(); list && !list->empty()) {
    std::string text;
    for (const toml::node& item : *list) {
      if (!item.is_string()) return std::nullopt;
      text += (text.empty() ? "" : "; ") + item.as_string()->get();
    }
    return text;
  }
  return std::nullopt;
}

/// Keeps what is there. @param has_lines  messages name the line: it is that of a file
void add_fields(std::string_view toml_text, std::string_view origin, bool has_lines, MethodSpec& out) {
  const auto place = [&](const toml::source_region& source) {
    return has_lines ? fmt::format("{}:{}", origin, source.begin.line) : std::string(origin);
  };
  toml::table root;
  try {
    root = toml::parse(toml_text, origin);
  } catch (const toml::parse_error& error) {
    throw ParamError(fmt::format("{}: not valid TOML: {}", place(error.source()), error.description()));
  }
  for (const auto& [key, value] : root) {
    const std::optional<std::string> text = field_text(value);
    if (!text)
      throw ParamError(fmt::format("{}: '{}' must be a number, a text or a list of texts",
                                   place(value.source()), key.str()));
    out.params.emplace(key.str(), *text);
  }
}

}  // namespace

TrainingConfig parse_training(std::string_view toml_text, std::string_view file, std::string_view changes,
                              std::string_view origin) {
  MethodSpec given;
  given.id = "train";
  add_fields(changes, origin, false, given);
  // By themselves first, so that a message names the right one of the two.
  bind_params<TrainingFields>(std::string(origin), given, nullptr);
  add_fields(toml_text, file, true, given);
  return bind_params<TrainingFields>(std::string(file), given, nullptr).finished();
}

TrainingConfig read_training(const std::filesystem::path& file, std::string_view changes,
                             std::string_view origin) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!std::filesystem::is_regular_file(file) || !(text << in.rdbuf()))
    throw ParamError(
        fmt::format("{}: cannot be read as a training configuration (TOML); does it exist?", file.string()));
  return parse_training(text.str(), file.string(), changes, origin);
}

std::string training_text(const TrainingConfig& config) {
  TrainingFields fields{config, joined(config.model.attention), joined(config.model.position),
                        static_cast<std::int64_t>(config.seed)};
  ParamBinder write = ParamBinder::writing("training", nullptr);
  fields.declare(write);
  MethodSpec spec;
  spec.id = "train";
  spec.params = std::move(write.values());
  return spec.text();
}

TrainingConfig training_from(std::string_view text) {
  return bind_params<TrainingFields>("training", parse_method_spec(text), nullptr).finished();
}

}  // namespace borel::probe
