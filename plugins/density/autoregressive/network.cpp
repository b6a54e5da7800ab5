// Adam: Kingma and Ba (2015), arXiv 1412.6980, algorithm 1. Mixtures as the output of a network: Bishop (1994), Mixture
// density networks, section 3. A committee whose members are stopped on folds of their own: Krogh and Vedelsby (1995),
// NIPS 7, section 3.
#include "network.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"

using namespace borel;

namespace {

constexpr index_t k_batch = 32, k_block = 256;
constexpr index_t k_least_folds = 5;
constexpr index_t k_patience = 12;  // epochs without progress before the step is reduced
constexpr int k_reductions = 3;
constexpr double k_reduction = 0.25;
constexpr double k_longest_gradient =
    10;  // per row, in nats per unit of theta: rows far out must not rule a batch
constexpr double k_decay_1 = 0.9, k_decay_2 = 0.999, k_epsilon = 1e-8;  // Adam
constexpr double k_infinity = std::numeric_limits<double>::infinity();

using Matrix = TensorView<double, 2>;
using ConstMatrix = TensorView<const double, 2>;

/// Where the arrays of one network lie in its vector of parameters: per hidden layer W [in, out], b [out], then V [last,
/// n_out], S [n_in, n_out], b [n_out]. Matrices by rows of their input, so that a batch times a matrix reads it in order.
class Layout {
 public:
  explicit Layout(std::span<const index_t> widths) : widths_(widths) {
    for (std::size_t l = 0; l + 2 < widths.size(); ++l) {
      weight_.push_back(n_parameters_);
      n_parameters_ += widths[l] * widths[l + 1];
      bias_.push_back(n_parameters_);
      n_parameters_ += widths[l + 1];
    }
    output_ = n_parameters_;
    n_parameters_ += widths[n_hidden()] * n_out();
    shortcut_ = n_parameters_;
    n_parameters_ += n_in() * n_out();
    output_bias_ = n_parameters_;
    n_parameters_ += n_out();
  }
  index_t n_parameters() const { return n_parameters_; }
  std::size_t n_hidden() const { return widths_.size() - 2; }
  index_t n_in() const { return widths_.front(); }
  index_t n_out() const { return widths_.back(); }
  index_t width(std::size_t layer) const { return widths_[layer]; }

  template <class T>
  TensorView<T, 2> weight(T* w, std::size_t l) const {
    return {w + weight_[l], {widths_[l], widths_[l + 1]}};
  }
  template <class T>
  T* bias(T* w, std::size_t l) const {
    return w + bias_[l];
  }
  template <class T>
  TensorView<T, 2> output(T* w) const {
    return {w + output_, {widths_[n_hidden()], n_out()}};
  }
  template <class T>
  TensorView<T, 2> shortcut(T* w) const {
    return {w + shortcut_, {n_in(), n_out()}};
  }
  template <class T>
  T* output_bias(T* w) const {
    return w + output_bias_;
  }

 private:
  std::span<const index_t> widths_;
  std::vector<index_t> weight_ = {}, bias_ = {};
  index_t output_ = 0, shortcut_ = 0, output_bias_ = 0, n_parameters_ = 0;
};

/// Activations of a batch of up to k_block rows, and room for the way back.
class Pass {
 public:
  explicit Pass(const Layout& layout) : layout_(layout) {
    for (std::size_t l = 1; l <= layout.n_hidden(); ++l)
      activation_.emplace_back(static_cast<std::size_t>(k_block * layout.width(l)));
  }

  /// theta [n, n_out] for context [n, n_in], n <= k_block
  void forward(const double* w, ConstMatrix context, Matrix theta) {
    const index_t n = context.shape(0);
    ConstMatrix before = context;
    for (std::size_t l = 0; l < layout_.n_hidden(); ++l) {
      const Matrix after(activation_[l].data(), {n, layout_.width(l + 1)});
      fill_rows(after, layout_.bias(w, l));
      dense::add_transposed(layout_.weight(w, l), before, after);
      double* value = after.data();
      for (index_t i = 0; i < after.size(); ++i) value[i] = std::max(value[i], 0.0);
      before = after;
    }
    fill_rows(theta, layout_.output_bias(w));
    dense::add_transposed(layout_.output(w), before, theta);
    dense::add_transposed(layout_.shortcut(w), context, theta);
  }

