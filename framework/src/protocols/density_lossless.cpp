// density.lossless: how many bits does a photograph need when a density estimator says what comes next? Raw pixels in,
// nothing thrown away: each image is coded with a range coder, decoded again, and compared sample by sample.
//
// And what follows for tokenizers of images: a lossless one must spend bits_per_token = patch^2 * channels * bits on every
// token, while a codebook of 2^codebook_bits entries carries codebook_bits; the rest is lost (L log2 V >= H).
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "lossless/image_codec.hpp"
#include "lossless/rival_codecs.hpp"
#include "protocols/image_arrays.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  std::int64_t fit_samples = 8192, patch = 16;
  double codebook_bits = 14;
  bool rivals = true;

  void declare(ParamBinder& p) {
    p.integer("fit_samples", fit_samples, Range::closed(16, 1 << 22), "samples",
              "Latest scaled errors that a fit sees; fits take place after 4096, 8192, 16384 ... samples.");
    p.integer("patch", patch, Range::closed(1, 1 << 12), "pixels",
              "Side of the square that a token stands for.");
    p.real("codebook_bits", codebook_bits, Range::greater_than(0), "bits",
           "log2 of the entries of a tokenizer's codebook.");
    p.flag("rivals", rivals,
           "Also code with PNG, and with WebP and JPEG XL where cwebp and cjxl are installed.");
  }
};

std::vector<Image> images_of(const Dataset& dataset) {
  std::vector<Image> images;
  for (const std::string& name : image_names(dataset)) {
    const ImageArray array = image_array(dataset, name);
    for (index_t i = 0; i < array.n_images; ++i) {
      const auto samples = array.image(i);
      images.push_back({array.height, array.width, array.channels, {samples.begin(), samples.end()}});
    }
  }
  return images;
}

/// Sizes of all images of a dataset. The same for every estimator, and slow: kept for the life of the process.
RivalSizes rivals_of(const CellInput& input, const std::vector<Image>& images) {
  static std::mutex mutex;
  static std::map<std::string, RivalSizes> known;
  const std::lock_guard lock(mutex);
  const auto [at, is_new] = known.try_emplace(input.dataset->info().content_digest);
  if (!is_new) return at->second;
  RivalSizes sum{0, 0.0, 0.0};
  for (const Image& image : images) {
    const RivalSizes one = rival_sizes(image);
    sum.png += one.png;
    sum.webp = sum.webp && one.webp ? std::optional(*sum.webp + *one.webp) : std::nullopt;
    sum.jpeg_xl = sum.jpeg_xl && one.jpeg_xl ? std::optional(*sum.jpeg_xl + *one.jpeg_xl) : std::nullopt;
  }
  return at->second = sum;
}

class DensityLossless final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "density.lossless"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Photographs coded without loss by a fitted density, beside PNG, WebP and JPEG XL";
  }
  std::vector<Role> roles() const override { return {{"density", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::images; }

  std::vector<MetricInfo> metrics() const override {
    constexpr Direction k_less = Direction::lower_is_better;
    return {
        {"bits_per_byte", "bits", k_less,
         "length of the code over the number of samples; restored bit by bit", true},
        {"plane_1_bits", "bits", k_less, "of a sample of the first colour plane", false},
        {"plane_2_bits", "bits", k_less, "of a sample of the second colour plane, given the first", false},
        {"plane_3_bits", "bits", k_less, "of a sample of the third colour plane, given both", false},
        {"code_bytes", "B", k_less, "length of the code", false},
        {"fits", "", Direction::none,
         "times that the density was fitted on the way; a refused fit leaves the one before", false},
        {"png_bits_per_byte", "bits", k_less, "libpng, best compression", false},
        {"webp_bits_per_byte", "bits", k_less, "cwebp -lossless -z 9; absent when not installed", false},
        {"jpeg_xl_bits_per_byte", "bits", k_less, "cjxl -d 0 -e 9; absent when not installed", false},
        {"bits_per_token", "bits", k_less, "what a token for patch x patch pixels must carry to lose nothing",
         false},
        {"codebook_share", "", Direction::higher_is_better,
         "part of that which an entry of a codebook of 2^codebook_bits carries", false},
    };
  }

  std::string refuses(const CellInput&) const override { return {}; }

  double memory_bytes(const CellInput& input) const override {
    double most = 0;
    for (const std::string& name : image_names(*input.dataset)) {
      const ImageArray array = image_array(*input.dataset, name);
      most = std::max(most, PixelModel::memory_bytes(array.height, array.width, array.channels));
    }
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    return most + method->fit_memory_bytes(read(input.options).fit_samples, 1);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const auto estimator = input.registry->make<DensityEstimator>(input.methods.front());
    LosslessSettings settings{options.fit_samples, input.seed.derive("fits"), {}};
    settings.budget.stop = input.stop;
    const std::vector<Image> images = images_of(*input.dataset);

    double samples = 0, pixels = 0, code_bytes = 0, fits = 0;
    std::array<double, 3> plane_bits{};
    for (const Image& image : images) {
      const CodedImage coded = encode_image(image, *estimator, settings);
      if (decode_image(coded.bytes, *estimator, settings).pixels != image.pixels)
        throw MethodError(
            "the decoded image differs; a fit must give the same bits for the same samples and seed");
      samples += static_cast<double>(image.pixels.size());
      pixels += static_cast<double>(image.height * image.width);
      code_bytes += static_cast<double>(coded.bytes.size());
      fits += static_cast<double>(coded.n_fits);
      for (std::size_t c = 0; c < coded.plane_bits.size(); ++c) plane_bits[c] += coded.plane_bits[c];
    }

    CellResult result;
    const auto add = [&](const char* name, const char* unit, double value, Direction direction) {
      result.metrics.push_back({name, unit, value, direction});
    };
    constexpr Direction k_less = Direction::lower_is_better;
    const double bits = 8 * code_bytes / samples;
    add("bits_per_byte", "bits", bits, k_less);
    if (samples == 3 * pixels) {
      add("plane_1_bits", "bits", plane_bits[0] / pixels, k_less);
      add("plane_2_bits", "bits", plane_bits[1] / pixels, k_less);
      add("plane_3_bits", "bits", plane_bits[2] / pixels, k_less);
    }
    add("code_bytes", "B", code_bytes, k_less);
    add("fits", "", fits, Direction::none);
    if (options.rivals) {
      const RivalSizes rivals = rivals_of(input, images);
      add("png_bits_per_byte", "bits", 8 * rivals.png / samples, k_less);
      if (rivals.webp) add("webp_bits_per_byte", "bits", 8 * *rivals.webp / samples, k_less);
      if (rivals.jpeg_xl) add("jpeg_xl_bits_per_byte", "bits", 8 * *rivals.jpeg_xl / samples, k_less);
    }
    const double token = static_cast<double>(options.patch * options.patch) * 8 * code_bytes / pixels;
    add("bits_per_token", "bits", token, k_less);
    add("codebook_share", "", options.codebook_bits / token, Direction::higher_is_better);
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput&) const override { return {}; }
};

}  // namespace

const Protocol& density_lossless() {
  static const DensityLossless protocol;
  return protocol;
}

}  // namespace borel
