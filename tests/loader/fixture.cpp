// One small plugin, built several times with different macros: what the torture tests and those of `borel
// check` start from.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "borel/plugin.hpp"

namespace {

class Fixture {
 public:
  [[maybe_unused]] static constexpr std::string_view family = "fixture";
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
  explicit Plain([[maybe_unused]] const Params& params) {
#if defined(FIXTURE_CRASHES)
    if (params.width == 2) std::raise(SIGSEGV);
#elif defined(FIXTURE_HANGS)
    for (volatile bool for_ever = true; for_ever;) {
    }
#elif defined(FIXTURE_EXITS)
    std::exit(0);
#elif defined(FIXTURE_PRINTS)
    std::puts("look at me");
#endif
  }
};

#if defined(FIXTURE_CRASHES_AT_LOAD)
__attribute__((constructor)) void crash() { std::raise(SIGSEGV); }
#endif

[[maybe_unused]] borel::MethodInfo fixture_info() {
  return {.summary = "A fixture", .formula = "none", .source = "own", .complexity = "O(1)"};
}

}  // namespace

#if defined(FIXTURE_UNDEFINED)
void borel_fixture_function_that_nobody_defines();
#endif

#if defined(FIXTURE_NO_MANIFEST)
extern "C" BOREL_EXPORT int borel_fixture_answer() { return 42; }
#elif defined(FIXTURE_LIES)
// A manifest section that names another plugin than the symbol does.
static void register_methods(borel::Registry& registry) {
  registry.add<Fixture, Plain>("plain", fixture_info());
}
[[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char text[] =
    BOREL_MANIFEST_MAGIC "\nabi=1\nid=fixture.somebody_else\n" BOREL_BUILD_FACTS "end\n";
extern "C" const borel::PluginManifest borel_plugin_manifest = {
    BOREL_MANIFEST_MAGIC, sizeof(borel::PluginManifest),
    BOREL_PLUGIN_ABI,     BOREL_HEADERS_FINGERPRINT,
    "fixture.plain",      &register_methods};
#elif defined(FIXTURE_NULL_ID) || defined(FIXTURE_NULL_FUNCTION)
[[maybe_unused]] static void register_methods(borel::Registry&) {}
[[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char text[] =
    BOREL_MANIFEST_MAGIC "\nabi=1\nid=fixture.plain\n" BOREL_BUILD_FACTS "end\n";
extern "C" const borel::PluginManifest borel_plugin_manifest = {BOREL_MANIFEST_MAGIC,
                                                                sizeof(borel::PluginManifest),
                                                                BOREL_PLUGIN_ABI,
                                                                BOREL_HEADERS_FINGERPRINT,
#if defined(FIXTURE_NULL_ID)
                                                                nullptr,
                                                                &register_methods};
#else
                                                                "fixture.plain",
                                                                nullptr};
#endif
#elif defined(FIXTURE_NO_SYMBOL)
[[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char text[] =
    BOREL_MANIFEST_MAGIC "\nabi=1\nid=fixture.plain\n" BOREL_BUILD_FACTS "end\n";
#else
BOREL_PLUGIN(registry) {
#if defined(FIXTURE_UNDEFINED)
  borel_fixture_function_that_nobody_defines();
#endif
#if defined(FIXTURE_WRONG_METHOD)
  registry.add<Fixture, Plain>("another_method", fixture_info());
#elif !defined(FIXTURE_REGISTERS_NOTHING)
  registry.add<Fixture, Plain>("plain", fixture_info());
#endif
#if defined(FIXTURE_THROWS)
  throw std::runtime_error("the table of constants is missing");
#elif defined(FIXTURE_THROWS_INT)
  throw 42;
#elif defined(FIXTURE_TWICE)
  registry.add<Fixture, Plain>("plain", fixture_info());
#endif
}
#endif