  /// Adds d loss / d w to `gradient` for d_theta [n, n_out], after forward() of the same rows.
  void backward(const double* w, ConstMatrix context, ConstMatrix d_theta, double* gradient) {
    const index_t n = context.shape(0);
    const std::size_t n_hidden = layout_.n_hidden();
    const auto input = [&](std::size_t l) {
      return l == 0 ? context : ConstMatrix(activation_[l - 1].data(), {n, layout_.width(l)});
    };
    add_product(input(n_hidden), d_theta, layout_.output(gradient));
    add_product(context, d_theta, layout_.shortcut(gradient));
    add_rows(d_theta, layout_.output_bias(gradient));
    delta_.assign(static_cast<std::size_t>(n * layout_.width(n_hidden)), 0.0);
    add_through(layout_.output(w), d_theta, {delta_.data(), {n, layout_.width(n_hidden)}});
    for (std::size_t l = n_hidden; l-- > 0;) {
      const Matrix d_after(delta_.data(), {n, layout_.width(l + 1)});
      for (std::size_t i = 0; i < delta_.size(); ++i)
        if (!(activation_[l][i] > 0)) delta_[i] = 0;
      add_product(input(l), d_after, layout_.weight(gradient, l));
      add_rows(d_after, layout_.bias(gradient, l));
      if (l == 0) break;
      next_.assign(static_cast<std::size_t>(n * layout_.width(l)), 0.0);
      add_through(layout_.weight(w, l), d_after, {next_.data(), {n, layout_.width(l)}});
      delta_.swap(next_);
    }
  }

 private:
  static void fill_rows(Matrix out, const double* row) {
    for (index_t i = 0; i < out.shape(0); ++i) std::copy_n(row, out.shape(1), out.row(i).data());
  }
  static void add_rows(ConstMatrix rows, double* out) {
    for (index_t i = 0; i < rows.shape(0); ++i)
      for (index_t c = 0; c < rows.shape(1); ++c) out[c] += rows(i, c);
  }
  ConstMatrix transposed(ConstMatrix a) {
    transposed_.resize(static_cast<std::size_t>(a.size()));
    for (index_t i = 0; i < a.shape(0); ++i)
      for (index_t c = 0; c < a.shape(1); ++c)
        transposed_[static_cast<std::size_t>(c * a.shape(0) + i)] = a(i, c);
    return {transposed_.data(), {a.shape(1), a.shape(0)}};
  }
  /// out [p, q] += A' B, A [n, p], B [n, q]
  void add_product(ConstMatrix a, ConstMatrix b, Matrix out) { dense::add_transposed(b, transposed(a), out); }
  /// out [n, p] += D W', D [n, q], W [p, q]
  void add_through(ConstMatrix w, ConstMatrix d, Matrix out) { dense::add_transposed(transposed(w), d, out); }

  const Layout& layout_;
  std::vector<std::vector<double>> activation_ = {};
  std::vector<double> delta_ = {}, next_ = {}, transposed_ = {};
};

/// Rows of a context and their y, weights with mean 1.
struct Rows {
  std::vector<double> context = {}, y = {}, weight = {};  ///< [n, n_context], [n], [n]
  index_t n_context = 0;
  index_t size() const { return static_cast<index_t>(y.size()); }
  ConstMatrix block(index_t begin, index_t end) const {
    return {context.data() + begin * n_context, {end - begin, n_context}};
  }
};

class Training {
 public:
  Training(const DensityHead& head, const Layout& layout, const CommitteeSettings& settings,
           std::vector<double> start, StopToken stop)
      : head_(head), layout_(layout), settings_(settings), w_(std::move(start)), stop_(stop), pass_(layout) {}

