// A protocol: what is measured on (dataset, methods). One file per protocol in this folder.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/parallel.hpp"
#include "borel/params.hpp"
#include "borel/registry.hpp"
#include "borel/rng.hpp"
#include "dataset/dataset.hpp"
#include "study/outcome.hpp"

namespace borel {

/// A place for a method in a protocol. Roles in order; the first is the one that is compared.
struct Role {
  std::string family;
  std::string default_spec;  ///< "" = must be given; e.g. position defaults to "none"
};

struct CellInput {
  std::shared_ptr<const Dataset> dataset;
  const Registry* registry = nullptr;
  std::vector<MethodSpec> methods;  ///< one per role
  MethodSpec options;               ///< the protocol's own parameters, as a spec `<protocol id>{...}`
  std::int64_t repetition = 0;
  Seed seed;  ///< derived from (protocol, dataset, options, repetition): paired across methods
  StopToken stop;
};

/// Timed tasks of one cell: prepared once, then run alone and interleaved with those of other cells.
struct TimedTask {
  std::string name;            ///< metric name, e.g. "fit_s"
  std::function<void()> work;  ///< one measured execution
};

/// Threads: run() is called for many cells at once; inside, parallelism only through borel::parallel_for.
class Protocol {
 public:
  virtual ~Protocol() = default;
  virtual std::string_view id() const = 0;  ///< "density.fit"
  virtual int version() const = 0;          ///< part of every cell id; raise it when numbers change
  virtual std::string_view summary() const = 0;
  virtual std::vector<Role> roles() const = 0;
  virtual DatasetKind dataset_kind() const = 0;
  virtual std::vector<MetricInfo> metrics() const = 0;
  /// Declares and checks options; returns the canonical text (used values) for ids and results. @throws ParamError
  virtual std::string canonical_options(const MethodSpec& options) const = 0;
  virtual std::vector<ParamInfo> option_infos() const = 0;

  /// "" or the reason why this combination is skipped (incompatible pair, dataset without ground truth).
  virtual std::string refuses(const CellInput& input) const = 0;
  /// Peak extra memory, in bytes, held against the budget before the cell starts.
  virtual double memory_bytes(const CellInput& input) const = 0;
  /// Quality: metrics, curves, pictures; `outcome` stays ok. Throws for failures; the engine translates.
  virtual CellResult run(const CellInput& input) const = 0;
  /// Tasks for the timing phase; empty = not timed.
  virtual std::vector<TimedTask> timed_tasks(const CellInput& input) const = 0;
};

/// All protocols, sorted by id.
std::span<const Protocol* const> protocols();
/// @throws Error with the nearest id
const Protocol& find_protocol(std::string_view id);

}  // namespace borel
