// One small plugin, built several times with different macros: what the torture tests start from.
#include <stdexcept>

#include "borel/plugin.hpp"

namespace {

class Fixture {
 public:
  static constexpr std::string_view family = "fixture";
  virtual ~Fixture() = default;
  borel::TraitList describe() const { return {{"kind", "fixture"}}; }
};

struct Plain final : Fixture {
  struct Params {
    double width = 1;
    void declare(borel::ParamBinder& p) {
      p.real("width", width, borel::Range::greater_than(0), "1", "Width of the fixture.");
    }
  };
  explicit Plain(const Params&) {}
};

}  // namespace

#if defined(FIXTURE_UNDEFINED)
void borel_fixture_function_that_nobody_defines();
#endif

#if defined(FIXTURE_NO_MANIFEST)
extern "C" BOREL_EXPORT int borel_fixture_answer() { return 42; }
#elif defined(FIXTURE_LIES)
// A manifest section that names another plugin than the symbol does.
static void register_methods(borel::Registry& registry) {
  registry.add<Fixture, Plain>("plain", {.summary = "A fixture", .source = "own"});
}
[[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char text[] =
    BOREL_MANIFEST_MAGIC "\nabi=1\nid=fixture.somebody_else\n" BOREL_BUILD_FACTS "end\n";
extern "C" const borel::PluginManifest borel_plugin_manifest = {
    BOREL_MANIFEST_MAGIC, sizeof(borel::PluginManifest),
    BOREL_PLUGIN_ABI,     BOREL_HEADERS_FINGERPRINT,
    "fixture.plain",      &register_methods};
#elif defined(FIXTURE_NO_SYMBOL)
[[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char text[] =
    BOREL_MANIFEST_MAGIC "\nabi=1\nid=fixture.plain\n" BOREL_BUILD_FACTS "end\n";
#else
BOREL_PLUGIN(registry) {
#if defined(FIXTURE_UNDEFINED)
  borel_fixture_function_that_nobody_defines();
#endif
#if defined(FIXTURE_WRONG_METHOD)
  registry.add<Fixture, Plain>("another_method", {.summary = "A fixture", .source = "own"});
#elif !defined(FIXTURE_REGISTERS_NOTHING)
  registry.add<Fixture, Plain>("plain", {.summary = "A fixture", .source = "own"});
#endif
#if defined(FIXTURE_THROWS)
  throw std::runtime_error("the table of constants is missing");
#elif defined(FIXTURE_THROWS_INT)
  throw 42;
#elif defined(FIXTURE_TWICE)
  registry.add<Fixture, Plain>("plain", {.summary = "A fixture", .source = "own"});
#endif
}
#endif