  /// @return epochs; `w` becomes the parameters that are best on `held_out`
  index_t run(Rows rows, const Rows& held_out, Rng rng) {
    std::vector<double> best = w_;
    double best_score = score(held_out), rate = settings_.learning_rate;
    int reductions = 0;
    index_t epoch = 0, best_epoch = 0;
    restart();
    for (; epoch < settings_.max_epochs; ++epoch) {
      stop_.throw_if_stopped();
      shuffle(rows, rng);
      for (index_t begin = 0; begin < rows.size(); begin += k_batch)
        step(rows, begin, std::min(begin + k_batch, rows.size()), rate);
      if (const double now = score(held_out); now > best_score) {
        best_score = now, best = w_, best_epoch = epoch;
      } else if (epoch - best_epoch >= k_patience) {
        if (++reductions > k_reductions) break;
        rate *= k_reduction, w_ = best, best_epoch = epoch;
        restart();
      }
    }
    converged_ = reductions > k_reductions;
    w_ = std::move(best);
    return epoch;
  }
  std::vector<double> parameters() && { return std::move(w_); }
  bool converged() const { return converged_; }

 private:
  void restart() {
    first_.assign(w_.size(), 0.0), second_.assign(w_.size(), 0.0);
    steps_ = 0;
  }
  static void shuffle(Rows& rows, Rng& rng) {
    for (std::size_t i = rows.y.size(); i > 1; --i) {
      const std::size_t j = rng.below(i), c = static_cast<std::size_t>(rows.n_context);
      if (j + 1 == i) continue;
      std::swap(rows.y[i - 1], rows.y[j]);
      std::swap(rows.weight[i - 1], rows.weight[j]);
      std::swap_ranges(rows.context.begin() + static_cast<index_t>((i - 1) * c),
                       rows.context.begin() + static_cast<index_t>(i * c),
                       rows.context.begin() + static_cast<index_t>(j * c));
    }
  }
  double score(const Rows& rows) {
    double sum = 0;
    for (index_t begin = 0; begin < rows.size(); begin += k_block) {
      const index_t n = std::min(k_block, rows.size() - begin);
      evaluate(rows, begin, n, false);
      for (index_t i = 0; i < n; ++i)
        sum += rows.weight[static_cast<std::size_t>(begin + i)] * log_p_[static_cast<std::size_t>(i)];
    }
    return std::isnan(sum) ? -k_infinity : sum;
  }
  void evaluate(const Rows& rows, index_t begin, index_t n, bool with_gradient) {
    const auto size = static_cast<std::size_t>(n * layout_.n_out());
    theta_.resize(size), d_theta_.resize(with_gradient ? size : 0),
        log_p_.resize(static_cast<std::size_t>(n));
    const Matrix theta(theta_.data(), {n, layout_.n_out()});
    pass_.forward(w_.data(), rows.block(begin, begin + n), theta);
    head_.log_pdf(theta,
                  std::span(rows.y).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n)),
                  log_p_, with_gradient ? Matrix(d_theta_.data(), {n, layout_.n_out()}) : Matrix());
  }
  void step(const Rows& rows, index_t begin, index_t end, double rate) {
    const index_t n = end - begin, n_out = layout_.n_out();
    evaluate(rows, begin, n, true);
    for (index_t i = 0; i < n; ++i) {  // of the loss, - mean log p
      const std::span<double> d(d_theta_.data() + i * n_out, static_cast<std::size_t>(n_out));
      double length = 0;
      for (const double value : d) length += value * value;
      length = std::sqrt(length);
      const double factor = std::isfinite(length) && std::isfinite(log_p_[static_cast<std::size_t>(i)])
                                ? -rows.weight[static_cast<std::size_t>(begin + i)] / static_cast<double>(n) *
                                      std::min(1.0, k_longest_gradient / length)
                                : 0.0;
      for (double& value : d) value = factor == 0 ? 0.0 : factor * value;
    }
    gradient_.assign(w_.size(), 0.0);
    pass_.backward(w_.data(), rows.block(begin, end), {d_theta_.data(), {n, n_out}}, gradient_.data());
    ++steps_;
    const double correct_1 = 1 - std::pow(k_decay_1, steps_), correct_2 = 1 - std::pow(k_decay_2, steps_);
    for (std::size_t c = 0; c < w_.size(); ++c) {
      first_[c] += (1 - k_decay_1) * (gradient_[c] - first_[c]);
      second_[c] += (1 - k_decay_2) * (gradient_[c] * gradient_[c] - second_[c]);
      w_[c] -= rate * (first_[c] / correct_1) / (std::sqrt(second_[c] / correct_2) + k_epsilon);
    }
  }

  const DensityHead& head_;
  const Layout& layout_;
  const CommitteeSettings& settings_;
  std::vector<double> w_;
  StopToken stop_;
  Pass pass_;
  std::vector<double> first_ = {}, second_ = {}, gradient_ = {}, theta_ = {}, d_theta_ = {}, log_p_ = {};
  int steps_ = 0;
  bool converged_ = false;
};

