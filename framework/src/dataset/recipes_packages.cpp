// Real photographs and real text from packages of Debian 12, fetched on the user's machine.
#include <bzlib.h>
#include <fmt/format.h>

#include "dataset/distribution_package.hpp"
#include "dataset/png.hpp"
#include "dataset/r_data.hpp"
#include "dataset/recipe_lists.hpp"

namespace borel {
namespace {

struct Photo {
  const char *name, *sha256, *licence;
};

// Licences as stated in skimage/data/_fetchers.py of the package.
constexpr Photo k_photos[] = {
    {"astronaut", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "public domain (NASA)"},
    {"brick", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", "CC0 (CC0Textures)"},
    {"camera", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a", "CC0 (Lav Varshney)"},
    {"chelsea", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
     "CC0 (Stefan van der Walt)"},
    {"coffee", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "CC0 (Rachel Michetti)"},
};

void photos(DatasetWriter& writer) {
  const std::filesystem::path folder = "/usr/lib/python3/dist-packages/skimage/data";
  const DistributionPackage package("python3-skimage", folder / "camera.png");
  for (const Photo& photo : k_photos) {
    const std::string bytes = read_file(package.file(folder / fmt::format("{}.png", photo.name)));
    require_sha256(bytes, photo.sha256, fmt::format("photograph '{}'", photo.name));
    Image image = decode_png(bytes, photo.name);
    writer.array(photo.name, std::move(image.pixels), {image.height, image.width, image.channels});
    writer.attribute(photo.name, "licence", std::string(photo.licence));
  }
}

const std::filesystem::path k_scipy_images = "/usr/lib/python3/dist-packages/scipy/misc";

/// A Python list of lists of small numbers, as protocol 2 of pickle stores it.
std::vector<std::uint8_t> bytes_of_pickled_lists(std::string_view pickle, std::string_view who) {
  std::vector<std::uint8_t> values;
  std::size_t at = 0;
  const auto refuse = [&](std::string_view what) -> DatasetError {
    return DatasetError(
        fmt::format("{}: not a pickled list of lists of bytes ({} at byte {})", who, what, at));
  };
  const auto skip = [&](std::size_t n) {
    if (n > pickle.size() - at) throw refuse("it ends too early");
    at += n;
  };
  while (at < pickle.size()) {
    const char operation = pickle[at];
    skip(1);
    switch (operation) {
      case 'K':  // BININT1
        skip(1);
        values.push_back(static_cast<std::uint8_t>(pickle[at - 1]));
        break;
      case '\x80':  // PROTO
      case 'q':     // BINPUT
        skip(1);
        break;
      case 'r':  // LONG_BINPUT
        skip(4);
        break;
      case ']':  // EMPTY_LIST
      case '(':  // MARK
      case 'e':  // APPENDS
      case 'a':  // APPEND
        break;
      case '.':  // STOP
        return values;
      default:
        throw refuse(fmt::format("operation {:#04x}", static_cast<unsigned char>(operation)));
    }
  }
  throw refuse("no end");
}

std::vector<std::uint8_t> bunzip2(const std::string& packed, std::size_t size, std::string_view who) {
  std::vector<std::uint8_t> bytes(size);
  auto n = static_cast<unsigned>(size);
  std::string source = packed;  // bzlib takes no const
  const int code = BZ2_bzBuffToBuffDecompress(reinterpret_cast<char*>(bytes.data()), &n, source.data(),
                                              static_cast<unsigned>(source.size()), 0, 0);
  if (code != BZ_OK || n != size)
    throw DatasetError(fmt::format("{}: bzip2 gives code {} and {} bytes, expected {}", who, code, n, size));
  return bytes;
}

std::string_view as_text(const std::vector<std::uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void photo_ascent(DatasetWriter& writer) {
  constexpr std::int64_t k_side = 512;
  const DistributionPackage package("python3-scipy", k_scipy_images / "ascent.dat");
  auto pixels =
      bytes_of_pickled_lists(read_file(package.file(k_scipy_images / "ascent.dat")), "photograph 'ascent'");
  require_sha256(as_text(pixels), "c7777d46c3f4e3119ddbec92ad28c09193202a7a4aab08622bc7e4b4a3ba88e6",
                 "photograph 'ascent'");
  writer.array("ascent", std::move(pixels), {k_side, k_side, 1});
}

void photo_face(DatasetWriter& writer) {
  constexpr std::int64_t k_height = 768, k_width = 1024, k_channels = 3;
  const DistributionPackage package("python3-scipy", k_scipy_images / "face.dat");
  auto pixels = bunzip2(read_file(package.file(k_scipy_images / "face.dat")),
                        static_cast<std::size_t>(k_height * k_width * k_channels), "photograph 'face'");
  require_sha256(as_text(pixels), "9f16f4e284d28f4b8e0356171bc6543d2a0d24a0bd55dabebbd30e102aa8946c",
                 "photograph 'face'");
  writer.array("face", std::move(pixels), {k_height, k_width, k_channels});
}

std::vector<std::uint8_t> novels(const std::filesystem::path& base,
                                 std::initializer_list<const char*> names) {
  std::vector<std::uint8_t> bytes;
  for (const char* name : names)
    for (const std::string& line : read_r_strings(base, name)) {
      bytes.insert(bytes.end(), line.begin(), line.end());
      bytes.push_back('\n');
    }
  return bytes;
}

void text_austen(DatasetWriter& writer) {
  const std::filesystem::path folder = "/usr/lib/R/site-library/janeaustenr/data";
  const DistributionPackage package("r-cran-janeaustenr", folder / "Rdata.rdb");
  const std::filesystem::path base = package.file(folder / "Rdata.rdb").replace_extension();
  auto train =
      novels(base, {"sensesensibility", "prideprejudice", "mansfieldpark", "emma", "northangerabbey"});
  auto test = novels(base, {"persuasion"});
  require_sha256(as_text(train), "e7f350a699a3253d94ef05d5798aa581ce70f4f0eecd7786886d6f6457fe071a",
                 "the text of five novels");
  require_sha256(as_text(test), "8061549557aebd2fd6e353d18d9197cb707029112bd52d4d8b174583a925848a",
                 "the text of Persuasion");
  const auto n_train = static_cast<std::int64_t>(train.size()),
             n_test = static_cast<std::int64_t>(test.size());
  writer.array("train", std::move(train), {n_train});
  writer.array("test", std::move(test), {n_test});
  writer.attribute("", "encoding", std::string("UTF-8"));
}

}  // namespace

void add_package_recipes(std::vector<Recipe>& list) {
  list.push_back({.id = "photos",
                  .kind = DatasetKind::images,
                  .title = "Five photographs, grey and colour",
                  .licence = "CC0 and public domain, see each image",
                  .source = "Debian package python3-skimage",
                  .make = photos});
  list.push_back({.id = "photo_ascent",
                  .kind = DatasetKind::images,
                  .title = "A staircase, grey, 512 x 512",
                  .licence = "public domain",
                  .source = "Debian package python3-scipy",
                  .make = photo_ascent});
  list.push_back({.id = "photo_face",
                  .kind = DatasetKind::images,
                  .title = "A raccoon's face, colour, 768 x 1024",
                  .licence = "public domain (public-domain-image.com)",
                  .source = "Debian package python3-scipy",
                  .make = photo_face});
  list.push_back({.id = "text_austen",
                  .kind = DatasetKind::tokens,
                  .title = "Six novels of Jane Austen; test: Persuasion",
                  .licence = "public domain",
                  .source = "Project Gutenberg, by way of the Debian package r-cran-janeaustenr",
                  .make = text_austen});
}

}  // namespace borel
