// write_sample <folder>: the report of the sample run, for the browser test and for looking at it.
#include <cstdio>

#include "borel/error.hpp"
#include "sample_run.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_sample <folder>\n");
    return 2;
  }
  try {
    borel::write_report(borel::sample_run(), argv[1], borel::sample_protocols());
  } catch (const borel::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
}
