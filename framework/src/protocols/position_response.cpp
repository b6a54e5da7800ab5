// position.response: what an encoding does to a score as a function of distance, far beyond the training length.
//
// One query at the end of the test context, keys at distance r = 0 .. test_length - 1 with the same content as the query
// (real rows of the dataset). The response is score / |q|^2, before the bias; the bias is a curve of its own; a point of a curve
// is the mean over distances within 15 %. A rotation is judged by what training with plain rotation of the encoding's own
// theta_base could have seen: pair m turned through 0 .. theta_m (train_length - 1) then, theta_m = theta_base^(-2 m / D).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "protocols/attention_call.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr index_t k_mean_of = 24;  // distances averaged for one point of a curve, at most about twice as many
constexpr double k_mean_within = 0.15;  // and how far they are from it, relative

struct Options {
  std::int64_t train_length = 512;
  std::int64_t test_length = 4096;
  std::int64_t n_vectors = 16;
  std::int64_t n_points = 128;
  std::int64_t layer = 0;
  std::int64_t n_layers = 1;

  void declare(ParamBinder& p) {
    p.integer("train_length", train_length, Range::closed(2, 1 << 20), "tokens",
              "Length a model was trained with.");
    p.integer("test_length", test_length, Range::closed(2, 1 << 20), "tokens", "Length it reads now.");
    p.integer("n_vectors", n_vectors, Range::closed(1, 4096), "1", "Query vectors that are averaged.");
    p.integer("n_points", n_points, Range::closed(16, 4096), "1",
              "Distances in the curves, evenly spread in log r.");
    p.integer("n_layers", n_layers, Range::closed(1, 1000), "layers", "Depth, for schedules over layers.");
    p.integer("layer", layer, Range::closed(0, 999), "1", "The layer that is looked at, from 0.");
  }
  void check() const {
    if (test_length < train_length)
      throw ParamError(fmt::format("parameter 'test_length' must be at least train_length = {}; got {}",
                                   train_length, test_length));
    if (layer >= n_layers)
      throw ParamError(
          fmt::format("parameter 'layer' must be less than n_layers = {}; got {}", n_layers, layer));
  }
};

// Score of the query in row 0 of the plan and key j, averaged over vectors, by the definition in position.hpp.
class Response {
 public:
  Response(const PositionPlan& plan, index_t query, std::vector<std::vector<float>> vectors)
      : plan_(plan), query_(query), q_(std::move(vectors)), k_(q_) {
    for (std::size_t s = 0; s < q_.size(); ++s) {
      double square = 0;
      for (float value : q_[s]) square += static_cast<double>(value) * static_cast<double>(value);
      norm_.push_back(square);
      if (plan.query_map)
        plan.query_map->apply(0, query, {q_[s].data(), {1, static_cast<index_t>(q_[s].size())}});
    }
  }

  bool sees(index_t j) const { return plan_.sees(query_, j); }

  double bias(index_t j) const {
    return plan_.bias
               ? static_cast<double>((*plan_.bias)[static_cast<std::size_t>(j - query_ + plan_.bias_zero)])
               : 0;
  }

  const Band* band(index_t j) const {
    for (const Band& band : plan_.bands)
      if (band.region.contains(query_, j)) return &band;
    return nullptr;
  }

  /// Turn of pair m between the query and key j, in radians.
  double turn(const Band& band, index_t m, index_t j) const {
    double angle = 0;
    for (index_t a = 0; a < band.n_axes; ++a)
      angle += (*band.angle)[static_cast<std::size_t>(m * band.n_axes + a)] * offset(band, j, a);
    return angle;
  }

  double at(index_t j) const {
    const Band* b = band(j);
    const double scale = plan_.query_scale ? static_cast<double>(plan_.query_scale->front()) : 1;
    double total = 0;
    for (std::size_t s = 0; s < q_.size(); ++s) {
      std::vector<float> k = k_[s];
      if (plan_.key_map) plan_.key_map->apply(0, j, {k.data(), {1, static_cast<index_t>(k.size())}});
      total += score(b, q_[s], k, j) / norm_[s];
    }
    return scale * total / static_cast<double>(q_.size());
  }

 private:
  double offset(const Band& band, index_t j, index_t axis) const {
    return (*band.query_position)[static_cast<std::size_t>(axis)] -
           (*band.key_position)[static_cast<std::size_t>(j * band.n_axes + axis)];
  }

  double score(const Band* b, const std::vector<float>& q, const std::vector<float>& k, index_t j) const {
    const auto product = [&](std::size_t x, std::size_t y) {
      return static_cast<double>(q[x]) * static_cast<double>(k[y]);
    };
    const bool rotates = b && b->angle;
    const auto n_rot = static_cast<std::size_t>(b ? plan_.n_rot_dims : 0);
    double sum = 0;
    for (std::size_t i = n_rot; i < q.size(); ++i) sum += product(i, i);
    for (std::size_t m = 0; m < n_rot / 2; ++m) {
      const std::size_t x = plan_.pairing == Pairing::half ? m : 2 * m;
      const std::size_t y = plan_.pairing == Pairing::half ? m + n_rot / 2 : 2 * m + 1;
      const double angle = rotates ? turn(*b, static_cast<index_t>(m), j) : 0;
      const double amplitude = b->log_amplitude ? std::exp((*b->log_amplitude)[m] * offset(*b, j, 0)) : 1;
      // Re[q conj(k) exp(i angle)]
      sum += amplitude * ((product(x, x) + product(y, y)) * std::cos(angle) -
                          (product(y, x) - product(x, y)) * std::sin(angle));
    }
    return sum * (b ? b->logit_scale : 1);
  }

