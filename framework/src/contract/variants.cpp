#include "contract/variants.hpp"

#include "borel/error.hpp"

namespace borel::contract {

std::vector<MethodSpec> choice_variants(const Registry& registry, const MethodEntry& method,
                                        const MethodSpec& spec) {
  std::vector<MethodSpec> variants = {spec};
  for (const ParamInfo& param : method.params)
    for (const std::string& choice : param.choices) {
      if (choice == param.default_text) continue;
      MethodSpec variant = spec;
      variant.family = method.family;
      variant.params[param.name] = choice;
      try {
        registry.canonical(variant);
      } catch (const ParamError&) {  // not a valid combination
        continue;
      }
      variants.push_back(std::move(variant));
    }
  return variants;
}

}  // namespace borel::contract
