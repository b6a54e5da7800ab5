#include "study/provenance.hpp"

#include <ctime>
#include <fstream>
#include <thread>

#include <dlfcn.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fmt/format.h>
#include <hdf5.h>
#include <tbb/version.h>

#include "borel/fingerprint.hpp"

namespace borel {
namespace {

/// Value of the first line `name : value` of a /proc file.
std::string proc_value(const char* file, std::string_view name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

/// OpenBLAS comes in with whatever links it, so it is asked only when it is there.
template <class Function>
Function* loaded_function(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_DEFAULT, name));
}

constexpr const char* k_compiler =
#if defined(__clang__)
    "Clang " __clang_version__;
#else
    "GCC " __VERSION__;
#endif

}  // namespace

Provenance gather_provenance(int threads) {
  Provenance facts;
  const auto add = [&](std::string name, std::string value) {
    if (!value.empty()) facts.emplace_back(std::move(name), std::move(value));
  };
  add("started_at", utc_now());
  add("borel_version", BOREL_VERSION);
  add("git_revision", BOREL_GIT_REVISION);
  add("headers_fingerprint", BOREL_HEADERS_FINGERPRINT);
  add("build_type", BOREL_BUILD_TYPE);
  add("compiler", k_compiler);
  utsname system{};
  if (::uname(&system) == 0) {
    add("host", system.nodename);
    add("system", fmt::format("{} {} {}", system.sysname, system.release, system.machine));
  }
  add("cpu", proc_value("/proc/cpuinfo", "model name"));
  add("logical_cores", std::to_string(std::thread::hardware_concurrency()));
  const long pages = ::sysconf(_SC_PHYS_PAGES), page_size = ::sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && page_size > 0)
    add("memory_gb",
        fmt::format("{:.1f}", static_cast<double>(pages) * static_cast<double>(page_size) / 1e9));
  add("threads", std::to_string(threads));
  add("timing_threads", "1");
  add("tbb_version", ::TBB_runtime_version());
  unsigned major = 0, minor = 0, release = 0;
  if (::H5get_libversion(&major, &minor, &release) >= 0)
    add("hdf5_version", fmt::format("{}.{}.{}", major, minor, release));
  if (auto* config = loaded_function<char*()>("openblas_get_config")) add("openblas", config());
  if (auto* core = loaded_function<char*()>("openblas_get_corename")) add("openblas_core", core());
  if (auto* count = loaded_function<int()>("openblas_get_num_threads"))
    add("openblas_threads", std::to_string(count()));
  return facts;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

void pin_blas_threads() {
  if (auto* set = loaded_function<void(int)>("openblas_set_num_threads")) set(1);
}

}  // namespace borel
