#include "loader/plugin_file.hpp"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#define BOOST_DLL_USE_STD_FS
#include <fmt/format.h>
#include <boost/dll/shared_library.hpp>

#include "borel/parallel.hpp"
#include "borel/plugin.hpp"
#include "loader/elf_section.hpp"

namespace borel {
namespace fs = std::filesystem;
namespace {

constexpr std::uintmax_t k_max_plugin_bytes = std::uintmax_t{1} << 29;

constexpr std::string_view k_no_manifest =
    "has no Borel manifest (section " BOREL_MANIFEST_SECTION
    "); it is no Borel plugin, or its source lacks BOREL_PLUGIN(registry) { ... }";

/// Anyone could put code there that would run with the rights of the caller.
void refuse_world_writable(const fs::path& path, const struct stat& status) {
  if (status.st_mode & S_IWOTH)
    throw PluginError(
        fmt::format("{} '{}' can be written by anyone; take that right away: chmod o-w '{}'",
                    S_ISDIR(status.st_mode) ? "is in a folder that is not safe:" : "is not safe: the file",
                    path.string(), path.string()));
}

struct stat status_of(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0)
    throw PluginError(errno == ENOENT ? std::string("does not exist")
                                      : fmt::format("cannot be read: {}", std::strerror(errno)));
  return status;
}

std::vector<std::byte> read_checked(const fs::path& file) {
  const struct stat status = status_of(file);
  if (S_ISDIR(status.st_mode))
    throw PluginError("is a folder, not a plugin file; name a file in it, or use --plugin-path");
  if (!S_ISREG(status.st_mode)) throw PluginError("is not a regular file");
  const fs::path real = fs::canonical(file);
  for (const fs::path& folder : {fs::absolute(file).parent_path(), real.parent_path()})
    refuse_world_writable(folder, status_of(folder));
  refuse_world_writable(real, status);
  const auto size = static_cast<std::uintmax_t>(status.st_size);
  if (size == 0) throw PluginError("is empty");
  if (size > k_max_plugin_bytes)
    throw PluginError(fmt::format("has {} bytes; a plugin may have at most {}", size, k_max_plugin_bytes));
  std::vector<std::byte> bytes(size);
  std::ifstream in(file, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)))
    throw PluginError("cannot be read to its end; check the permissions of the file");
  return bytes;
}

/// Puts the file's name before every reason.
template <class F>
auto named(const fs::path& file, F&& call) {
  try {
    return call();
  } catch (const PluginError& error) {
    throw PluginError(fmt::format("plugin {} {}", file.string(), error.what()));
  } catch (const fs::filesystem_error& error) {
    throw PluginError(fmt::format("plugin {} cannot be read: {}", file.string(), error.code().message()));
  }
}

unsigned float_mode() {
#if defined(__x86_64__)
  constexpr unsigned k_status_flags = 0x3f;
  return __builtin_ia32_stmxcsr() & ~k_status_flags;
#else
  return 0;
#endif
}

void set_float_mode([[maybe_unused]] unsigned mode) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(mode);
#endif
}

/// Never unloaded, on purpose. The list is reachable for ever, so that a leak checker does not report its libraries.
const boost::dll::shared_library* keep_forever(std::unique_ptr<boost::dll::shared_library> library) {
  static std::mutex mutex;
  static auto& libraries = *new std::vector<std::unique_ptr<boost::dll::shared_library>>;
  const std::scoped_lock lock(mutex);
  return libraries.emplace_back(std::move(library)).get();
}

/// Loads the file for the rest of the process: methods, traits and exceptions may refer to its code at any
/// time.
const PluginManifest& open_forever(const fs::path& file) {
  const unsigned mode_before = float_mode();
  dlerror();
  boost::dll::fs::error_code error;
  auto library = std::make_unique<boost::dll::shared_library>();
  library->load(file, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local, error);
  if (error) {
    // The error code is of no use (a stale errno); the loader's own text names the symbol.
    const char* text = dlerror();
    throw PluginError(
        fmt::format("cannot be loaded: {}", text ? text : "the dynamic loader gives no reason"));
  }
  const boost::dll::shared_library* kept = keep_forever(std::move(library));
  if (float_mode() != mode_before) {
    set_float_mode(mode_before);
    throw PluginError(
        "changes the floating-point mode of the whole program when it is loaded (it was linked with "
        "-ffast-math or -Ofast); link it without");
  }
  if (!kept->has("borel_plugin_manifest"))
    throw PluginError(
        "has a manifest section but does not export borel_plugin_manifest; build it with borel_add_plugin()");
  return kept->get<const PluginManifest>("borel_plugin_manifest");
}

