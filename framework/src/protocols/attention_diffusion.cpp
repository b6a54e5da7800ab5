// attention.diffusion: a denoiser of small image crops is trained from scratch on raw pixels, with the mechanism and the
// encoding in every layer. How near does it come to the clean crop, level of noise by level, on parts of the photographs
// that it never saw, and what do samples look like?
//
//   Tokens are patches of pixels and nothing else: no tokenizer, no codebook. Network, loss and sampler follow Karras et
//   al. 2022 (EDM), arXiv:2206.00364; see probe/denoiser_pass.hpp. Blocks are those of the decoder, without causality.
//   The rival is the best linear denoiser of whole crops, fitted on the same parts (linear_denoiser.hpp).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "probe/denoiser.hpp"
#include "probe/denoiser_pass.hpp"
#include "protocols/attention_call.hpp"
#include "protocols/image_arrays.hpp"
#include "protocols/linear_denoiser.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

using probe::ImageCrops;

struct Options {
  std::string image;
  std::int64_t crop = 24;
  std::int64_t patch = 4;
  double held_out = 0.25;
  probe::Block block = probe::Block::transformer;
  std::int64_t width = 64;
  std::int64_t heads = 4;
  std::int64_t layers = 4;
  std::int64_t feed_forward_width = 256;
  std::int64_t key_width = 64;
  std::int64_t steps = 1200;
  std::int64_t batch = 32;
  double learning_rate = 5e-3;
  double weight_decay = 0.01;
  std::vector<double> levels{0.02, 0.05, 0.1, 0.2, 0.5, 1, 2};
  std::int64_t n_linear = 20000;
  std::int64_t n_test = 512;
  std::int64_t n_samples = 25;
  std::int64_t sampling_steps = 18;
  double shown_level = 0.2;

  void declare(ParamBinder& p) {
    p.text("image", image, "Name of the image in the dataset; empty = all.");
    p.integer("crop", crop, Range::closed(2, 64), "pixels", "Side of the squares that are learnt.");
    p.integer("patch", patch, Range::closed(1, 64), "pixels", "Side of a patch, a token; a divisor of crop.");
    p.real("held_out", held_out, Range::open(0, 1), "1",
           "Share of the columns, at the right of each image, that only the test sees.");
    p.choice(
        "block", block, {{"transformer", probe::Block::transformer}, {"gau", probe::Block::gau}},
        "transformer: attention, then a feed-forward part; gau: a gated attention unit in place of both, "
        "with heads = 1.");
    p.integer("key_width", key_width, Range::closed(1, 1024), "1", "Size of a gau's queries and keys.");
    p.integer("width", width, Range::closed(2, 1024), "1", "Size of a token's vector.");
    p.integer("heads", heads, Range::closed(1, 256), "1", "Heads of each layer.");
    p.integer("layers", layers, Range::closed(1, 16), "1", "Blocks.");
    p.integer("feed_forward_width", feed_forward_width, Range::closed(1, 4096), "1",
              "Hidden units of a block.");
    p.integer("steps", steps, Range::closed(1, 1000000), "1",
              "Updates; the rate rises over a tenth of them, then falls to zero as a cosine.");
    p.integer("batch", batch, Range::closed(k_chunk, 4096), "crops", "Crops in an update, a multiple of 8.");
    p.real("learning_rate", learning_rate, Range::closed(1e-6, 1), "1", "Peak rate of AdamW.");
    p.real("weight_decay", weight_decay, Range::closed(0, 10), "1", "Decay of matrices, times the rate.");
    p.reals("levels", levels, Range::closed(1e-3, 100), "1",
            "Standard deviations of the noise in the test, ascending; pixels are -1 to 1.");
    p.integer("n_linear", n_linear, Range::closed(2, 1000000), "crops",
              "Training crops that the linear denoiser is fitted to.");
    p.integer("n_test", n_test, Range::closed(1, 100000), "crops",
              "Held-out crops, at most; they do not overlap.");
    p.integer("n_samples", n_samples, Range::closed(1, 400), "crops", "Samples that are drawn and shown.");
    p.integer("sampling_steps", sampling_steps, Range::closed(1, 1000), "1", "Steps of the sampler.");
    p.real("shown_level", shown_level, Range::closed(1e-3, 100), "1",
           "Noise of the held-out crops that are shown noisy and denoised.");
  }
  void check() const {
    if (levels.empty() || std::ranges::adjacent_find(levels, std::greater_equal{}) != levels.end())
      throw ParamError("parameter 'levels' must name at least one number, ascending");
    if (crop % patch != 0)
      throw ParamError(fmt::format("parameter 'patch' must divide crop = {}, got {}", crop, patch));
    if (block == probe::Block::gau && heads != 1)
      throw ParamError(fmt::format("parameter 'heads' must be 1 for block = gau, got {}", heads));
    if (width % heads != 0)
      throw ParamError(
          fmt::format("parameter 'width' must be a multiple of heads = {}, got {}", heads, width));
    if (batch % k_chunk != 0)
      throw ParamError(fmt::format("parameter 'batch' must be a multiple of {}, got {}", k_chunk, batch));
  }