  const PositionPlan& plan_;
  index_t query_;
  std::vector<std::vector<float>> q_, k_;
  std::vector<double> norm_;
};

std::vector<index_t> log_spaced(index_t n, index_t n_points) {
  std::vector<index_t> distances;
  for (index_t i = 0; i < n_points; ++i) {
    const double r = std::expm1(std::log(static_cast<double>(n)) * static_cast<double>(i) /
                                static_cast<double>(n_points - 1));
    const auto distance = std::min<index_t>(static_cast<index_t>(std::lround(r)), n - 1);
    if (distances.empty() || distance > distances.back()) distances.push_back(distance);
  }
  return distances;
}

/// Distances whose mean stands for r in a curve: single ones would show the fastest frequencies at random phases.
std::pair<index_t, index_t> neighbourhood(index_t r, index_t n) {
  const auto reach = static_cast<index_t>(k_mean_within * static_cast<double>(r));
  return {r - reach, std::min(r + reach, n - 1)};
}

/// The base that a rotation says it was trained with: its parameter theta_base, or that of the encoding it wraps.
/// @return 0 when it names none
double trained_base(const Registry& registry, const MethodSpec& spec) {
  const MethodSpec used = parse_method_spec(registry.canonical(spec));
  if (const auto found = used.params.find("theta_base"); found != used.params.end())
    return std::stod(found->second);
  for (const ParamInfo& info : registry.entry(used.family, used.id).params)
    if (info.type == ParamType::method && info.family == used.family && !used.params.at(info.name).empty())
      return trained_base(registry, parse_method_spec(used.params.at(info.name), used.family));
  return 0;
}

