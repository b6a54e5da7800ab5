// [[model]] tables: how a study says which networks it trains.
#include "study/study_models.hpp"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataset/temporary_folder.hpp"
#include "study/dataset_source.hpp"

namespace borel {
namespace {

using testing::HasSubstr;

class StudyModelsTest : public testing::Test {
 protected:
  StudyModelsTest() : folder_("study_models") {
    std::ofstream(folder_.path() / "base.toml") << "layers = 3\nsteps = 70\nposition = \"rope\"\n";
  }
  Study study(std::string_view models) const {
    return parse_study(std::string(models) +
                           "\n[[compare]]\nprotocol = \"position.extrapolation\"\n"
                           "datasets = [\"model/a\"]\nmethods = [\"rope\"]\n",
                       (folder_.path() / "study.toml").string());
  }
  StudyModel model(std::string_view models, std::string_view name = "model/a") const {
    return study_model(study(models), name, {});
  }
  std::string problem(std::string_view models, std::string_view name = "model/a") const {
    try {
      const Study read = study(models);
      read.problems.throw_if_any();
      study_model(read, name, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no problem";
  }
  const TemporaryFolder folder_;
};

TEST_F(StudyModelsTest, KeysReplaceThoseOfTheConfiguration) {
  const StudyModel made = model(R"(
[[model]]
name = "a"
config = "base.toml"
steps = 9
attention = "qk_norm{norm=keys}"
position = ["window{window=8}", "rope", "none"])");
  EXPECT_EQ(made.config.n_steps, 9);
  EXPECT_EQ(made.config.model.n_layers, 3);
  ASSERT_EQ(made.config.model.position.size(), 3U);
  EXPECT_EQ(made.config.model.position[0].id, "window");
  EXPECT_EQ(made.config.model.attention[0].id, "qk_norm");
}

TEST_F(StudyModelsTest, TheFileFollowsTheConfigurationAndNothingElse) {
  const auto file = [&](const char* keys, const char* name = "a") {
    return model(std::string("[[model]]\nname = \"") + name + "\"\nconfig = \"base.toml\"\n" + keys,
                 std::string("model/") + name)
        .file;
  };
  EXPECT_EQ(file(""), file("steps = 70"));
  EXPECT_EQ(file(""), file("", "other"));
  EXPECT_NE(file(""), file("steps = 71"));
  EXPECT_NE(file(""), file("position = \"alibi\""));
  EXPECT_EQ(file("").extension(), ".h5");
}

TEST_F(StudyModelsTest, SaysWhatIsWrong) {
  EXPECT_THAT(problem("[[model]]\nname = \"b\"\nconfig = \"base.toml\""),
              HasSubstr("no [[model]] of that name"));
  EXPECT_THAT(problem("[[model]]\nname = \"alibi\"\nconfig = \"base.toml\"", "model/alibl"),
              HasSubstr("did you mean 'alibi'?"));
  EXPECT_THAT(problem("[[model]]\nname = \"a\"\nconfig = \"none.toml\""), HasSubstr("cannot be read"));
  EXPECT_THAT(problem("[[model]]\nname = \"a\"\nconfig = \"base.toml\"\nstepz = 3"),
              AllOf(HasSubstr("study.toml: [[model]] 'a': its own keys"), HasSubstr("stepz"),
                    HasSubstr("steps"), Not(HasSubstr("base.toml"))));
  EXPECT_THAT(problem("[[model]]\nname = \"a\"\nconfig = \"base.toml\"\nsteps = 0"),
              AllOf(HasSubstr("study.toml: [[model]] 'a': its own keys"), HasSubstr("'steps'"),
                    Not(HasSubstr("base.toml"))));
  EXPECT_THAT(problem("[[model]]\nname = \"a\"\nconfig = \"base.toml\"\nsteps = true"),
              AllOf(HasSubstr("its own keys: 'steps' must be a number"), Not(HasSubstr("base.toml"))));
  std::ofstream(folder_.path() / "bad.toml") << "layers = 3\nsteps = true\n";
  EXPECT_THAT(problem("[[model]]\nname = \"a\"\nconfig = \"bad.toml\"\nwidth = 8"),
              AllOf(HasSubstr("study.toml: [[model]] 'a'"), HasSubstr("bad.toml:2: 'steps'")));
  EXPECT_THAT(problem("[[model]]\nname = \"a\""), HasSubstr("'config' is missing in [[model]] number 1"));
  EXPECT_THAT(problem("[[model]]\nname = \"A b\"\nconfig = \"base.toml\""), HasSubstr("small letters"));
  EXPECT_THAT(
      problem(
          "[[model]]\nname = \"a\"\nconfig = \"base.toml\"\n[[model]]\nname = \"a\"\nconfig = \"base.toml\""),
      HasSubstr("two models are named 'a'"));
}

TEST_F(StudyModelsTest, AnUntrainedNetworkNamesTheCommand) {
  const Registry registry;
  const Study read = study("[[model]]\nname = \"a\"\nconfig = \"base.toml\"\nseed = 271828");
  StudyDatasets datasets(registry, read);
  try {
    datasets.info("model/a");
    FAIL() << "the network is not trained";
  } catch (const DatasetError& error) {
    EXPECT_THAT(error.what(), HasSubstr("run: borel data make --for " + read.file));
  }
}

}  // namespace
}  // namespace borel
