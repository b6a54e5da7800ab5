// Langevin sampling of exp(-V / D) by N independent chains, one per particle:
//   ula:   x+ = x - h grad V(x) + sqrt(2 D h) xi                                     biased by O(h)
//          Roberts, Tweedie, Bernoulli 2 (1996), section 1.4.1; Vempala, Wibisono, NeurIPS 2019, arXiv:1903.08568
//   mala:  the same proposal y, taken with probability min(1, pi(y) q(x|y) / (pi(x) q(y|x))): no bias in equilibrium
//          log q(y|x) = -|y - x + h grad V(x)|^2 / (4 D h)                           Roberts, Tweedie, section 1.4.2
// With interaction energies the drift has grad(W * p) of the present particles (McKean-Vlasov); only ula takes them,
// because the chains are then not independent.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/draft/flow_run.hpp"
#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Variant { ula, mala };

/// Points that share a random stream; fixed, so that results do not depend on the number of threads.
constexpr index_t k_block = 256;

class Langevin final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::mala;
    double time_step = 0.05;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant, {{"ula", Variant::ula}, {"mala", Variant::mala}},
               "Every proposal is taken, or only with the probability that removes the bias.");
      p.real("time_step", time_step, borel::Range::greater_than(0), "flow time", "Length h of a step.");
    }
  };

  explicit Langevin(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.particles = true;
    traits.random = true;
    traits.rate = params_.variant == Variant::ula ? "weak order 1 in the time step, biased in equilibrium"
                                                  : "weak order 1 in the time step, exact in equilibrium";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& energy = static_cast<const borel::ParticleObjective&>(objective);
    if (energy.power() != 1 || !(energy.diffusion() > 0))
      return std::string("samples exp(-V / D), which needs U = D p log p with D > 0; the problem '")
          .append(energy.name())
          .append("' has another internal energy");
    if (energy.has_interaction() && params_.variant == Variant::mala)
      return "variant mala needs independent particles; use ula with interaction energies";
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& base, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed seed,
                                  borel::Trace& trace) const override {
    borel::FlowRun run("langevin", base, start, stop, trace);
    if (const std::string reason = refuses(base); !reason.empty())
      throw borel::MethodError("langevin: " + reason);
    if (!(run.horizon() > 0) && stop.budget.max_iterations == std::numeric_limits<index_t>::max())
      throw borel::MethodError(
          "langevin: random particles never rest; give a time horizon or a number of iterations");
    const auto& energy = static_cast<const borel::ParticleObjective&>(base);
    const index_t n = energy.n_particles(), d = energy.n_dims();
    const bool mala = params_.variant == Variant::mala;
    std::vector<double> x = run.start(), y(x.size()), drift(x.size()), drift_y(x.size());
    std::vector<double> potential(static_cast<std::size_t>(n)), potential_y(potential.size());
    std::vector<char> taken(potential.size());
    const auto view = [&](std::vector<double>& v) { return borel::TensorView<double, 2>(v.data(), {n, d}); };
    const auto look_at = [&](std::vector<double>& at, std::vector<double>& slope, std::vector<double>& v) {
      energy.gradient(view(at), view(slope));
      if (mala) energy.potential(view(at), v);
    };
    if (!run.may_call()) return run.result(std::move(x));
    look_at(x, drift, potential);
    std::int64_t accepted = 0, proposed = 0;
    while (run.go_on()) {
      const double h = run.next_step(params_.time_step), spread = std::sqrt(2 * energy.diffusion() * h);
      const borel::Rng step_rng(seed.derive(static_cast<std::uint64_t>(run.iteration())));
      borel::parallel_for(n, k_block, [&](index_t begin, index_t end) {
        borel::Rng rng = step_rng.stream(static_cast<std::uint64_t>(begin / k_block));
        for (auto c = static_cast<std::size_t>(begin * d); c < static_cast<std::size_t>(end * d); ++c)
          y[c] = x[c] - h * drift[c] + spread * rng.normal();
      });
      // With the budget spent the state stays the last one that has been weighed.
      if (!run.may_call()) break;
      look_at(y, drift_y, potential_y);
      if (mala) {
        borel::parallel_for(n, k_block, [&](index_t begin, index_t end) {
          borel::Rng rng = step_rng.stream(static_cast<std::uint64_t>(begin / k_block) | k_accept_stream);
          for (index_t i = begin; i < end; ++i)
            taken[static_cast<std::size_t>(i)] =
                std::log(rng.uniform_open()) <=
                log_ratio(i, d, h, energy.diffusion(), x, y, drift, drift_y, potential, potential_y);
        });
        for (index_t i = 0; i < n; ++i) {
          ++proposed;
          if (!taken[static_cast<std::size_t>(i)]) continue;
          ++accepted;
          potential[static_cast<std::size_t>(i)] = potential_y[static_cast<std::size_t>(i)];
          for (auto c = static_cast<std::size_t>(i * d); c < static_cast<std::size_t>((i + 1) * d); ++c) {
            x[c] = y[c];
            drift[c] = drift_y[c];
          }
        }
      } else {
        std::swap(x, y);
        std::swap(drift, drift_y);
      }
      run.advance(h, std::numeric_limits<double>::quiet_NaN(), x);
    }
    std::string remark;
    if (proposed > 0) {
      const auto percent = static_cast<int>(
          std::lround(100.0 * static_cast<double>(accepted) / static_cast<double>(proposed)));
      remark = std::to_string(percent).append(" % of the proposals were taken");
    }
    return run.result(std::move(x), remark);
  }

 private:
  static constexpr std::uint64_t k_accept_stream = std::uint64_t{1} << 40;

  /// log of pi(y) q(x|y) / (pi(x) q(y|x)) for particle i.
  static double log_ratio(index_t i, index_t d, double h, double diffusion, const std::vector<double>& x,
                          const std::vector<double>& y, const std::vector<double>& drift,
                          const std::vector<double>& drift_y, const std::vector<double>& potential,
                          const std::vector<double>& potential_y) {
    double forward = 0, backward = 0;
    for (auto c = static_cast<std::size_t>(i * d); c < static_cast<std::size_t>((i + 1) * d); ++c) {
      const double there = y[c] - x[c] + h * drift[c], back = x[c] - y[c] + h * drift_y[c];
      forward += there * there;
      backward += back * back;
    }
    const auto at = static_cast<std::size_t>(i);
    return (potential[at] - potential_y[at]) / diffusion + (forward - backward) / (4 * diffusion * h);
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, Langevin>(
      "langevin",
      {.summary = "Langevin chains for exp(-V / D): unadjusted (ULA) or Metropolis-adjusted (MALA)",
       .formula = "x+ = x - h grad V(x) + sqrt(2 D h) xi",
       .source =
           "Roberts, Tweedie, Bernoulli 2 (1996) 341-363; Vempala, Wibisono, NeurIPS 2019, arXiv:1903.08568",
       .complexity = "one gradient of all particles per step; memory O(N d)",
       .notes = "The particles at the end are the sample; they never rest, so a horizon or an iteration "
                "limit is needed"});
}
