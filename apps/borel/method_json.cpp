#include "method_json.hpp"

namespace borel::app {

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
  json["parameters"] = nlohmann::ordered_json::array();
  for (const ParamInfo& param : method.params)
    json["parameters"].push_back({{"name", param.name},
                                  {"type", to_string(param.type)},
                                  {"default", param.default_text},
                                  {"rule", param.rule_text},
                                  {"unit", param.unit},
                                  {"choices", param.choices},
                                  {"family", param.family},
                                  {"doc", param.doc}});
  return json;
}

}  // namespace borel::app