class PositionResponse final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "position.response"; }
  int version() const override { return 3; }
  std::string_view summary() const override {
    return "Score as a function of distance, inside and beyond the training length";
  }
  std::vector<Role> roles() const override { return {{"position", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::qkv; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"untrained_turns", "", Direction::lower_is_better,
         "share of (frequency, distance) in the test range whose turn lies outside the arc that training "
         "with plain "
         "rotation of the encoding's own theta_base has shown",
         true},
        {"resolution_near", "", Direction::higher_is_better,
         "mean |response(r + 1) - response(r)| over the first eighth of the training length", false},
        {"resolution_far", "", Direction::higher_is_better,
         "the same over the last eighth of the test length: can distant places still be told apart?", false},
        {"visible", "", Direction::higher_is_better, "share of the test range that the last query sees",
         false},
        {"bias_range", "nats", Direction::none, "largest minus smallest bias over the visible test range",
         false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    if (input.registry->make<PositionEncoding>(input.methods.at(0))->embedding())
      return "the encoding is added to token embeddings; it changes no score by distance";
    try {
      const PositionPlan plan = make_plan(input, read(input.options));
      if (!plan.ensemble.empty())
        return "the encoding averages the outputs of several plans; it has no single response";
      if (plan.n_rot_dims > 0 && trained_base(*input.registry, input.methods.at(0)) == 0)
        return "the encoding rotates but has no parameter theta_base, so the arcs of its training are not "
               "known";
    } catch (const MethodError& error) {
      return error.what();
    }
    return {};
  }

  double memory_bytes(const CellInput& input) const override {
    return 64.0 * static_cast<double>(read(input.options).test_length);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const PositionPlan plan = make_plan(input, options);
    const Response response(plan, options.test_length - 1, choose_vectors(input, options));

    CellResult result;
    result.metrics.push_back(
        {"untrained_turns", "", untrained_share(input, plan, response, options), Direction::lower_is_better});
    result.metrics.push_back({"resolution_near", "",
                              resolution(response, options, 0, options.train_length / 8),
                              Direction::higher_is_better});
    result.metrics.push_back({"resolution_far", "",
                              resolution(response, options, options.test_length - options.test_length / 8,
                                         options.test_length - 1),
                              Direction::higher_is_better});

    Curve score{"response", "distance r [tokens]", "score / |q|^2", true, false, {}, {}};
    Curve bias{"bias", "distance r [tokens]", "bias [nats]", true, false, {}, {}};
    for (index_t r : log_spaced(options.test_length, options.n_points)) {
      const auto [first, last] = neighbourhood(r, options.test_length);
      const index_t stride = std::max<index_t>(1, (last - first) / k_mean_of);
      double sum = 0, bias_sum = 0;
      index_t n = 0;
      for (index_t near = first; near <= last; near += stride) {
        const index_t j = options.test_length - 1 - near;
        if (!response.sees(j)) continue;
        sum += response.at(j);
        bias_sum += response.bias(j);
        ++n;
      }
      if (n == 0 || !response.sees(options.test_length - 1 - r)) continue;
      score.x.push_back(static_cast<double>(r + 1));
      score.y.push_back(sum / static_cast<double>(n));
      bias.x.push_back(score.x.back());
      bias.y.push_back(bias_sum / static_cast<double>(n));
    }
    score.x_label = bias.x_label = "distance r + 1 [tokens]";
    double lowest = 0, highest = 0;
    index_t n_visible = 0;
    for (index_t j = 0; j < options.test_length; ++j) {
      if (!response.sees(j)) continue;
      const double b = response.bias(j);
      lowest = n_visible == 0 ? b : std::min(lowest, b);
      highest = n_visible == 0 ? b : std::max(highest, b);
      ++n_visible;
    }
    result.metrics.push_back({"visible", "",
                              static_cast<double>(n_visible) / static_cast<double>(options.test_length),
                              Direction::higher_is_better});
    result.metrics.push_back({"bias_range", "nats", highest - lowest, Direction::none});
    result.curves.push_back(std::move(score));
    if (plan.bias) result.curves.push_back(std::move(bias));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    return {{"plan_s", [input, options] { make_plan(input, options); }}};
  }

 private:
  static PositionPlan make_plan(const CellInput& input, const Options& options) {
    const auto encoding = input.registry->make<PositionEncoding>(input.methods.at(0));
    PositionContext context;
    context.n_q = 1;
    context.n_k = context.test_length = options.test_length;
    context.query_offset = options.test_length - 1;
    context.d_head = input.dataset->shape("q")[2];
    context.train_length = options.train_length;
    context.layer_index = options.layer;
    context.n_layers = options.n_layers;
    context.seed = input.seed;
    const ParameterSet parameters(encoding->parameters(1, context.d_head, context.d_head), input.seed);
    return position_plan(*encoding, context, parameters.values());
  }

  static std::vector<std::vector<float>> choose_vectors(const CellInput& input, const Options& options) {
    const std::vector<std::int64_t> shape = input.dataset->shape("q");
    const std::span<const float> q = input.dataset->floats("q");
    Rng rng(input.seed.derive("vectors"));
    std::vector<std::vector<float>> vectors;
    for (index_t s = 0; s < options.n_vectors; ++s) {
      const auto row =
          rng.below(static_cast<std::uint64_t>(shape[0] * shape[1])) * static_cast<std::uint64_t>(shape[2]);
      const std::span<const float> values = q.subspan(row, static_cast<std::size_t>(shape[2]));
      if (std::ranges::any_of(values, [](float value) { return value != 0; }))
        vectors.emplace_back(values.begin(), values.end());
    }
    if (vectors.empty())
      throw MethodError("position.response: the chosen rows of q in the dataset are all zero");
    return vectors;
  }

  static double resolution(const Response& response, const Options& options, index_t begin, index_t end) {
    double sum = 0;
    index_t n = 0;
    const index_t stride = std::max<index_t>(1, (end - begin) / 256);
    for (index_t r = begin; r + 1 <= end; r += stride) {
      const index_t j = options.test_length - 1 - r;
      if (j < 1 || !response.sees(j) || !response.sees(j - 1)) continue;
      sum += std::abs(response.at(j) + response.bias(j) - response.at(j - 1) - response.bias(j - 1));
      ++n;
    }
    return n > 0 ? sum / static_cast<double>(n) : 0;
  }

  // Training-free changes start from a model trained with plain rotation, so its arcs are the measure for all encodings.
  static double untrained_share(const CellInput& input, const PositionPlan& plan, const Response& response,
                                const Options& options) {
    if (plan.n_rot_dims == 0) return 0;
    const std::vector<double> arc =
        trained_arc(trained_base(*input.registry, input.methods.at(0)), plan.n_rot_dims, options);
    index_t outside = 0, total = 0;
    for (index_t j = 0; j < options.test_length; ++j) {
      const Band* band = response.band(j);
      if (!response.sees(j) || !band || !band->angle) continue;
      for (std::size_t m = 0; m < arc.size(); ++m) {
        outside += std::abs(response.turn(*band, static_cast<index_t>(m), j)) > arc[m] * (1 + 1e-9);
        ++total;
      }
    }
    return total > 0 ? static_cast<double>(outside) / static_cast<double>(total) : 0;
  }

  // Arc of each pair under plain rotary training; infinite after a full turn.
  static std::vector<double> trained_arc(double theta_base, index_t n_rot_dims, const Options& options) {
    const PositionTable angles = rotary_angles(theta_base, n_rot_dims);
    std::vector<double> arc;
    for (const double theta : *angles) {
      const double turned = theta * static_cast<double>(options.train_length - 1);
      arc.push_back(turned >= 2 * std::numbers::pi ? std::numeric_limits<double>::infinity() : turned);
    }
    return arc;
  }
};

}  // namespace

const Protocol& position_response() {
  static const PositionResponse protocol;
  return protocol;
}

}  // namespace borel
