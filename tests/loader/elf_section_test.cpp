#include "loader/elf_section.hpp"

#include <algorithm>

#include <gmock/gmock.h>

#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "borel/rng.hpp"
#include "fixtures.hpp"
#include "loader/manifest.hpp"

namespace {

using namespace borel::testing_loader;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

class ElfSection : public FolderTest {};

TEST_F(ElfSection, ReadsTheManifestText) {
  const std::string file = read_file(fixture("plain"));
  const std::string_view text = borel::read_elf_section(bytes_of(file), BOREL_MANIFEST_SECTION, "none");
  EXPECT_EQ(borel::parse_manifest(text).id, "fixture.plain");
  EXPECT_EQ(borel::parse_manifest(text).facts, borel::host_build_facts());
}

TEST_F(ElfSection, ManifestIsAlsoReadByStandardTools) {
  const std::string command = "readelf -p " BOREL_MANIFEST_SECTION " " + fixture("plain").string() + " > " +
                              (folder / "out").string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(read_file(folder / "out"), testing::HasSubstr("id=fixture.plain"));
}

/// Any bytes either give a text inside the file or a PluginError; nothing else happens (run with sanitizers
/// too).
TEST_F(ElfSection, SurvivesMutatedFiles) {
  const std::string good = read_file(fixture("plain"));
  const std::size_t table = *reinterpret_cast<const std::uint64_t*>(good.data() + 40);  // e_shoff
  borel::Rng rng(borel::Seed{20240607});
  int refused = 0, accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    // Mostly where it hurts: file header, section table.
    const int n_changes = 1 + static_cast<int>(rng.below(8));
    for (int change = 0; change < n_changes; ++change) {
      const std::uint64_t where = rng.below(4);
      std::size_t at = where == 0   ? rng.below(64)
                       : where == 1 ? rng.below(bad.size())
                                    : table + rng.below(bad.size() - table);
      const std::uint64_t kind = rng.below(3);
      bad[at] = kind == 0   ? static_cast<char>(rng.below(256))
                : kind == 1 ? '\xff'
                            : static_cast<char>(bad[at] ^ (1 << rng.below(8)));
    }
    if (rng.below(8) == 0) bad.resize(rng.below(bad.size() + 1));
    bad.shrink_to_fit();
    try {
      const std::string_view text = borel::read_elf_section(bytes_of(bad), BOREL_MANIFEST_SECTION, "none");
      ASSERT_GE(text.data(), bad.data());
      ASSERT_LE(text.data() + text.size(), bad.data() + bad.size());
      borel::check_build_facts(borel::parse_manifest(text));
      ++accepted;
    } catch (const borel::PluginError&) {
      ++refused;
    }
  }
  EXPECT_GE(refused, 1000);
  EXPECT_GE(accepted, 1000);  // changes elsewhere in the file are not this reader's business
}

}  // namespace
