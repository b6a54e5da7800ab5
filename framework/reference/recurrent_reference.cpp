#include "reference/recurrent_reference.hpp"

#include <algorithm>
#include <cmath>

namespace borel::reference {
namespace {

// As the plugins say.
constexpr double k_epsilon = 1e-6;
constexpr double k_pi = 3.14159265358979323846;

double number(const MethodSpec& spec, const std::string& name) { return std::stod(spec.params.at(name)); }

double parameter(const AttentionCall& call, std::size_t tensor, index_t at) {
  return static_cast<double>(call.parameters[tensor][static_cast<std::size_t>(at)]);
}

double extra(const AttentionCall& call, std::size_t input, index_t head, index_t t, index_t c) {
  return static_cast<double>(call.extra[input](call.kv_head(head), t, c));
}

double square_of_row(const Matrix& x, index_t r) {
  double sum = 0;
  for (index_t c = 0; c < x.n_cols; ++c) sum += x(r, c) * x(r, c);
  return sum;
}

void scale(Matrix& x, double factor) {
  for (double& y : x.values) y *= factor;
}

// ---- o = sum phi(q) . phi(k) v / (epsilon + sum phi(q) . phi(k)) ----

/// Qin et al. 2022, arXiv:2202.08791, equation 9.
Matrix cosformer_features(const MethodSpec& spec, const AttentionCall& call, const Matrix& x,
                          index_t first_token) {
  const double given = number(spec, "horizon");
  const double horizon = given != 0 ? given : static_cast<double>(call.context.max_n);
  Matrix phi(x.n_rows, 2 * x.n_cols);
  for (index_t r = 0; r < x.n_rows; ++r)
    for (index_t c = 0; c < x.n_cols; ++c) {
      const double angle =
          k_pi * (static_cast<double>(first_token + r) + number(spec, "first_index")) / (2 * horizon);
      phi(r, c) = std::max(0.0, x(r, c)) * std::cos(angle);
      phi(r, c + x.n_cols) = std::max(0.0, x(r, c)) * std::sin(angle);
    }
  return phi;
}

/// Choromanski et al. 2020, lemma 1, with everything in double and the maximum taken out: of a row of queries, of all keys.
Matrix performer_features(const MethodSpec& spec, const AttentionCall& call, const Matrix& x, bool query) {
  const auto m = static_cast<index_t>(number(spec, "features"));
  const double factor = std::pow(static_cast<double>(x.n_cols), -0.25);
  Matrix phi(x.n_rows, m);
  for (index_t r = 0; r < x.n_rows; ++r) {
    const double half = 0.5 * factor * factor * square_of_row(x, r);
    for (index_t a = 0; a < m; ++a) {
      phi(r, a) = -half;
      for (index_t c = 0; c < x.n_cols; ++c) phi(r, a) += factor * x(r, c) * parameter(call, 0, c * m + a);
    }
  }
  const double largest = phi.values.empty() ? 0 : std::ranges::max(phi.values);
  for (index_t r = 0; r < x.n_rows; ++r) {
    const double top = query ? *std::max_element(&phi(r, 0), &phi(r, 0) + m) : largest;
    for (index_t a = 0; a < m; ++a) phi(r, a) = std::exp(phi(r, a) - top);
  }
  return phi;
}

/// All products x_a x_b, not packed: the inner product is 1 + a + a^2 / 2.
Matrix taylor_features(const Matrix& x) {
  const auto d = static_cast<double>(x.n_cols);
  Matrix phi(x.n_rows, 1 + x.n_cols + x.n_cols * x.n_cols);
  for (index_t r = 0; r < x.n_rows; ++r) {
    index_t at = 0;
    phi(r, at++) = 1;
    for (index_t a = 0; a < x.n_cols; ++a) phi(r, at++) = x(r, a) * std::pow(d, -0.25);
    for (index_t a = 0; a < x.n_cols; ++a)
      for (index_t b = 0; b < x.n_cols; ++b) phi(r, at++) = x(r, a) * x(r, b) / std::sqrt(2 * d);
  }
  return phi;
}

/// Zhang et al. 2024: [exp(y), exp(-y)] or the softmax over [2 y, -2 y].
Matrix hedgehog_features(const AttentionCall& call, const Matrix& x, index_t head, bool query, bool softmax) {
  const index_t d = x.n_cols;
  Matrix phi(x.n_rows, 2 * d);
  for (index_t r = 0; r < x.n_rows; ++r) {
    double sum = 0;
    for (index_t a = 0; a < d; ++a) {
      double y = parameter(call, query ? 1 : 3, head * d + a);
      for (index_t c = 0; c < d; ++c) y += x(r, c) * parameter(call, query ? 0 : 2, (head * d + c) * d + a);
      phi(r, a) = std::exp((softmax ? 2 : 1) * y), phi(r, a + d) = std::exp((softmax ? -2 : -1) * y);
      sum += phi(r, a) + phi(r, a + d);
    }
    for (index_t a = 0; a < 2 * d && softmax; ++a) phi(r, a) /= sum;
  }
  return phi;
}

/// Rotates rows as position.hpp says: component pair m by angle[m] . position.
void rotate(const AttentionCall& call, bool query, Matrix& x) {
  if (!call.position || call.position->bands.empty()) return;
  const Band& band = call.position->bands.front();
  const PositionTable& table = query ? band.query_position : band.key_position;
  const index_t n_pairs = call.position->n_rot_dims / 2;
  for (index_t r = 0; r < x.n_rows; ++r)
    for (index_t m = 0; m < n_pairs && band.angle; ++m) {
      const bool interleaved = call.position->pairing == Pairing::interleaved;
      const index_t a = interleaved ? 2 * m : m, b = interleaved ? 2 * m + 1 : m + n_pairs;
      double turn = 0;
      for (index_t axis = 0; axis < band.n_axes; ++axis)
        turn += (*band.angle)[static_cast<std::size_t>(m * band.n_axes + axis)] *
                (*table)[static_cast<std::size_t>(r * band.n_axes + axis)];
      const double real = x(r, a), imaginary = x(r, b);
      x(r, a) = real * std::cos(turn) - imaginary * std::sin(turn);
      x(r, b) = real * std::sin(turn) + imaginary * std::cos(turn);
    }
}

Matrix kernel_weights(const AttentionCall& call, const Matrix& q, const Matrix& k, double epsilon) {
  Matrix w(call.n_q(), call.n_k());
  for (index_t r = 0; r < w.n_rows; ++r) {
    double denominator = epsilon;
    for (index_t j = 0; j < w.n_cols; ++j) {
      if (!sees(call, r, j)) continue;
      for (index_t c = 0; c < q.n_cols; ++c) w(r, j) += q(r, c) * k(j, c);
      denominator += w(r, j);
    }
    for (index_t j = 0; j < w.n_cols; ++j) w(r, j) = denominator == 0 ? 0 : w(r, j) / denominator;
  }
  return w;
}

Matrix kernel_family(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const auto features = [&](const Matrix& x, bool query) {
    if (spec.id == "cosformer") return cosformer_features(spec, call, x, query ? call.query_offset : 0);
    if (spec.id == "performer") return performer_features(spec, call, x, query);
    if (spec.id == "taylor") return taylor_features(x);
    return hedgehog_features(call, x, head, query, spec.params.at("feature") == "softmax");
  };
  // Kernels of the exponential are never zero and have no epsilon.
  const bool exponential =
      spec.id == "performer" || (spec.id == "hedgehog" && spec.params.at("feature") == "exp");
  Matrix q = mapped_queries(call, head), k = mapped_keys(call, head);
  rotate(call, true, q);  // before the maps
  rotate(call, false, k);
  return kernel_weights(call, features(q, true), features(k, false), exponential ? 0 : k_epsilon);
}

// ---- recurrences, one token after the other ----

/// What the tokens of one head do to the state; row t of each belongs to token t.
struct Recurrence {
  Matrix q, k;                   // [n_q, f], [n_k, f]
  Matrix log_decay;              // [n_k, f]
  std::vector<double> strength;  // [n_k], empty without the delta rule
  std::vector<double> bonus;     // [f], empty unless the state is read before it is written
  bool decays_by_time = false;   // also in steps without a key; log_decay is the same in all
};

/// The weights are the outputs for unit vectors as values: S holds one column per key.
Matrix run(const AttentionCall& call, const Recurrence& now) {
  const index_t f = now.k.n_cols, n_k = call.n_k();
  Matrix w(call.n_q(), n_k), s(f, n_k);
  for (index_t t = 0; t < call.query_offset + call.n_q(); ++t) {
    const index_t r = t - call.query_offset;
    const auto read = [&] {
      for (index_t j = 0; r >= 0 && j < n_k; ++j)
        for (index_t c = 0; c < f; ++c) w(r, j) += now.q(r, c) * s(c, j);
    };
    if (!now.bonus.empty()) read();
    if (t < n_k) {
      for (index_t c = 0; c < f; ++c)
        for (index_t j = 0; j < n_k; ++j) s(c, j) *= std::exp(now.log_decay(t, c));
      std::vector<double> written(static_cast<std::size_t>(n_k), 0.0);
      written[static_cast<std::size_t>(t)] = 1;
      for (index_t j = 0; j < n_k && !now.strength.empty(); ++j) {
        double& u = written[static_cast<std::size_t>(j)];
        for (index_t c = 0; c < f; ++c) u -= now.k(t, c) * s(c, j);
        u *= now.strength[static_cast<std::size_t>(t)];
      }
      for (index_t c = 0; c < f; ++c)
        for (index_t j = 0; j < n_k; ++j) s(c, j) += now.k(t, c) * written[static_cast<std::size_t>(j)];
      for (index_t c = 0; c < f && !now.bonus.empty() && r >= 0; ++c)
        w(r, t) += now.q(r, c) * now.bonus[static_cast<std::size_t>(c)] * now.k(t, c);
    } else if (now.decays_by_time && n_k > 0) {
      for (index_t c = 0; c < f; ++c)
        for (index_t j = 0; j < n_k; ++j) s(c, j) *= std::exp(now.log_decay(0, c));
    }
    if (now.bonus.empty()) read();
  }
  return w;
}

void unit_rows(Matrix& x) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    const double length = std::sqrt(square_of_row(x, r) + 1e-6);
    for (index_t c = 0; c < x.n_cols; ++c) x(r, c) /= length;
  }
}

