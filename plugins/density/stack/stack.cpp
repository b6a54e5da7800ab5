// Stacked densities (Smyth and Wolpert 1999): p = sum_j v_j p_j with candidates p_j fitted to all samples and weights
// v on the simplex that maximise the log-likelihood of samples held out in folds,
//   max_v (1/n) sum_i w_i log sum_j v_j p_j^(-fold(i))(x_i)       concave; EM (multiplicative) steps with the certificate
//   max_j (1/n) sum_i w_i p_j / p - 1 >= F* - F.
// No one scale serves both a claw and a comb: candidates with one bandwidth, local bandwidths, splines and mixtures answer
// to different shapes, and the data choose.
// Where we differ: the J - 1 free weights gain J - 1 half nats from the samples that chose them and lose as much on others,
// and the best single candidate may be best by luck. The stack and every candidate alone are therefore averaged with
// Akaike's (1978) weights, exp(n held-out log-likelihood - price (J - 1)), J = 1 for a candidate alone.
// Folds are drawn once from the seed, in sorted order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_gap = 1e-8;  // nats; far below any difference that n samples can show
constexpr int k_em_steps = 20000;
constexpr double k_least_weight = 1e-4;  // candidates below are left out of the final fit

/// "a + b{x=1} + c": the texts between plus signs outside of braces.
std::vector<std::string> split_specs(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c == '+' && depth == 0)
      parts.emplace_back();
    else if (c != ' ')
      parts.back() += c;
  }
  return parts;
}

class Stacked final : public FittedDensity {
 public:
  Stacked(std::vector<std::unique_ptr<FittedDensity>> parts, std::vector<double> weight,
          std::vector<double> candidate, Outcome outcome)
      : parts_(std::move(parts)),
        weight_(std::move(weight)),
        candidate_(std::move(candidate)),
        outcome_(std::move(outcome)) {}

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<std::vector<double>> value(parts_.size(), std::vector<double>(out.size()));
    for (std::size_t j = 0; j < parts_.size(); ++j) parts_[j]->log_pdf(x, value[j]);
    for (std::size_t i = 0; i < out.size(); ++i) {
      double top = -k_infinity, sum = 0;
      for (std::size_t j = 0; j < parts_.size(); ++j)
        if (std::isnan(value[j][i]) || value[j][i] > top) top = value[j][i];
      if (top > -k_infinity)
        for (std::size_t j = 0; j < parts_.size(); ++j) sum += weight_[j] * std::exp(value[j][i] - top);
      out[i] = top > -k_infinity ? top + std::log(sum) : top;
    }
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    std::vector<double> value(out.size());
    std::fill(out.begin(), out.end(), 0.0);
    double total = 0;
    for (std::size_t j = 0; j < parts_.size(); ++j) {
      parts_[j]->cdf(x, value);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight_[j] * value[i];
      total += weight_[j];
    }
    for (double& value_at : out) value_at = std::min(1.0, value_at / total);
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < out.shape(0); ++i) {
      double u = rng.uniform();
      std::size_t j = 0;
      while (j + 1 < parts_.size() && (u -= weight_[j]) >= 0) ++j;
      parts_[j]->sample(rng, TensorView<double, 2>(&out(i, 0), {1, 1}));
    }
  }
  RealInterval support(index_t) const override {
    RealInterval all = parts_.front()->support();
    for (const auto& part : parts_) {
      all.begin = std::min(all.begin, part->support().begin);
      all.end = std::max(all.end, part->support().end);
    }
    return all;
  }
  index_t parameter_count() const override {
    index_t count = static_cast<index_t>(parts_.size()) - 1;
    for (const auto& part : parts_) count += part->parameter_count();
    return count;
  }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("weight", weight_);
    out.put("candidate", candidate_);
    out.put_text("sentence", outcome_.sentence);
    for (std::size_t j = 0; j < parts_.size(); ++j) parts_[j]->save(out.group("part" + std::to_string(j)));
  }

 private:
  std::vector<std::unique_ptr<FittedDensity>> parts_;
  std::vector<double> weight_, candidate_;  ///< candidate_: place of each part in the list of candidates
  Outcome outcome_;
};

class Stack final : public DensityEstimator {
 public:
  struct Params {
    std::string candidates = "gmm + gmm{criterion=aic} + kde{adaptive=0.5}";
    std::int64_t n_folds = 10;
    double price = 1;
    void declare(ParamBinder& p) {
      p.text("candidates", candidates, "Density methods with their parameters, separated by +.");
      p.integer("n_folds", n_folds, Range::closed(2, 100), "1", "Folds of the held-out likelihood.");
      p.real("price", price, Range::at_least(0), "nats",
             "What each free weight must gain on the held-out samples; 1 = Akaike's criterion.");
    }
  };

  Stack(const Params& params, const Registry& registry)
      : params_(params), names_(split_specs(params.candidates)) {
    for (const std::string& name : names_) {
      if (name.empty())
        throw ParamError("density stack: 'candidates' has an empty entry in '" + params.candidates +
                         "'; write methods separated by +");
      methods_.push_back(registry.make<DensityEstimator>(name));
    }
  }

