// What every problem recipe writes: the objective with its formula, and the optimum with its certificate.
#pragma once

#include <string>
#include <utility>

#include "dataset/certified_optimum.hpp"
#include "dataset/dataset_writer.hpp"

namespace borel {

inline constexpr const char* k_generated = "generated here (no copyright)";

inline void put_problem(DatasetWriter& writer, const char* objective, const char* formula,
                        const char* domain = "simplex") {
  writer.attribute("", "objective", std::string(objective));
  writer.attribute("", "domain", std::string(domain));
  writer.attribute("", "formula", std::string(formula));
}

inline void put_optimum(DatasetWriter& writer, CertifiedPoint point, double value, const char* certificate) {
  writer.attribute("", "optimum", value);
  writer.attribute("", "optimum_gap", point.gap);
  writer.attribute("", "certificate", std::string(certificate));
  const auto n = static_cast<std::int64_t>(point.p.size());
  writer.array("truth/p", std::move(point.p), {n});
}

}  // namespace borel
