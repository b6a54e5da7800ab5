// attention.denoise: non-local means on a real photograph. Queries and keys are raw patches, nothing is thrown away.
//
// Score of two patches p, p' of P pixels under noise sigma:  beta (tau - |p - p'|^2 / (2 sigma^2 P)),  written as an inner
// product of [p, 1, -|p|^2 / 2] and [p', -|p'|^2 / 2, 1] plus a constant. Two noisy copies of the same patch score about
// beta (tau - 1). With softmax this is non-local means (Buades, Coll, Morel, CVPR 2005) with h^2 = 2 sigma^2 P / beta; tau
// cancels there, and is the radius outside of which relu-like mechanisms give no weight. Values are the centre pixel and 1,
// so that every mechanism is normalised in the same way.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "protocols/attention_call.hpp"
#include "protocols/image_arrays.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  std::string image;
  std::int64_t crop = 64;
  std::int64_t patch = 5;
  double noise = 25;
  double beta = 6;
  double tau = 1.5;

  void declare(ParamBinder& p) {
    p.text("image", image,
           "Name of the image in the dataset, or of a set, whose first is taken; empty = the first.");
    p.integer("crop", crop, Range::closed(16, 512), "pixels",
              "Side of the square that is denoised; its place is random.");
    p.integer("patch", patch, Range::closed(1, 15), "pixels", "Side of a patch, odd.");
    p.real("noise", noise, Range::greater_than(0), "grey levels",
           "Standard deviation of the added noise, of 255.");
    p.real("beta", beta, Range::greater_than(0), "nats",
           "Score lost per expected squared distance of equal patches.");
    p.real("tau", tau, Range::greater_than(0), "1",
           "Distance, in the same unit, at which the score is zero.");
  }
  void check() const {
    if (patch % 2 == 0)
      throw ParamError("parameter 'patch' must be odd, so that a patch has a centre; got " +
                       std::to_string(patch));
  }
};

constexpr double k_min_weight = 1e-20;  // a sum of weights below this says nothing about the pixel

struct Square {
  index_t side = 0;
  std::vector<double> pixels;  ///< row-major, grey levels
};

double psnr_db(const Square& truth, const Square& image) {
  double square = 0;
  for (std::size_t i = 0; i < truth.pixels.size(); ++i)
    square += (truth.pixels[i] - image.pixels[i]) * (truth.pixels[i] - image.pixels[i]);
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(truth.pixels.size()) / square);
}

// Index mirrored at the border, without repeating the edge.
index_t mirrored(index_t i, index_t n) {
  while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
  return i;
}

