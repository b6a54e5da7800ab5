// Every rule of framework/src/contract for every method of the plugin set, one test case each, named
// Contract/<family>_<id>.<Rule>. A new plugin is tested here without editing this file.
#include <algorithm>
#include <sstream>

#include <gtest/gtest.h>

#include "contract/contract.hpp"
#include "loader/plugin_set.hpp"

namespace {

using borel::contract::Rule;
using borel::contract::Subject;
using borel::contract::Verdict;

constexpr borel::Seed k_seed{20260101};

struct PluginSet {
  borel::Registry registry;
  borel::LoadReport report;
};

const PluginSet& plugin_set() {
  static const PluginSet* set = [] {
    auto* made = new PluginSet;
    made->report = borel::load_plugins({{}, false, true}, made->registry);
    return made;
  }();
  return *set;
}

class RuleCase : public testing::Test {
 public:
  RuleCase(const borel::MethodEntry& method, const Rule& rule) : method_(method), rule_(rule) {}
  void TestBody() override {
    const Subject subject{plugin_set().registry, method_, {method_.family, method_.id, {}}, k_seed};
    const Verdict verdict = run_rule(rule_, subject);
    if (verdict.kind == Verdict::Kind::not_applicable) GTEST_SKIP() << verdict.text;
    EXPECT_TRUE(verdict.kind == Verdict::Kind::kept)
        << method_.family << "/" << method_.id << " breaks the rule: " << rule_.description << "\n  "
        << verdict.text << "\n  seed " << subject.seed.value;
  }

 private:
  const borel::MethodEntry& method_;
  const Rule& rule_;
};

TEST(PluginSet, EveryPluginBuiltHereIsLoaded) {
  std::istringstream list(BOREL_PLUGIN_IDS);
  std::vector<std::string> built, loaded;
  for (std::string id; std::getline(list, id, ',');) built.push_back(id);
  for (const borel::LoadedPlugin& plugin : plugin_set().report.loaded) loaded.push_back(plugin.id);
  std::ranges::sort(built);
  std::ranges::sort(loaded);
  EXPECT_EQ(built, loaded);
  for (const borel::RefusedPlugin& plugin : plugin_set().report.refused) ADD_FAILURE() << plugin.reason;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (const borel::MethodEntry* method : plugin_set().registry.entries())
    for (const Rule* rule : borel::contract::rules_for(method->family))
      testing::RegisterTest(("Contract/" + method->family + "_" + method->id).c_str(),
                            std::string(rule->name).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [method, rule]() -> testing::Test* { return new RuleCase(*method, *rule); });
  return RUN_ALL_TESTS();
}
