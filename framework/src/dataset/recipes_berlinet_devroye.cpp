// Samples of the Berlinet-Devroye densities, with the true log density at every held-out row.
#include <fmt/format.h>

#include "dataset/berlinet_devroye.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_n_train = 10000, k_n_test = 10000;

void fill(const BerlinetDevroyeDensity& density, std::uint64_t seed, DatasetWriter& writer) {
  const auto draw = [&](const char* part, std::int64_t n) {
    Rng rng(Seed{seed}.derive(part));
    std::vector<double> x;
    for (std::int64_t i = 0; i < n; ++i) x.push_back(density.draw(rng));
    return x;
  };
  const std::vector<double> test = draw("test", k_n_test);
  std::vector<double> log_pdf;
  for (const double x : test) log_pdf.push_back(rounded_truth(density.log_pdf(x)));
  writer.array("x", draw("train", k_n_train), {k_n_train, 1});
  writer.array("test/x", test, {k_n_test, 1});
  writer.array("truth/test_log_pdf", std::move(log_pdf), {k_n_test});
  writer.attribute("truth", "type", std::string("log_pdf_of_test_rows"));
}

}  // namespace

void add_berlinet_devroye_recipes(std::vector<Recipe>& list) {
  for (const BerlinetDevroyeDensity& density : berlinet_devroye_densities()) {
    const std::uint64_t seed = 199400 + static_cast<std::uint64_t>(density.number);
    list.push_back(
        {.id = fmt::format("berlinet_devroye_{:02}", density.number),
         .kind = DatasetKind::samples,
         .title = fmt::format("Berlinet-Devroye density {}: {}", density.number, density.name),
         .licence = "generated here (no copyright)",
         .source = "Berlinet and Devroye (1994), Publ. Inst. Stat. Univ. Paris 38, 3; 10000 + 10000 draws",
         .seed = seed,
         .make = [&density, seed](DatasetWriter& writer) { fill(density, seed, writer); }});
  }
}

}  // namespace borel
