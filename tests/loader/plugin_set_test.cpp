#include "loader/plugin_set.hpp"

#include <cstdlib>

#include <gmock/gmock.h>

#include "fixtures.hpp"
#include "loader/plugin_file.hpp"
#include "loader/program_folders.hpp"

namespace {

using namespace borel::testing_loader;
using borel::LoadReport;
using borel::Registry;
using testing::HasSubstr;
namespace fs = std::filesystem;

class PluginSet : public FolderTest {
 protected:
  ~PluginSet() override { unsetenv("BOREL_PLUGIN_PATH"); }
  Registry registry;
};

TEST_F(PluginSet, ARefusedPluginDoesNotStopTheOthers) {
  write_file(folder / "a.so", "text");
  copy("throws", "b.so");
  copy("plain", "c.so");
  write_file(folder / "notes.txt", "not a plugin, not looked at");
  const LoadReport report = borel::load_plugins({{folder.string()}, false, false}, registry);
  ASSERT_EQ(report.loaded.size(), 1u);
  EXPECT_EQ(report.loaded[0].id, "fixture.plain");
  ASSERT_EQ(report.refused.size(), 2u);
  EXPECT_EQ(report.refused[0].file.filename(), "a.so");
  EXPECT_EQ(report.refused[1].file.filename(), "b.so");
  EXPECT_NO_THROW(report.throw_if_named_was_refused());
}

TEST_F(PluginSet, ANamedFileThatIsRefusedIsAnError) {
  write_file(folder / "a.so", "text");
  const LoadReport report = borel::load_plugins({{(folder / "a.so").string()}, false, false}, registry);
  EXPECT_THROW(report.throw_if_named_was_refused(), borel::PluginError);
  const LoadReport missing = borel::load_plugins({{(folder / "absent").string()}, false, false}, registry);
  EXPECT_THROW(missing.throw_if_named_was_refused(), borel::PluginError);
}

TEST_F(PluginSet, EnvironmentListIsSearchedAfterTheNamedPaths) {
  fs::create_directory(folder / "one");
  fs::create_directory(folder / "two");
  copy("plain", "one/p.so");
  copy("plain", "two/p.so");
  setenv("BOREL_PLUGIN_PATH", (folder / "one").c_str(), 1);
  const LoadReport report = borel::load_plugins({{(folder / "two").string()}, true, false}, registry);
  ASSERT_EQ(report.loaded.size(), 1u);
  EXPECT_EQ(report.loaded[0].file, folder / "two" / "p.so");
  ASSERT_EQ(report.refused.size(), 1u);
  EXPECT_THAT(report.refused[0].reason, HasSubstr("registered twice"));
}

TEST_F(PluginSet, TheCurrentDirectoryIsNeverSearched) {
  copy("plain", "p.so");
  const fs::path before = fs::current_path();
  fs::current_path(folder);
  for (const char* list : {".", "", "::", "./", "relative/folder"}) {
    setenv("BOREL_PLUGIN_PATH", list, 1);
    Registry empty;
    EXPECT_TRUE(borel::load_plugins({{}, true, false}, empty).loaded.empty()) << "'" << list << "'";
  }
  fs::current_path(before);
}

TEST_F(PluginSet, TheSameFileNamedTwiceIsNoConflict) {
  const std::string file = copy("plain").string();
  const LoadReport report = borel::load_plugins({{file, file, folder.string()}, false, false}, registry);
  EXPECT_EQ(report.loaded.size(), 1u);
  EXPECT_TRUE(report.refused.empty());
}

TEST_F(PluginSet, LoadsInSortedOrder) {
  for (const char* name : {"c.so", "a.so", "b.so"}) copy("plain", name);
  const LoadReport report = borel::load_plugins({{folder.string()}, false, false}, registry);
  ASSERT_EQ(report.loaded.size(), 1u);
  EXPECT_EQ(report.loaded[0].file.filename(), "a.so");
}

TEST_F(PluginSet, HashesAFile) {
  write_file(folder / "x", "abc");  // FIPS 180-2, appendix B.1
  EXPECT_EQ(borel::file_sha256(folder / "x"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_THROW(borel::file_sha256(folder / "absent"), borel::Error);
}

TEST(ProgramFolders, AreFoundFromTheExecutable) {
  EXPECT_EQ(borel::builtin_plugin_folder(), borel::program_folder().parent_path() / "plugins");
  EXPECT_TRUE(fs::is_directory(borel::program_folder()));
}

}  // namespace