/// Hidden layers as He et al. (2015) draw them for rectified units; the output begins as one theta for all contexts.
std::vector<double> start_of(const Layout& layout, std::span<const double> theta, Rng rng) {
  std::vector<double> w(static_cast<std::size_t>(layout.n_parameters()), 0.0);
  for (std::size_t l = 0; l < layout.n_hidden(); ++l) {
    const Matrix weight = layout.weight(w.data(), l);
    const double sd = std::sqrt(2 / static_cast<double>(weight.shape(0)));
    for (index_t i = 0; i < weight.size(); ++i) weight.data()[i] = sd * rng.normal();
  }
  std::copy(theta.begin(), theta.end(), layout.output_bias(w.data()));
  return w;
}

}  // namespace

index_t NetworkCommittee::folds(index_t n_networks) { return std::max(n_networks, k_least_folds); }

NetworkCommittee NetworkCommittee::fit(const DensityHead& head, TensorView<const double, 2> context,
                                       std::span<const double> y, std::span<const double> weight,
                                       const CommitteeSettings& settings, Seed seed, StopToken stop) {
  const index_t n = context.shape(0);
  NetworkCommittee committee;
  committee.widths_.push_back(context.shape(1));
  committee.widths_.insert(committee.widths_.end(), settings.hidden.begin(), settings.hidden.end());
  committee.widths_.push_back(head.n_outputs());
  const Layout layout(committee.widths_);

  // From a canonical order on, so that the fit does not depend on the order of the rows.
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), index_t{0});
  const auto key = [&](index_t i) {
    return std::pair(y[static_cast<std::size_t>(i)], weight[static_cast<std::size_t>(i)]);
  };
  std::sort(order.begin(), order.end(), [&](index_t a, index_t b) {
    if (key(a) != key(b)) return key(a) < key(b);
    const auto u = context.row(a), v = context.row(b);
    return std::lexicographical_compare(u.begin(), u.end(), v.begin(), v.end());
  });
  Rng rng(seed.derive("folds"));
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  const double mean_weight = std::accumulate(weight.begin(), weight.end(), 0.0) / static_cast<double>(n);

  std::vector<double> head_start(static_cast<std::size_t>(head.n_outputs()));
  head.initialise(y, seed.derive("head"), head_start);
  const auto n_networks = static_cast<std::size_t>(settings.n_networks);
  committee.parameters_.resize(n_networks);
  std::vector<index_t> epochs(n_networks);
  std::vector<char> converged(n_networks);
  parallel_for(settings.n_networks, 1, [&](index_t m, index_t) {
    const auto member = static_cast<std::size_t>(m);
    Rows fitted, held_out;
    fitted.n_context = held_out.n_context = context.shape(1);
    for (std::size_t i = 0; i < order.size(); ++i) {
      Rows& rows = i % static_cast<std::size_t>(folds(settings.n_networks)) == member ? held_out : fitted;
      const auto from = context.row(order[i]);
      rows.context.insert(rows.context.end(), from.begin(), from.end());
      rows.y.push_back(y[static_cast<std::size_t>(order[i])]);
      rows.weight.push_back(weight[static_cast<std::size_t>(order[i])] / mean_weight);
    }
    // First one theta for all contexts, so that a network begins as the density without them.
    const Seed own = seed.derive("network").derive(member);
    const std::array<index_t, 2> no_context{0, head.n_outputs()};
    const Layout constant(no_context);
    const auto without_context = [](Rows rows) {
      rows.context.clear(), rows.n_context = 0;
      return rows;
    };
    Training first(head, constant, settings, start_of(constant, head_start, Rng(own)), stop);
    epochs[member] = first.run(without_context(fitted), without_context(held_out), Rng(own.derive("first")));
    const std::vector<double> theta = std::move(first).parameters();
    Training training(head, layout, settings, start_of(layout, theta, Rng(own.derive("start"))), stop);
    epochs[member] += training.run(std::move(fitted), held_out, Rng(own.derive("order")));
    converged[member] = training.converged();
    committee.parameters_[member] = std::move(training).parameters();
  });
  committee.epochs_ = std::accumulate(epochs.begin(), epochs.end(), index_t{0});
  committee.converged_ = std::all_of(converged.begin(), converged.end(), [](char yes) { return yes; });
  return committee;
}

