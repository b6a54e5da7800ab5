// Seconds to a certified gap of 1e-10 on a likelihood problem, fastest of three, and the value reached:
//   borel_optimizer_npmle <dataset id or file> <method spec>
// peers/optimizer_peers runs it next to the interior point method of Koenker and Mizera in numpy.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "loader/plugin_set.hpp"
#include "protocols/problems.hpp"

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s <dataset id or file> <method spec>\n", argv[0]);
    return 2;
  }
  borel::Registry registry;
  borel::load_plugins({{}, false, true}, registry);
  const auto data = borel::find_dataset(argv[1]);
  const auto method = registry.make<borel::Optimizer>(std::string_view(argv[2]));
  double best_s = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto f = borel::make_objective(*data);
    const auto n = static_cast<std::size_t>(f->size());
    borel::StopRule stop;
    stop.gap_tolerance = 1e-10;
    stop.budget.max_seconds = 20;
    borel::Trace silent;
    const auto begin = std::chrono::steady_clock::now();
    const borel::OptimizerResult result = method->minimize(
        *f, std::vector<double>(n, 1.0 / static_cast<double>(n)), stop, borel::Seed{1}, silent);
    best_s =
        std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    const auto& simplex = static_cast<const borel::SimplexObjective&>(*f);
    if (round < 2) continue;
    std::printf("%s: %.1f ms, F %.13f, gap %.2e", argv[2], 1e3 * best_s, simplex.value(result.state),
                borel::frank_wolfe_gap(simplex, result.state));
    if (f->optimum()) std::printf(", F - F* %.1e", simplex.value(result.state) - *f->optimum());
    std::printf(", %s\n", result.outcome.sentence.c_str());
  }
} catch (const borel::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
