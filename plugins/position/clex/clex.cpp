// CLEX: frequencies that flow with the length, by an ordinary differential equation that is learned. Chen, Li, Meng, Liang, Bing
// 2023, arXiv:2310.16450, section 3; code DAMO-NLP-SG/CLEX.
//
//   y(1) = log theta,   dy/dt = act((y + log theta^NTK(t)) U) D + d/dt log theta^NTK(t),   theta(t) = exp(y(t))
//   theta^NTK_m(t) = theta_m (2 t - 1)^(-2 m / (D_rot - 2))      the base times (2 t - 1)^(D_rot / (D_rot - 2))
//   t = ceil(longest length / L);   in training t is uniform in [1, max_factor], one draw for all layers of a step
//
// U [D_rot / 2, W], D [W, D_rot / 2], W = width_factor D_rot. D starts at zero: without training this is NTK-aware scaling with
// the factor 2 t - 1. Fourth-order Runge-Kutta in fixed steps; backward() is the exact gradient of these steps.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

enum class Activation { silu, tanh };

using Vector = std::vector<double>;

/// The right-hand side f(t, y) and its transposed Jacobian.
class Flow {
 public:
  Flow(const Vector& theta, std::span<const float> up, std::span<const float> down, Activation activation)
      : n_(theta.size()), width_(up.size() / theta.size()), up_(up), down_(down), activation_(activation) {
    for (double x : theta) log_theta_.push_back(std::log(x));
  }
  std::size_t n() const { return n_; }
  std::size_t width() const { return width_; }
  const Vector& start() const { return log_theta_; }

  Vector slope(double t, const Vector& y) const {
    const Vector z = shifted(t, y), s = hidden(z);
    Vector f(n_);
    for (std::size_t m = 0; m < n_; ++m) f[m] = -2 * share(m) / (2 * t - 1);
    for (std::size_t w = 0; w < width_; ++w) {
      const double a = value(s[w]);
      for (std::size_t m = 0; m < n_; ++m) f[m] += a * static_cast<double>(down_[w * n_ + m]);
    }
    return f;
  }

  /// Adds g^T df/dy to d_y, and g^T df/dU, g^T df/dD to d_up, d_down.
  void pull_back(double t, const Vector& y, const Vector& g, Vector& d_y, Vector& d_up,
                 Vector& d_down) const {
    const Vector z = shifted(t, y), s = hidden(z);
    for (std::size_t w = 0; w < width_; ++w) {
      const double a = value(s[w]);
      double d_a = 0;
      for (std::size_t m = 0; m < n_; ++m) {
        d_a += static_cast<double>(down_[w * n_ + m]) * g[m];
        d_down[w * n_ + m] += a * g[m];
      }
      const double d_s = d_a * derivative(s[w]);
      for (std::size_t m = 0; m < n_; ++m) {
        d_up[m * width_ + w] += z[m] * d_s;
        d_y[m] += static_cast<double>(up_[m * width_ + w]) * d_s;
      }
    }
  }

 private:
  /// 2 m / (D_rot - 2): how far pair m follows NTK scaling.
  double share(std::size_t m) const {
    return n_ > 1 ? static_cast<double>(m) / static_cast<double>(n_ - 1) : 0;
  }
  Vector shifted(double t, const Vector& y) const {
    Vector z(n_);
    for (std::size_t m = 0; m < n_; ++m) z[m] = y[m] + log_theta_[m] - share(m) * std::log(2 * t - 1);
    return z;
  }
  Vector hidden(const Vector& z) const {
    Vector s(width_);
    for (std::size_t m = 0; m < n_; ++m)
      for (std::size_t w = 0; w < width_; ++w) s[w] += z[m] * static_cast<double>(up_[m * width_ + w]);
    return s;
  }
  double value(double s) const {
    return activation_ == Activation::silu ? s / (1 + std::exp(-s)) : std::tanh(s);
  }
  double derivative(double s) const {
    if (activation_ == Activation::tanh) return 1 - std::tanh(s) * std::tanh(s);
    const double sigmoid = 1 / (1 + std::exp(-s));
    return sigmoid * (1 + s * (1 - sigmoid));
  }

  std::size_t n_, width_;
  std::span<const float> up_, down_;
  Activation activation_;
  Vector log_theta_;
};

Vector plus(const Vector& y, double h, const Vector& k) {
  Vector result = y;
  for (std::size_t m = 0; m < y.size(); ++m) result[m] += h * k[m];
  return result;
}

