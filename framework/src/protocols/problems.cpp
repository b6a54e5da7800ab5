#include "protocols/problems.hpp"

#include <functional>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "borel/error.hpp"
#include "dataset/dataset_writer.hpp"
#include "protocols/free_energy_problems.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel {
namespace {

// Of what an attribute alone declares: memory is taken before a method can refuse.
constexpr std::int64_t k_most_rows = 1 << 28, k_most_dims = 1 << 12, k_most_cells = 1 << 24;

std::vector<double> array(const Dataset& dataset, std::string_view name) {
  const std::span<const double> values = dataset.doubles(name);
  return {values.begin(), values.end()};
}

index_t columns(const Dataset& dataset, std::string_view name) {
  return static_cast<index_t>(dataset.shape(name).back());
}

SimplexProblem markowitz(ProblemInfo info, const Dataset& data) {
  std::vector<double> b = array(data, "mean");
  const double risk_tolerance = data.number("", "risk_tolerance");
  for (double& value : b) value *= -risk_tolerance;
  return quadratic_problem(std::move(info), array(data, "covariance"), std::move(b), 0);
}

/// p'K p - 2 z'p + constant
SimplexProblem mmd(ProblemInfo info, const Dataset& data) {
  std::vector<double> q = array(data, "kernel"), b = array(data, "z");
  for (double& value : q) value *= 2;
  for (double& value : b) value *= -2;
  return quadratic_problem(std::move(info), std::move(q), std::move(b), data.number("", "constant"));
}

std::vector<index_t> indices(const Dataset& data, std::string_view name) {
  const std::span<const std::int64_t> values = data.integers(name);
  return {values.begin(), values.end()};
}

SimplexProblem sparse_mixture(ProblemInfo info, const Dataset& data) {
  SparseLikelihood likelihood{indices(data, "begin"), indices(data, "row"), array(data, "value"),
                              data.integer("", "n_rows", 1, k_most_rows)};
  return mixture_problem(std::move(info), std::move(likelihood));
}

using Maker = std::function<SimplexProblem(ProblemInfo, const Dataset&)>;

const std::map<std::string, Maker, std::less<>>& makers() {
  static const std::map<std::string, Maker, std::less<>> map{
      {"least_squares",
       [](ProblemInfo info, const Dataset& data) {
         return least_squares_problem(std::move(info), array(data, "a"), array(data, "b"));
       }},
      {"projection",
       [](ProblemInfo info, const Dataset& data) {
         return projection_problem(std::move(info), array(data, "x"));
       }},
      {"linear_entropy",
       [](ProblemInfo info, const Dataset& data) {
         return linear_entropy_problem(std::move(info), array(data, "c"), data.number("", "epsilon"));
       }},
      {"kl", [](ProblemInfo info,
                const Dataset& data) { return kl_problem(std::move(info), array(data, "target")); }},
      {"cross_entropy",
       [](ProblemInfo info, const Dataset& data) {
         return cross_entropy_problem(std::move(info), array(data, "target"));
       }},
      {"mixture",
       [](ProblemInfo info, const Dataset& data) {
         return mixture_problem(std::move(info), array(data, "likelihood"), columns(data, "likelihood"));
       }},
      {"d_optimal",
       [](ProblemInfo info, const Dataset& data) {
         return d_optimal_problem(std::move(info), array(data, "features"), columns(data, "features"));
       }},
      {"max_entropy",
       [](ProblemInfo info, const Dataset& data) {
         return max_entropy_problem(std::move(info), array(data, "moments"), array(data, "b"),
                                    data.number("", "penalty"));
       }},
      {"sparse_mixture", sparse_mixture},
      {"max_entropy_moments",
       [](ProblemInfo info, const Dataset& data) {
         return moment_entropy_problem(std::move(info), array(data, "moments"), array(data, "b"));
       }},
      {"mmd", mmd},
      {"markowitz", markowitz},
      {"transport",
       [](ProblemInfo info, const Dataset& data) {
         return transport_problem(std::move(info), array(data, "cost"), array(data, "a"), array(data, "b"),
                                  data.number("", "epsilon"));
       }},
  };
  return map;
}

/// One of a few words of an attribute.
template <class E>
E word_of(const Dataset& data, const char* name, std::initializer_list<std::pair<const char*, E>> words) {
  const std::string text = data.attribute("", name);
  std::vector<std::string> known;
  for (const auto& [word, value] : words) {
    if (text == word) return value;
    known.emplace_back(word);
  }
  throw DatasetError(fmt::format("dataset '{}': attribute '{}' is '{}', must be one of {}{}", data.info().id,
                                 name, text, fmt::join(known, ", "), did_you_mean(text, known)));
}

FreeEnergySpec free_energy_spec(const Dataset& data, index_t n_dims) {
  FreeEnergySpec spec;
  spec.name = data.info().id;
  spec.n_dims = n_dims;
  spec.potential = word_of<PotentialKind>(data, "potential",
                                          {{"none", PotentialKind::none},
                                           {"quadratic", PotentialKind::quadratic},
                                           {"double_well", PotentialKind::double_well},
                                           {"mixture", PotentialKind::mixture}});
  spec.interaction =
      word_of<InteractionKind>(data, "interaction",
                               {{"none", InteractionKind::none},
                                {"quadratic", InteractionKind::quadratic},
                                {"quadratic_repulsion", InteractionKind::quadratic_repulsion}});
  if (data.has_attribute("", "exact"))
    spec.exact = word_of<ExactFlow>(data, "exact",
                                    {{"none", ExactFlow::none},
                                     {"gaussian", ExactFlow::gaussian},
                                     {"barenblatt", ExactFlow::barenblatt},
                                     {"repulsion", ExactFlow::repulsion}});
  spec.diffusion = data.number("", "diffusion");
  spec.power = data.number("", "power");
  const auto optional = [&](const char* name, double& value) {
    if (data.has_attribute("", name)) value = data.number("", name);
  };
  optional("interaction_strength", spec.strength);
  optional("start_mean", spec.start_mean);
  optional("start_sd", spec.start_sd);
  optional("start_time", spec.start_time);
  for (const auto& [name, values] : {std::pair{"potential/centre", &spec.centre},
                                     {"potential/precision", &spec.precision},
                                     {"potential/weight", &spec.weight},
                                     {"potential/mean", &spec.mean},
                                     {"potential/sd", &spec.sd}})
    if (data.has(name)) *values = array(data, name);
  return spec;
}

}  // namespace

