#include "loader/elf_section.hpp"

#include <elf.h>

#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

#if defined(__x86_64__)
constexpr unsigned k_machine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned k_machine = EM_AARCH64;
#else
#error "name the ELF machine number of this architecture here"
#endif

/// Copy of a T at an offset, which need not be aligned; empty when it does not fit in the file.
template <class T>
std::optional<T> read_at(std::span<const std::byte> file, std::uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

std::optional<std::string_view> text_at(std::span<const std::byte> file, std::uint64_t offset,
                                        std::uint64_t size) {
  if (offset > file.size() || file.size() - offset < size) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(file.data()) + offset, size);
}

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "AArch64";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "POWER";
    default:
      return fmt::format("machine number {}", machine);
  }
}

[[noreturn]] void truncated(std::uint64_t needed, std::size_t size) {
  throw PluginError(fmt::format(
      "is truncated or damaged: its section table needs {} bytes, the file has {}; copy or build it again",
      needed, size));
}

Elf64_Ehdr read_header(std::span<const std::byte> file) {
  if (file.size() < SELFMAG || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0)
    throw PluginError("is not a shared library (no ELF header)");
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header)
    throw PluginError(
        fmt::format("is truncated or damaged: {} bytes are less than an ELF header; copy or build it again",
                    file.size()));
  if (header->e_ident[EI_CLASS] != ELFCLASS64) throw PluginError("is not a 64-bit library; this program is");
  if (header->e_ident[EI_DATA] != ELFDATA2LSB)
    throw PluginError("has big-endian byte order; this program has little-endian");
  if (header->e_machine != k_machine)
    throw PluginError(fmt::format("was built for another machine: {}; this program runs on {}",
                                  machine_name(header->e_machine), machine_name(k_machine)));
  if (header->e_type != ET_DYN)
    throw PluginError("is an ELF file but no shared library; build it with borel_add_plugin()");
  return *header;
}

}  // namespace

std::string_view read_elf_section(std::span<const std::byte> file, std::string_view name,
                                  std::string_view missing) {
  const Elf64_Ehdr header = read_header(file);
  const std::uint64_t count = header.e_shnum;
  if (header.e_shoff == 0 || count == 0) throw PluginError(std::string(missing));
  if (header.e_shentsize != sizeof(Elf64_Shdr))
    throw PluginError("is damaged: its section table has entries of a wrong size");
  const std::uint64_t table_bytes = count * sizeof(Elf64_Shdr);
  if (header.e_shoff > file.size() || file.size() - header.e_shoff < table_bytes)
    truncated(header.e_shoff + table_bytes, file.size());

  const auto section = [&](std::uint64_t index) {
    return read_at<Elf64_Shdr>(file, header.e_shoff + index * sizeof(Elf64_Shdr));
  };
  if (header.e_shstrndx >= count) throw PluginError("is damaged: its table of section names is not there");
  const auto names_header = section(header.e_shstrndx);
  const auto names =
      names_header ? text_at(file, names_header->sh_offset, names_header->sh_size) : std::nullopt;
  if (!names) throw PluginError("is damaged: its table of section names lies outside the file");

  for (std::uint64_t i = 0; i < count; ++i) {
    const auto candidate = section(i);
    if (!candidate || candidate->sh_name >= names->size()) continue;
    const std::string_view rest = names->substr(candidate->sh_name);
    if (rest.substr(0, rest.find('\0')) != name || candidate->sh_type == SHT_NOBITS) continue;
    const auto content = text_at(file, candidate->sh_offset, candidate->sh_size);
    if (!content) throw PluginError(fmt::format("is damaged: its section {} lies outside the file", name));
    return *content;
  }
  throw PluginError(std::string(missing));
}

}  // namespace borel
