// Gaussian queries and keys whose concentration S = E|a| / sqrt(E a^2) is known in closed form for n ->
// infinity.
//
// Keys k ~ N(mu, sigma^2 I). For a logit s = scale q.k only beta = scale q.mu and gamma = scale sigma |q|
// matter.
#include <cmath>
#include <numbers>

#include "borel/rng.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_n_keys = 65536;
constexpr std::int64_t k_d = 64;
constexpr std::int64_t k_d_values = 8;
constexpr double k_sigma = 1;
constexpr double k_mu_norm = 2;  // in units of sigma: reaches beta / gamma up to 2
constexpr double k_gamma[] = {0.25, 0.5, 0.75, 1.0};
constexpr double k_ratio[] = {-1, -0.5, 0, 0.5, 1};  // beta / gamma
// Directions per (gamma, ratio): at gamma = 1 one direction has a standard error of 1.3 % in S for softmax.
constexpr int k_directions = 16;
constexpr std::uint64_t k_seed = 9889;

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_pdf(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi); }

double s_softmax(double gamma) { return std::exp(-0.5 * gamma * gamma); }

double s_relu2(double beta, double gamma) {
  const double ratio = beta / gamma, cdf = normal_cdf(ratio), pdf = normal_pdf(ratio);
  const double b2 = beta * beta, g2 = gamma * gamma;
  const double first = (b2 + g2) * cdf + beta * gamma * pdf;
  const double second =
      (b2 * b2 + 6 * b2 * g2 + 3 * g2 * g2) * cdf + (b2 * beta * gamma + 5 * beta * g2 * gamma) * pdf;
  return first / std::sqrt(second);
}

double s_identity(double beta, double gamma) {
  const double ratio = beta / gamma;
  const double first = gamma * std::sqrt(2 / std::numbers::pi) * std::exp(-0.5 * ratio * ratio) +
                       beta * std::erf(ratio / std::numbers::sqrt2);
  return first / std::sqrt(beta * beta + gamma * gamma);
}

// A unit vector orthogonal to the unit vector `axis`.
std::vector<double> orthogonal_direction(const std::vector<double>& axis, Rng& rng) {
  std::vector<double> u(axis.size());
  rng.fill_normal(u);
  double along = 0, norm = 0;
  for (std::size_t i = 0; i < u.size(); ++i) along += u[i] * axis[i];
  for (std::size_t i = 0; i < u.size(); ++i) {
    u[i] -= along * axis[i];
    norm += u[i] * u[i];
  }
  for (double& value : u) value /= std::sqrt(norm);
  return u;
}

void fill(DatasetWriter& writer) {
  const Seed seed{k_seed};
  const double scale = 1 / std::sqrt(static_cast<double>(k_d));
  // mu along the first axis: rotations change nothing here.
  std::vector<double> axis(static_cast<std::size_t>(k_d), 0.0);
  axis[0] = 1;

  std::vector<float> k(static_cast<std::size_t>(k_n_keys * k_d)),
      v(static_cast<std::size_t>(k_n_keys * k_d_values));
  Rng(seed.derive("keys")).fill_normal(k);
  for (std::size_t i = 0; i < k.size(); ++i)
    k[i] = static_cast<float>(k_sigma * (k[i] + k_mu_norm * axis[i % static_cast<std::size_t>(k_d)]));
  Rng(seed.derive("values")).fill_normal(v);

  std::vector<float> q;
  std::vector<double> betas, gammas, softmax, relu2, identity;
  Rng rng(seed.derive("queries"));
  for (double gamma : k_gamma)
    for (double ratio : k_ratio)
      for (int direction = 0; direction < k_directions; ++direction) {
        const double norm = gamma / (scale * k_sigma), along = ratio / k_mu_norm;
        const auto across = orthogonal_direction(axis, rng);
        double mean = 0, square = 0;  // of the query as stored in float
        for (std::size_t i = 0; i < axis.size(); ++i) {
          q.push_back(
              static_cast<float>(norm * (along * axis[i] + std::sqrt(1 - along * along) * across[i])));
          mean += static_cast<double>(q.back()) * k_sigma * k_mu_norm * axis[i];
          square += static_cast<double>(q.back()) * static_cast<double>(q.back());
        }
        const double beta = scale * mean, spread = scale * k_sigma * std::sqrt(square);
        betas.push_back(rounded_truth(beta));
        gammas.push_back(rounded_truth(spread));
        softmax.push_back(rounded_truth(s_softmax(spread)));
        relu2.push_back(rounded_truth(s_relu2(beta, spread)));
        identity.push_back(rounded_truth(s_identity(beta, spread)));
      }
  const auto n_q = static_cast<std::int64_t>(betas.size());
  writer.array("q", std::move(q), {1, n_q, k_d});
  writer.array("k", std::move(k), {1, k_n_keys, k_d});
  writer.array("v", std::move(v), {1, k_n_keys, k_d_values});
  writer.array("truth/beta", std::move(betas), {1, n_q});
  writer.array("truth/gamma", std::move(gammas), {1, n_q});
  writer.array("truth/s_softmax", std::move(softmax), {1, n_q});
  writer.array("truth/s_relu2", std::move(relu2), {1, n_q});
  writer.array("truth/s_identity", std::move(identity), {1, n_q});
  writer.attribute("truth", "type", std::string("gaussian_keys"));
  writer.attribute("truth", "sigma", k_sigma);
  writer.attribute("truth", "mu_norm", k_mu_norm * k_sigma);
  writer.attribute("truth", "scale", scale);
}

}  // namespace

void add_qk_recipes(std::vector<Recipe>& list) {
  list.push_back({.id = "gaussian_qk_d64",
                  .kind = DatasetKind::qkv,
                  .title = "Queries of known norm and angle against 65536 Gaussian keys, d = 64",
                  .licence = "generated here (no copyright)",
                  .source = "keys N(mu, sigma^2 I); closed forms of S after J. Su, kexue.fm/archives/9889",
                  .seed = k_seed,
                  .make = fill});
}

}  // namespace borel
