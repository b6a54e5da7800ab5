// Broken plugin files: each is refused with its own message, and the program goes on.
#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include <gmock/gmock.h>

#include "borel/plugin.hpp"
#include "fixtures.hpp"
#include "loader/plugin_file.hpp"

namespace {

using namespace borel::testing_loader;
using borel::Registry;
using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

class Torture : public FolderTest {
 protected:
  /// The message of the refusal; afterwards the registry is still empty and still works.
  std::string refusal(const fs::path& file) {
    std::string message = "was accepted";
    try {
      borel::load_plugin(file, registry);
    } catch (const borel::PluginError& error) {
      message = error.what();
    }
    EXPECT_TRUE(registry.entries().empty());
    EXPECT_EQ(borel::load_plugin(fixture("plain"), registry), "fixture.plain")
        << "the program did not survive";
    EXPECT_THAT(message, HasSubstr(file.filename().string()));
    return message;
  }
  Registry registry;
};

TEST_F(Torture, TheGoodFixtureIsAccepted) {
  EXPECT_EQ(borel::load_plugin(fixture("plain"), registry), "fixture.plain");
  EXPECT_EQ(registry.entry("fixture", "plain").origin, fixture("plain").string());
}

TEST_F(Torture, AStrippedPluginIsAccepted) {
  const fs::path file = copy("plain");
  ASSERT_EQ(std::system((std::string(BOREL_STRIP) + " " + file.string()).c_str()), 0);
  EXPECT_EQ(borel::load_plugin(file, registry), "fixture.plain");
}

TEST_F(Torture, Missing) { EXPECT_THAT(refusal(folder / "absent.so"), HasSubstr("does not exist")); }

TEST_F(Torture, Empty) {
  write_file(folder / "plugin.so", "");
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is empty"));
}

TEST_F(Torture, Text) {
  write_file(folder / "plugin.so", "#!/bin/sh\necho hello\n");
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is not a shared library (no ELF header)"));
}

TEST_F(Torture, Truncated) {
  const std::string bytes = read_file(fixture("plain"));
  write_file(folder / "plugin.so", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is truncated or damaged: its section table needs"));
}

TEST_F(Torture, TruncatedInsideTheHeader) {
  write_file(folder / "plugin.so", read_file(fixture("plain")).substr(0, 20));
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("20 bytes are less than an ELF header"));
}

TEST_F(Torture, WrongMachine) {
  std::string bytes = read_file(fixture("plain"));
  const Elf64_Half machine = EM_RISCV;
  std::memcpy(bytes.data() + offsetof(Elf64_Ehdr, e_machine), &machine, sizeof machine);
  write_file(folder / "plugin.so", bytes);
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("was built for another machine: RISC-V"));
}

TEST_F(Torture, ThirtyTwoBit) {
  std::string bytes = read_file(fixture("plain"));
  bytes[EI_CLASS] = ELFCLASS32;
  write_file(folder / "plugin.so", bytes);
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is not a 64-bit library"));
}

TEST_F(Torture, BigEndian) {
  std::string bytes = read_file(fixture("plain"));
  bytes[EI_DATA] = ELFDATA2MSB;
  write_file(folder / "plugin.so", bytes);
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("big-endian"));
}

TEST_F(Torture, ObjectFileInPlaceOfALibrary) {
  std::string bytes = read_file(fixture("plain"));
  bytes[offsetof(Elf64_Ehdr, e_type)] = ET_REL;
  write_file(folder / "plugin.so", bytes);
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("no shared library"));
}

TEST_F(Torture, NoManifest) {
  EXPECT_THAT(refusal(copy("no_manifest")), HasSubstr("has no Borel manifest (section .borel_manifest)"));
}

TEST_F(Torture, AnOrdinaryProgram) { EXPECT_THAT(refusal("/bin/true"), HasSubstr("has no Borel manifest")); }

TEST_F(Torture, WrongMagic) {
  EXPECT_THAT(refusal(patched("BOREL-PLUGIN\n", "LEROB-PLUGIN\n")),
              HasSubstr("does not begin with the magic word"));
}

