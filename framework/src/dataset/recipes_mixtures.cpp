// Samples of known Gaussian mixtures: the fifteen densities of Marron and Wand (1992), Annals of Statistics
// 20, 712, table 1, and the ten-component target of the Fourier basis density demonstration.
#include <fmt/format.h>

#include <cmath>
#include <tuple>

#include "borel/rng.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"
#include "dataset/truth.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_n_train = 10000;
constexpr std::int64_t k_n_test = 10000;

struct Components {
  std::vector<double> weight, mean, sd;
  void add(double w, double m, double s) {
    weight.push_back(w);
    mean.push_back(m);
    sd.push_back(s);
  }
};

constexpr const char* k_names[15] = {"Gaussian",
                                     "skewed",
                                     "strongly skewed",
                                     "kurtotic",
                                     "outlier",
                                     "bimodal",
                                     "separated bimodal",
                                     "asymmetric bimodal",
                                     "trimodal",
                                     "claw",
                                     "double claw",
                                     "asymmetric claw",
                                     "asymmetric double claw",
                                     "smooth comb",
                                     "discrete comb"};

Components marron_wand(int number) {
  Components c;
  switch (number) {
    case 1:
      c.add(1, 0, 1);
      break;
    case 2:
      c.add(1. / 5, 0, 1);
      c.add(1. / 5, 1. / 2, 2. / 3);
      c.add(3. / 5, 13. / 12, 5. / 9);
      break;
    case 3:
      for (int l = 0; l <= 7; ++l) c.add(1. / 8, 3 * (std::pow(2. / 3, l) - 1), std::pow(2. / 3, l));
      break;
    case 4:
      c.add(2. / 3, 0, 1);
      c.add(1. / 3, 0, 1. / 10);
      break;
    case 5:
      c.add(1. / 10, 0, 1);
      c.add(9. / 10, 0, 1. / 10);
      break;
    case 6:
      c.add(1. / 2, -1, 2. / 3);
      c.add(1. / 2, 1, 2. / 3);
      break;
    case 7:
      c.add(1. / 2, -3. / 2, 1. / 2);
      c.add(1. / 2, 3. / 2, 1. / 2);
      break;
    case 8:
      c.add(3. / 4, 0, 1);
      c.add(1. / 4, 3. / 2, 1. / 3);
      break;
    case 9:
      c.add(9. / 20, -6. / 5, 3. / 5);
      c.add(9. / 20, 6. / 5, 3. / 5);
      c.add(1. / 10, 0, 1. / 4);
      break;
    case 10:
      c.add(1. / 2, 0, 1);
      for (int l = 0; l <= 4; ++l) c.add(1. / 10, l / 2. - 1, 1. / 10);
      break;
    case 11:
      c.add(49. / 100, -1, 2. / 3);
      c.add(49. / 100, 1, 2. / 3);
      for (int l = 0; l <= 6; ++l) c.add(1. / 350, (l - 3) / 2., 1. / 100);
      break;
    case 12:
      c.add(1. / 2, 0, 1);
      for (int l = -2; l <= 2; ++l) c.add(std::exp2(1 - l) / 31, l + 1. / 2, std::exp2(-l) / 10);
      break;
    case 13:
      for (int l = 0; l <= 1; ++l) c.add(46. / 100, 2 * l - 1, 2. / 3);
      for (int l = 1; l <= 3; ++l) c.add(1. / 300, -l / 2., 1. / 100);
      for (int l = 1; l <= 3; ++l) c.add(7. / 300, l / 2., 7. / 100);
      break;
    case 14:
      for (int l = 0; l <= 5; ++l)
        c.add(std::exp2(5 - l) / 63, (65 - 96 / std::exp2(l)) / 21, (32. / 63) / std::exp2(l));
      break;
    case 15:
      for (int l = 0; l <= 2; ++l) c.add(2. / 7, (12 * l - 15) / 7., 2. / 7);
      for (int l = 8; l <= 10; ++l) c.add(1. / 21, 2 * l / 7., 1. / 21);
      break;
    default:
      throw DatasetError(fmt::format("no Marron-Wand density has number {}", number));
  }
  return c;
}

// Means and widths drawn once by the demonstration's authors; printed with six digits.
Components fourier_demo() {
  constexpr double mean[] = {.015150,  -.241987, -.345205, .209195, .173668,
                             -.346456, -.223895, -.298093, .005521, .023814};
  constexpr double sd[] = {.052399, .047042, .044892, .056442, .055701,
                           .044866, .047419, .045873, .052198, .052579};
  Components c;
  for (int k = 0; k < 10; ++k) c.add(0.1, mean[k], sd[k]);
  return c;
}

