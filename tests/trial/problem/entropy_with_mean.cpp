// Largest entropy with a given mean, on points x_i = i / (n - 1): minimise sum p log p; the solution is p_i ~
// exp(lambda x_i).
#include <cmath>
#include <memory>
#include <vector>

#include "borel/objective.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class Entropy final : public SimplexObjective, public LinearConstraints {
 public:
  Entropy(index_t n, double mean) : mean_(mean) {
    for (index_t i = 0; i < n; ++i) x_.push_back(static_cast<double>(i) / static_cast<double>(n - 1));
  }
  index_t size() const override { return static_cast<index_t>(x_.size()); }
  std::string_view name() const override { return "entropy_with_mean"; }
  bool has_curvature() const override { return true; }
  const LinearConstraints* constraints() const override { return this; }
  TensorView<const double, 2> matrix() const override { return {x_.data(), {1, size()}}; }
  std::span<const double> right_hand_side() const override { return {&mean_, 1}; }

 protected:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (double x : p) sum += x > 0 ? x * std::log(x) : 0;
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    for (std::size_t i = 0; i < p.size(); ++i) gradient[i] = 1 + std::log(p[i]);
    return do_value(p);
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    for (std::size_t i = 0; i < p.size(); ++i) out[i] = v[i] / p[i];
  }

 private:
  std::vector<double> x_;
  double mean_;
};

class EntropyWithMean final : public ProblemMaker {
 public:
  struct Params {
    std::int64_t n = 30;
    double mean = 0.8;
    void declare(ParamBinder& p) {
      p.integer("n", n, Range::at_least(2), "1", "points");
      p.real("mean", mean, Range::open(0, 1), "1", "mean of the points under p");
    }
  };
  explicit EntropyWithMean(const Params& params) : p_(params) {}
  Domain domain() const override { return Domain::simplex; }
  std::unique_ptr<Objective> make(Seed) const override { return std::make_unique<Entropy>(p_.n, p_.mean); }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<ProblemMaker, EntropyWithMean>(
      "entropy_with_mean", {.summary = "largest entropy with a given mean", .source = "Jaynes 1957"});
}
