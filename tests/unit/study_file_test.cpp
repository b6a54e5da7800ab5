#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/spec_grid.hpp"
#include "study_fakes.hpp"

namespace borel::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string problem_of(std::string_view toml) {
  World world;
  try {
    world.plan(toml);
  } catch (const StudyError& error) {
    return error.what();
  }
  return "no problem";
}

/// The study of the fakes with one line replaced or added in its [[compare]] table.
std::string with(std::string_view line) {
  return std::string("repetitions = 1\n[[compare]]\nprotocol = \"test.guess\"\ndatasets = [\"small\"]\n") +
         std::string(line) + "\n";
}

TEST(StudyFile, NamesLineAndColumnOfBadToml) {
  EXPECT_THAT(problem_of("title = \"x\"\nrepetitions = = 3\n"), HasSubstr("test.toml:2:"));
  EXPECT_THAT(problem_of("title = \"x\"\nrepetitions = = 3\n"), HasSubstr("not valid TOML"));
}

TEST(StudyFile, NamesUnknownKeysWithTheNearest) {
  EXPECT_THAT(problem_of("repetition = 3\n" + with("methods = [\"shifted\"]")),
              HasSubstr("test.toml:1:1: unknown key 'repetition'; did you mean 'repetitions'?"));
  EXPECT_THAT(
      problem_of("[limits]\ntime_per_cel_s = 3\n" + with("methods = [\"shifted\"]")),
      HasSubstr("test.toml:2:1: unknown key 'time_per_cel_s' in [limits]; did you mean 'time_per_cell_s'?"));
  EXPECT_THAT(problem_of(with("metods = [\"shifted\"]")), HasSubstr("did you mean 'methods'?"));
  EXPECT_THAT(problem_of(with("methods = [\"shifted\"]\npositions = [\"rope\"]")),
              HasSubstr("test.toml:6:13: unknown key 'positions' in [[compare]] of protocol test.guess"));
}

TEST(StudyFile, NamesUnknownProtocolsDatasetsAndMethodsWithTheNearest) {
  EXPECT_THAT(
      problem_of("[[compare]]\nprotocol = \"test.gues\"\ndatasets=[\"small\"]\nmethods=[\"shifted\"]"),
      HasSubstr("test.toml:2:12: unknown protocol 'test.gues'; did you mean 'test.guess'?"));
  EXPECT_THAT(
      problem_of("[[compare]]\nprotocol = \"test.guess\"\ndatasets=[\"smal\"]\nmethods=[\"shifted\"]"),
      HasSubstr("test.toml:3:11: no dataset named 'smal'"));
  EXPECT_THAT(problem_of(with("methods = [\"shiftd\"]")),
              AllOf(HasSubstr("test.toml:5:12:"), HasSubstr("did you mean 'shifted'?")));
}

TEST(StudyFile, NamesBadParametersAndOptions) {
  EXPECT_THAT(problem_of(with("methods = [\"shifted{shift=11}\"]")), HasSubstr("test.toml:5:12:"));
  EXPECT_THAT(problem_of(with("methods = [{id = \"shifted\", shft = 1}]")),
              HasSubstr("did you mean 'shift'?"));
  EXPECT_THAT(problem_of(with("methods = [\"shifted{shift=\"]")), HasSubstr("column"));
  EXPECT_THAT(problem_of(with("methods = [\"shifted\"]\noptions = {n_point = 3}")), HasSubstr("n_points"));
  EXPECT_THAT(problem_of(with("methods = [\"shifted\"]\noptions = {n_points = 0}")),
              HasSubstr("test.toml:6:"));
}

