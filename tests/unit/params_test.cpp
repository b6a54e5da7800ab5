#include "borel/params.hpp"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using borel::MethodSpec;
using borel::ParamBinder;
using borel::ParamError;
using borel::parse_method_spec;
using borel::Range;
using testing::HasSubstr;

enum class Kernel { gauss, box };

struct Params {
  double slope = 8.0;
  std::int64_t window = 64;
  bool centred = false;
  Kernel kernel = Kernel::gauss;
  std::string label = "x";
  std::vector<double> knots = {0, 0.5, 1};
  MethodSpec of;
  void declare(ParamBinder& p) {
    p.real("slope", slope, Range::left_open(0, 64), "1", "Slope of the last head.");
    p.integer("window", window, Range::at_least(1), "tokens", "Width of the window.");
    p.flag("centred", centred, "Centre first.");
    p.choice("kernel", kernel, {{"gauss", Kernel::gauss}, {"box", Kernel::box}}, "Shape of the kernel.");
    p.text("label", label, "Free text.");
    p.reals("knots", knots, Range::closed(0, 1), "1", "Knots.");
    p.method("of", of, "density", "Inner method.");
  }
  void check() const {
    if (centred && kernel == Kernel::box)
      throw ParamError("'centred' needs kernel = gauss; got kernel = box");
  }
};

Params bound(std::string_view text) {
  return borel::bind_params<Params>("density test", parse_method_spec(text), nullptr);
}

std::string message(std::string_view text) {
  try {
    bound(text);
  } catch (const ParamError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(MethodSpec, ReadsIdAndParameters) {
  const MethodSpec spec = parse_method_spec(" position/rerope { window = 64,train_length=128 } ");
  EXPECT_EQ(spec.family, "position");
  EXPECT_EQ(spec.id, "rerope");
  EXPECT_EQ(spec.params, (std::map<std::string, std::string>{{"window", "64"}, {"train_length", "128"}}));
  EXPECT_EQ(spec.text(), "position/rerope{train_length=128, window=64}");
}

TEST(MethodSpec, ReadsListsQuotesAndNestedSpecs) {
  const MethodSpec spec = parse_method_spec(R"(a{l=[1, 2], q="x, \"y\"}", n=gmm{c=4, d=[1,2]}, e=""})");
  EXPECT_EQ(spec.params.at("l"), "[1, 2]");
  EXPECT_EQ(spec.params.at("q"), R"(x, "y"})");
  EXPECT_EQ(spec.params.at("n"), "gmm{c=4, d=[1,2]}");
  EXPECT_EQ(spec.params.at("e"), "");
}

TEST(MethodSpec, TextReadsBack) {
  for (const char* text : {"a", "f/a{b=1}", R"(a{l=[1, 2], q="x, \"y\"}", n=gmm{c="a}b"}, e=""})",
                           R"(a{p=" spaces "})", R"(a{p="unclosed [", q="back\\slash"})"}) {
    const MethodSpec spec = parse_method_spec(text);
    EXPECT_EQ(parse_method_spec(spec.text()), spec) << text;
  }
}

TEST(MethodSpec, RefusesBadTextWithColumn) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "column 1: expected a method id"},
      {"a{", "column 3: expected a parameter name"},
      {"a{b}", "column 4: expected '='"},
      {"a{b=}", "column 5: expected a value"},
      {"a{b=1", "column 6: expected ',' or '}'"},
      {"a{b=1}x", "column 7: expected the end"},
      {"a{b=[1}", "expected brackets that match"},
      {"a{b=\"1}", "expected a closing '\"'"},
      {"a{b=1, b=2}", "parameter 'b' is given twice"},
      {"f/", "column 3: expected a method id after '/'"},
      {"a{b=[1, 2", "expected a closing ']'"},
  };
  for (const auto& [text, expected] : cases) {
    try {
      parse_method_spec(text);
      ADD_FAILURE() << "accepted " << text;
    } catch (const ParamError& error) {
      EXPECT_THAT(error.what(), HasSubstr(expected)) << text;
    }
  }
}

TEST(MethodSpec, RefusesAnotherFamily) {
  EXPECT_EQ(parse_method_spec("a", "density").family, "density");
  EXPECT_THROW(parse_method_spec("attention/a", "density"), ParamError);
}

