#include "dataset/digest.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <vector>

#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

DatasetWriter table(double last) {
  DatasetWriter writer(DatasetKind::samples, "t", "title", "source", "licence");
  std::vector<double> x(5000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) * 0.5;
  x.back() = last;
  writer.array("x", std::move(x), {2500, 2});
  return writer;
}

TEST(Digest, Sha256OfTheStandardExample) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, AFileGivesTheDigestOfItsContents) {
  const TemporaryFolder folder;
  const std::string digest = table(1).save(folder / "t.h5");
  EXPECT_EQ(content_digest(h5::Reader(folder / "t.h5")), digest);
  EXPECT_TRUE(digest.starts_with("sha256:"));
}

TEST(Digest, EveryValueNameAndAttributeCounts) {
  const std::string digest = table(1).seal();
  EXPECT_EQ(table(1).seal(), digest);
  EXPECT_NE(table(1.0000000000000002).seal(), digest);
  auto with_attribute = table(1);
  with_attribute.attribute("x", "units", std::string("m"));
  EXPECT_NE(with_attribute.seal(), digest);
  auto other_title = table(1);
  other_title.attribute("", "title", std::string("titel"));
  EXPECT_NE(other_title.seal(), digest);
}

// The same values, big-endian, contiguous, without filters, in another order of creation.
TEST(Digest, StorageDoesNotCount) {
  const TemporaryFolder folder;
  auto writer = table(1);
  const std::string digest = writer.seal();
  {
    const hid_t file = H5Fcreate((folder / "raw.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hsize_t extent[2] = {2500, 2};
    const hid_t space = H5Screate_simple(2, extent, nullptr);
    const hid_t x = H5Dcreate2(file, "x", H5T_IEEE_F64BE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const auto& values = std::get<std::vector<double>>(writer.values().at("x"));
    H5Dwrite(x, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(x);
    H5Sclose(space);
    const hid_t scalar = H5Screate(H5S_SCALAR);
    for (const auto& [name, value] : writer.objects().at("").attributes) {
      if (const auto* text = std::get_if<std::string>(&value)) {
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, text->size() + 1);
        const hid_t attribute = H5Acreate2(file, name.c_str(), type, scalar, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, type, text->c_str());
        H5Aclose(attribute);
        H5Tclose(type);
      } else {
        const std::int64_t number = std::get<std::int64_t>(value);
        const hid_t attribute =
            H5Acreate2(file, name.c_str(), H5T_STD_I16BE, scalar, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, H5T_NATIVE_INT64, &number);
        H5Aclose(attribute);
      }
    }
    H5Sclose(scalar);
    H5Fclose(file);
  }
  EXPECT_EQ(content_digest(h5::Reader(folder / "raw.h5")), digest);
  EXPECT_EQ(Dataset::open(folder / "raw.h5")->info().content_digest, digest);
}

}  // namespace
}  // namespace borel
