#include "study/record_json.hpp"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

namespace borel {
namespace {

using nlohmann::json;

json number_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double number_from(const json& value) {
  if (value.is_number()) return value.get<double>();
  const std::string& text = value.get_ref<const std::string&>();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  throw Error("'" + text + "' is not a number");
}

json numbers_json(const std::vector<double>& values) {
  json list = json::array();
  for (double value : values) list.push_back(number_json(value));
  return list;
}

std::vector<double> numbers_from(const json& list) {
  std::vector<double> values;
  values.reserve(list.size());
  for (const json& value : list) values.push_back(number_from(value));
  return values;
}

}  // namespace

json to_json(const CellResult& result) {
  json out = {{"outcome", to_string(result.outcome)}, {"wall_s", number_json(result.wall_s)}};
  if (!result.reason.empty()) out["reason"] = result.reason;
  out["metrics"] = json::array();
  for (const Metric& metric : result.metrics)
    out["metrics"].push_back({{"name", metric.name},
                              {"unit", metric.unit},
                              {"value", number_json(metric.value)},
                              {"direction", to_string(metric.direction)}});
  if (!result.curves.empty()) out["curves"] = json::array();
  for (const Curve& curve : result.curves) {
    out["curves"].push_back({{"name", curve.name},
                             {"x_label", curve.x_label},
                             {"y_label", curve.y_label},
                             {"log_x", curve.log_x},
                             {"log_y", curve.log_y},
                             {"x", numbers_json(curve.x)},
                             {"y", numbers_json(curve.y)}});
    if (!curve.reference_of.empty()) out["curves"].back()["reference_of"] = curve.reference_of;
  }
  if (!result.pictures.empty()) out["pictures"] = json::array();
  for (const Picture& picture : result.pictures)
    out["pictures"].push_back({{"name", picture.name},
                               {"x_label", picture.x_label},
                               {"y_label", picture.y_label},
                               {"n_rows", picture.n_rows},
                               {"n_cols", picture.n_cols},
                               {"values", numbers_json(picture.values)}});
  return out;
}

CellResult cell_result_from(const json& in) {
  CellResult result;
  result.outcome = outcome_from(in.at("outcome").get<std::string>());
  result.reason = in.value("reason", std::string());
  result.wall_s = number_from(in.at("wall_s"));
  for (const json& item : in.at("metrics"))
    result.metrics.push_back({item.at("name").get<std::string>(), item.at("unit").get<std::string>(),
                              number_from(item.at("value")),
                              direction_from(item.at("direction").get<std::string>())});
  for (const json& item : in.value("curves", json::array()))
    result.curves.push_back({item.at("name").get<std::string>(), item.at("x_label").get<std::string>(),
                             item.at("y_label").get<std::string>(), item.at("log_x").get<bool>(),
                             item.at("log_y").get<bool>(), numbers_from(item.at("x")),
                             numbers_from(item.at("y")), item.value("reference_of", std::string())});
  for (const json& item : in.value("pictures", json::array()))
    result.pictures.push_back({item.at("name").get<std::string>(), item.at("x_label").get<std::string>(),
                               item.at("y_label").get<std::string>(), item.at("n_rows").get<std::int64_t>(),
                               item.at("n_cols").get<std::int64_t>(), numbers_from(item.at("values"))});
  return result;
}

json to_json(const std::vector<Timing>& timings) {
  json out = json::array();
  for (const Timing& timing : timings)
    out.push_back({{"name", timing.name}, {"seconds", numbers_json(timing.seconds)}});
  return out;
}

std::vector<Timing> timings_from(const json& in) {
  std::vector<Timing> timings;
  for (const json& item : in)
    timings.push_back({item.at("name").get<std::string>(), numbers_from(item.at("seconds"))});
  return timings;
}

json to_json(const CellRecord& record) {
  json methods = json::array();
  for (const MethodUse& use : record.methods)
    methods.push_back({{"family", use.family},
                       {"id", use.id},
                       {"spec", use.spec},
                       {"label", use.label},
                       {"plugin_file", use.plugin_file},
                       {"plugin_sha256", use.plugin_sha256}});
  return {{"id", record.cell_id},
          {"protocol", record.protocol},
          {"options", record.options},
          {"dataset", record.dataset},
          {"dataset_digest", record.dataset_digest},
          {"methods", std::move(methods)},
          {"label", record.label},
          {"repetition", record.repetition},
          {"seed", record.seed}};
}

CellRecord cell_record_from(const json& in) {
  CellRecord record;
  record.cell_id = in.at("id").get<std::string>();
  record.protocol = in.at("protocol").get<std::string>();
  record.options = in.at("options").get<std::string>();
  record.dataset = in.at("dataset").get<std::string>();
  record.dataset_digest = in.at("dataset_digest").get<std::string>();
  for (const json& item : in.at("methods"))
    record.methods.push_back({item.at("family").get<std::string>(), item.at("id").get<std::string>(),
                              item.at("spec").get<std::string>(), item.at("label").get<std::string>(),
                              item.at("plugin_file").get<std::string>(),
                              item.at("plugin_sha256").get<std::string>()});
  record.label = in.at("label").get<std::string>();
  record.repetition = in.at("repetition").get<std::int64_t>();
  record.seed = in.at("seed").get<std::uint64_t>();
  return record;
}

std::string json_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace borel
