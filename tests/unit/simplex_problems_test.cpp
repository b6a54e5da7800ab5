#include "protocols/simplex_problems.hpp"

#include <cmath>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "dataset/dataset_writer.hpp"
#include "protocols/problems.hpp"
#include "reference/optimizer_reference.hpp"

namespace {

using borel::index_t;
using borel::Rng;
using borel::Seed;
using borel::SimplexProblem;
using testing::HasSubstr;

std::vector<double> normals(std::size_t n, std::uint64_t seed) {
  std::vector<double> x(n);
  Rng(Seed{seed}).fill_normal(x);
  return x;
}

std::vector<double> positives(std::size_t n, std::uint64_t seed) {
  std::vector<double> x = normals(n, seed);
  for (double& v : x) v = 0.1 + v * v;
  return x;
}

std::vector<double> interior_point(index_t n, std::uint64_t seed) {
  std::vector<double> p = positives(static_cast<std::size_t>(n), seed);
  double sum = 0;
  for (double v : p) sum += v;
  for (double& v : p) v /= sum;
  return p;
}

std::vector<double> semidefinite(std::size_t n, std::uint64_t seed) {
  const std::vector<double> a = normals(n * n, seed);
  std::vector<double> q(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t r = 0; r < n; ++r) q[i * n + j] += a[r * n + i] * a[r * n + j];
  return q;
}

struct Case {
  const char* name;
  /// What it offers beyond value and gradient: c curvature, e exact steps, q quadratic form, o known optimum.
  std::string_view abilities;
  std::function<SimplexProblem()> make;
};
void PrintTo(const Case& made, std::ostream* out) { *out << made.name; }

class EveryProblem : public testing::TestWithParam<Case> {
 protected:
  static bool offers(char ability) { return GetParam().abilities.find(ability) != std::string_view::npos; }
};

TEST_P(EveryProblem, GradientIsTheDerivativeOfTheValue) {
  const SimplexProblem f = GetParam().make();
  const std::vector<double> p = interior_point(f->size(), 5);
  std::vector<double> g(p.size());
  const double value = f->value_and_gradient(p, g);
  EXPECT_LE(std::abs(value - f->value(p)), 1e-12 * (1 + std::abs(value)));
  constexpr double h = 1e-6;
  for (std::size_t i = 1; i < p.size(); ++i) {  // along e_i - e_0, which stays in the simplex
    std::vector<double> up = p, down = p;
    up[i] += h;
    up[0] -= h;
    down[i] -= h;
    down[0] += h;
    const double slope = (f->value(up) - f->value(down)) / (2 * h);
    EXPECT_LE(std::abs(slope - (g[i] - g[0])), 1e-5 * (1 + std::abs(slope))) << "coordinate " << i;
  }
}

TEST_P(EveryProblem, CurvatureIsTheDerivativeOfTheGradient) {
  const SimplexProblem f = GetParam().make();
  ASSERT_EQ(f->has_curvature(), offers('c'));
  if (!offers('c')) return;
  const std::vector<double> p = interior_point(f->size(), 6);
  std::vector<double> v = normals(p.size(), 7), product(p.size()), up = p, down = p, g_up(p.size()),
                      g_down(p.size());
  double mean = 0;
  for (double x : v) mean += x / static_cast<double>(v.size());
  for (double& x : v) x -= mean;
  constexpr double h = 1e-6;
  for (std::size_t i = 0; i < p.size(); ++i) {
    up[i] += h * v[i];
    down[i] -= h * v[i];
  }
  f->curvature_product(p, v, product);
  f->value_and_gradient(up, g_up);
  f->value_and_gradient(down, g_down);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = (g_up[i] - g_down[i]) / (2 * h);
    EXPECT_LE(std::abs(product[i] - expected), 1e-4 * (1 + std::abs(expected))) << "coordinate " << i;
  }
}

