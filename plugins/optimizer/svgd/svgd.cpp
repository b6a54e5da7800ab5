// Stein variational gradient descent for exp(-V / D), k(x, y) = exp(-|x - y|^2 / b):
//   phi(x_i) = 1/N sum_j [ -k(x_j, x_i) grad V(x_j) / D + grad_(x_j) k(x_j, x_i) ],   x_i += step phi(x_i)
// Liu, Wang, NIPS 2016, arXiv:1608.04471, algorithm 1; bandwidth b = med^2 / log N with med the median of the distances
// between particles (section 5; the authors' code has b = med^2 / log(N + 1)).
//   fixed:    step = time_step
//   adagrad:  step = time_step / (1e-6 + sqrt(s)), s a running mean of phi^2 per number, as in the authors' code
// The kernel is summed over all pairs; few particles in many dimensions give too small a variance (a known limit).
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/flow_run.hpp"
#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class StepRule { fixed, adagrad };

constexpr double k_decay = 0.9, k_fudge = 1e-6;
/// The median is taken over the distances between this many particles at most, evenly picked.
constexpr index_t k_median_particles = 500;
constexpr index_t k_block = 16;

class Svgd final : public borel::Optimizer {
 public:
  struct Params {
    StepRule step = StepRule::adagrad;
    double time_step = 0.1;
    double bandwidth = 0;
    void declare(borel::ParamBinder& p) {
      p.choice("step", step, {{"fixed", StepRule::fixed}, {"adagrad", StepRule::adagrad}},
               "One step size, or one per number from the size of its velocities.");
      p.real("time_step", time_step, borel::Range::greater_than(0), "flow time", "Step size.");
      p.real("bandwidth", bandwidth, borel::Range::at_least(0), "length^2",
             "b of the kernel; 0 = med^2 / log N.");
    }
  };

  explicit Svgd(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.particles = true;
    traits.rate = "none proven for finitely many particles";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& energy = static_cast<const borel::ParticleObjective&>(objective);
    if (energy.power() != 1 || !(energy.diffusion() > 0) || energy.has_interaction())
      return std::string(
                 "approximates exp(-V / D), which needs U = D p log p and no interaction; the problem '")
          .append(energy.name())
          .append("' has other energies");
    return energy.n_particles() < 2 ? "needs at least 2 particles" : "";
  }

  borel::OptimizerResult minimize(borel::Objective& base, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::FlowRun run("svgd", base, start, stop, trace);
    if (const std::string reason = refuses(base); !reason.empty())
      throw borel::MethodError("svgd: " + reason);
    const auto& energy = static_cast<const borel::ParticleObjective&>(base);
    const index_t n = energy.n_particles(), d = energy.n_dims();
    std::vector<double> x = run.start(), slope(x.size()), phi(x.size()), square(x.size(), 0.0);
    while (run.go_on()) {
      if (!run.may_call()) break;
      energy.gradient({x.data(), {n, d}}, {slope.data(), {n, d}});
      const double b = params_.bandwidth > 0 ? params_.bandwidth : median_bandwidth(x, n, d);
      find_velocity(x, slope, n, d, b, energy.diffusion(), phi);
      const double h = run.next_step(params_.time_step);
      double speed = 0;
      for (std::size_t c = 0; c < x.size(); ++c) {
        speed += phi[c] * phi[c] / static_cast<double>(n);
        double step = h;
        if (params_.step == StepRule::adagrad) {
          square[c] =
              run.iteration() == 0 ? phi[c] * phi[c] : k_decay * square[c] + (1 - k_decay) * phi[c] * phi[c];
          step /= k_fudge + std::sqrt(square[c]);
        }
        x[c] += step * phi[c];
      }
      run.advance(h, std::sqrt(speed), x);
    }
    return run.result(std::move(x));
  }

 private:
  static double median_bandwidth(const std::vector<double>& x, index_t n, index_t d) {
    const index_t stride = (n + k_median_particles - 1) / k_median_particles;
    std::vector<double> square;
    for (index_t i = 0; i < n; i += stride)
      for (index_t j = 0; j < i; j += stride) {
        double sum = 0;
        for (index_t c = 0; c < d; ++c) {
          const double z = x[static_cast<std::size_t>(i * d + c)] - x[static_cast<std::size_t>(j * d + c)];
          sum += z * z;
        }
        square.push_back(sum);
      }
    const auto middle = square.begin() + static_cast<std::ptrdiff_t>(square.size() / 2);
    std::nth_element(square.begin(), middle, square.end());
    // All particles in one place have no scale: any kernel does.
    return *middle > 0 ? *middle / std::log(static_cast<double>(n)) : 1;
  }

  static void find_velocity(const std::vector<double>& x, const std::vector<double>& slope, index_t n,
                            index_t d, double b, double diffusion, std::vector<double>& phi) {
    borel::parallel_for(n, k_block, [&](index_t begin, index_t end) {
      const borel::Scratch<double> kernel(n);
      for (index_t i = begin; i < end; ++i) {
        double* out = &phi[static_cast<std::size_t>(i * d)];
        const double* own = &x[static_cast<std::size_t>(i * d)];
        for (index_t j = 0; j < n; ++j) {
          double sum = 0;
          for (index_t c = 0; c < d; ++c) {
            const double z = own[c] - x[static_cast<std::size_t>(j * d + c)];
            sum += z * z;
          }
          kernel[j] = -sum / b;
        }
        const double total = borel::dense::exp_and_sum(kernel.span(), 0);
        // grad_(x_j) k(x_j, x_i) = 2/b (x_i - x_j) k
        for (index_t c = 0; c < d; ++c) out[c] = 2 / b * own[c] * total;
        for (index_t j = 0; j < n; ++j)
          for (index_t c = 0; c < d; ++c) {
            const auto at = static_cast<std::size_t>(j * d + c);
            out[c] -= kernel[j] * (slope[at] / diffusion + 2 / b * x[at]);
          }
        for (index_t c = 0; c < d; ++c) out[c] /= static_cast<double>(n);
      }
    });
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, Svgd>(
      "svgd",
      {.summary = "Stein variational gradient descent: particles that repel each other approach exp(-V / D)",
       .formula = "phi(x_i) = 1/N sum_j [ -k(x_j, x_i) grad V(x_j) / D + grad_(x_j) k(x_j, x_i) ]",
       .source = "Liu, Wang, NIPS 2016, arXiv:1608.04471, algorithm 1",
       .complexity = "O(N^2 d) per step; memory O(N d)",
       .notes = "Deterministic. Bandwidth med^2 / log N as in the paper; the authors' code has log(N + 1)"});
}
