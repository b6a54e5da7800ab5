// Diffusion on image patches: tokens, preconditioning, sampler and linear rival against numbers known by other means, and the
// protocol attention.diffusion on images that no linear denoiser can restore.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "dataset/dataset_writer.hpp"
#include "probe/denoiser.hpp"
#include "probe/denoiser_pass.hpp"
#include "protocols/linear_denoiser.hpp"
#include "protocols/protocol.hpp"

namespace {

using namespace borel;
using namespace borel::probe;
using testing::HasSubstr;

using test::metric;
using test::registry;

GreyImage numbered(index_t height, index_t width) {
  GreyImage image{height, width, std::vector<float>(static_cast<std::size_t>(height * width))};
  std::iota(image.pixels.begin(), image.pixels.end(), 0.0F);
  return image;
}

TEST(ImageCrops, TokensArePatchesRowAfterRow) {
  const ImageCrops crops({numbered(5, 6)}, 4, 2);
  EXPECT_EQ(crops.n_places(), 2 * 3);
  std::vector<float> tokens(16);
  crops.cut(4, tokens);  // second row of places, second column: from pixel (1, 1)
  EXPECT_EQ(tokens, (std::vector<float>{7, 8, 13, 14, 9, 10, 15, 16, 19, 20, 25, 26, 21, 22, 27, 28}));
  std::vector<double> square(16);
  crops.square(tokens, square);
  EXPECT_EQ(square, (std::vector<double>{7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22, 25, 26, 27, 28}));
  const PatchGrid grid = crops.grid();
  EXPECT_EQ(grid.n_rows * 100 + grid.n_columns * 10 + grid.n_values, 224);
  EXPECT_DOUBLE_EQ(crops.mean(), 14.5);
  EXPECT_DOUBLE_EQ(crops.standard_deviation(), std::sqrt((30.0 * 30 - 1) / 12));
}

TEST(ImageCrops, EveryImageHasItsPlaces) {
  const ImageCrops crops({numbered(4, 5), numbered(9, 8)}, 4, 4);
  EXPECT_EQ(crops.n_places(), 2 + 6 * 5);
  std::vector<float> tokens(16);
  crops.cut(1, tokens);
  EXPECT_EQ(tokens.front(), 1);
  crops.cut(2 + 5 + 3, tokens);  // second image, pixel (1, 3)
  EXPECT_EQ(tokens.front(), 8 + 3);
  EXPECT_EQ(crops.separate_places(), (std::vector<index_t>{0, 2, 2 + 4, 2 + 4 * 5, 2 + 4 * 5 + 4}));
}

TEST(ImageCrops, RefusesWhatDoesNotFit) {
  EXPECT_THROW(ImageCrops({numbered(8, 8)}, 6, 4), ParamError);
  EXPECT_THROW(ImageCrops({numbered(8, 3)}, 4, 2), ParamError);
  EXPECT_THROW(ImageCrops({}, 4, 2), ParamError);
}

ModelConfig small_model(const ImageCrops& crops, const char* attention, const char* position) {
  ModelConfig model;
  model.n_layers = 2;
  model.d_model = 16;
  model.n_heads = 2;
  model.d_feed_forward = 32;
  model.patches = crops.grid();
  model.train_length = crops.grid().n_tokens();
  model.attention = {parse_method_spec(attention, "attention")};
  model.position = {parse_method_spec(position, "position")};
  return model;
}

// Several passes in a chunk see what one chunk for each crop sees.
TEST(Denoiser, PassesOfAChunkAddUp) {
  GreyImage image = numbered(40, 40);
  for (float& pixel : image.pixels) pixel = std::sin(0.3F * pixel);
  const ImageCrops crops({image}, 28, 2);  // 196 tokens
  TrainingConfig config;
  config.model = small_model(crops, "softmax", "rope");
  config.model.patches.sigma_data = crops.standard_deviation();
  config.n_batch = 4;
  StepReport reports[2];
  for (const index_t n_chunk : {1, 4}) {
    config.n_chunk = n_chunk;
    EXPECT_EQ(sequences_per_pass(config), n_chunk == 1 ? 1 : 2);
    reports[n_chunk == 1 ? 0 : 1] =
        Trainer(config, registry(), std::make_unique<CropData>(crops, NoiseLevels())).step();
  }
  EXPECT_NEAR(reports[1].loss / reports[0].loss, 1, 1e-6);
  EXPECT_NEAR(reports[1].gradient_norm / reports[0].gradient_norm, 1, 1e-5);
}

// Table 1 of the paper by hand, sigma_data = 1 / 2.
TEST(Denoiser, IsPreconditionedAsInThePaper) {
  const Preconditioning at_one = preconditioning(1, 0.5), at_half = preconditioning(0.5, 0.5);
  EXPECT_NEAR(at_one.skip, 0.2, 1e-15);
  EXPECT_NEAR(at_one.out, std::sqrt(0.2), 1e-15);
  EXPECT_NEAR(at_one.in, std::sqrt(0.8), 1e-15);
  EXPECT_EQ(at_one.level, 0);
  EXPECT_NEAR(at_half.skip, 0.5, 1e-15);
  EXPECT_NEAR(at_half.level, -std::log(2.0) / 4, 1e-15);
}

TEST(Denoiser, LevelsFollowThePaper) {
  const std::vector<double> levels = SamplingSchedule().levels();
  ASSERT_EQ(levels.size(), 18U);
  EXPECT_NEAR(levels.front(), 80, 1e-10);
  EXPECT_NEAR(levels.back(), 0.002, 1e-12);
  // (80^(1/7) + 8/17 (0.002^(1/7) - 80^(1/7)))^7
  EXPECT_NEAR(levels[8], 3.2568215, 1e-6);
}

// Before training the network gives 0, so D = c_skip y: the exact denoiser of independent N(0, sigma_data^2) pixels. Then the
// flow from level s is x(0) = x(s) / sqrt(1 + (s / sigma_data)^2), whatever the path.
TEST(Denoiser, SamplerFollowsTheFlowOfGaussianPixels) {
  const ImageCrops crops({numbered(8, 8)}, 8, 4);
  const Architecture architecture(small_model(crops, "softmax", "rope"), registry());
  const auto parameters = architecture.initial_parameters(Seed{5});
  const Denoiser denoiser(architecture, parameters);
  std::vector<float> noisy(128), denoised(128);
  Rng(Seed{6}).fill_normal(noisy);
  denoiser.denoise(noisy, 1, denoised);
  for (std::size_t i = 0; i < 128; ++i) EXPECT_NEAR(denoised[i], 0.2 * static_cast<double>(noisy[i]), 1e-7);

  const SamplingSchedule fine{.n_steps = 200};
  const std::vector<float> samples = denoiser.sample(2, fine, Seed{7});
  ASSERT_EQ(samples.size(), 128U);
  for (std::size_t s = 0; s < 2; ++s) {
    std::vector<float> start(64);
    Rng(Seed{7}.derive(s)).fill_normal(start);
    for (std::size_t i = 0; i < 64; ++i)
      EXPECT_NEAR(static_cast<double>(samples[s * 64 + i]),
                  80 * static_cast<double>(start[i]) / std::sqrt(1 + 160.0 * 160), 1e-3);
  }
}

// Pixels of a row are equal, rows are independent N(0, v): the best estimate from two noisy ones is their mean times
// v / (v + sigma^2 / 2), its error v sigma^2 / 2 / (v + sigma^2 / 2).
TEST(LinearDenoiser, HasTheErrorOfWienersFilter) {
  constexpr double k_variance = 0.25, k_sigma = 0.6;
  constexpr index_t k_height = 40000;
  GreyImage image{k_height, 2, {}};
  Rng rng(Seed{8});
  for (index_t row = 0; row < k_height; ++row)
    image.pixels.insert(image.pixels.end(), 2,
                        static_cast<float>(0.3 + std::sqrt(k_variance) * rng.normal()));
  const ImageCrops crops({image}, 2, 1);
  const LinearDenoiser denoiser(crops, 40000, Seed{9});
  const std::vector<index_t> places = crops.separate_places();
  std::vector<float> clean(places.size() * 4), noisy(clean);
  Rng noise(Seed{10});
  for (std::size_t i = 0; i < places.size(); ++i) crops.cut(places[i], std::span(clean).subspan(4 * i, 4));
  for (std::size_t i = 0; i < clean.size(); ++i)
    noisy[i] = clean[i] + static_cast<float>(k_sigma * noise.normal());
  denoiser.denoise(k_sigma, noisy);
  double square = 0;
  for (std::size_t i = 0; i < clean.size(); ++i)
    square += std::pow(static_cast<double>(noisy[i]) - static_cast<double>(clean[i]), 2);
  const double half = k_sigma * k_sigma / 2;
  EXPECT_NEAR(square / static_cast<double>(clean.size()) / (k_variance * half / (k_variance + half)), 1,
              0.02);
}

TEST(Rope, TurnsWithCoordinatesOrWithTheSequence) {
  const auto plan = [](const char* spec, bool image) {
    std::vector<double> coordinates;
    for (int t = 0; t < 6; ++t) coordinates.insert(coordinates.end(), {t / 3.0 - t % 3 / 3.0, t % 3 * 1.0});
    PositionContext context;
    context.n_q = context.n_k = 6;
    context.d_head = 8;
    context.causal = false;
    if (image) context.coordinates = {coordinates.data(), {6, 2}};
    const auto encoding = registry().make<PositionEncoding>(spec);
    return position_plan(*encoding, context);
  };
  const PositionPlan by_axes = plan("rope", true), by_place = plan("rope{axes=sequence}", true),
                     text = plan("rope", false);
  EXPECT_EQ(by_axes.bands.front().n_axes, 2);
  EXPECT_EQ(by_place.bands.front().n_axes, 1);
  EXPECT_EQ(*by_place.bands.front().query_position, *text.bands.front().query_position);
  EXPECT_EQ(*by_place.bands.front().angle, *text.bands.front().angle);
  // Pairs 0, 1 turn with the row, 2, 3 with the column: 1 and 10000^(-1/2).
  EXPECT_EQ(*by_axes.bands.front().angle, (std::vector<double>{1, 0, 0.01, 0, 0, 1, 0, 0.01}));
}

class AttentionDiffusionTest : public testing::Test {
 protected:
  // Discs, black and white at random: edges, which no linear filter keeps.
  static std::shared_ptr<const Dataset> dataset() {
    constexpr index_t k_side = 96;
    std::vector<std::uint8_t> pixels(k_side * k_side * 3, 120);
    Rng rng(Seed{21});
    for (int disc = 0; disc < 150; ++disc) {
      const double y = rng.uniform() * k_side, x = rng.uniform() * k_side, radius = 4 + 10 * rng.uniform();
      const auto grey = static_cast<std::uint8_t>(rng.below(2) * 200 + 20);
      for (index_t i = 0; i < k_side; ++i)
        for (index_t j = 0; j < k_side; ++j)
          if (std::hypot(static_cast<double>(i) - y, static_cast<double>(j) - x) < radius)
            std::fill_n(pixels.begin() + (i * k_side + j) * 3, 3, grey);
    }
    DatasetWriter writer(DatasetKind::images, "discs", "Discs", "made by the test", "none");
    writer.array("discs", std::move(pixels), {k_side, k_side, 3});
    writer.seal();
    return Dataset::from(writer);
  }