void NetworkCommittee::log_pdf(const DensityHead& head, TensorView<const double, 2> context,
                               std::span<const double> y, std::span<double> out) const {
  const Layout layout(widths_);
  const double n_networks = static_cast<double>(parameters_.size());
  parallel_for(context.shape(0), k_block, [&](index_t begin, index_t end) {
    const index_t n = end - begin;
    Pass pass(layout);
    std::vector<double> theta(static_cast<std::size_t>(n * layout.n_out())), all;
    std::vector<double> log_p(static_cast<std::size_t>(n));
    const auto rows = y.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
    for (const std::vector<double>& w : parameters_) {
      pass.forward(w.data(), context.slice(0, begin, end), {theta.data(), {n, layout.n_out()}});
      head.log_pdf({theta.data(), {n, layout.n_out()}}, rows, log_p, {});
      all.insert(all.end(), log_p.begin(), log_p.end());
    }
    for (index_t i = 0; i < n; ++i) {
      double peak = -k_infinity, sum = 0;
      const auto at = [&](std::size_t m) {
        return all[m * static_cast<std::size_t>(n) + static_cast<std::size_t>(i)];
      };
      for (std::size_t m = 0; m < parameters_.size(); ++m) peak = std::max(peak, at(m));
      for (std::size_t m = 0; m < parameters_.size(); ++m) sum += std::exp(at(m) - peak);
      out[static_cast<std::size_t>(begin + i)] =
          peak > -k_infinity ? peak + std::log(sum / n_networks) : peak;
    }
  });
}

double NetworkCommittee::sample(const DensityHead& head, std::span<const double> context, Rng& rng) const {
  const Layout layout(widths_);
  const std::vector<double>& w = parameters_[rng.below(parameters_.size())];
  std::vector<double> theta(static_cast<std::size_t>(layout.n_out()));
  Pass(layout).forward(w.data(), {context.data(), {1, layout.n_in()}}, {theta.data(), {1, layout.n_out()}});
  double y = 0;
  head.density(theta)->sample(rng, {&y, {1, 1}});
  return y;
}

index_t NetworkCommittee::parameter_count() const {
  return static_cast<index_t>(parameters_.size()) * Layout(widths_).n_parameters();
}

void NetworkCommittee::save(StateWriter& out) const {
  out.put("widths", std::vector<double>(widths_.begin(), widths_.end()));
  out.put("n_networks", std::vector<double>{static_cast<double>(parameters_.size())});
  for (std::size_t m = 0; m < parameters_.size(); ++m) out.put("network" + std::to_string(m), parameters_[m]);
}

NetworkCommittee NetworkCommittee::load(const DensityHead& head, const StateReader& in) {
  const auto refuse = [] {
    return MethodError(
        "density autoregressive: the saved networks are not complete; save the fitted density again");
  };
  NetworkCommittee committee;
  for (const double width : in.get("widths")) {
    if (!(width >= 1 && width <= 1 << 20)) throw refuse();
    committee.widths_.push_back(static_cast<index_t>(width));
  }
  const std::vector<double> count = in.get("n_networks");
  if (committee.widths_.size() < 2 || committee.widths_.back() != head.n_outputs() || count.size() != 1 ||
      !(count[0] >= 1 && count[0] <= 1000))
    throw refuse();
  for (std::size_t m = 0; m < static_cast<std::size_t>(count[0]); ++m) {
    committee.parameters_.push_back(in.get("network" + std::to_string(m)));
    if (committee.parameters_.back().size() !=
        static_cast<std::size_t>(Layout(committee.widths_).n_parameters()))
      throw refuse();
  }
  return committee;
}