std::unique_ptr<Objective> make_free_energy(const Dataset& data, index_t refinement) {
  const std::string id = data.info().id;
  if (data.attribute("", "domain") == "grid") {
    for (const char* name : {"grid/begin", "grid/end", "grid/n_cells"})
      if (!data.has(name)) throw DatasetError(fmt::format("dataset '{}': array /{} is missing", id, name));
    GridSpec grid{array(data, "grid/begin"), array(data, "grid/end"), indices(data, "grid/n_cells")};
    for (index_t& n : grid.n_cells) {
      if (n < 1 || n > k_most_cells)
        throw DatasetError(
            fmt::format("dataset '{}': array /grid/n_cells has {}, must be 1 to {}", id, n, k_most_cells));
      n *= refinement;
    }
    std::vector<double> start;
    if (data.has("start")) {
      if (refinement != 1)
        throw DatasetError(
            fmt::format("dataset '{}': its start is stored by cells and cannot be refined", id));
      start = array(data, "start");
    }
    FreeEnergySpec spec = free_energy_spec(data, grid.n_axes());
    return grid_problem(std::move(spec), std::move(grid), std::move(start));
  }
  if (data.has("particles"))
    return particle_problem(free_energy_spec(data, columns(data, "particles")), array(data, "particles"));
  const index_t dims = data.has_attribute("", "n_dims") ? data.integer("", "n_dims", 1, k_most_dims) : 1;
  if (!data.has_attribute("", "n_particles"))
    throw DatasetError(
        fmt::format("dataset '{}': particles need the array /particles or the attribute n_particles", id));
  return particle_problem(free_energy_spec(data, dims), data.integer("", "n_particles", 1, k_most_rows));
}

bool is_problem_plugin(std::string_view dataset_name) {
  return dataset_name.starts_with("problem/") && !dataset_name.ends_with(".h5");
}

std::shared_ptr<const Dataset> problem_plugin_dataset(const std::string& name, const Registry& registry,
                                                      const std::string& plugin_sha256) {
  const MethodSpec spec = parse_method_spec(name, "problem");
  const MethodEntry& entry = registry.entry("problem", spec.id);
  const auto maker = registry.make<ProblemMaker>(spec);
  DatasetWriter writer(DatasetKind::problem, name, entry.info.summary, entry.info.source, "none");
  writer.attribute("", "objective", entry.canonical(spec));
  writer.attribute("", "domain", maker->describe().front().second);
  writer.attribute("", "plugin", plugin_sha256);
  writer.seal();
  return Dataset::from(writer);
}

std::unique_ptr<Objective> make_problem(const Dataset& dataset, const Registry& registry) {
  const std::string objective = dataset.attribute("", "objective");
  if (!is_problem_plugin(objective)) return make_objective(dataset);
  return registry.make<ProblemMaker>(parse_method_spec(objective, "problem"))
      ->make(Seed{0}.derive(objective));
}

std::unique_ptr<Objective> make_objective(const Dataset& dataset) {
  const std::string objective = dataset.attribute("", "objective");
  if (objective == "free_energy") return make_free_energy(dataset, 1);
  const auto found = makers().find(objective);
  if (found == makers().end()) {
    std::vector<std::string> known;
    for (const auto& [name, maker] : makers()) known.push_back(name);
    known.emplace_back("free_energy");
    throw DatasetError(fmt::format("dataset '{}': no objective named '{}'{}", dataset.info().id, objective,
                                   did_you_mean(objective, known)));
  }
  ProblemInfo info{dataset.info().id};
  if (dataset.has_attribute("", "optimum")) info.optimum = dataset.number("", "optimum");
  return found->second(std::move(info), dataset);
}

}  // namespace borel