TEST(Range, KnowsItsEnds) {
  EXPECT_TRUE(Range::closed(0, 1).contains(0) && Range::closed(0, 1).contains(1));
  EXPECT_FALSE(Range::open(0, 1).contains(0) || Range::open(0, 1).contains(1));
  EXPECT_FALSE(Range::left_open(0, 1).contains(0));
  EXPECT_FALSE(Range::right_open(0, 1).contains(1));
  EXPECT_TRUE(Range::at_least(2).contains(2));
  EXPECT_FALSE(Range::greater_than(2).contains(2));
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL})
    EXPECT_FALSE(Range::any().contains(bad)) << bad;
}

TEST(Params, AssignsEveryKind) {
  const Params p =
      bound(R"(m{slope=1e-3, window=7, centred=true, label="a b", knots=[0,1], of=gmm{components=4}})");
  EXPECT_EQ(p.slope, 1e-3);
  EXPECT_EQ(p.window, 7);
  EXPECT_TRUE(p.centred);
  EXPECT_EQ(p.label, "a b");
  EXPECT_EQ(p.knots, (std::vector<double>{0, 1}));
  EXPECT_EQ(p.of.id, "gmm");
  EXPECT_EQ(p.of.family, "density");
  EXPECT_EQ(bound("m{kernel=box}").kernel, Kernel::box);
}

TEST(Params, MessagesNameRuleGivenAndDefault) {
  EXPECT_EQ(message("m{slope=-3}"),
            "density test: parameter 'slope' must be a real number in (0, 64]; got '-3' (default 8)");
  EXPECT_EQ(message("m{slop=3}"),
            "density test: unknown parameter 'slop'; did you mean 'slope'? Known: slope, window, centred, "
            "kernel, label, "
            "knots, of");
  EXPECT_EQ(message("m{kernel=gaus}"),
            "density test: parameter 'kernel' must be one of gauss, box; got 'gaus' (default gauss); did you "
            "mean 'gauss'?");
  EXPECT_EQ(message("m{window=0}"),
            "density test: parameter 'window' must be an integer >= 1; got '0' (default 64)");
}

TEST(Params, RulesBetweenParametersAreChecked) {
  EXPECT_EQ(message("m{centred=true, kernel=box}"),
            "density test: 'centred' needs kernel = gauss; got kernel = box");
}

TEST(Params, EveryInvalidExampleIsRefused) {
  ParamBinder describe = ParamBinder::describing("density test", nullptr);
  Params().declare(describe);
  ASSERT_EQ(describe.infos().size(), 7u);
  std::size_t refused = 0;
  for (const borel::ParamInfo& info : describe.infos())
    for (const std::string& bad : borel::invalid_examples(info)) {
      if (info.type == borel::ParamType::method && bad == "no_such_method_at_all")
        continue;  // needs a registry
      MethodSpec spec{"density", "m", {{info.name, bad}}};
      EXPECT_THROW(borel::bind_params<Params>("density test", spec, nullptr), ParamError)
          << info.name << " = " << bad;
      ++refused;
    }
  EXPECT_GE(refused, 40u);
}

TEST(Params, WritesShortestTextThatReadsBack) {
  for (double value : {0.1, 1.0 / 3, 1e-300, 5e-324, 8.0, 63.99999999999999}) {
    const std::string text = borel::param_text(value);
    EXPECT_EQ(bound("m{slope=" + text + "}").slope, value) << text;
  }
  EXPECT_EQ(borel::param_text(0.1), "0.1");
}

TEST(Params, BadDeclarationsAreRefused) {
  struct NoUnit {
    double x = 1;
    void declare(ParamBinder& p) { p.real("x", x, Range::any(), "", "Some text."); }
  };
  struct DefaultOutside {
    double x = 2;
    void declare(ParamBinder& p) { p.real("x", x, Range::closed(0, 1), "1", "Some text."); }
  };
  ParamBinder a = ParamBinder::describing("t", nullptr), b = ParamBinder::describing("t", nullptr);
  EXPECT_THROW(NoUnit().declare(a), borel::RegistryError);
  EXPECT_THROW(DefaultOutside().declare(b), borel::RegistryError);
}

TEST(SnakeCase, AcceptsOnlyLowerCaseWords) {
  for (const char* good : {"a", "relu2", "gated_delta_net"}) EXPECT_TRUE(borel::is_snake_case(good)) << good;
  for (const char* bad : {"", "A", "_a", "a_", "a__b", "2a", "a-b", "a b", "a/b"})
    EXPECT_FALSE(borel::is_snake_case(bad)) << bad;
}

}  // namespace