Matrix recurrent_family(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Recurrence now{mapped_queries(call, head), mapped_keys(call, head), {}, {}, {}};
  const index_t f = now.k.n_cols, n = call.n_k();
  now.log_decay = Matrix(n, f);
  const double root = std::sqrt(static_cast<double>(f));
  const auto decay_by_channel = [&] {
    for (index_t t = 0; t < n; ++t)
      for (index_t c = 0; c < f; ++c) now.log_decay(t, c) = extra(call, 0, head, t, c);
  };
  if (spec.id == "gla") {  // Yang et al. 2023, equation 3
    scale(now.q, 1 / root);
    decay_by_channel();
  } else if (spec.id == "rwkv6") {  // Peng et al. 2024, section 4.2
    decay_by_channel();
    for (index_t c = 0; c < f; ++c) now.bonus.push_back(parameter(call, 0, head * f + c));
  } else if (spec.id == "ssd") {  // Dao and Gu 2024
    const double rate = std::exp(parameter(call, 0, head));
    for (index_t t = 0; t < n; ++t)
      for (index_t c = 0; c < f; ++c) {
        now.log_decay(t, c) = -rate * extra(call, 0, head, t, 0);
        now.k(t, c) *= extra(call, 0, head, t, 0);
      }
  } else if (spec.id == "lru") {  // Orvieto et al. 2023
    now.decays_by_time = true;
    const bool complex = spec.params.at("eigenvalue") == "complex";
    const index_t n_values = complex ? f / 2 : f;
    for (index_t c = 0; c < f; ++c) {
      const double l = -std::exp(parameter(call, 0, head * n_values + c % n_values));
      for (index_t t = 0; t < n; ++t) {
        now.log_decay(t, c) = l;
        now.k(t, c) *= std::sqrt(1 - std::exp(2 * l));
      }
    }
    const auto turn = [&](Matrix& x, index_t first_token) {
      for (index_t r = 0; r < x.n_rows && complex; ++r)
        for (index_t c = 0; c < n_values; ++c) {
          const double angle =
              std::exp(parameter(call, 1, head * n_values + c)) * static_cast<double>(first_token + r);
          const double real = x(r, c), imaginary = x(r, c + n_values);
          x(r, c) = real * std::cos(angle) - imaginary * std::sin(angle);
          x(r, c + n_values) = real * std::sin(angle) + imaginary * std::cos(angle);
        }
    };
    turn(now.q, call.query_offset);
    turn(now.k, 0);
  } else {  // delta, gated_delta: Yang et al. 2024
    const bool gated = spec.id == "gated_delta";
    unit_rows(now.k);
    if (spec.params.at("norm") == "both") unit_rows(now.q);
    scale(now.q, number(spec, "scale") == 0 ? 1 / root : number(spec, "scale"));
    const double factor = spec.params.at("double_strength") == "true" ? 2 : 1;
    for (index_t t = 0; t < n; ++t) {
      now.strength.push_back(factor * extra(call, gated ? 1 : 0, head, t, 0));
      for (index_t c = 0; c < f && gated; ++c) now.log_decay(t, c) = extra(call, 0, head, t, 0);
    }
  }
  rotate(call, true, now.q);
  rotate(call, false, now.k);
  return run(call, now);
}