TEST_F(Torture, DamagedManifest) {
  EXPECT_THAT(refusal(patched("\nend\n", "\nxxx\n")),
              HasSubstr("has a damaged manifest: its end is missing"));
}

TEST_F(Torture, ManifestWithoutAbiVersion) {
  EXPECT_THAT(refusal(patched("\nabi=1\n", "\nabi=x\n")), HasSubstr("no ABI version in it"));
}

TEST_F(Torture, OldAbi) {
  EXPECT_THAT(refusal(patched("\nabi=1\n", "\nabi=0\n")),
              AllOf(HasSubstr("older plugin ABI 0; this program has ABI 1"), HasSubstr("rebuild")));
}

TEST_F(Torture, NewerAbi) {
  EXPECT_THAT(refusal(patched("\nabi=1\n", "\nabi=9\n")),
              HasSubstr("newer plugin ABI 9; this program has ABI 1"));
}

TEST_F(Torture, OtherHeaders) {
  EXPECT_THAT(
      refusal(patched("headers=" BOREL_HEADERS_FINGERPRINT, "headers=0123456789abcdef")),
      HasSubstr(
          "public headers: the plugin has '0123456789abcdef', this program has '" BOREL_HEADERS_FINGERPRINT
          "'; rebuild it against the headers of this installation"));
}

TEST_F(Torture, DebugModeOfTheStandardLibrary) {
  EXPECT_THAT(refusal(copy("debug_library")),
              HasSubstr("standard library mode: the plugin has 'libstdc++ cxx11_abi 1 debug'"));
}

TEST_F(Torture, FastMath) {
  EXPECT_THAT(
      refusal(copy("fast_math")),
      HasSubstr(
          "floating-point rules: the plugin has 'fast-math', this program has 'ieee'; rebuild it without"));
}

TEST_F(Torture, OtherSanitizer) {
  if (std::string(BOREL_TEST_SANITIZE).empty()) {
    // Loading this one would end the process: the check comes before.
    EXPECT_THAT(refusal(copy("sanitized")),
                HasSubstr("sanitizer: the plugin has 'address', this program has 'none'"));
  } else {
    EXPECT_THAT(refusal(patched("sanitizer=" BOREL_SANITIZER,
                                "sanitizer=" + std::string(sizeof(BOREL_SANITIZER) - 1, 'x'))),
                HasSubstr("sanitizer: the plugin has 'x"));
  }
}

TEST_F(Torture, EveryDifferenceIsListed) {
  std::string bytes = read_file(fixture("fast_math"));
  const std::string from = "headers=" BOREL_HEADERS_FINGERPRINT;
  bytes.replace(bytes.find(from), from.size(), "headers=0123456789abcdef");
  write_file(folder / "plugin.so", bytes);
  EXPECT_THAT(refusal(folder / "plugin.so"),
              AllOf(HasSubstr("floating-point rules:"), HasSubstr("public headers:")));
}

TEST_F(Torture, DuplicateId) {
  const fs::path first = fixture("plain"), second = copy("plain", "again.so");
  borel::load_plugin(first, registry);
  try {
    borel::load_plugin(second, registry);
    FAIL() << "accepted twice";
  } catch (const borel::PluginError& error) {
    EXPECT_THAT(error.what(), HasSubstr("fixture 'plain' is registered twice: by " + first.string() +
                                        " and by " + second.string()));
  }
  EXPECT_EQ(registry.entry("fixture", "plain").origin, first.string());
}

TEST_F(Torture, RegistersOneIdTwice) {
  EXPECT_THAT(refusal(copy("twice")), HasSubstr("'plain' is registered twice"));
}

TEST_F(Torture, UndefinedSymbol) {
  EXPECT_THAT(refusal(copy("undefined")),
              AllOf(HasSubstr("cannot be loaded: "), HasSubstr("borel_fixture_function_that_nobody_defines"),
                    testing::Not(HasSubstr("Bad file descriptor"))));
}

