// The boundary between a plugin file and the program. A plugin source ends with
//
//   BOREL_PLUGIN(registry) {
//     registry.add<borel::Attention, Softmax>("softmax", {.summary = "...", .source = "..."});
//   }
//
// and is built with borel_add_plugin(<family> <id> SOURCES ...), which sets BOREL_PLUGIN_ID. No static
// objects with side effects in plugins: they would run before the program can refuse the file.
#pragma once

#include <cstdint>

#include "borel/fingerprint.hpp"
#include "borel/registry.hpp"

/// Version of the boundary itself (struct and section below). Changes of other headers are seen by the
/// fingerprint.
#define BOREL_PLUGIN_ABI 1
#define BOREL_MANIFEST_MAGIC "BOREL-PLUGIN"
#define BOREL_MANIFEST_SECTION ".borel_manifest"

namespace borel {

/// What the one exported symbol `borel_plugin_manifest` points the program to. The first three fields keep
/// their places in every version.
struct PluginManifest {
  char magic[16];             ///< BOREL_MANIFEST_MAGIC
  std::uint32_t struct_size;  ///< sizeof(PluginManifest)
  std::uint32_t abi;          ///< BOREL_PLUGIN_ABI
  const char* fingerprint;
  const char* plugin_id;  ///< family.id of the file
  void (*register_into)(Registry&);
};

}  // namespace borel

// Facts about the toolchain that both sides must share, as text. One literal, because the linker stores it as
// it is.
#define BOREL_TEXT_(x) #x
#define BOREL_TEXT(x) BOREL_TEXT_(x)

#if defined(__clang__)
#define BOREL_COMPILER "Clang " BOREL_TEXT(__clang_major__)
#else
#define BOREL_COMPILER "GCC " BOREL_TEXT(__GNUC__)
#endif

#if defined(_LIBCPP_VERSION)
#define BOREL_STANDARD_LIBRARY "libc++ " BOREL_TEXT(_LIBCPP_ABI_VERSION)
#elif defined(_GLIBCXX_DEBUG)
#define BOREL_STANDARD_LIBRARY "libstdc++ cxx11_abi " BOREL_TEXT(_GLIBCXX_USE_CXX11_ABI) " debug"
#else
#define BOREL_STANDARD_LIBRARY "libstdc++ cxx11_abi " BOREL_TEXT(_GLIBCXX_USE_CXX11_ABI)
#endif

#if defined(__has_feature)
#define BOREL_HAS_FEATURE(x) __has_feature(x)
#else
#define BOREL_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || BOREL_HAS_FEATURE(address_sanitizer)
#define BOREL_SANITIZER "address"
#elif defined(__SANITIZE_THREAD__) || BOREL_HAS_FEATURE(thread_sanitizer)
#define BOREL_SANITIZER "thread"
#elif BOREL_HAS_FEATURE(memory_sanitizer)
#define BOREL_SANITIZER "memory"
#else
#define BOREL_SANITIZER "none"
#endif

#if defined(__FAST_MATH__)
#define BOREL_FLOAT_RULES "fast-math"
#else
#define BOREL_FLOAT_RULES "ieee"
#endif

#if defined(__x86_64__)
#define BOREL_MACHINE "x86_64"
#elif defined(__aarch64__)
#define BOREL_MACHINE "aarch64"
#else
#define BOREL_MACHINE "other"
#endif

// `compiler` is for the reader; GCC and Clang share one ABI when the other facts agree, so it is not
// compared.
#define BOREL_BUILD_FACTS                                                                      \
  "headers=" BOREL_HEADERS_FINGERPRINT "\nmachine=" BOREL_MACHINE                              \
  "\npointer_bytes=" BOREL_TEXT(__SIZEOF_POINTER__) "\nlanguage=" BOREL_TEXT(                  \
      __cplusplus) "\nstandard_library=" BOREL_STANDARD_LIBRARY "\nsanitizer=" BOREL_SANITIZER \
                   "\nfloat_rules=" BOREL_FLOAT_RULES "\ncompiler=" BOREL_COMPILER "\n"

extern "C" BOREL_EXPORT const borel::PluginManifest borel_plugin_manifest;

/// Defines the manifest, as symbol and as text in its own section (read before any code of the file runs, and
/// kept by strip and by --gc-sections), and begins the function that registers the methods.
#define BOREL_PLUGIN(registry)                                                                               \
  static void borel_register_methods(::borel::Registry& registry);                                           \
  [[gnu::used, gnu::retain, gnu::section(BOREL_MANIFEST_SECTION)]] static const char borel_manifest_text[] = \
      BOREL_MANIFEST_MAGIC "\nabi=" BOREL_TEXT(BOREL_PLUGIN_ABI) "\nid=" BOREL_PLUGIN_ID                     \
                                                                 "\n" BOREL_BUILD_FACTS "end\n";             \
  extern "C" const ::borel::PluginManifest borel_plugin_manifest = {                                         \
      BOREL_MANIFEST_MAGIC, sizeof(::borel::PluginManifest), BOREL_PLUGIN_ABI, BOREL_HEADERS_FINGERPRINT,    \
      BOREL_PLUGIN_ID,      &borel_register_methods};                                                        \
  static void borel_register_methods([[maybe_unused]] ::borel::Registry& registry)