  static CellInput input(const char* attention, const char* position = "rope") {
    static const auto discs = dataset();
    CellInput out;
    out.dataset = discs;
    out.registry = &registry();
    out.methods = {parse_method_spec(attention, "attention"), parse_method_spec(position, "position")};
    out.options.id = "attention.diffusion";
    out.options.params = {{"crop", "12"},           {"patch", "3"},        {"width", "32"},
                          {"layers", "2"},          {"heads", "2"},        {"feed_forward_width", "64"},
                          {"steps", "400"},         {"batch", "16"},       {"learning_rate", "0.005"},
                          {"levels", "[0.1, 0.4]"}, {"n_linear", "4000"},  {"n_samples", "5"},
                          {"sampling_steps", "6"},  {"shown_level", "0.4"}};
    out.seed = Seed{7};
    return out;
  }

  const Protocol& protocol = find_protocol("attention.diffusion");
};

TEST_F(AttentionDiffusionTest, BeatsTheLinearDenoiserAndDraws) {
  const CellInput cell = input("softmax");
  ASSERT_EQ(protocol.refuses(cell), "");
  const CellResult result = protocol.run(cell);
  EXPECT_GT(metric(result, "gain"), 1);
  EXPECT_EQ(metric(result, "levels_won"), 1);
  EXPECT_LT(metric(result, "loss"), 0.5);  // 1 before training, for pixels of deviation sigma_data
  const auto curve = [&](std::string_view name) {
    return *std::ranges::find(result.curves, name, &Curve::name);
  };
  const Curve error = curve("denoising error"), linear = curve("best linear denoiser"),
              unchanged = curve("noise left as it is");
  EXPECT_EQ(unchanged.y, (std::vector<double>{0.1 * 0.1, 0.4 * 0.4}));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_LT(error.y[i], linear.y[i]);
    EXPECT_LT(linear.y[i], unchanged.y[i]);
    EXPECT_NEAR(curve("gain over the best linear denoiser").y[i], 10 * std::log10(linear.y[i] / error.y[i]),
                1e-9);
  }
  ASSERT_EQ(result.pictures.size(), 4U);
  for (const Picture& picture : result.pictures) {  // five crops, three across
    EXPECT_EQ(picture.n_cols, 3 * 13 - 1) << picture.name;
    EXPECT_EQ(picture.n_rows, 2 * 13 - 1) << picture.name;
    EXPECT_TRUE(std::ranges::all_of(picture.values, [](double v) { return v >= 0 && v <= 255; }));
  }
  // Samples of discs have black and white in them, and so have deviations like those of the images.
  const auto deviation = [](const Picture& picture) {
    double sum = 0, square = 0;
    for (const double v : picture.values) sum += v, square += v * v;
    const auto n = static_cast<double>(picture.values.size());
    return std::sqrt(square / n - sum * sum / (n * n));
  };
  EXPECT_NEAR(deviation(result.pictures[0]) / deviation(result.pictures[1]), 1, 0.3);
}

