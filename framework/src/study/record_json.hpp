// Journal records as JSON. Numbers survive the way bit by bit; NaN and the infinities are written as texts.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "results/run_results.hpp"
#include "study/plan.hpp"

namespace borel {

nlohmann::json to_json(const CellResult& result);  ///< without timings, which have records of their own
CellResult cell_result_from(const nlohmann::json& json);

nlohmann::json to_json(const std::vector<Timing>& timings);
std::vector<Timing> timings_from(const nlohmann::json& json);

/// Everything but the result.
nlohmann::json to_json(const CellRecord& record);
CellRecord cell_record_from(const nlohmann::json& json);

/// UTF-8 whatever a method's message holds.
std::string json_text(const nlohmann::json& json);

}  // namespace borel