  static constexpr index_t k_chunk = 8;  // crops of one parallel task; part of the result's bits
};

/// The left part of each image for training, the right one for the test.
struct Photographs {
  std::vector<probe::GreyImage> train, test;
};

std::vector<std::string> chosen_names(const CellInput& input, const Options& options) {
  return options.image.empty() ? image_names(*input.dataset) : std::vector<std::string>{options.image};
}

probe::GreyImage columns(const ImageArray& array, index_t image, index_t begin, index_t end) {
  probe::GreyImage part{array.height, end - begin};
  for (index_t y = 0; y < array.height; ++y)
    for (index_t x = begin; x < end; ++x)
      part.pixels.push_back(static_cast<float>(array.grey(image, y, x) / 127.5 - 1));
  return part;
}

Photographs photographs(const CellInput& input, const Options& options) {
  Photographs out;
  for (const std::string& name : chosen_names(input, options)) {
    const ImageArray array = image_array(*input.dataset, name);
    const index_t border = array.width - std::llround(options.held_out * static_cast<double>(array.width));
    for (index_t i = 0; i < array.n_images; ++i) {
      out.train.push_back(columns(array, i, 0, border));
      out.test.push_back(columns(array, i, border, array.width));
    }
  }
  return out;
}

probe::TrainingConfig configuration(const CellInput& input, const Options& options, const ImageCrops& crops) {
  probe::TrainingConfig config;
  config.model.block = options.block;
  config.model.key_width = options.key_width;
  config.model.n_layers = options.layers;
  config.model.d_model = options.width;
  config.model.n_heads = options.heads;
  config.model.d_feed_forward = options.feed_forward_width;
  config.model.patches = crops.grid();
  config.model.patches.sigma_data = crops.standard_deviation();
  config.model.train_length = crops.grid().n_tokens();
  config.model.attention = {input.methods.at(0)};
  config.model.position = {input.methods.at(1)};
  config.n_steps = options.steps;
  config.n_batch = options.batch;
  config.n_chunk = Options::k_chunk;
  config.learning_rate = options.learning_rate;
  config.n_warmup = options.steps / 10;
  config.final_rate = 0;
  config.beta2 = 0.99;
  config.weight_decay = options.weight_decay;
  config.seed = input.seed.value;  // the same start, crops and noise for all methods
  return config;
}

double squared_error(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum / static_cast<double>(a.size());
}

/// Crops side by side, white lines between them, in grey levels.
Picture contact_sheet(std::string name, const ImageCrops& crops, std::span<const float> tokens) {
  const index_t side = crops.side();
  const auto size = static_cast<std::size_t>(crops.n_pixels());
  const auto n = static_cast<index_t>(tokens.size() / size);
  const auto across = static_cast<index_t>(std::ceil(std::sqrt(static_cast<double>(n))));
  const index_t down = (n + across - 1) / across;
  Picture picture{std::move(name), "column", "row", down * (side + 1) - 1, across * (side + 1) - 1, {}};
  picture.values.assign(static_cast<std::size_t>(picture.n_rows * picture.n_cols), 255);
  std::vector<double> pixels(size);
  for (index_t i = 0; i < n; ++i) {
    crops.square(tokens.subspan(static_cast<std::size_t>(i) * size, size), pixels);
    const index_t top = i / across * (side + 1), left = i % across * (side + 1);
    for (index_t y = 0; y < side; ++y)
      for (index_t x = 0; x < side; ++x)
        picture.values[static_cast<std::size_t>((top + y) * picture.n_cols + left + x)] =
            std::round(std::clamp(127.5 * (pixels[static_cast<std::size_t>(y * side + x)] + 1), 0.0, 255.0));
  }
  return picture;
}

