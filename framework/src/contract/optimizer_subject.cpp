#include "contract/optimizer_subject.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "dataset/dataset_writer.hpp"
#include "protocols/problems.hpp"

namespace borel::contract {

namespace {

std::vector<OptimizerVariant> variants(const Subject& subject, bool (*wanted)(const OptimizerTraits&)) {
  constexpr std::size_t k_max_variants = 64;
  std::vector<MethodSpec> specs{subject.spec};
  for (const ParamInfo& param : subject.method.params) {
    if (param.type != ParamType::choice || specs.size() * param.choices.size() > k_max_variants) continue;
    std::vector<MethodSpec> more;
    for (const MethodSpec& spec : specs)
      for (const std::string& choice : param.choices) {
        more.push_back(spec);
        more.back().params[param.name] = choice;
      }
    specs = std::move(more);
  }
  std::vector<OptimizerVariant> list;
  for (const MethodSpec& spec : specs) {
    OptimizerVariant variant{spec.text(), nullptr};
    try {
      variant.method = subject.registry.make<Optimizer>(spec);
    } catch (const ParamError&) {
      if (spec.params == subject.spec.params) throw;
      continue;  // a combination that Params::check() forbids
    }
    if (wanted(variant.method->traits())) list.push_back(std::move(variant));
  }
  return list;
}

}  // namespace

std::vector<OptimizerVariant> simplex_variants(const Subject& subject) {
  return variants(subject, [](const OptimizerTraits& traits) { return traits.simplex; });
}

std::vector<OptimizerVariant> flow_variants(const Subject& subject) {
  return variants(subject, [](const OptimizerTraits& traits) { return traits.grid || traits.particles; });
}

SimplexProblem well_conditioned_least_squares(index_t n, Seed seed) {
  const auto columns = static_cast<std::size_t>(n), rows = 2 * columns + 10;
  std::vector<double> a(rows * columns), b(rows);
  Rng rng(seed.derive("least squares"));
  rng.fill_normal(a);
  rng.fill_normal(b);
  for (double& value : a) value /= std::sqrt(static_cast<double>(rows));
  return least_squares_problem({"least squares"}, std::move(a), std::move(b));
}

SimplexProblem linear_cost(std::vector<double> c) {
  std::vector<double> q(c.size() * c.size(), 0.0);
  return quadratic_problem({"linear"}, std::move(q), std::move(c), 0);
}

std::vector<SimplexProblem> assorted_problems(index_t n, Seed seed) {
  const auto size = static_cast<std::size_t>(n);
  Rng rng(seed.derive("assorted"));
  std::vector<double> x(size), c(size), likelihood((size + 3) * size), features(3 * size);
  rng.fill_normal(x);
  rng.fill_normal(c);
  rng.fill_normal(features);
  for (double& value : likelihood) value = -std::log(rng.uniform_open());
  std::vector<SimplexProblem> problems;
  problems.push_back(well_conditioned_least_squares(n, seed));
  problems.push_back(projection_problem({"projection"}, std::move(x)));
  problems.push_back(linear_entropy_problem({"entropy"}, std::move(c), 0.5));
  problems.push_back(mixture_problem({"mixture"}, std::move(likelihood), n));
  if (n >= 3) problems.push_back(d_optimal_problem({"design"}, std::move(features), 3));
  return problems;
}

SimplexProblem small_transport_problem(Seed seed) {
  std::vector<double> cost(12);
  Rng(seed.derive("cost of transport")).fill_uniform(cost);
  return transport_problem({"transport"}, cost, {0.2, 0.3, 0.5}, {0.1, 0.2, 0.3, 0.4}, 0.2);
}

namespace {

std::vector<double> numbers_in(const std::string& text) {
  std::vector<double> list;
  const char* at = text.c_str();
  for (char* end = nullptr;; at = end) {
    const double value = std::strtod(at, &end);
    if (end == at) return list;
    list.push_back(value);
  }
}

/// `name[2,3]=...` is an array, `name=...` an attribute: a number where it reads as one, else a text.
void add_field(DatasetWriter& writer, const std::string& field) {
  const std::size_t equals = field.find('=');
  if (equals == std::string::npos)
    throw DatasetError(fmt::format("golden.csv: field '{}' has no '='", field));
  const std::string left = field.substr(0, equals), right = field.substr(equals + 1);
  const std::size_t bracket = left.find('[');
  if (bracket == std::string::npos) {
    char* end = nullptr;
    const double number = std::strtod(right.c_str(), &end);
    if (!right.empty() && *end == '\0')
      writer.attribute("", left, number);
    else
      writer.attribute("", left, right);
    return;
  }
  h5::Shape shape;
  for (std::size_t at = bracket + 1; at < left.size();) {
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(left.data() + at, left.data() + left.size(), extent);
    if (error != std::errc()) throw DatasetError(fmt::format("golden.csv: field '{}' has no shape", left));
    shape.push_back(extent);
    at = static_cast<std::size_t>(end - left.data()) + 1;  // past ',' or ']'
  }
  const std::string name = left.substr(0, bracket);
  const std::vector<double> values = numbers_in(right);
  if (name == "grid/n_cells" || name == "begin" || name == "row")
    writer.array(name, std::vector<std::int64_t>(values.begin(), values.end()), shape);
  else
    writer.array(name, values, shape);
}

}  // namespace

GoldenRun golden_run(const GoldenLine& line) {
  DatasetWriter writer(DatasetKind::problem, "golden", "Golden problem", "golden.csv", "none");
  writer.attribute("", "objective", line.text(1));
  const std::string& fields = line.text(2);
  if (fields.find("domain=") == std::string::npos) writer.attribute("", "domain", std::string("simplex"));
  for (std::size_t begin = 0; begin < fields.size();) {
    const std::size_t end = std::min(fields.find('|', begin), fields.size());
    add_field(writer, fields.substr(begin, end - begin));
    begin = end + 1;
  }
  writer.seal();
  GoldenRun run;
  run.objective = make_objective(*Dataset::from(writer));
  run.start = numbers_in(line.text(3));
  run.stop = stop_after(static_cast<index_t>(line.real(4)), line.real(5));
  if (run.objective->domain() != Domain::simplex) run.stop.time_horizon = line.real(5);
  run.bound = line.real(6);
  run.state = numbers_in(line.text(7));
  return run;
}

namespace {

FreeEnergySpec ornstein_uhlenbeck() {
  FreeEnergySpec spec;
  spec.name = "Ornstein-Uhlenbeck";
  spec.potential = PotentialKind::quadratic;
  spec.centre = {0};
  spec.precision = {1};
  spec.diffusion = 1;
  spec.exact = ExactFlow::gaussian;
  spec.start_mean = 2;
  spec.start_sd = 0.5;
  return spec;
}

}  // namespace

std::unique_ptr<GridObjective> ornstein_uhlenbeck_cells() {
  return grid_problem(ornstein_uhlenbeck(), {{-6}, {6}, {96}}, {});
}

std::unique_ptr<ParticleObjective> ornstein_uhlenbeck_particles() {
  return particle_problem(ornstein_uhlenbeck(), index_t{120});
}

std::vector<std::unique_ptr<FreeEnergy>> assorted_flows() {
  std::vector<std::unique_ptr<FreeEnergy>> list;
  list.push_back(ornstein_uhlenbeck_cells());
  list.push_back(ornstein_uhlenbeck_particles());
  FreeEnergySpec well;
  well.name = "double well with attraction";
  well.potential = PotentialKind::double_well;
  well.interaction = InteractionKind::quadratic;
  well.strength = 0.5;
  well.diffusion = 0.3;
  list.push_back(grid_problem(well, {{-3}, {3}, {60}}, {}));
  std::vector<double> points(40);
  Rng(Seed{3}).fill_normal(points);
  list.push_back(particle_problem(well, points));
  FreeEnergySpec porous;
  porous.name = "porous medium";
  porous.diffusion = 1;
  porous.power = 2;
  porous.exact = ExactFlow::barenblatt;
  list.push_back(grid_problem(porous, {{-6}, {6}, {64}}, {}));
  FreeEnergySpec drift;
  drift.name = "repulsion without diffusion";
  drift.interaction = InteractionKind::quadratic_repulsion;
  drift.exact = ExactFlow::repulsion;
  drift.start_sd = 0.5;
  list.push_back(grid_problem(drift, {{-3}, {3}, {48}}, {}));
  list.push_back(particle_problem(drift, index_t{30}));
  FreeEnergySpec plane;
  plane.name = "mixture in the plane";
  plane.n_dims = 2;
  plane.potential = PotentialKind::mixture;
  plane.weight = {0.4, 0.6};
  plane.mean = {-1, 0, 1, 0.5};
  plane.sd = {0.8, 0.6};
  plane.diffusion = 1;
  list.push_back(grid_problem(plane, {{-4, -3}, {4, 3}, {16, 12}}, {}));
  list.push_back(particle_problem(plane, points));
  return list;
}

std::string gradient_fault(const SimplexObjective& f, std::span<const double> p) {
  constexpr double k_step = 1e-5, k_tolerance = 1e-5;
  std::vector<double> gradient(p.size()), up(p.begin(), p.end()), down = up;
  f.value_and_gradient(p, gradient);
  double worst = k_tolerance;
  std::string text;
  for (std::size_t i = 1; i < p.size(); ++i) {
    const double h = k_step * std::min(p[i], p[0]);
    up[i] += h;
    up[0] -= h;
    down[i] -= h;
    down[0] += h;
    const double slope = (f.value(up) - f.value(down)) / (2 * h), claimed = gradient[i] - gradient[0];
    up[i] = down[i] = p[i];
    up[0] = down[0] = p[0];
    // values of size |F| leave this much noise in a difference
    const double noise = 1e-15 * std::abs(f.value(p)) / h;
    const double error =
        std::abs(slope - claimed) / (1 + std::abs(slope) + std::abs(claimed) + noise / k_tolerance);
    if (error <= worst) continue;
    worst = error;
    text = fmt::format(
        "coordinate {} of the gradient: dF along e_{} - e_0 is {:.9g} by the gradient, {:.9g} by "
        "differences of values",
        i, i, claimed, slope);
  }
  return text;
}

std::vector<double> uniform_point(index_t n) {
  return std::vector<double>(static_cast<std::size_t>(n), 1.0 / static_cast<double>(n));
}

std::vector<double> random_point(index_t n, Seed seed) {
  std::vector<double> p(static_cast<std::size_t>(n));
  Rng rng(seed.derive("point"));
  double sum = 0;
  for (double& value : p) sum += value = -std::log(rng.uniform_open());
  for (double& value : p) value /= sum;
  return p;
}

StopRule stop_after(index_t max_iterations, double gap_tolerance) {
  StopRule stop;
  stop.budget.max_iterations = max_iterations;
  stop.gap_tolerance = gap_tolerance;
  return stop;
}

double FaultyObjective::do_value(std::span<const double> p) const {
  const bool faulty = ++calls_ >= at_call_ && fault_ == Fault::value;
  return faulty ? std::numeric_limits<double>::quiet_NaN() : inner_->value(p);
}

double FaultyObjective::do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const {
  const double value = inner_->value_and_gradient(p, gradient);
  if (++calls_ < at_call_) return value;
  if (fault_ == Fault::value) return std::numeric_limits<double>::quiet_NaN();
  gradient[coordinate_] = std::numeric_limits<double>::quiet_NaN();
  return value;
}

double PermutedObjective::do_value(std::span<const double> p) const {
  std::vector<double> inner(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) inner[i] = p[order_[i]];
  return inner_->value(inner);
}

double PermutedObjective::do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const {
  std::vector<double> inner(p.size()), inner_gradient(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) inner[i] = p[order_[i]];
  const double value = inner_->value_and_gradient(inner, inner_gradient);
  for (std::size_t i = 0; i < p.size(); ++i) gradient[order_[i]] = inner_gradient[i];
  return value;
}

}  // namespace borel::contract