class AttentionDenoise final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.denoise"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Non-local means on a photograph: attention over raw patches removes noise";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::images; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"psnr", "dB", Direction::higher_is_better, "peak signal-to-noise ratio of the result", true},
        {"psnr_gain", "dB", Direction::higher_is_better, "psnr minus that of the noisy image", false},
        {"psnr_noisy", "dB", Direction::none, "psnr of the noisy image", false},
        {"unanswered", "", Direction::lower_is_better,
         "share of pixels without any weight, left as they were", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    const ImageArray array = chosen_array(input, options);
    if (array.height < options.crop || array.width < options.crop)
      return fmt::format("the image has {} x {} pixels, the crop {} x {}", array.height, array.width,
                         options.crop, options.crop);
    const index_t n = options.crop * options.crop;
    const std::vector<double> coordinates = pixel_coordinates(options.crop);
    return refuses_setting(make_attention_pair(input), 1, n, n, d_key(options), 2, setting(n, coordinates));
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    return static_cast<double>(options.crop * options.crop) *
           (8.0 * static_cast<double>(d_key(options)) + 64);
  }

  CellResult run(const CellInput& input) const override {
    const Task task(input, read(input.options));
    const auto [denoised, unanswered] = task.denoise();
    CellResult result;
    const double noisy_db = psnr_db(task.clean(), task.noisy());
    const double result_db = psnr_db(task.clean(), denoised);
    result.metrics.push_back({"psnr", "dB", result_db, Direction::higher_is_better});
    result.metrics.push_back({"psnr_gain", "dB", result_db - noisy_db, Direction::higher_is_better});
    result.metrics.push_back({"psnr_noisy", "dB", noisy_db, Direction::none});
    result.metrics.push_back({"unanswered", "", unanswered, Direction::lower_is_better});
    const auto picture = [&result](std::string name, const Square& square) {
      result.pictures.push_back({std::move(name), "column", "row", square.side, square.side, square.pixels});
    };
    picture("clean", task.clean());
    picture("noisy", task.noisy());
    picture("denoised", denoised);
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    auto task = std::make_shared<Task>(input, read(input.options));
    return {{"forward_s", [task] { task->denoise(); }}};
  }

 private:
  static ImageArray chosen_array(const CellInput& input, const Options& options) {
    return image_array(*input.dataset,
                       options.image.empty() ? image_names(*input.dataset).front() : options.image);
  }

  static index_t d_key(const Options& options) { return options.patch * options.patch + 3; }

  static std::vector<double> pixel_coordinates(index_t side) {
    std::vector<double> coordinates;
    coordinates.reserve(static_cast<std::size_t>(2 * side * side));
    for (index_t y = 0; y < side; ++y)
      for (index_t x = 0; x < side; ++x) {
        coordinates.push_back(static_cast<double>(y));
        coordinates.push_back(static_cast<double>(x));
      }
    return coordinates;
  }

  static AttentionSetting setting(index_t n, const std::vector<double>& coordinates) {
    AttentionSetting setting;
    setting.causal = false;
    setting.coordinates = {coordinates.data(), {n, 2}};
    return setting;
  }

  class Task {
   public:
    Task(const CellInput& input, const Options& options)
        : coordinates_(pixel_coordinates(options.crop)), pair_(make_attention_pair(input)) {
      cut(input, options);
      const index_t n = options.crop * options.crop;
      const index_t d = d_key(options);
      fill_patches(options);
      o_.resize(static_cast<std::size_t>(2 * n));
      prepared_ = std::make_unique<PreparedCall>(pair_, TensorView<const float, 3>(q_.data(), {1, n, d}),
                                                 TensorView<const float, 3>(k_.data(), {1, n, d}),
                                                 TensorView<const float, 3>(v_.data(), {1, n, 2}),
                                                 setting(n, coordinates_), input.seed, input.stop);
    }

    const Square& clean() const { return clean_; }
    const Square& noisy() const { return noisy_; }

    std::pair<Square, double> denoise() const {
      const index_t n = clean_.side * clean_.side;
      const TensorView<float, 3> o(o_.data(), {1, n, 2});
      prepared_->forward(o);
      Square result = noisy_;
      index_t unanswered = 0;
      for (index_t i = 0; i < n; ++i) {
        expect_finite("output", i, o.row(0, i));
        const double weight = static_cast<double>(o(0, i, 1));
        const double value = static_cast<double>(o(0, i, 0)) / weight;
        if (weight > k_min_weight && std::isfinite(value))
          result.pixels[static_cast<std::size_t>(i)] = value;
        else
          ++unanswered;
      }
      return {std::move(result), static_cast<double>(unanswered) / static_cast<double>(n)};
    }

   private:
    void cut(const CellInput& input, const Options& options) {
      const ImageArray array = chosen_array(input, options);
      const index_t side = options.crop;
      Rng place(input.seed.derive("place"));
      const auto y0 = static_cast<index_t>(place.below(static_cast<std::uint64_t>(array.height - side + 1)));
      const auto x0 = static_cast<index_t>(place.below(static_cast<std::uint64_t>(array.width - side + 1)));
      Rng noise(input.seed.derive("noise"));
      clean_.side = noisy_.side = side;
      for (index_t y = 0; y < side; ++y)
        for (index_t x = 0; x < side; ++x) {
          clean_.pixels.push_back(array.grey(0, y0 + y, x0 + x));
          noisy_.pixels.push_back(clean_.pixels.back() + options.noise * noise.normal());
        }
    }

    // Patches in units in which the score is beta (tau - distance^2): pixels times sqrt(beta / (2 sigma^2 P)).
    void fill_patches(const Options& options) {
      const index_t side = options.crop, n = side * side, width = options.patch, half = width / 2;
      const index_t n_pixels = width * width, d = d_key(options);
      const double unit =
          std::sqrt(options.beta / (options.noise * options.noise * static_cast<double>(n_pixels)));
      const bool own_scale = pair_.attention->traits().own_scale;
      const double query_scale = own_scale ? 1 : std::sqrt(static_cast<double>(d));
      double mean = 0;
      for (double value : noisy_.pixels) mean += value / static_cast<double>(n);
      q_.resize(static_cast<std::size_t>(n * d));
      k_.resize(static_cast<std::size_t>(n * d));
      for (index_t i = 0; i < n; ++i) {
        float* q = q_.data() + i * d;
        float* k = k_.data() + i * d;
        double square = 0;
        index_t at = 0;
        for (index_t dy = -half; dy <= half; ++dy)
          for (index_t dx = -half; dx <= half; ++dx, ++at) {
            const index_t y = mirrored(i / side + dy, side), x = mirrored(i % side + dx, side);
            const double value = unit * (noisy_.pixels[static_cast<std::size_t>(y * side + x)] - mean);
            square += value * value;
            q[at] = static_cast<float>(query_scale * value);
            k[at] = static_cast<float>(value);
          }
        q[n_pixels] = static_cast<float>(query_scale);
        k[n_pixels] = static_cast<float>(-0.5 * square);
        q[n_pixels + 1] = static_cast<float>(query_scale * (options.beta * options.tau - 0.5 * square));
        k[n_pixels + 1] = 1;
        q[n_pixels + 2] = k[n_pixels + 2] = 0;  // makes d even for encodings that rotate pairs
        v_.push_back(static_cast<float>(noisy_.pixels[static_cast<std::size_t>(i)]));
        v_.push_back(1);
      }
    }

    Square clean_, noisy_;
    std::vector<double> coordinates_;
    std::vector<float> q_, k_, v_;
    mutable std::vector<float> o_;
    AttentionPair pair_;
    std::unique_ptr<PreparedCall> prepared_;
  };
};

}  // namespace

const Protocol& attention_denoise() {
  static const AttentionDenoise protocol;
  return protocol;
}

}  // namespace borel