TEST_F(Torture, ThrowsInRegistration) {
  EXPECT_THAT(refusal(copy("throws")),
              HasSubstr("failed while it registered its methods: the table of constants is missing"));
}

TEST_F(Torture, ThrowsNoStandardException) {
  EXPECT_THAT(refusal(copy("throws_int")), HasSubstr("it threw something that is no std::exception"));
}

TEST_F(Torture, WorldWritableFile) {
  const fs::path file = copy("plain");
  ASSERT_EQ(chmod(file.c_str(), 0666), 0);
  EXPECT_THAT(refusal(file), AllOf(HasSubstr("can be written by anyone"), HasSubstr("chmod o-w")));
}

TEST_F(Torture, WorldWritableFolder) {
  const fs::path file = copy("plain");
  ASSERT_EQ(chmod(folder.c_str(), 0777), 0);
  EXPECT_THAT(refusal(file), HasSubstr("is in a folder that is not safe"));
}

TEST_F(Torture, LinkIntoAWorldWritableFolder) {
  const fs::path open = folder / "open", safe = folder / "safe";
  fs::create_directory(open);
  fs::create_directory(safe);
  fs::copy_file(fixture("plain"), open / "plugin.so");
  ASSERT_EQ(chmod(open.c_str(), 0777), 0);
  fs::create_symlink(open / "plugin.so", safe / "plugin.so");
  EXPECT_THAT(refusal(safe / "plugin.so"), HasSubstr("is in a folder that is not safe"));
}

TEST_F(Torture, FolderInPlaceOfFile) {
  fs::create_directory(folder / "plugin.so");
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is a folder, not a plugin file"));
}

TEST_F(Torture, PipeInPlaceOfFile) {
  ASSERT_EQ(mkfifo((folder / "plugin.so").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("is not a regular file"));
}

TEST_F(Torture, DanglingLink) {
  fs::create_symlink(folder / "nowhere", folder / "plugin.so");
  EXPECT_THAT(refusal(folder / "plugin.so"), HasSubstr("does not exist"));
}

TEST_F(Torture, ManifestThatLiesAboutItsId) {
  EXPECT_THAT(refusal(copy("lies")),
              HasSubstr("contradicts itself: the id is 'fixture.somebody_else' in its manifest "
                        "section and 'fixture.plain' in its exported symbol"));
}

TEST_F(Torture, ManifestWithoutSymbol) {
  EXPECT_THAT(refusal(copy("no_symbol")), HasSubstr("does not export borel_plugin_manifest"));
}

TEST_F(Torture, ManifestWithoutAnId) {
  EXPECT_THAT(refusal(copy("null_id")), HasSubstr("exports a borel_plugin_manifest with null members"));
}

TEST_F(Torture, ManifestWithoutAFunction) {
  EXPECT_THAT(refusal(copy("null_function")), HasSubstr("exports a borel_plugin_manifest with null members"));
}

TEST_F(Torture, DoesNotRegisterWhatItsIdSays) {
  EXPECT_THAT(refusal(copy("wrong_method")),
              HasSubstr("it must register the method 'plain' of family 'fixture'"));
}

TEST_F(Torture, RegistersNothing) {
  EXPECT_THAT(refusal(copy("nothing")), HasSubstr("must register the method"));
}

TEST_F(Torture, ChangesTheFloatingPointMode) {
  // In a thread of its own: should the mode leak, it ends with the thread.
  std::string message;
  double denormal = 0;
  std::thread([&] {
    message = refusal(copy("float_mode"));
    volatile double tiny = 1e-300;
    denormal = tiny * 1e-15;
  }).join();
  EXPECT_THAT(message, HasSubstr("changes the floating-point mode of the whole program"));
  EXPECT_GT(denormal, 0) << "the mode was not put back";
}

TEST_F(Torture, BadPluginId) {
  EXPECT_THAT(refusal(patched("id=fixture.plain", "id=Fixture.plain")),
              HasSubstr("has a bad plugin id 'Fixture.plain'"));
}

}  // namespace