  DensityTraits traits() const override {
    DensityTraits all{.closed_form_cdf = true, .affine_equivariant = true, .follows_any_data = false};
    for (const auto& method : methods_) {
      const DensityTraits one = method->traits();
      all.accepts_weights &= one.accepts_weights;
      all.closed_form_cdf &= one.closed_form_cdf;
      all.affine_equivariant &= one.affine_equivariant;
      all.smooth &= one.smooth;
      all.follows_any_data |= one.follows_any_data;
    }
    return all;
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const WeightedPoints points = weighted_points(samples);
    const std::size_t n_folds =
        std::min<std::size_t>(static_cast<std::size_t>(params_.n_folds), points.size());
    std::vector<std::vector<double>>
        held_out;  // per candidate, log density of every point by the fit without its fold
    std::vector<std::size_t> usable;
    std::string declined;
    if (n_folds >= 2) {
      const std::vector<std::size_t> fold = draw_folds(points.size(), n_folds, context.seed.derive("folds"));
      for (std::size_t j = 0; j < methods_.size(); ++j) {
        try {
          std::vector<double> its = held_out_log_pdf(*methods_[j], points, fold, n_folds, context);
          // Candidates that chose the same model are one: no weight between them is free.
          if (std::find(held_out.begin(), held_out.end(), its) != held_out.end()) continue;
          held_out.push_back(std::move(its));
          usable.push_back(j);
        } catch (const MethodError& error) {
          declined += declined.empty() ? error.what() : "";
        }
        if (context.progress)
          context.progress->report(static_cast<double>(j + 1) / static_cast<double>(methods_.size() + 1), 0);
      }
    }
    if (usable.empty())
      return first_that_fits(samples, context,
                             declined.empty() ? "too few samples to hold some out" : declined);
    const Choice choice = choose(points, held_out);

    std::vector<std::unique_ptr<FittedDensity>> parts;
    std::vector<double> weight, candidate;
    std::string sentence;
    for (std::size_t k = 0; k < usable.size(); ++k) {
      if (!(choice.weight[k] > k_least_weight)) continue;
      parts.push_back(methods_[usable[k]]->fit(samples, context));
      weight.push_back(choice.weight[k]);
      candidate.push_back(static_cast<double>(usable[k]));
      sentence +=
          (sentence.empty() ? "" : ", ") + names_[usable[k]] + " " + param_text(rounded(choice.weight[k]));
    }
    if (parts.empty())
      return first_that_fits(samples, context, "no candidate gives every held-out sample a density");
    double total = 0;
    for (const double w : weight) total += w;
    for (double& w : weight) w /= total;
    Outcome outcome{choice.gap <= k_gap ? Termination::converged : Termination::budget_used_up,
                    sentence + "; held-out log density of the stack alone " + param_text(choice.value) +
                        ", gap " + param_text(choice.gap),
                    choice.steps};
    return std::make_unique<Stacked>(std::move(parts), std::move(weight), std::move(candidate),
                                     std::move(outcome));
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> weight = in.get("weight"), candidate = in.get("candidate");
    if (weight.empty() || weight.size() != candidate.size())
      throw MethodError("density stack: the saved state is not complete; save the fitted density again");
    std::vector<std::unique_ptr<FittedDensity>> parts;
    for (std::size_t j = 0; j < weight.size(); ++j) {
      if (!(candidate[j] >= 0 && candidate[j] < static_cast<double>(methods_.size())))
        throw MethodError("density stack: the saved state names candidate " + param_text(candidate[j]) +
                          ", this stack has " + std::to_string(methods_.size()) +
                          "; load it with the candidates that it was fitted with");
      parts.push_back(
          methods_[static_cast<std::size_t>(candidate[j])]->load(in.group("part" + std::to_string(j))));
    }
    return std::make_unique<Stacked>(std::move(parts), std::move(weight), std::move(candidate),
                                     Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  static double rounded(double w) { return std::round(w * 1e4) / 1e4; }

  /// No stack for a reason: the first candidate that fits.
  std::unique_ptr<FittedDensity> first_that_fits(const Samples& samples, const FitContext& context,
                                                 const std::string& reason) const {
    std::string last = reason;
    for (std::size_t j = 0; j < methods_.size(); ++j) {
      try {
        std::vector<std::unique_ptr<FittedDensity>> parts;
        parts.push_back(methods_[j]->fit(samples, context));
        return std::make_unique<Stacked>(std::move(parts), std::vector<double>{1.0},
                                         std::vector<double>{static_cast<double>(j)},
                                         Outcome{Termination::converged, names_[j] + " alone: " + reason, 0});
      } catch (const MethodError& error) {
        last = error.what();
      }
    }
    throw MethodError("density stack: no candidate fits these samples; the last said: " + last);
  }

  static std::vector<std::size_t> draw_folds(std::size_t n, std::size_t n_folds, Seed seed) {
    std::vector<std::size_t> fold(n);
    for (std::size_t i = 0; i < n; ++i) fold[i] = i % n_folds;
    Rng rng(seed);
    for (std::size_t i = n; i > 1; --i) std::swap(fold[i - 1], fold[rng.below(i)]);
    return fold;
  }

  static std::vector<double> held_out_log_pdf(const DensityEstimator& method, const WeightedPoints& points,
                                              const std::vector<std::size_t>& fold, std::size_t n_folds,
                                              const FitContext& context) {
    std::vector<double> out(points.size());
    std::vector<std::string> refusal(n_folds);
    parallel_for(static_cast<index_t>(n_folds), 1, [&](index_t begin, index_t end) {
      for (std::size_t f = static_cast<std::size_t>(begin); f < static_cast<std::size_t>(end); ++f) {
        std::vector<double> x, w, test;
        for (std::size_t i = 0; i < points.size(); ++i) {
          if (fold[i] == f)
            test.push_back(points.x[i]);
          else
            x.push_back(points.x[i]), w.push_back(points.weight[i]);
        }
        try {
          FitContext own = context;
          own.progress = nullptr;
          own.seed = context.seed.derive("fold").derive(f);
          const auto density = method.fit({{x.data(), {static_cast<index_t>(x.size()), 1}}, w}, own);
          std::vector<double> log_p(test.size());
          density->log_pdf({test.data(), {static_cast<index_t>(test.size()), 1}}, log_p);
          std::size_t next = 0;
          for (std::size_t i = 0; i < points.size(); ++i)
            if (fold[i] == f) out[i] = log_p[next++];
        } catch (const MethodError& error) {
          refusal[f] = error.what();
        }
      }
    });
    for (const std::string& reason : refusal)
      if (!reason.empty()) throw MethodError(reason);
    for (const double log_p : out)
      if (!(log_p < k_infinity)) throw MethodError("a held-out log density is " + param_text(log_p));
    return out;
  }

  struct Choice {
    std::vector<double> weight;
    double value = 0, gap = 0;
    index_t steps = 0;
  };

  Choice choose(const WeightedPoints& points, const std::vector<std::vector<double>>& log_p) const {
    const std::size_t n = points.size(), n_candidates = log_p.size();
    std::vector<double> w(n), top(n, -k_infinity), ratio(n * n_candidates);
    for (std::size_t i = 0; i < n; ++i) {
      w[i] = points.weight[i] / points.weight_sum;
      for (std::size_t j = 0; j < n_candidates; ++j) top[i] = std::max(top[i], log_p[j][i]);
      for (std::size_t j = 0; j < n_candidates; ++j)
        ratio[i * n_candidates + j] = top[i] > -k_infinity ? std::exp(log_p[j][i] - top[i]) : 1.0;
    }
    Choice stack;
    stack.weight.assign(n_candidates, 1 / static_cast<double>(n_candidates));
    std::vector<double> mixed(n), gradient(n_candidates);
    for (; stack.steps < k_em_steps; ++stack.steps) {
      stack.value = 0;
      std::fill(gradient.begin(), gradient.end(), 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        mixed[i] = 0;
        for (std::size_t j = 0; j < n_candidates; ++j)
          mixed[i] += stack.weight[j] * ratio[i * n_candidates + j];
        stack.value += w[i] * (top[i] + std::log(mixed[i]));
        for (std::size_t j = 0; j < n_candidates; ++j)
          gradient[j] += w[i] * ratio[i * n_candidates + j] / mixed[i];
      }
      stack.gap = *std::max_element(gradient.begin(), gradient.end()) - 1;
      if (stack.gap <= k_gap) break;
      for (std::size_t j = 0; j < n_candidates; ++j) stack.weight[j] *= gradient[j];
    }
    // Akaike's weights of the candidates alone and of the stack, relative to the stack's own likelihood.
    const auto n_used =
        std::count_if(stack.weight.begin(), stack.weight.end(), [](double v) { return v > k_least_weight; });
    std::vector<double> single(n_candidates);
    const double share = std::exp(-params_.price * static_cast<double>(n_used - 1));
    double total = share;
    for (std::size_t j = 0; j < n_candidates; ++j) {
      double value = 0;
      for (std::size_t i = 0; i < n; ++i) value += w[i] * log_p[j][i];
      // Not a number where a point has weight 0 or no candidate's density at all.
      const double relative = std::exp(points.n_effective * (value - stack.value));
      single[j] = std::isnan(relative) ? 0 : relative;
      total += single[j];
    }
    for (std::size_t j = 0; j < n_candidates; ++j)
      stack.weight[j] = (share * stack.weight[j] + single[j]) / total;
    return stack;
  }

  Params params_;
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<DensityEstimator>> methods_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Stack>(
      "stack",
      {.summary = "Mixture of several estimators, weights by the likelihood of held-out samples",
       .formula = "p = sum_j v_j p_j,  v = argmax_simplex sum_i log sum_j v_j p_j^(-fold(i))(x_i)",
       .source = "Smyth, Wolpert (1999) Machine Learning 36 (stacked density estimation); Akaike (1978) The "
                 "Statistician 27; Rigollet, Tsybakov (2007) Math. Methods Stat. 16",
       .complexity =
           "fit: n_folds + 1 fits of every candidate; evaluation: that of the candidates with weight",
       .notes = "averaged with the candidates alone by Akaike's weights; see price"});
}