std::vector<double> draw(const GaussianMixture& mixture, Seed seed, std::int64_t n) {
  Rng rng(seed);
  std::vector<double> x(static_cast<std::size_t>(n));
  for (double& value : x) value = rounded_draw(mixture.sample(rng));
  return x;
}

/// Any part of an endless row of draws; each block has a generator of its own.
GeneratedDoubles draws(const GaussianMixture& mixture, Seed seed) {
  constexpr std::int64_t k_block = 1 << 16;
  return {[mixture, seed](std::int64_t first, std::span<double> out) {
    std::int64_t at = first;
    for (std::size_t done = 0; done < out.size();) {
      const std::int64_t block = at / k_block;
      Rng rng(seed.derive(static_cast<std::uint64_t>(block)));
      for (std::int64_t i = block * k_block; i < (block + 1) * k_block && done < out.size(); ++i) {
        const double value = rounded_draw(mixture.sample(rng));
        if (i == at) out[done++] = value, ++at;
      }
    }
  }};
}

void fill(const Components& components, std::uint64_t seed, DatasetWriter& writer,
          std::int64_t n_generated = 0) {
  const GaussianMixture mixture(components.weight, components.mean, components.sd);
  if (n_generated > 0)
    writer.array("x", draws(mixture, Seed{seed}.derive("train")), {n_generated, 1});
  else
    writer.array("x", draw(mixture, Seed{seed}.derive("train"), k_n_train), {k_n_train, 1});
  writer.array("test/x", draw(mixture, Seed{seed}.derive("test"), k_n_test), {k_n_test, 1});
  const auto n = static_cast<std::int64_t>(components.weight.size());
  writer.array("truth/weight", components.weight, {n});
  writer.array("truth/mean", components.mean, {n});
  writer.array("truth/sd", components.sd, {n});
  auto modes = mixture.modes();
  for (double& mode : modes) mode = rounded_truth(mode);
  writer.array("truth/mode", modes, {static_cast<std::int64_t>(modes.size())});
  writer.attribute("truth", "type", std::string("gaussian_mixture"));
  writer.attribute("truth", "entropy_nats", rounded_truth(mixture.entropy()));
  writer.attribute("truth", "modes", static_cast<std::int64_t>(modes.size()));
}

}  // namespace

void add_mixture_recipes(std::vector<Recipe>& list) {
  constexpr const char* generated = "generated here (no copyright)";
  for (int number = 1; number <= 15; ++number) {
    const auto seed = static_cast<std::uint64_t>(1992'00 + number);
    list.push_back(
        {.id = fmt::format("marron_wand_{:02}", number),
         .kind = DatasetKind::samples,
         .title = fmt::format("Marron-Wand density {}: {}", number, k_names[number - 1]),
         .licence = generated,
         .source = "Marron and Wand (1992), Annals of Statistics 20, 712, table 1; 10000 + 10000 draws",
         .seed = seed,
         .make = [=](DatasetWriter& writer) { fill(marron_wand(number), seed, writer); }});
  }
  for (const auto& [id, count, words] :
       {std::tuple{"claw_billion", std::int64_t{1'000'000'000}, "A billion draws"},
        {"claw_million", std::int64_t{1'000'000}, "A million draws"}})
    list.push_back(
        {.id = id,
         .kind = DatasetKind::samples,
         .title = fmt::format("{} from Marron-Wand density 10, claw", words),
         .licence = generated,
         .source = "Marron and Wand (1992), Annals of Statistics 20, 712, table 1",
         .seed = 199210,
         .large = count > 100'000'000,
         .make = [n = count](DatasetWriter& writer) { fill(marron_wand(10), 199210, writer, n); }});
  list.push_back(
      {.id = "fourier_demo_k10",
       .kind = DatasetKind::samples,
       .title = "Ten equal Gaussians on [-1, 1], target of the Fourier basis density demonstration",
       .licence = generated,
       .source = "De la Fuente, Singh, Balle (2024), arXiv 2402.15345, demonstration notebook",
       .seed = 240215345,
       .make = [](DatasetWriter& writer) { fill(fourier_demo(), 240215345, writer); }});
}

}  // namespace borel
