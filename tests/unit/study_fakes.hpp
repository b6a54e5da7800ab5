// A family, methods, a protocol and datasets made up for tests of the study engine: small, quick, and able to
// fail in every way that a real one can.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "dataset/dataset_writer.hpp"
#include "dataset/temporary_folder.hpp"
#include "study/engine.hpp"
#include "study/plan.hpp"

namespace borel::test {

/// What is compared: something that gives a number.
class Guesser {
 public:
  static constexpr std::string_view family = "guesser";
  virtual ~Guesser() = default;
  virtual double guess(const CellInput& input) const = 0;
  TraitList describe() const { return {}; }
};

/// A second role.
class Scaler {
 public:
  static constexpr std::string_view family = "scaler";
  virtual ~Scaler() = default;
  virtual double scale() const = 0;
  TraitList describe() const { return {}; }
};

class Shifted final : public Guesser {
 public:
  struct Params {
    double shift = 0.5;
    std::int64_t n_draws = 100;
    std::vector<double> weights = {1};
    void declare(ParamBinder& p) {
      p.real("shift", shift, Range::closed(-10, 10), "1", "added to the mean");
      p.integer("n_draws", n_draws, Range::closed(1, 100000), "1", "random numbers in the mean");
      p.reals("weights", weights, Range::at_least(0), "1", "of nothing");
    }
  };
  explicit Shifted(const Params& params) : params_(params) {}
  double guess(const CellInput& input) const override {
    // Parallel inside, so that the bits would show a dependence on the schedule.
    return params_.shift + deterministic_reduce(
                               params_.n_draws, 7, 0.0,
                               [&](index_t begin, index_t end) {
                                 double sum = 0;
                                 Rng rng = Rng(input.seed).stream(static_cast<std::uint64_t>(begin));
                                 for (index_t i = begin; i < end; ++i) sum += rng.normal();
                                 return sum;
                               },
                               [](double a, double b) { return a + b; }) /
                               static_cast<double>(params_.n_draws);
  }

 private:
  Params params_;
};

/// Calls whatever the test wants.
class Scripted final : public Guesser {
 public:
  static inline std::function<double(const CellInput&)> script;
  struct Params {
    void declare(ParamBinder&) {}
  };
  explicit Scripted(const Params&) {}
  double guess(const CellInput& input) const override { return script(input); }
};

class Times final : public Scaler {
 public:
  struct Params {
    double factor = 1;
    void declare(ParamBinder& p) { p.real("factor", factor, Range::open(0, 100), "1", "factor"); }
  };
  explicit Times(const Params& params) : factor_(params.factor) {}
  double scale() const override { return factor_; }

 private:
  double factor_;
};

class GuessProtocol final : public Protocol {
 public:
  struct Options {
    std::int64_t n_points = 3;
    void declare(ParamBinder& p) {
      p.integer("n_points", n_points, Range::closed(1, 100), "1", "points of the curve");
    }
  };
  mutable std::atomic<int> n_runs{0}, n_timed_executions{0};
  int the_version = 1;
  double needed_bytes = 1000;

