// Runs another program and waits for it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace borel {

struct ProgramResult {
  int exit_code = 0;   // 127: could not be started; 128 + n: ended by signal n
  std::string output;  // standard output and error together
};

/// @param arguments the program (looked up in PATH) and its arguments, no shell in between
/// @param folder working directory of the program
ProgramResult run_program(const std::vector<std::string>& arguments, const std::filesystem::path& folder);

}  // namespace borel