TEST_P(EveryProblem, ExactStepIsTheMinimumAlongTheLine) {
  const SimplexProblem f = GetParam().make();
  const std::vector<double> p = interior_point(f->size(), 8), q = interior_point(f->size(), 9);
  std::vector<double> d(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) d[i] = q[i] - p[i];
  const std::optional<double> t = f->exact_step(p, d, 1);
  ASSERT_EQ(t.has_value(), offers('e'));
  if (!t) return;
  EXPECT_GE(*t, 0);
  EXPECT_LE(*t, 1);
  const auto at = [&](double step) {
    std::vector<double> x = p;
    for (std::size_t i = 0; i < p.size(); ++i) x[i] += step * d[i];
    return f->value(x);
  };
  for (int i = 0; i <= 20; ++i)
    EXPECT_LE(at(*t), at(0.05 * i) + 1e-12) << "step " << 0.05 * i << ", chosen " << *t;
}

TEST_P(EveryProblem, SmoothnessBoundsTheGradient) {
  const SimplexProblem f = GetParam().make();
  const std::vector<double> x = interior_point(f->size(), 10), y = interior_point(f->size(), 11);
  std::vector<double> g_x(x.size()), g_y(x.size());
  f->value_and_gradient(x, g_x);
  f->value_and_gradient(y, g_y);
  double change = 0, square = 0, symmetric = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    change += (g_x[i] - g_y[i]) * (x[i] - y[i]);
    square += (x[i] - y[i]) * (x[i] - y[i]);
    symmetric += (x[i] - y[i]) * (std::log(x[i]) - std::log(y[i]));
  }
  if (const auto smoothness = f->smoothness()) {
    EXPECT_LE(change, *smoothness * square * (1 + 1e-12));
  }
  if (const auto relative = f->relative_smoothness()) {
    EXPECT_LE(change, *relative * symmetric * (1 + 1e-12));
  }
  EXPECT_GE(change, 0) << "not convex";
}

TEST_P(EveryProblem, QuadraticFormAgreesWithTheValue) {
  const SimplexProblem f = GetParam().make();
  const borel::QuadraticForm* form = f->quadratic();
  ASSERT_EQ(form != nullptr, offers('q'));
  if (!form) return;
  const std::vector<double> p = interior_point(f->size(), 12);
  std::vector<double> column(p.size());
  double sum = form->constant();
  for (std::size_t i = 0; i < p.size(); ++i) {
    form->column(static_cast<index_t>(i), column);
    double product = 0;
    for (std::size_t j = 0; j < p.size(); ++j) product += column[j] * p[j];
    sum += p[i] * (product / 2 + form->linear()[i]);
    EXPECT_LE(std::abs(column[i] - form->diagonal(static_cast<index_t>(i))),
              1e-12 * (1 + std::abs(column[i])));
  }
  EXPECT_LE(std::abs(sum - f->value(p)), 1e-12 * (1 + std::abs(sum)));
}

TEST_P(EveryProblem, SeveralColumnsHaveTheBitsAndTheCostOfEach) {
  const SimplexProblem f = GetParam().make();
  const borel::QuadraticForm* form = f->quadratic();
  if (!form) return;
  const index_t n = f->size(), k = std::min<index_t>(n, 6);
  std::vector<index_t> wanted(static_cast<std::size_t>(k));
  for (index_t i = 0; i < k; ++i) wanted[static_cast<std::size_t>(i)] = n - 1 - i;
  std::vector<double> several(static_cast<std::size_t>(k * n), 7.0), one(static_cast<std::size_t>(n));
  const auto before = f->counts().columns;
  form->columns(wanted, {several.data(), {k, n}});
  const auto together = f->counts().columns - before;
  EXPECT_GT(together, 0);
  for (index_t i = 0; i < k; ++i) {
    form->column(wanted[static_cast<std::size_t>(i)], one);
    for (index_t j = 0; j < n; ++j)
      EXPECT_EQ(one[static_cast<std::size_t>(j)], several[static_cast<std::size_t>(i * n + j)])
          << i << ' ' << j;
  }
  EXPECT_EQ(f->counts().columns - before - together, together);
}