void check_agreement(const Manifest& text, const PluginManifest& symbol) {
  const auto differs = [](std::string_view what, const auto& section, const auto& exported) {
    throw PluginError(fmt::format(
        "contradicts itself: {} is '{}' in its manifest section and '{}' in its exported symbol; build "
        "it again with borel_add_plugin()",
        what, section, exported));
  };
  if (std::string_view(symbol.magic, strnlen(symbol.magic, sizeof symbol.magic)) != BOREL_MANIFEST_MAGIC)
    throw PluginError(
        "exports a borel_plugin_manifest without the magic word; build it again with borel_add_plugin()");
  if (symbol.abi != static_cast<std::uint32_t>(text.abi)) differs("the ABI version", text.abi, symbol.abi);
  if (symbol.struct_size != sizeof(PluginManifest))
    differs("the manifest size", sizeof(PluginManifest), symbol.struct_size);
  if (!symbol.plugin_id || !symbol.fingerprint || !symbol.register_into)
    throw PluginError(
        "exports a borel_plugin_manifest with null members; build it again with borel_add_plugin()");
  if (symbol.plugin_id != text.id) differs("the id", text.id, symbol.plugin_id);
  if (symbol.fingerprint != text.facts.at("headers"))
    differs("the fingerprint", text.facts.at("headers"), symbol.fingerprint);
}

void register_methods(const fs::path& file, const std::string& id, const PluginManifest& symbol,
                      Registry& registry) {
  const auto fail = [](std::string_view reason) {
    throw PluginError(fmt::format("failed while it registered its methods: {}", reason));
  };
  try {
    registry.add_from(file.string(), [&](Registry& target) {
      symbol.register_into(target);
      const std::size_t dot = id.find('.');
      const std::string family = id.substr(0, dot), method = id.substr(dot + 1);
      for (const MethodEntry* entry : target.entries())
        if (entry->family == family && entry->id == method && entry->origin == file.string()) return;
      fail(fmt::format("its id is '{}', so it must register the method '{}' of family '{}', and it does not",
                       id, method, family));
    });
  } catch (const PluginError&) {
    throw;
  } catch (const std::exception& error) {
    fail(error.what());
  } catch (...) {
    fail("it threw something that is no std::exception");
  }
}

}  // namespace

Manifest inspect_plugin(const fs::path& file) {
  return named(file, [&] {
    const std::vector<std::byte> bytes = read_checked(file);
    Manifest manifest = parse_manifest(read_elf_section(bytes, BOREL_MANIFEST_SECTION, k_no_manifest));
    check_build_facts(manifest);
    return manifest;
  });
}

std::string load_plugin(const fs::path& file, Registry& registry) {
  const Manifest manifest = inspect_plugin(file);
  return named(file, [&] {
    const PluginManifest& symbol = open_forever(fs::absolute(file));
    check_agreement(manifest, symbol);
    register_methods(file, manifest.id, symbol, registry);
    return manifest.id;
  });
}

fs::path library_file() {
  Dl_info facts{};
  if (::dladdr(reinterpret_cast<const void*>(&max_threads), &facts) == 0 || !facts.dli_fname)
    throw Error("the dynamic loader does not say which file the library is in");
  return fs::canonical(facts.dli_fname);
}

std::string file_sha256(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!in || !context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    throw Error(fmt::format("{}: cannot be read for its SHA-256", file.string()));
  std::vector<char> block(std::size_t{1} << 16);
  while (in) {
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    EVP_DigestUpdate(context.get(), block.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (in.bad()) throw Error(fmt::format("{}: cannot be read to its end", file.string()));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace borel
