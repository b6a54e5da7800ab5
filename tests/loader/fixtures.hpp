// A folder of one test, and plugin files in it made from the built fixtures.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>

namespace borel::testing_loader {

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write_file(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

class FolderTest : public testing::Test {
 protected:
  FolderTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "borel_loader_XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder");
    folder = pattern;
  }
  ~FolderTest() override { std::filesystem::remove_all(folder); }

  static std::filesystem::path fixture(const std::string& name) {
    return std::filesystem::path(BOREL_FIXTURE_FOLDER) / (name + ".so");
  }

  /// Copy of a fixture under the given file name.
  std::filesystem::path copy(const std::string& name, const std::string& file_name = "plugin.so") {
    std::filesystem::copy_file(fixture(name), folder / file_name);
    return folder / file_name;
  }

  /// Copy of the good fixture in which every `from` is replaced by `to`, of the same length.
  std::filesystem::path patched(const std::string& from, const std::string& to) {
    std::string bytes = read_file(fixture("plain"));
    std::size_t n = 0;
    for (std::size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size(), ++n)
      bytes.replace(at, from.size(), to);
    EXPECT_EQ(from.size(), to.size());
    EXPECT_GE(n, 1u) << "nothing to patch";
    write_file(folder / "plugin.so", bytes);
    return folder / "plugin.so";
  }

  std::filesystem::path folder;
};

}  // namespace borel::testing_loader