TEST_P(EveryProblem, NoPointLiesBelowTheKnownMinimum) {
  const SimplexProblem f = GetParam().make();
  ASSERT_EQ(f->optimum().has_value(), offers('o'));
  if (!f->optimum()) return;
  for (std::uint64_t seed = 20; seed < 40; ++seed) {
    const std::vector<double> p = interior_point(f->size(), seed);
    EXPECT_GE(f->value(p), *f->optimum() - 1e-12);
    EXPECT_LE(f->value(p) - borel::frank_wolfe_gap(*f, p), *f->optimum() + 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(
    SimplexProblems, EveryProblem,
    testing::Values(
        Case{"least_squares", "ceq",
             [] { return borel::least_squares_problem({"f"}, normals(70, 1), normals(7, 2)); }},
        Case{"projection", "ceqo", [] { return borel::projection_problem({"f"}, normals(9, 1)); }},
        Case{"quadratic", "ceq",
             [] { return borel::quadratic_problem({"f"}, semidefinite(8, 1), normals(8, 2), 0.5); }},
        Case{"linear_entropy", "co", [] { return borel::linear_entropy_problem({"f"}, normals(9, 1), 0.3); }},
        Case{"kl", "co", [] { return borel::kl_problem({"f"}, positives(9, 1)); }},
        Case{"max_entropy", "c",
             [] { return borel::max_entropy_problem({"f"}, normals(18, 1), normals(2, 2), 3); }},
        Case{"cross_entropy", "co", [] { return borel::cross_entropy_problem({"f"}, positives(9, 1)); }},
        Case{"mixture", "ce", [] { return borel::mixture_problem({"f"}, positives(60, 1), 6); }},
        Case{"d_optimal", "c", [] { return borel::d_optimal_problem({"f"}, normals(36, 1), 3); }},
        Case{"transport", "c",
             [] {
               return borel::transport_problem({"f"}, normals(6, 1), {0.5, 0.5}, {0.2, 0.3, 0.5}, 0.4);
             }}),
    [](const testing::TestParamInfo<Case>& problem) { return std::string(problem.param.name); });

TEST(SimplexProblems, OptimaAgreeWithTheReferences) {
  const std::vector<double> c = normals(50, 3);
  EXPECT_LE(std::abs(*borel::linear_entropy_problem({"f"}, c, 0.2)->optimum() -
                     borel::reference::entropy_regularised_linear(c, 0.2).value),
            1e-14);
  const double tau = borel::reference::projection_threshold(c);
  double expected = 0;
  for (double v : c) expected += (std::max(v - tau, 0.0) - v) * (std::max(v - tau, 0.0) - v) / 2;
  EXPECT_LE(std::abs(*borel::projection_problem({"f"}, c)->optimum() - expected), 1e-12 * expected);
  EXPECT_LE(std::abs(*borel::kl_problem({"f"}, interior_point(20, 4))->optimum()), 1e-14);
}

TEST(SimplexProblems, LikelihoodsAreInfiniteWhereARowHasNoMass) {
  const SimplexProblem mixture = borel::mixture_problem({"f"}, {1, 0, 0, 1}, 2);
  EXPECT_EQ(mixture->value(std::vector<double>{1, 0}), std::numeric_limits<double>::infinity());
  const SimplexProblem design = borel::d_optimal_problem({"f"}, {1, 0, 0, 1}, 2);
  EXPECT_EQ(design->value(std::vector<double>{0, 1}), std::numeric_limits<double>::infinity());
}

TEST(SimplexProblems, SayWhichRuleTheArraysBreak) {
  EXPECT_THROW(borel::least_squares_problem({"f"}, normals(7, 1), normals(2, 1)), borel::DatasetError);
  EXPECT_THROW(borel::quadratic_problem({"f"}, normals(7, 1), normals(2, 1), 0), borel::DatasetError);
  EXPECT_THROW(borel::projection_problem({"f"}, {}), borel::DatasetError);
  EXPECT_THROW(borel::linear_entropy_problem({"f"}, {1}, 0), borel::DatasetError);
  EXPECT_THROW(borel::kl_problem({"f"}, {1, 0}), borel::DatasetError);
  EXPECT_THROW(borel::mixture_problem({"f"}, {1, 1, 0, 0}, 2), borel::DatasetError);
  EXPECT_THROW(borel::cross_entropy_problem({"f"}, {0, 0}), borel::DatasetError);
  EXPECT_THROW(borel::d_optimal_problem({"f"}, normals(7, 1), 3), borel::DatasetError);
  EXPECT_THROW(borel::max_entropy_problem({"f"}, normals(4, 1), normals(2, 1), -1), borel::DatasetError);
  EXPECT_THROW(borel::transport_problem({"f"}, normals(4, 1), {1}, {1}, 1), borel::DatasetError);
}

TEST(SimplexProblems, AreMadeFromDatasets) {
  borel::DatasetWriter writer(borel::DatasetKind::problem, "assets", "Three assets", "made here", "CC0");
  writer.attribute("", "objective", std::string("markowitz"));
  writer.attribute("", "domain", std::string("simplex"));
  writer.attribute("", "risk_tolerance", 2.0);
  writer.array<double>("covariance", {2, 0, 0, 1}, {2, 2});
  writer.array<double>("mean", {1, 0.5}, {2});
  writer.seal();
  const auto objective = borel::make_objective(*borel::Dataset::from(writer));
  const auto& f = static_cast<const borel::SimplexObjective&>(*objective);
  EXPECT_DOUBLE_EQ(f.value(std::vector<double>{0.5, 0.5}), 0.5 * (0.5 + 0.25) - 2 * 0.75);
  EXPECT_EQ(f.name(), "assets");
}

TEST(SimplexProblems, RefuseNumbersOfRowsThatAreNone) {
  for (const double n_rows : {0.0, -1.0, 1.5, 1e300, std::numeric_limits<double>::quiet_NaN()}) {
    borel::DatasetWriter writer(borel::DatasetKind::problem, "sparse", "Two columns", "made here", "CC0");
    writer.attribute("", "objective", std::string("sparse_mixture"));
    writer.attribute("", "domain", std::string("simplex"));
    writer.attribute("", "n_rows", n_rows);
    writer.array<std::int64_t>("begin", {0, 1, 2}, {3});
    writer.array<std::int64_t>("row", {0, 0}, {2});
    writer.array<double>("value", {1, 2}, {2});
    writer.seal();
    EXPECT_THROW(borel::make_objective(*borel::Dataset::from(writer)), borel::DatasetError) << n_rows;
  }
}

/// A problem whose data come from the seed.
class Distance final : public borel::ProblemMaker {
 public:
  struct Params {
    std::int64_t n = 4;
    void declare(borel::ParamBinder& p) {
      p.integer("n", n, borel::Range::closed(1, 100), "1", "coordinates");
    }
  };
  explicit Distance(const Params& params) : n_(params.n) {}
  borel::Domain domain() const override { return borel::Domain::simplex; }
  std::unique_ptr<borel::Objective> make(Seed seed) const override {
    std::vector<double> x(static_cast<std::size_t>(n_));
    borel::Rng(seed).fill_normal(x);
    return borel::projection_problem({"distance"}, x);
  }

 private:
  borel::index_t n_;
};

TEST(SimplexProblems, PluginsStandWhereDatasetsStand) {
  borel::Registry registry;
  registry.add<borel::ProblemMaker, Distance>(
      "distance",
      {.summary = "distance", .formula = "1/2 |p - x|^2", .source = "here", .complexity = "O(n)"});
  const auto data = borel::problem_plugin_dataset("problem/distance{n=5}", registry, "plugin");
  const auto same = borel::problem_plugin_dataset("problem/distance{n=5}", registry, "plugin");
  const auto default_n = borel::problem_plugin_dataset("problem/distance", registry, "plugin");
  const auto other_code = borel::problem_plugin_dataset("problem/distance{n=5}", registry, "newer");
  EXPECT_EQ(data->info().content_digest, same->info().content_digest);
  EXPECT_NE(data->info().content_digest, default_n->info().content_digest);
  EXPECT_NE(data->info().content_digest, other_code->info().content_digest);

  const auto first = borel::make_problem(*data, registry), second = borel::make_problem(*same, registry);
  ASSERT_EQ(first->size(), 5);
  const std::vector<double> p(5, 0.2);
  const auto value = [&](const borel::Objective& f) {
    return static_cast<const borel::SimplexObjective&>(f).value(p);
  };
  EXPECT_EQ(value(*first), value(*second));
  EXPECT_THROW(borel::problem_plugin_dataset("problem/distance{m=5}", registry, ""), borel::ParamError);
  EXPECT_THROW(borel::problem_plugin_dataset("problem/distanc", registry, ""), borel::RegistryError);
}

}  // namespace
