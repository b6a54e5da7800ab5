#include "protocols/problems.hpp"

#include <functional>
#include <map>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel {
namespace {

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

}  // namespace

std::unique_ptr<Objective> make_objective(const Dataset& dataset) {
  const std::string objective = dataset.attribute("", "objective");
  const auto found = makers().find(objective);
  if (found == makers().end()) {
    std::vector<std::string> known;
    for (const auto& [name, maker] : makers()) known.push_back(name);
    throw DatasetError(fmt::format("dataset '{}': no objective named '{}' on the simplex{}",
                                   dataset.info().id, objective, did_you_mean(objective, known)));
  }
  ProblemInfo info{dataset.info().id};
  if (dataset.has_attribute("", "optimum")) info.optimum = dataset.number("", "optimum");
  return found->second(std::move(info), dataset);
}

}  // namespace borel