/// Held-out crops, and the same under noise of any level: the same noise for all methods.
struct Test {
  std::vector<float> clean;
  Seed seed;

  Test(const ImageCrops& crops, index_t n_most, Seed chosen) : seed(chosen.derive("test noise")) {
    std::vector<index_t> places = crops.separate_places();
    Rng rng(chosen.derive("test crops"));  // the first of a shuffled list
    for (std::size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[rng.below(i)]);
    places.resize(std::min(places.size(), static_cast<std::size_t>(n_most)));
    const auto size = static_cast<std::size_t>(crops.n_pixels());
    clean.resize(places.size() * size);
    for (std::size_t i = 0; i < places.size(); ++i)
      crops.cut(places[i], std::span(clean).subspan(i * size, size));
  }

  std::vector<float> noisy(double sigma) const {
    std::vector<float> out(clean.size());
    Rng(seed).fill_normal(out);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = clean[i] + static_cast<float>(sigma) * out[i];
    return out;
  }
};

class AttentionDiffusion final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.diffusion"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Diffusion on raw image patches: denoisers trained from scratch, their error by level of noise, "
           "and samples";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::images; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"gain", "dB", Direction::higher_is_better,
         "squared error of the best linear denoiser over that of the network, held-out crops, mean over "
         "levels",
         true},
        {"loss", "", Direction::lower_is_better,
         "what training lowers, on held-out crops, mean over levels: (D - x)^2 / c_out^2", false},
        {"levels_won", "", Direction::higher_is_better, "share of the levels with a gain", false},
        {"parameters", "", Direction::none, "numbers that were trained", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    try {
      Photographs images = photographs(input, options);
      const ImageCrops crops(std::move(images.train), options.crop, options.patch);
      const ImageCrops test_crops(std::move(images.test), options.crop, options.patch);
      const probe::Architecture architecture(configuration(input, options, crops).model, *input.registry);
      probe::check_trainable(architecture);
      architecture.plans(architecture.initial_parameters(input.seed), crops.grid().n_tokens(), true,
                         input.seed);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    const double n_rows = static_cast<double>(options.batch * options.layers * options.crop * options.crop) /
                          static_cast<double>(options.patch * options.patch);
    const auto n_pixels = static_cast<double>(options.crop * options.crop);
    return 4.0 * n_rows * static_cast<double>(24 * options.width + 4 * options.feed_forward_width) +
           16 * n_pixels * n_pixels;
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    Photographs images = photographs(input, options);
    const ImageCrops crops(std::move(images.train), options.crop, options.patch);
    const ImageCrops test_crops(std::move(images.test), options.crop, options.patch);
    const probe::TrainingConfig config = configuration(input, options, crops);
    probe::Trainer trainer(config, *input.registry,
                           std::make_unique<probe::CropData>(crops, probe::NoiseLevels()));
    CellResult result;
    result.curves.push_back(train(trainer, input.stop));

    const probe::Denoiser denoiser(trainer.architecture(), trainer.state().parameters);
    const Test test(test_crops, options.n_test, input.seed);
    compare(options, crops, denoiser, test, input, result);
    result.metrics.push_back(
        {"parameters", "", static_cast<double>(trainer.architecture().n_trainable()), Direction::none});
    show(options, crops, denoiser, test, input, result);
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    struct Training {
      ImageCrops crops;
      probe::Trainer trainer;
      Training(const CellInput& cell, const Options& chosen)
          : crops(photographs(cell, chosen).train, chosen.crop, chosen.patch),
            trainer(configuration(cell, chosen, crops), *cell.registry,
                    std::make_unique<probe::CropData>(crops, probe::NoiseLevels())) {}
    };
    auto training = std::make_shared<Training>(input, options);
    return {{"training_step_s", [training] { training->trainer.step(); }}};
  }

 private:
  static Curve train(probe::Trainer& trainer, StopToken stop) {
    Curve curve{
        "training loss", "step", "squared error of F, mean of a fiftieth of the steps", false, true, {}, {}};
    const index_t n_steps = trainer.config().n_steps, block = std::max<index_t>(1, n_steps / 50);
    double sum = 0;
    while (trainer.state().step < n_steps) {
      sum += trainer.step(stop).loss;
      if (trainer.state().step % block != 0) continue;
      curve.x.push_back(static_cast<double>(trainer.state().step));
      curve.y.push_back(sum / static_cast<double>(block));
      sum = 0;
    }
    return curve;
  }

  static void compare(const Options& options, const ImageCrops& crops, const probe::Denoiser& denoiser,
                      const Test& test, const CellInput& input, CellResult& result) {
    const LinearDenoiser linear(crops, options.n_linear, input.seed.derive("linear"));
    const std::string name = "denoising error", axis = "standard deviation of the noise";
    Curve error{name, axis, "squared error of a pixel, held-out crops", true, true, {}, {}};
    Curve linear_error{"best linear denoiser", axis, error.y_label, true, true, {}, {}, name};
    Curve unchanged{"noise left as it is", axis, error.y_label, true, true, {}, {}, name};
    Curve gain{"gain over the best linear denoiser", axis, "dB", true, false, {}, {}};
    double loss = 0, total_gain = 0;
    index_t n_won = 0;
    for (const double sigma : options.levels) {
      std::vector<float> estimate = test.noisy(sigma), by_linear = estimate;
      denoiser.denoise(estimate, sigma, estimate, input.stop);
      linear.denoise(sigma, by_linear);
      const double its = squared_error(estimate, test.clean), rival = squared_error(by_linear, test.clean);
      if (!std::isfinite(its))
        throw MethodError(fmt::format("the denoiser's output at sigma = {} is not finite", sigma));
      for (Curve* curve : {&error, &linear_error, &unchanged, &gain}) curve->x.push_back(sigma);
      error.y.push_back(its);
      linear_error.y.push_back(rival);
      unchanged.y.push_back(sigma * sigma);
      gain.y.push_back(10 * std::log10(rival / its));
      total_gain += gain.y.back();
      n_won += its < rival;
      loss += its / std::pow(probe::preconditioning(sigma, crops.standard_deviation()).out, 2);
    }
    const auto n = static_cast<double>(options.levels.size());
    result.metrics = {{"gain", "dB", total_gain / n, Direction::higher_is_better},
                      {"loss", "", loss / n, Direction::lower_is_better},
                      {"levels_won", "", static_cast<double>(n_won) / n, Direction::higher_is_better}};
    for (Curve* curve : {&error, &linear_error, &unchanged, &gain})
      result.curves.push_back(std::move(*curve));
  }

  static void show(const Options& options, const ImageCrops& crops, const probe::Denoiser& denoiser,
                   const Test& test, const CellInput& input, CellResult& result) {
    const std::size_t n_shown =
        std::min(test.clean.size(), static_cast<std::size_t>(options.n_samples * crops.n_pixels()));
    std::vector<float> noisy = test.noisy(options.shown_level);
    noisy.resize(n_shown);
    std::vector<float> denoised(n_shown);
    denoiser.denoise(noisy, options.shown_level, denoised, input.stop);
    const auto samples = denoiser.sample(options.n_samples, {.n_steps = options.sampling_steps},
                                         input.seed.derive("samples"), input.stop);
    expect_finite("samples", 0, samples);
    result.pictures.push_back(contact_sheet("samples", crops, samples));
    result.pictures.push_back(contact_sheet("held-out crops", crops, std::span(test.clean).first(n_shown)));
    result.pictures.push_back(
        contact_sheet(fmt::format("held-out crops, noise {}", options.shown_level), crops, noisy));
    result.pictures.push_back(
        contact_sheet(fmt::format("denoised crops, noise {}", options.shown_level), crops, denoised));
  }
};

}  // namespace

const Protocol& attention_diffusion() {
  static const AttentionDiffusion protocol;
  return protocol;
}

}  // namespace borel
