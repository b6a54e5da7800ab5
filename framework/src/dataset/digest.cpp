#include "dataset/digest.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

static_assert(std::endian::native == std::endian::little, "values are digested as they lie in memory");

namespace borel {
namespace {

constexpr std::int64_t k_block_elements = 1 << 18;

std::string hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

template <class T>
void stream_values(const h5::Reader& file, std::string_view path, const h5::Object& about,
                   ContentDigest& digest) {
  if (about.count == 0) return;
  const std::int64_t rows = about.shape.empty() ? 1 : about.shape[0];
  const std::int64_t row = about.count / rows;
  const std::int64_t rows_a_block = std::max<std::int64_t>(1, k_block_elements / row);
  std::vector<T> block;
  for (std::int64_t first = 0; first < rows; first += rows_a_block) {
    block.resize(static_cast<std::size_t>(std::min(rows_a_block, rows - first) * row));
    file.read_rows(path, first, std::span<T>(block));
    digest.values(std::as_bytes(std::span<const T>(block)));
  }
}

}  // namespace

struct ContentDigest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned length = 0;
  EVP_Digest(bytes.data(), bytes.size(), out.data(), &length, EVP_sha256(), nullptr);
  return hex({out.data(), length});
}

ContentDigest::ContentDigest() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}

ContentDigest::~ContentDigest() = default;

void ContentDigest::values(std::span<const std::byte> little_endian) {
  EVP_DigestUpdate(state_->context, little_endian.data(), little_endian.size());
}

void ContentDigest::integer(std::int64_t value) { values(std::as_bytes(std::span(&value, 1))); }

void ContentDigest::text(std::string_view value) {
  integer(static_cast<std::int64_t>(value.size()));
  values(std::as_bytes(std::span(value)));
}

void ContentDigest::value(std::string_view value) { text(value); }

void ContentDigest::begin_group(std::string_view path) {
  text("group");
  text(path);
}

void ContentDigest::begin_array(std::string_view path, h5::ElementType type, const h5::Shape& shape) {
  text("array");
  text(path);
  text(h5::type_name(type));
  integer(static_cast<std::int64_t>(shape.size()));
  for (std::int64_t extent : shape) integer(extent);
}

void ContentDigest::attribute(std::string_view object, std::string_view name,
                              const h5::AttributeValue& value) {
  if (object.empty() && (name == "content_digest" || name == "borel_version")) return;
  text("attribute");
  text(name);
  integer(static_cast<std::int64_t>(value.index()));
  const auto scalar = [this]<class T>(const T& v) {
    if constexpr (std::is_same_v<T, std::string>)
      text(v);
    else
      integer(std::bit_cast<std::int64_t>(v));
  };
  std::visit(
      [&]<class T>(const T& v) {
        if constexpr (requires { v.front(); } && !std::is_same_v<T, std::string>) {
          integer(static_cast<std::int64_t>(v.size()));
          for (const auto& item : v) scalar(item);
        } else {
          scalar(v);
        }
      },
      value);
}

std::string ContentDigest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned length = 0;
  EVP_DigestFinal_ex(state_->context, out.data(), &length);
  return "sha256:" + hex({out.data(), length});
}

std::string content_digest(const h5::Reader& file) {
  ContentDigest digest;
  for (const auto& [path, about] : file.objects()) {
    if (about.is_group && about.attributes.empty()) continue;
    if (about.is_group) {
      digest.begin_group(path);
    } else {
      digest.begin_array(path, about.type, about.shape);
      switch (about.type) {
        case h5::ElementType::float64:
          stream_values<double>(file, path, about, digest);
          break;
        case h5::ElementType::float32:
          stream_values<float>(file, path, about, digest);
          break;
        case h5::ElementType::int64:
          stream_values<std::int64_t>(file, path, about, digest);
          break;
        case h5::ElementType::uint8:
          stream_values<std::uint8_t>(file, path, about, digest);
          break;
        case h5::ElementType::string:
          for (const std::string& item : file.read_strings(path)) digest.value(item);
      }
    }
    for (const auto& [name, value] : about.attributes) digest.attribute(path, name, value);
  }
  return digest.finish();
}

}  // namespace borel