TEST(StudyFile, NamesWrongTypesAndRanges) {
  EXPECT_THAT(problem_of("repetitions = 0\n"),
              HasSubstr("'repetitions' must be an integer in [1, 1000000], got"));
  EXPECT_THAT(problem_of("seed = \"x\"\n"), HasSubstr("'seed' must be an integer"));
  EXPECT_THAT(problem_of("[limits]\nmemory_gb = -1\n"), HasSubstr("'memory_gb' in [limits] must be"));
  EXPECT_THAT(problem_of("[timing]\nenabled = 1\n"),
              HasSubstr("'enabled' in [timing] must be true or false"));
  EXPECT_THAT(problem_of("title = 3\n"), HasSubstr("at least one [[compare]]"));
  EXPECT_THAT(problem_of("[[compare]]\nprotocol = \"test.guess\"\n"), HasSubstr("'datasets' is missing"));
  EXPECT_THAT(problem_of(with("methods = []")), HasSubstr("'methods' must not be empty"));
  EXPECT_THAT(problem_of(with("methods = [3]")), HasSubstr("a method must be a text such as"));
}

TEST(StudyFile, ReportsAllProblemsOnceInOrder) {
  const std::string text =
      problem_of("title = 1\nfoo = 2\n" + with("methods = [\"nope\", \"nope\", \"shifted{shift=99}\"]"));
  EXPECT_THAT(text, HasSubstr("test.toml:1:9:"));
  EXPECT_THAT(text, HasSubstr("test.toml:2:1:"));
  EXPECT_THAT(text, HasSubstr("test.toml:7:12:"));
  EXPECT_THAT(text, HasSubstr("test.toml:7:28:"));
  EXPECT_LT(text.find("test.toml:1:9:"), text.find("test.toml:7:12:"));
}

TEST(StudyFile, RefusesADatasetOfTheWrongKind) {
  World world;
  world.datasets.add_tokens("words");
  try {
    world.plan("[[compare]]\nprotocol = \"test.guess\"\ndatasets = [\"words\"]\nmethods = [\"shifted\"]\n");
    FAIL() << "was accepted";
  } catch (const StudyError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("test.toml:3:13: protocol test.guess needs a dataset of kind 'samples', but "
                          "'words' is of kind 'tokens'"));
  }
}

TEST(StudyFile, RefusesAnEmptyListOfValues) {
  World world;
  try {
    world.plan(
        "[[compare]]\nprotocol = \"test.guess\"\ndatasets = [\"small\"]\nmethods = [{ id = \"shifted\", "
        "shift = [] }]\n");
    FAIL() << "was accepted";
  } catch (const StudyError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'shift' must not be an empty list"));
  }
}

TEST(SpecGrid, SplitsListsAtTheirOwnCommas) {
  EXPECT_THAT(list_elements("[1, 2,3]"), ElementsAre("1", "2", "3"));
  EXPECT_THAT(list_elements("[[1, 2], [3]]"), ElementsAre("[1, 2]", "[3]"));
  EXPECT_THAT(list_elements("[gmm{a=1, b=2}, kde]"), ElementsAre("gmm{a=1, b=2}", "kde"));
  EXPECT_THAT(list_elements("[\"a, b\", c]"), ElementsAre("a, b", "c"));
  EXPECT_THAT(list_elements("[]"), ElementsAre());
  EXPECT_THAT(list_elements("plain"), ElementsAre("plain"));
}

TEST(SpecGrid, ExpandsEveryCombinationButNotListParameters) {
  World world;
  const auto& params = world.registry.entry("guesser", "shifted").params;
  EXPECT_EQ(expand_grid(parse_method_spec("shifted{shift=[1, 2], n_draws=[3, 4, 5]}"), params).size(), 6U);
  EXPECT_EQ(expand_grid(parse_method_spec("shifted{weights=[1, 2]}"), params).size(), 1U);
  const auto lists = expand_grid(parse_method_spec("shifted{weights=[[1, 2], [3]]}"), params);
  ASSERT_EQ(lists.size(), 2U);
  EXPECT_EQ(lists[0].params.at("weights"), "[1, 2]");
}

}  // namespace
}  // namespace borel::test
