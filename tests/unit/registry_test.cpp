#include "borel/registry.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using borel::MethodSpec;
using borel::ParamBinder;
using borel::Range;
using borel::Registry;
using borel::RegistryError;
using testing::HasSubstr;

class Shape {
 public:
  static constexpr std::string_view family = "shape";
  virtual ~Shape() = default;
  virtual double area() const = 0;
  borel::TraitList describe() const { return {{"area", std::to_string(area())}}; }
};

struct Square final : Shape {
  struct Params {
    double side = 1;
    void declare(ParamBinder& p) { p.real("side", side, Range::at_least(0), "m", "Length of a side."); }
  };
  explicit Square(const Params& p) : side(p.side) {}
  double area() const override { return side * side; }
  double side;
};

struct Doubled final : Shape {
  struct Params {
    MethodSpec of{"", "square", {}};
    void declare(ParamBinder& p) { p.method("of", of, "shape", "Shape whose area is doubled."); }
  };
  Doubled(const Params& p, const Registry& registry) : inner(registry.make<Shape>(p.of)) {}
  double area() const override { return 2 * inner->area(); }
  std::unique_ptr<Shape> inner;
};

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    registry.add_from("shapes.so", [](Registry& r) {
      r.add<Shape, Square>("square", {.summary = "A square", .source = "Euclid I.46"});
      r.add<Shape, Doubled>("doubled", {.summary = "Twice the area", .source = "own"});
    });
  }
  template <class F>
  std::string message(F&& call) {
    try {
      call();
    } catch (const borel::Error& error) {
      return error.what();
    }
    return "no error";
  }
  Registry registry;
};

TEST_F(RegistryTest, MakesMethodsWithParameters) {
  EXPECT_EQ(registry.make<Shape>("square{side=3}")->area(), 9);
  EXPECT_EQ(registry.make<Shape>("shape/doubled{of=square{side=2}}")->area(), 8);
  EXPECT_EQ(registry.make<Shape>("doubled{of=doubled{of=square{side=2}}}")->area(), 16);
}

TEST_F(RegistryTest, CanonicalTextHoldsAllUsedParameters) {
  EXPECT_EQ(registry.canonical(borel::parse_method_spec("shape/square")), "shape/square{side=1}");
  EXPECT_EQ(registry.canonical(borel::parse_method_spec("shape/square{side=1.50}")),
            "shape/square{side=1.5}");
  EXPECT_EQ(registry.canonical(borel::parse_method_spec("shape/doubled")),
            "shape/doubled{of=shape/square{side=1}}");
}

TEST_F(RegistryTest, ErrorsInNestedMethodsNameTheWholePath) {
  const std::string text = message([&] { registry.make<Shape>("doubled{of=square{side=-1}}"); });
  EXPECT_THAT(
      text,
      HasSubstr("shape doubled: parameter 'of': shape square: parameter 'side' must be a real number >= 0"));
  EXPECT_THAT(message([&] { registry.make<Shape>("doubled{of=sqare}"); }),
              HasSubstr("did you mean 'square'?"));
}

TEST_F(RegistryTest, UnknownIdNamesNearestAndKnown) {
  EXPECT_EQ(message([&] { registry.get<Shape>("squar"); }),
            "no shape named 'squar'; did you mean 'square'? Known: doubled square");
  EXPECT_THAT(message([&] { registry.entry("shap", "square"); }), HasSubstr("did you mean 'shape'?"));
}

TEST_F(RegistryTest, DuplicateIdNamesBothFilesAndChangesNothing) {
  const std::string text = message([&] {
    registry.add_from("other.so", [](Registry& r) {
      r.add<Shape, Square>("cube", {.summary = "s", .source = "s"});
      r.add<Shape, Square>("square", {.summary = "s", .source = "s"});
    });
  });
  EXPECT_THAT(text, HasSubstr("shape 'square' is registered twice: by shapes.so and by other.so"));
  EXPECT_EQ(registry.ids<Shape>(), (std::vector<std::string>{"doubled", "square"}));
}

TEST_F(RegistryTest, IncompleteRegistrationsAreRefused) {
  EXPECT_THROW((registry.add<Shape, Square>("Square", {.summary = "s", .source = "s"})), RegistryError);
  EXPECT_THROW((registry.add<Shape, Square>("a", {.source = "s"})), RegistryError);
  EXPECT_THROW((registry.add<Shape, Square>("a", {.summary = "s"})), RegistryError);
}

TEST_F(RegistryTest, ListsEntriesWithOriginParametersAndTraits) {
  const auto entries = registry.entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1]->id, "square");
  EXPECT_EQ(entries[1]->origin, "shapes.so");
  EXPECT_EQ(entries[1]->params.at(0).rule_text, "a real number >= 0");
  EXPECT_EQ(entries[1]->traits(MethodSpec{"shape", "square", {}}).at(0).first, "area");
}

TEST_F(RegistryTest, AMethodOfAnotherFamilyIsRefused) {
  EXPECT_THROW(registry.make<Shape>("attention/square"), borel::ParamError);
  EXPECT_THROW(registry.make<Shape>(MethodSpec{"attention", "square", {}}), borel::ParamError);
}

}  // namespace