// ---- low rank ----

void softmax_rows(Matrix& x) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    const double top = *std::max_element(&x(r, 0), &x(r, 0) + x.n_cols);
    double sum = 0;
    for (index_t c = 0; c < x.n_cols; ++c) sum += x(r, c) = std::exp(x(r, c) - top);
    for (index_t c = 0; c < x.n_cols; ++c) x(r, c) /= sum;
  }
}

Matrix product(const Matrix& a, const Matrix& b, bool b_transposed = false) {
  Matrix out(a.n_rows, b_transposed ? b.n_rows : b.n_cols);
  for (index_t r = 0; r < out.n_rows; ++r)
    for (index_t k = 0; k < a.n_cols; ++k)
      for (index_t c = 0; c < out.n_cols; ++c) out(r, c) += a(r, k) * (b_transposed ? b(c, k) : b(k, c));
  return out;
}

/// Wang et al. 2020, equation 7. The values are mixed by F, so the weights are softmax(...) F.
Matrix linformer(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const auto rank = static_cast<index_t>(number(spec, "rank"));
  const std::string& sharing = spec.params.at("sharing");
  const index_t max_n = call.context.max_n;
  const auto projection = [&](std::size_t tensor) {
    Matrix e(rank, call.n_k());
    for (index_t a = 0; a < rank; ++a)
      for (index_t j = 0; j < e.n_cols; ++j)
        e(a, j) = parameter(call, tensor, ((sharing == "none" ? head : 0) * rank + a) * max_n + j);
    return e;
  };
  if (call.n_k() == 0) return Matrix(call.n_q(), 0);
  Matrix s = product(mapped_queries(call, head), product(projection(0), mapped_keys(call, head)), true);
  scale(s, 1 / std::sqrt(static_cast<double>(call.d_k())));
  softmax_rows(s);
  return product(s, projection(sharing == "key_value" ? 0 : 1));
}

