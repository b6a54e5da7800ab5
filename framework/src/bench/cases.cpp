#include "bench/cases.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "borel/attention.hpp"
#include "borel/density.hpp"
#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "borel/position.hpp"
#include "protocols/free_energy_problems.hpp"
#include "protocols/simplex_problems.hpp"
#include "reference/attention_reference.hpp"

namespace borel::bench {
namespace {

constexpr Seed k_seed{1};

/// Input and output of one attention call; kept alive by the closures.
struct AttentionWork {
  static constexpr index_t h = 4, d = 64;
  std::unique_ptr<Attention> method;
  std::vector<float> q, k, v, o;
  std::unique_ptr<AttentionDefaults> defaults;
  AttentionCall call;
  TensorView<float, 3> out;

  AttentionWork(const Registry& registry, const MethodSpec& spec, index_t n)
      : method(registry.make<Attention>(spec)) {
    const auto size = static_cast<std::size_t>(h * n * d);
    Rng rng(k_seed);
    for (std::vector<float>* values : {&q, &k, &v}) {
      values->resize(size);
      rng.fill_normal(*values);
    }
    o.resize(size);
    AttentionContext context;
    context.h_q = context.h_kv = h;
    context.d_k = context.d_v = d;
    context.max_n = n;
    call.q = {q.data(), {h, n, d}};
    call.k = {k.data(), {h, n, d}};
    call.v = {v.data(), {h, n, d}};
    call.causal = method->traits().causal;
    defaults = std::make_unique<AttentionDefaults>(*method, context, n, n, k_seed);
    defaults->attach(call);
    out = {o.data(), {h, n, d}};
  }
};

std::string check_attention(const Registry& registry, const MethodSpec& spec) {
  constexpr index_t n = 128;
  AttentionWork small(registry, spec, n);
  small.method->forward(small.call, small.out);
  if (!std::ranges::all_of(small.o, [](float value) { return std::isfinite(value); }))
    return "the output is not finite";
  const MethodSpec canonical = parse_method_spec(registry.canonical(spec), "attention");
  const auto weights_of = reference::attention_weights(canonical);
  if (!weights_of) return {};  // a method from elsewhere: finite output is all that can be asked here
  const reference::Matrix expected = reference::attention_output(small.call, 1, (*weights_of)(small.call, 1));
  double largest_v = 0, worst = 0;
  for (float value : small.v) largest_v = std::max(largest_v, std::abs(static_cast<double>(value)));
  for (index_t i = 0; i < n; ++i)
    for (index_t c = 0; c < AttentionWork::d; ++c)
      worst = std::max(worst, std::abs(static_cast<double>(small.out(1, i, c)) - expected(i, c)));
  const double bound = small.method->traits().max_error * largest_v;
  return worst <= bound
             ? ""
             : fmt::format("differs from the float64 reference by {:.3g}, allowed {:.3g}", worst, bound);
}

std::vector<Case> attention_cases(const Registry& registry, const MethodSpec& spec, index_t n) {
  const auto work = std::make_shared<AttentionWork>(registry, spec, n);
  Case one;
  one.group = spec.text() + "/forward";
  one.work = [work] { work->method->forward(work->call, work->out); };
  one.check = [&registry, spec] { return check_attention(registry, spec); };
  one.flops = work->method->flops(work->call.context, n, n);
  one.bytes = 4.0 * sizeof(float) * static_cast<double>(work->q.size());
  return {one};
}

std::vector<Case> position_cases(const Registry& registry, const MethodSpec& spec, index_t n) {
  struct Work {
    std::unique_ptr<PositionEncoding> method;
    PositionContext context;
    std::unique_ptr<ParameterSet> parameters;
  };
  const auto work = std::make_shared<Work>();
  work->method = registry.make<PositionEncoding>(spec);
  work->context.n_q = work->context.n_k = work->context.test_length = n;
  work->context.train_length = std::max<index_t>(2, n / 4);  // length rules are at work
  work->context.d_head = 64;
  work->context.seed = k_seed;
  work->parameters = std::make_unique<ParameterSet>(work->method->parameters(1, 64, 64), k_seed);
  Case one;
  one.group = spec.text() + "/plan";
  one.work = [work] { position_plan(*work->method, work->context, work->parameters->values()); };
  one.check = [] { return std::string(); };
  return {one};
}

std::vector<Case> density_cases(const Registry& registry, const MethodSpec& spec, index_t n) {
  struct Work {
    std::unique_ptr<DensityEstimator> method;
    std::vector<double> x, out;
    std::unique_ptr<FittedDensity> fitted;
    Samples samples() const { return {{x.data(), {static_cast<index_t>(x.size()), 1}}, {}}; }
    std::unique_ptr<FittedDensity> fit() const {
      FitContext context;
      context.seed = k_seed;
      return method->fit(samples(), context);
    }
  };
  const auto work = std::make_shared<Work>();
  work->method = registry.make<DensityEstimator>(spec);
  Rng rng(k_seed);
  for (index_t i = 0; i < n; ++i)
    work->x.push_back(rng.uniform() < 0.3 ? -2 + 0.5 * rng.normal() : 1 + rng.normal());
  work->out.resize(work->x.size());
  const auto fitted = [work]() -> const FittedDensity& {
    if (!work->fitted) work->fitted = work->fit();
    return *work->fitted;
  };
  const auto check = [fitted]() -> std::string {
    // The integral of the density between two points is the difference of its cdf there.
    constexpr std::size_t k_cells = 20000;
    const double ends[2] = {-3, 3};
    double cdf[2], integral = 0;
    std::vector<double> x(k_cells), log_p(k_cells);
    for (std::size_t i = 0; i < k_cells; ++i) x[i] = -3 + 6 * (static_cast<double>(i) + 0.5) / k_cells;
    fitted().log_pdf({x.data(), {k_cells, 1}}, log_p);
    for (double value : log_p) integral += std::exp(value) * 6 / k_cells;
    fitted().cdf(ends, cdf);
    return std::abs(integral - (cdf[1] - cdf[0])) <= 1e-3
               ? ""
               : fmt::format("the pdf integrates to {:.6g} over [-3, 3], its cdf says {:.6g}", integral,
                             cdf[1] - cdf[0]);
  };
  Case fit, log_pdf;
  fit.group = spec.text() + "/fit";
  fit.work = [work] { work->fit(); };
  fit.check = log_pdf.check = check;
  log_pdf.group = spec.text() + "/log_pdf";
  log_pdf.work = [work, fitted] { fitted().log_pdf(work->samples().x, work->out); };
  log_pdf.bytes = 2.0 * sizeof(double) * static_cast<double>(n);
  return {fit, log_pdf};
}

/// Problems of about n numbers, from the most to the least common kind; a method is timed on the first one it works on.
std::vector<std::unique_ptr<Objective>> benchmark_problems(index_t n) {
  const auto columns = static_cast<std::size_t>(n), rows = columns / 2 + 1;
  std::vector<double> a(rows * columns), b(rows);
  Rng rng(k_seed);
  rng.fill_normal(a);
  rng.fill_normal(b);
  std::vector<double> likelihood(rows * columns);
  for (double& value : likelihood) value = -std::log(rng.uniform_open());
  const auto side = static_cast<std::size_t>(std::max(1.0, std::round(std::sqrt(static_cast<double>(n)))));
  std::vector<double> cost(side * side);
  rng.fill_uniform(cost);
  const std::vector<double> marginal(side, 1 / static_cast<double>(side));
  FreeEnergySpec flow;
  flow.name = "benchmark flow";
  flow.potential = PotentialKind::quadratic;
  flow.centre = {0};
  flow.precision = {1};
  flow.diffusion = 1;
  flow.exact = ExactFlow::gaussian;
  std::vector<std::unique_ptr<Objective>> problems;
  problems.push_back(least_squares_problem({"benchmark"}, std::move(a), std::move(b)));
  problems.push_back(mixture_problem({"benchmark mixture"}, std::move(likelihood), n));
  problems.push_back(transport_problem({"benchmark transport"}, std::move(cost), marginal, marginal, 0.1));
  problems.push_back(grid_problem(flow, {{-6}, {6}, {n}}, {}));
  problems.push_back(particle_problem(flow, n));
  return problems;
}

std::vector<Case> optimizer_cases(const Registry& registry, const MethodSpec& spec, index_t n) {
  struct Work {
    std::unique_ptr<Optimizer> method;
    std::unique_ptr<Objective> problem;
    std::vector<double> start;
    StopRule stop;
    OptimizerResult solve() const {
      Trace silent;
      return method->minimize(*problem, start, stop, k_seed, silent);
    }
    const SimplexObjective& simplex() const { return static_cast<const SimplexObjective&>(*problem); }
  };
  const auto work = std::make_shared<Work>();
  work->method = registry.make<Optimizer>(spec);
  std::string reason;
  for (std::unique_ptr<Objective>& problem : benchmark_problems(n)) {
    const std::string refusal = work->method->refuses(*problem);
    if (reason.empty()) reason = refusal;
    if (!refusal.empty()) continue;
    work->problem = std::move(problem);
    break;
  }
  if (!work->problem) throw MethodError(spec.text() + " " + reason);
  const bool on_simplex = work->problem->domain() == Domain::simplex;
  work->start = work->problem->start(k_seed);
  if (work->start.empty())
    work->start.assign(static_cast<std::size_t>(work->problem->size()),
                       1.0 / static_cast<double>(work->problem->size()));
  work->stop.gap_tolerance = 1e-6;
  work->stop.budget.max_iterations = on_simplex ? 200 : 1000;
  work->stop.time_horizon = on_simplex ? 0 : 0.1;
  Case one;
  one.group = spec.text() + "/minimize";
  one.work = [work] { work->solve(); };
  one.check = [work, on_simplex]() -> std::string {
    const OptimizerResult result = work->solve();
    const double violation = domain_violation(*work->problem, result.state);
    if (!(violation <= 1e-12)) return fmt::format("the result leaves its domain by {:.3g}", violation);
    if (!on_simplex || work->simplex().transport()) return "";
    const double before = frank_wolfe_gap(work->simplex(), work->start),
                 after = frank_wolfe_gap(work->simplex(), result.state);
    return after <= before ? "" : fmt::format("the gap rose from {:.3g} to {:.3g}", before, after);
  };
  return {one};
}

}  // namespace

std::vector<Case> make_cases(const Registry& registry, const MethodSpec& spec, index_t n) {
  std::vector<Case> cases = spec.family == "attention"  ? attention_cases(registry, spec, n)
                            : spec.family == "position" ? position_cases(registry, spec, n)
                            : spec.family == "density"  ? density_cases(registry, spec, n)
                                                        : optimizer_cases(registry, spec, n);
  for (Case& one : cases) {
    one.n = n;
    one.name = fmt::format("{}/n:{}", one.group, n);
  }
  return cases;
}

}  // namespace borel::bench
