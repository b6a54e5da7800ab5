#include "lossless/local_predictor.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "borel/draft/dense_kernels.hpp"

namespace borel {
namespace {

constexpr index_t k_reach = 5;                          // neighbours lie within so many rows and columns
constexpr std::size_t k_likeness = 6;                   // nearest neighbours that are compared
constexpr double k_likeness_floor = 4;                  // squared grey levels: differences below are noise
constexpr double k_ridge = 2e-3, k_least_ridge = 1e-5;  // of the mean diagonal; at least

/// Causal neighbours by distance, without the one above.
std::vector<Neighbour> nearest(index_t count, index_t plane) {
  std::vector<Neighbour> list;
  for (index_t dy = -k_reach; dy <= 0; ++dy)
    for (index_t dx = -k_reach; dx <= k_reach; ++dx)
      if ((dy < 0 || dx < 0) && !(dy == -1 && dx == 0)) list.push_back({dy, dx, plane});
  std::ranges::stable_sort(list, {}, [](const Neighbour& n) { return n.dy * n.dy + n.dx * n.dx; });
  list.resize(static_cast<std::size_t>(count));
  return list;
}

}  // namespace

LocalPredictor::LocalPredictor(const PixelPlanes& planes, index_t plane, const PredictorShape& shape)
    : planes_(planes), own_(planes.offset({0, 0, plane})), own_above_(planes.offset({-1, 0, plane})) {
  const auto add = [&](Neighbour n) {
    terms_.push_back({planes.offset(n), planes.offset({-1, 0, n.plane})});
  };
  for (index_t other = 0; other < plane; ++other) add({0, 0, other});
  for (const Neighbour& n : nearest(shape.n_own, plane)) add(n);
  n_likeness_ = std::min(terms_.size(), k_likeness + static_cast<std::size_t>(plane));
  for (index_t other = 0; other < planes.planes(); ++other)
    if (other != plane)
      for (const Neighbour& n : nearest(shape.n_others, other)) add(n);

  for (index_t dy = -shape.radius; dy <= 0; ++dy) {
    const index_t count = dy < 0 ? 2 * shape.radius + 1 : shape.radius;
    segments_.push_back({dy, -shape.radius, count});
    for (index_t i = 0; i < count; ++i)
      nearness_.push_back(std::pow(shape.decay, std::abs(dy) + std::abs(i - shape.radius)));
  }
  const std::size_t n = terms_.size(), t = nearness_.size();
  root_weight_.resize(t);
  now_.resize(n);
  design_.resize((n + 1) * t);
  gram_.resize((n + 1) * (n + 1));
  solution_.resize(n);
}

void LocalPredictor::weigh(index_t y, index_t x, const double* here) {
  std::ranges::fill(root_weight_, 0.0);
  for (std::size_t i = 0; i < n_likeness_; ++i) {
    const Term term = terms_[i];
    double* out = root_weight_.data();
    for (const Segment& segment : segments_) {
      const double* from = here + segment.dy * planes_.stride() + segment.first;
      for (index_t j = 0; j < segment.count; ++j) {
        const double difference = from[j + term.at] - from[j + term.above] - now_[i];
        out[j] += difference * difference;
      }
      out += segment.count;
    }
  }
  std::size_t at = 0;
  for (const Segment& segment : segments_)
    for (index_t j = 0; j < segment.count; ++j, ++at) {
      const index_t row = y + segment.dy, column = x + segment.first + j;
      const bool inside = row >= 0 && column >= 0 && column < planes_.width();
      root_weight_[at] =
          inside ? std::sqrt(nearness_[at] /
                             (root_weight_[at] / static_cast<double>(n_likeness_) + k_likeness_floor))
                 : 0.0;
    }
}

double LocalPredictor::predict(index_t y, index_t x) {
  const double* here = planes_.at(y, x);
  const std::size_t n = terms_.size(), t = nearness_.size();
  for (std::size_t i = 0; i < n; ++i) now_[i] = here[terms_[i].at] - here[terms_[i].above];
  weigh(y, x, here);

  const auto fill = [&](std::size_t row, index_t value, index_t above) {
    double* out = design_.data() + row * t;
    const double* root = root_weight_.data();
    for (const Segment& segment : segments_) {
      const double* from = here + segment.dy * planes_.stride() + segment.first;
      for (index_t j = 0; j < segment.count; ++j) out[j] = root[j] * (from[j + value] - from[j + above]);
      out += segment.count;
      root += segment.count;
    }
  };
  for (std::size_t i = 0; i < n; ++i) fill(i, terms_[i].at, terms_[i].above);
  fill(n, own_, own_above_);

  const auto order = static_cast<index_t>(n + 1);
  std::ranges::fill(gram_, 0.0);
  const TensorView<double, 2> gram(gram_.data(), {order, order});
  dense::add_gram({design_.data(), {order, static_cast<index_t>(t)}}, gram);
  double trace = 0;
  for (index_t i = 0; i < order - 1; ++i) trace += gram(i, i);
  const double ridge = k_ridge * trace / static_cast<double>(n) + k_least_ridge;
  for (index_t i = 0; i < order - 1; ++i) {
    gram(i, i) += ridge;
    solution_[static_cast<std::size_t>(i)] = gram(order - 1, i);
  }
  const TensorView<double, 2> system(gram_.data(), {order - 1, order - 1}, {order, 1});
  double prediction = here[own_above_];
  if (dense::cholesky(system)) {
    dense::cholesky_solve(system, solution_);
    prediction += dense::dot(solution_, now_);
  }
  return std::clamp(prediction, 0.0, 255.0);
}

}  // namespace borel
