#include "method_json.hpp"

namespace borel::app {

namespace {

nlohmann::ordered_json parameters_json(const std::vector<ParamInfo>& parameters) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ParamInfo& param : parameters)
    json.push_back({{"name", param.name},
                    {"type", to_string(param.type)},
                    {"default", param.default_text},
                    {"rule", param.rule_text},
                    {"unit", param.unit},
                    {"choices", param.choices},
                    {"family", param.family},
                    {"doc", param.doc}});
  return json;
}

}  // namespace

nlohmann::ordered_json method_json(const MethodEntry& method) {
  nlohmann::ordered_json json = {
      {"family", method.family},        {"id", method.id},
      {"summary", method.info.summary}, {"formula", method.info.formula},
      {"source", method.info.source},   {"complexity", method.info.complexity},
      {"notes", method.info.notes},     {"deterministic", method.info.deterministic},
      {"plugin_file", method.origin},
  };
  json["traits"] = nlohmann::ordered_json::object();
  try {
    for (const auto& [name, value] : method.traits({method.family, method.id, {}}))
      json["traits"][name] = value;
  } catch (const Error& error) {
    json["traits_error"] = error.what();
  }
  json["parameters"] = parameters_json(method.params);
  return json;
}

nlohmann::ordered_json protocol_json(const Protocol& protocol) {
  nlohmann::ordered_json json = {{"id", protocol.id()},
                                 {"version", protocol.version()},
                                 {"summary", protocol.summary()},
                                 {"dataset_kind", kind_name(protocol.dataset_kind())}};
  json["roles"] = nlohmann::ordered_json::array();
  for (const Role& role : protocol.roles())
    json["roles"].push_back({{"family", role.family}, {"default", role.default_spec}});
  json["options"] = parameters_json(protocol.option_infos());
  json["metrics"] = nlohmann::ordered_json::array();
  for (const MetricInfo& metric : protocol.metrics())
    json["metrics"].push_back({{"name", metric.name},
                               {"unit", metric.unit},
                               {"direction", to_string(metric.direction)},
                               {"headline", metric.headline},
                               {"doc", metric.doc}});
  return json;
}

}  // namespace borel::app