TEST_F(AttentionDiffusionTest, SameBitsForOneAndTwoThreads) {
  for (const auto& [attention, position] : {std::pair{"softmax", "t5"}, std::pair{"linear", "learned"}}) {
    CellResult results[2];
    for (std::size_t threads : {1, 2}) {
      const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      CellInput cell = input(attention, position);
      cell.options.params["steps"] = "10";
      results[threads - 1] = protocol.run(cell);
    }
    ASSERT_EQ(results[0].metrics.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_EQ(results[0].metrics[i].value, results[1].metrics[i].value) << results[0].metrics[i].name;
    for (std::size_t i = 0; i < results[0].curves.size(); ++i)
      EXPECT_EQ(results[0].curves[i].y, results[1].curves[i].y) << results[0].curves[i].name;
    EXPECT_EQ(results[0].pictures.at(0).values, results[1].pictures.at(0).values);
  }
}

TEST_F(AttentionDiffusionTest, ASetIsItsImages) {
  const auto discs = dataset();
  const auto bytes = discs->bytes("discs");
  const auto half = static_cast<std::ptrdiff_t>(bytes.size() / 2);
  DatasetWriter one_by_one(DatasetKind::images, "halves", "Halves", "made by the test", "none"),
      set = one_by_one;
  one_by_one.array("a", std::vector<std::uint8_t>(bytes.begin(), bytes.begin() + half), {48, 96, 3});
  one_by_one.array("b", std::vector<std::uint8_t>(bytes.begin() + half, bytes.end()), {48, 96, 3});
  set.array("images", std::vector<std::uint8_t>(bytes.begin(), bytes.end()), {2, 48, 96, 3});
  std::vector<CellResult> results;
  for (DatasetWriter* writer : {&one_by_one, &set}) {
    writer->seal();
    CellInput cell = input("softmax");
    cell.dataset = Dataset::from(*writer);
    cell.options.params["steps"] = "3";
    ASSERT_EQ(protocol.refuses(cell), "");
    results.push_back(protocol.run(cell));
  }
  for (std::size_t i = 0; i < results[0].pictures.size(); ++i)
    EXPECT_EQ(results[0].pictures[i].values, results[1].pictures[i].values) << results[0].pictures[i].name;
  EXPECT_EQ(metric(results[0], "loss"), metric(results[1], "loss"));
}

TEST_F(AttentionDiffusionTest, GatedAttentionUnitsBeatTheLinearDenoiserToo) {
  CellInput cell = input("relu2{scaling=gau_n2}");
  cell.options.params["block"] = "gau";
  cell.options.params["heads"] = "1";
  cell.options.params["key_width"] = "16";
  const CellResult result = protocol.run(cell);
  EXPECT_GT(metric(result, "gain"), 1);
}

TEST_F(AttentionDiffusionTest, SaysWhyItCannotBeMeasured) {
  EXPECT_THAT(protocol.refuses(input("gated_delta", "none")),
              HasSubstr("every patch of an image sees all others"));
  EXPECT_THAT(protocol.refuses(input("softmax", "xpos")), HasSubstr("causal"));
  CellInput cell = input("softmax");
  cell.options.params["crop"] = "36";  // the test part is 24 wide
  EXPECT_THAT(protocol.refuses(cell), HasSubstr("a crop needs"));
}

TEST_F(AttentionDiffusionTest, RefusesOptionsThatDoNotFitTogether) {
  for (const auto& [name, value] :
       {std::pair{"patch", "5"}, std::pair{"heads", "3"}, std::pair{"block", "gau"}, std::pair{"batch", "12"},
        std::pair{"levels", "[]"}, std::pair{"levels", "[0.4, 0.1]"}}) {
    MethodSpec options = input("softmax").options;
    options.params[name] = value;
    EXPECT_THROW(protocol.canonical_options(options), ParamError) << name << " " << value;
  }
}

}  // namespace