  std::string_view id() const override { return "test.guess"; }
  int version() const override { return the_version; }
  std::string_view summary() const override { return "guesses numbers"; }
  std::vector<Role> roles() const override { return {{"guesser", ""}, {"scaler", "times"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::samples; }
  std::vector<MetricInfo> metrics() const override {
    return {{"error", "nats", Direction::lower_is_better, "distance", true},
            {"other", "", Direction::none, "may be anything", false}};
  }
  std::string canonical_options(const MethodSpec& options) const override {
    Options bound = bind_params<Options>("protocol test.guess", options, nullptr);
    ParamBinder write = ParamBinder::writing("protocol test.guess", nullptr);
    bound.declare(write);
    return MethodSpec{"", std::string(id()), std::move(write.values())}.text();
  }
  std::vector<ParamInfo> option_infos() const override {
    ParamBinder describe = ParamBinder::describing("protocol test.guess", nullptr);
    Options().declare(describe);
    return describe.infos();
  }
  std::string refuses(const CellInput& input) const override {
    return input.dataset->info().id == "refused" ? "this dataset has no truth." : "";
  }
  double memory_bytes(const CellInput&) const override { return needed_bytes; }
  CellResult run(const CellInput& input) const override {
    ++n_runs;
    const auto guesser = input.registry->make<Guesser>(input.methods[0]);
    const auto scaler = input.registry->make<Scaler>(input.methods[1]);
    const Options options = bind_params<Options>("protocol test.guess", input.options, nullptr);
    double mean = 0;
    const auto x = input.dataset->doubles("x");
    for (double value : x) mean += value / static_cast<double>(x.size());
    CellResult result;
    const double error = scaler->scale() * guesser->guess(input) - mean;
    result.metrics = {{"error", "nats", error, Direction::lower_is_better},
                      {"other", "", 1 / 3.0, Direction::none}};
    Curve curve{"trace", "step", "value", false, true, {}, {}};
    for (std::int64_t i = 0; i < options.n_points; ++i) {
      curve.x.push_back(static_cast<double>(i));
      curve.y.push_back(error / static_cast<double>(i + 1));
    }
    result.curves.push_back(std::move(curve));
    result.pictures.push_back({"map", "column", "row", 2, 2, {0, error, -error, 1}});
    return result;
  }
  std::vector<TimedTask> timed_tasks(const CellInput&) const override {
    return {{"guess_s", [this] { ++n_timed_executions; }}};
  }
};

class MemoryDatasets final : public DatasetSource {
 public:
  int n_opened = 0;
  void add(const std::string& id, std::vector<double> x) {
    DatasetWriter writer(DatasetKind::samples, id, "made up", "this test", "none");
    const auto n = static_cast<std::int64_t>(x.size());
    writer.array("x", std::move(x), {n, 1});
    all_[id] = Dataset::from(writer);
  }
  void add_tokens(const std::string& id) {
    DatasetWriter writer(DatasetKind::tokens, id, "made up", "this test", "none");
    writer.array("train", std::vector<std::uint8_t>{1, 2, 3}, {3});
    writer.array("test", std::vector<std::uint8_t>{1, 2}, {2});
    all_[id] = Dataset::from(writer);
  }
  DatasetInfo info(const std::string& name) override { return open(name)->info(); }
  std::shared_ptr<const Dataset> open(const std::string& name) override {
    ++n_opened;
    const auto found = all_.find(name);
    if (found == all_.end()) throw DatasetError("no dataset named '" + name + "'");
    return found->second;
  }

 private:
  std::map<std::string, std::shared_ptr<const Dataset>> all_;
};

class Silent : public RunListener {
 public:
  std::vector<std::string> warnings;
  RunResults results;
  std::function<void(const CellRecord&)> on_finished;
  void begin(const Plan&, const RunFolder&, std::size_t, std::size_t) override {}
  void cell_started(const CellRecord&) override {}
  void cell_finished(const CellRecord& cell) override {
    if (on_finished) on_finished(cell);
  }
  void timing_begin(std::size_t) override {}
  void timing_progress(std::size_t, std::size_t) override {}
  void outputs_begin() override {}
  void warning(std::string_view text) override { warnings.emplace_back(text); }
  void end(const RunSummary&, const RunResults& all) override { results = all; }
};

/// Everything a study needs.
struct World {
  Registry registry;
  GuessProtocol protocol;
  std::vector<const Protocol*> protocols = {&protocol};
  MemoryDatasets datasets;
  std::string plugin_digest = "aaaa", library_digest = "bbbb";

  World() {
    registry.add<Guesser, Shifted>("shifted", {.summary = "shifted mean", .source = "own"});
    registry.add<Guesser, Scripted>("scripted", {.summary = "as told", .source = "own"});
    registry.add<Scaler, Times>("times", {.summary = "factor", .source = "own"});
    datasets.add("small", {1, 2, 3});
    datasets.add("large", {1, 2, 3, 4, 5});
    datasets.add("refused", {9});
  }
  Workshop workshop() {
    return {registry, protocols, datasets, [this](const std::string&) { return plugin_digest; },
            library_digest};
  }
  Plan plan(std::string_view toml) { return make_plan(parse_study(toml, "test.toml"), workshop()); }
};

inline constexpr std::string_view k_study = R"(
title = "Test study"
repetitions = 3
seed = 7
[timing]
rounds = 3
[[compare]]
protocol = "test.guess"
datasets = ["small", "large"]
methods = ["shifted", "shifted{shift=2}"]
)";

}  // namespace borel::test