class Clex final : public borel::PositionEncoding {
 public:
  struct Params {
    Activation activation = Activation::silu;
    std::int64_t width_factor = 1;
    double max_factor = 16, step = 0.1;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.choice("activation", activation, {{"silu", Activation::silu}, {"tanh", Activation::tanh}},
               "Non-linearity of the learned flow.");
      p.integer("width_factor", width_factor, borel::Range::closed(1, 64), "1",
                "Hidden units of the flow per rotated component.");
      p.real("max_factor", max_factor, borel::Range::closed(1, 1e4), "1",
             "Training draws t up to this factor of the length of training.");
      p.real("step", step, borel::Range::closed(1e-3, 1), "1", "Largest Runge-Kutta step in t.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };
  explicit Clex(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {
        .shift_invariant = true, .needs_train_length = params_.train.from_context(), .learns_angles = true};
  }

  std::vector<borel::ParameterTensor> parameters(index_t, index_t d_head, index_t) const override {
    const index_t n_rot_dims = params_.rotary.n_rot_dims != 0 ? params_.rotary.n_rot_dims : d_head;
    const index_t width = params_.width_factor * n_rot_dims;
    const float bound = 1 / std::sqrt(static_cast<float>(width));
    return {{.name = "up",
             .shape = {n_rot_dims / 2, width},
             .init =
                 [bound](borel::Rng& rng, std::span<float> values) {
                   for (float& x : values) x = bound * (2 * static_cast<float>(rng.uniform()) - 1);
                 },
             .doc = "U of the flow",
             .shared_by_layers = true},
            {.name = "down",
             .shape = {width, n_rot_dims / 2},
             .init = [](borel::Rng&, std::span<float> values) { std::ranges::fill(values, 0.0F); },
             .doc = "D of the flow; zero is NTK-aware scaling",
             .shared_by_layers = true}};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    Vector y = states(context, flow(context, parameters)).back();
    for (double& x : y) x = std::exp(x);
    return params_.rotary.plan(context, {borel::plain_band(context, borel::make_table(std::move(y)))});
  }

  void backward(const PositionContext& context, borel::ParameterValues parameters,
                const borel::PositionGradients& d_plan,
                borel::ParameterGradients d_parameters) const override {
    if (d_plan.angle.empty() || d_plan.angle[0].empty()) return;
    const Flow f = flow(context, parameters);
    const std::vector<Vector> y = states(context, f);
    const double h = step(context);
    Vector g(f.n()), d_up(parameters[0].size()), d_down(parameters[1].size());
    for (std::size_t m = 0; m < f.n(); ++m) g[m] = d_plan.angle[0][m] * std::exp(y.back()[m]);
    for (std::size_t i = y.size() - 1; i-- > 0;) {
      const double t = 1 + h * static_cast<double>(i);
      const Vector k1 = f.slope(t, y[i]), y2 = plus(y[i], h / 2, k1), k2 = f.slope(t + h / 2, y2),
                   y3 = plus(y[i], h / 2, k2), k3 = f.slope(t + h / 2, y3), y4 = plus(y[i], h, k3);
      // The stages of one step, last to first; each takes its share of g and what later stages pull back.
      Vector d_y = g;
      const auto pull = [&](double at, const Vector& state, const Vector& d_k) {
        Vector d_state(f.n());
        f.pull_back(at, state, d_k, d_state, d_up, d_down);
        d_y = plus(d_y, 1, d_state);
        return d_state;
      };
      const auto share = [&](double weight) { return plus(Vector(f.n()), weight, g); };
      const Vector d4 = pull(t + h, y4, share(h / 6));
      const Vector d3 = pull(t + h / 2, y3, plus(share(h / 3), h, d4));
      const Vector d2 = pull(t + h / 2, y2, plus(share(h / 3), h / 2, d3));
      pull(t, y[i], plus(share(h / 6), h / 2, d2));
      g = d_y;
    }
    const auto give = [](const Vector& from, std::span<float> to) {
      for (std::size_t x = 0; x < to.size(); ++x) to[x] += static_cast<float>(from[x]);
    };
    give(d_up, d_parameters[0]);
    give(d_down, d_parameters[1]);
  }

 private:
  Flow flow(const PositionContext& context, borel::ParameterValues parameters) const {
    return {*params_.rotary.angles(context), parameters[0], parameters[1], params_.activation};
  }

  double time(const PositionContext& context) const {
    if (context.training)
      return 1 + (params_.max_factor - 1) * borel::Rng(context.seed.derive("clex")).uniform();
    const index_t length = params_.train.in(context);
    return static_cast<double>(std::max<index_t>(1, (context.longest_length() + length - 1) / length));
  }
  index_t n_steps(const PositionContext& context) const {
    return static_cast<index_t>(std::ceil((time(context) - 1) / params_.step));
  }
  double step(const PositionContext& context) const {
    return (time(context) - 1) / static_cast<double>(std::max<index_t>(1, n_steps(context)));
  }

  /// y at t = 1, 1 + h, ..., time.
  std::vector<Vector> states(const PositionContext& context, const Flow& f) const {
    const double h = step(context);
    std::vector<Vector> y = {f.start()};
    for (index_t i = 0; i < n_steps(context); ++i) {
      const double t = 1 + h * static_cast<double>(i);
      const Vector k1 = f.slope(t, y.back()), k2 = f.slope(t + h / 2, plus(y.back(), h / 2, k1)),
                   k3 = f.slope(t + h / 2, plus(y.back(), h / 2, k2)),
                   k4 = f.slope(t + h, plus(y.back(), h, k3));
      Vector next = y.back();
      for (std::size_t m = 0; m < next.size(); ++m)
        next[m] += h / 6 * (k1[m] + 2 * k2[m] + 2 * k3[m] + k4[m]);
      y.push_back(std::move(next));
    }
    return y;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Clex>(
      "clex", {.summary = "Frequencies that flow with the length by a learned differential equation",
               .formula = "d log theta/dt = act((log theta + log theta_NTK(t)) U) D + d log theta_NTK(t)/dt",
               .source = "Chen et al. 2023, arXiv:2310.16450, section 3; code DAMO-NLP-SG/CLEX",
               .complexity = "O(t / step d^2) once per call",
               .notes = "needs training; before it (D = 0) it is NTK-aware scaling with the factor 2 t - 1"});
}