/// Xiong et al. 2021, equations 13 to 15, with the pooled landmarks that the method declares.
Matrix nystrom(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const auto m = static_cast<index_t>(number(spec, "landmarks"));
  Matrix q = mapped_queries(call, head), k = mapped_keys(call, head);
  rotate(call, true, q);
  rotate(call, false, k);
  const auto softmax_of = [&](const Matrix& a, const Matrix& b) {
    Matrix s = product(a, b, true);
    scale(s, 1 / std::sqrt(static_cast<double>(call.d_k())));
    softmax_rows(s);
    return s;
  };
  if (call.n_k() == 0) return Matrix(call.n_q(), 0);
  if (std::min(call.n_q(), call.n_k()) <= m) return softmax_of(q, k);
  const auto means = [&](const Matrix& x) {
    Matrix out(m, x.n_cols);
    for (index_t l = 0; l < m; ++l) {
      const index_t begin = l * x.n_rows / m, end = ((l + 1) * x.n_rows + m - 1) / m;
      for (index_t t = begin; t < end; ++t)
        for (index_t c = 0; c < x.n_cols; ++c) out(l, c) += x(t, c) / static_cast<double>(end - begin);
    }
    return out;
  };
  const Matrix q_marks = means(q), k_marks = means(k), a = softmax_of(q_marks, k_marks);
  double rows = 0, columns = 0;
  Matrix z(m, m);
  for (index_t r = 0; r < m; ++r) {
    double row = 0, column = 0;
    for (index_t c = 0; c < m; ++c) row += a(r, c), column += a(c, r), z(r, c) = a(c, r);
    rows = std::max(rows, row), columns = std::max(columns, column);
  }
  scale(z, 1 / (rows * columns));
  const auto minus = [&](double diagonal, const Matrix& x) {
    Matrix out = x;
    scale(out, -1);
    for (index_t r = 0; r < m; ++r) out(r, r) += diagonal;
    return out;
  };
  for (int step = 0; step < static_cast<int>(number(spec, "inverse_steps")); ++step) {
    const Matrix az = product(a, z);
    z = product(z, minus(13, product(az, minus(15, product(az, minus(7, az))))));
    scale(z, 0.25);
  }
  return product(product(softmax_of(q, k_marks), z), softmax_of(q_marks, k));
}

}  // namespace

std::optional<WeightsFunction> recurrent_weights(std::string_view id) {
  constexpr std::pair<std::string_view, WeightsFunction> k_known[] = {
      {"cosformer", kernel_family},      {"performer", kernel_family}, {"taylor", kernel_family},
      {"hedgehog", kernel_family},       {"gla", recurrent_family},    {"rwkv6", recurrent_family},
      {"ssd", recurrent_family},         {"lru", recurrent_family},    {"delta", recurrent_family},
      {"gated_delta", recurrent_family}, {"linformer", linformer},     {"nystrom", nystrom}};
  for (const auto& [known, function] : k_known)
    if (known == id) return function;
  return std::nullopt;
}

}  // namespace borel::reference
