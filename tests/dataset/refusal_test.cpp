// Every rule that makes Borel refuse a file has its case here; the files are made by raw HDF5 calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <random>

#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/screen.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const std::filesystem::path& file) {
  try {
    Dataset::open(file);
  } catch (const DatasetError& error) {
    return error.what();
  }
  return "accepted";
}

class Refusal : public testing::Test {
 protected:
  // A good file of 40000 numbers, then a change by raw calls.
  std::filesystem::path file_with(const std::function<void(hid_t)>& change = {}) {
    DatasetWriter writer(DatasetKind::samples, "victim", "title", "source", "licence");
    std::vector<double> x(40000);
    std::mt19937_64 random(1);
    for (double& value : x) value = static_cast<double>(random() >> 40);
    writer.array("x", std::move(x), {40000, 1});
    writer.save(file_);
    if (change) {
      const hid_t file = H5Fopen(file_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
      change(file);
      H5Fclose(file);
    }
    return file_;
  }

  std::filesystem::path samples_with(const std::function<void(DatasetWriter&)>& change,
                                     DatasetKind kind = DatasetKind::samples) {
    DatasetWriter writer(kind, "victim", "title", "source", "licence");
    change(writer);
    writer.save(file_);
    return file_;
  }

  static void make_array(hid_t file, const char* name, hid_t type, hsize_t n, hid_t creation = H5P_DEFAULT) {
    const hid_t space = H5Screate_simple(1, &n, nullptr);
    H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
  }

  static void replace_text(hid_t file, const char* name, const std::string& text) {
    H5Adelete(file, name);
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, text.size() + 1);
    const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, text.c_str());
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
  }

  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "victim.h5";
};

TEST_F(Refusal, GoodFileIsAccepted) { EXPECT_EQ(refusal(file_with()), "accepted"); }

TEST_F(Refusal, MissingFile) { EXPECT_THAT(refusal(folder_ / "none.h5"), HasSubstr("no such file")); }

TEST_F(Refusal, Folder) { EXPECT_THAT(refusal(folder_.path()), HasSubstr("not a regular file")); }

TEST_F(Refusal, EmptyAndTextFiles) {
  std::ofstream(folder_ / "empty.h5").flush();
  EXPECT_THAT(refusal(folder_ / "empty.h5"), HasSubstr("not an HDF5 file"));
  std::ofstream(folder_ / "text.h5") << "x,y\n1,2\n";
  EXPECT_THAT(refusal(folder_ / "text.h5"), HasSubstr("not an HDF5 file"));
}

TEST_F(Refusal, Truncated) {
  file_with();
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) / 2);
  EXPECT_THAT(refusal(file_), AllOf(HasSubstr("victim.h5"), HasSubstr("truncated")));
}

TEST_F(Refusal, BitFlipInAChunk) {
  file_with();
  const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(file_) / 2);
  std::fstream bytes(file_, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(middle);
  const int byte = bytes.get();
  bytes.seekp(middle);
  bytes.put(static_cast<char>(byte ^ 4));
  bytes.close();
  EXPECT_THAT(refusal(file_), AllOf(HasSubstr("/x"), HasSubstr("cannot be read"), HasSubstr("damaged")));
}

TEST_F(Refusal, ValueChangedBehindTheDigest) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t x = H5Dopen2(file, "x", H5P_DEFAULT);
                std::vector<double> values(40000, 1.0);
                H5Dwrite(x, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
                H5Dclose(x);
              })),
              HasSubstr("content digest does not match"));
}

TEST_F(Refusal, SoftLink) {
  EXPECT_THAT(
      refusal(file_with([](hid_t file) { H5Lcreate_soft("/x", file, "alias", H5P_DEFAULT, H5P_DEFAULT); })),
      AllOf(HasSubstr("/alias"), HasSubstr("soft link")));
}

TEST_F(Refusal, ExternalLink) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                H5Lcreate_external("/etc/passwd", "/x", file, "secret", H5P_DEFAULT, H5P_DEFAULT);
              })),
              AllOf(HasSubstr("/secret"), HasSubstr("external link")));
}

TEST_F(Refusal, HardLinkCycle) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                H5Gclose(H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
                H5Lcreate_hard(file, "/", file, "g/root", H5P_DEFAULT, H5P_DEFAULT);
              })),
              AllOf(HasSubstr("/g/root"), HasSubstr("second name")));
}

TEST_F(Refusal, ExternalStorage) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                H5Pset_external(creation, "/etc/passwd", 0, 64);
                make_array(file, "stolen", H5T_STD_U8LE, 64, creation);
                H5Pclose(creation);
              })),
              AllOf(HasSubstr("/stolen"), HasSubstr("external storage")));
}

TEST_F(Refusal, VirtualLayout) {
  EXPECT_THAT(
      refusal(file_with([](hid_t file) {
        const hsize_t n = 8;
        const hid_t space = H5Screate_simple(1, &n, nullptr);
        const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_virtual(creation, space, "/etc/other.h5", "/x", space);
        H5Dclose(H5Dcreate2(file, "virtual", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
        H5Pclose(creation);
        H5Sclose(space);
      })),
      AllOf(HasSubstr("/virtual"), HasSubstr("virtual layout")));
}

TEST_F(Refusal, EightTebibytesDeclared) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t chunk = 1024;
                H5Pset_chunk(creation, 1, &chunk);
                make_array(file, "huge", H5T_IEEE_F64LE, 1ULL << 40, creation);
                H5Pclose(creation);
              })),
              AllOf(HasSubstr("/huge"), HasSubstr("declares 8796093022208 bytes"), HasSubstr("cap")));
}

TEST_F(Refusal, ManyBytesDeclaredAndNoneStored) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t chunk = 1024;
                H5Pset_chunk(creation, 1, &chunk);
                make_array(file, "hollow", H5T_IEEE_F64LE, 1ULL << 28, creation);
                H5Pclose(creation);
              })),
              AllOf(HasSubstr("/hollow"), HasSubstr("never written")));
}

TEST_F(Refusal, ForeignFilter) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t chunk = 8;
                H5Pset_chunk(creation, 1, &chunk);
                H5Pset_filter(creation, 32015, H5Z_FLAG_OPTIONAL, 0, nullptr);
                make_array(file, "zstd", H5T_IEEE_F64LE, 8, creation);
                H5Pclose(creation);
              })),
              AllOf(HasSubstr("/zstd"), HasSubstr("filter 32015")));
}

TEST_F(Refusal, OversizedChunk) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t chunk = 1ULL << 28, most = H5S_UNLIMITED, n = 4;
                H5Pset_chunk(creation, 1, &chunk);
                const hid_t space = H5Screate_simple(1, &n, &most);
                H5Dclose(H5Dcreate2(file, "wide", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
                H5Sclose(space);
                H5Pclose(creation);
              })),
              AllOf(HasSubstr("/wide"), HasSubstr("chunks of")));
}

TEST_F(Refusal, ForeignElementType) {
  EXPECT_THAT(refusal(file_with([](hid_t file) { make_array(file, "odd", H5T_STD_I32LE, 4); })),
              AllOf(HasSubstr("/odd"), HasSubstr("element type")));
}

TEST_F(Refusal, NamedType) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t type = H5Tcopy(H5T_IEEE_F64LE);
                H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
                H5Tclose(type);
              })),
              AllOf(HasSubstr("/type"), HasSubstr("neither a group nor an array")));
}

TEST_F(Refusal, TooDeepAndTooManyDimensions) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                std::string path = "g";
                for (int i = 0; i < 14; ++i) {
                  H5Gclose(H5Gcreate2(file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
                  path += "/g";
                }
              })),
              HasSubstr("deeper than 12 groups"));
  EXPECT_THAT(
      refusal(file_with([](hid_t file) {
        const std::vector<hsize_t> extent(9, 1);
        const hid_t space = H5Screate_simple(9, extent.data(), nullptr);
        H5Dclose(H5Dcreate2(file, "nine", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
      })),
      HasSubstr("rank 9"));
}

TEST_F(Refusal, NotABorelDataset) {
  EXPECT_THAT(refusal(file_with([](hid_t file) { H5Adelete(file, "borel_schema"); })),
              AllOf(HasSubstr("not a Borel dataset"), HasSubstr("borel data import")));
}

TEST_F(Refusal, WrongOrNewerKind) {
  EXPECT_THAT(refusal(file_with([](hid_t file) { replace_text(file, "borel_schema", "sample/1"); })),
              AllOf(HasSubstr("unknown dataset kind 'sample'"), HasSubstr("did you mean 'samples'?")));
  EXPECT_THAT(refusal(file_with([](hid_t file) { replace_text(file, "borel_schema", "samples/9"); })),
              HasSubstr("newer than this program"));
  EXPECT_THAT(refusal(file_with([](hid_t file) { replace_text(file, "borel_schema", "tokens/1"); })),
              AllOf(HasSubstr("array /train"), HasSubstr("is missing")));
}

TEST_F(Refusal, MissingProvenance) {
  EXPECT_THAT(refusal(file_with([](hid_t file) { H5Adelete(file, "licence"); })), HasSubstr("'licence'"));
  EXPECT_THAT(refusal(file_with([](hid_t file) { H5Adelete(file, "seed"); })), HasSubstr("'seed'"));
}

TEST_F(Refusal, NanInside) {
  EXPECT_THAT(refusal(file_with([](hid_t file) {
                const hid_t x = H5Dopen2(file, "x", H5P_DEFAULT);
                std::vector<double> values(40000, 1.0);
                values[1234] = std::nan("");
                H5Dwrite(x, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
                H5Dclose(x);
              })),
              AllOf(HasSubstr("/x"), HasSubstr("nan at index 1234"), HasSubstr("finite")));
}

TEST_F(Refusal, WriterRefusesTheSameThings) {
  EXPECT_THROW(samples_with([](DatasetWriter& w) {
                 w.array<double>("x", {1, INFINITY}, {2, 1});
               }),
               DatasetError);
  EXPECT_THROW(samples_with([](DatasetWriter& w) { w.array<double>("x", {1, 2}, {3, 1}); }), DatasetError);
  EXPECT_THROW(samples_with([](DatasetWriter& w) { w.array<float>("x", {1, 2}, {2, 1}); }), DatasetError);
  EXPECT_THROW(samples_with([](DatasetWriter& w) { w.array<double>("x", {1, 2}, {2}); }), DatasetError);
  EXPECT_THROW(samples_with([](DatasetWriter& w) {
                 w.array<double>("x", {1, 2}, {2, 1});
                 w.array<std::int64_t>("split/train", {0, 2}, {2});
               }),
               DatasetError);
  EXPECT_THROW(samples_with([](DatasetWriter& w) {
                 w.array<double>("x", {1, 2}, {2, 1});
                 w.array<double>("truth/weight", {0.5, 0.6}, {2});
               }),
               DatasetError);
  const auto conditional = [](std::vector<double> pmf, std::vector<double> centre) {
    return [=](DatasetWriter& w) {
      w.array<double>("x", {1, 2, 3, 4}, {2, 2});
      w.array<double>("test/x", {1, 2}, {1, 2});
      w.array<double>("truth/conditional_pmf", pmf, {1, static_cast<std::int64_t>(pmf.size())});
      if (!centre.empty())
        w.array<double>("truth/bin_centre", centre, {static_cast<std::int64_t>(centre.size())});
    };
  };
  EXPECT_THROW(samples_with(conditional({0.5, 0.6}, {0, 1})), DatasetError);
  EXPECT_THROW(samples_with(conditional({1.5, -0.5}, {0, 1})), DatasetError);
  EXPECT_THROW(samples_with(conditional({0.5, 0.5, 0}, {0, 1, 3})), DatasetError);
  EXPECT_THROW(samples_with(conditional({1}, {0})), DatasetError);
  EXPECT_THROW(samples_with(conditional({0.5, 0.5}, {})), DatasetError);
  EXPECT_FALSE(std::filesystem::exists(file_));
  EXPECT_NO_THROW(samples_with(conditional({0.5, 0.5}, {0, 1})));
}

TEST_F(Refusal, ShapesMustAgreeAcrossArrays) {
  const auto qkv = [&](h5::Shape k, std::vector<float> values) {
    try {
      samples_with(
          [&](DatasetWriter& w) {
            w.array<float>("q", {1, 2, 3, 4}, {1, 2, 2});
            w.array<float>("k", std::move(values), std::move(k));
            w.array<float>("v", {1, 2}, {1, 2, 1});
          },
          DatasetKind::qkv);
    } catch (const DatasetError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(qkv({1, 2, 2}, {1, 2, 3, 4}), "accepted");
  EXPECT_THAT(qkv({1, 2, 3}, {1, 2, 3, 4, 5, 6}),
              AllOf(HasSubstr("array /k has d_k = 3"), HasSubstr("by array /q")));
}

TEST_F(Refusal, ProblemsNeedAKnownObjective) {
  const auto problem = [&](const std::string& objective) {
    try {
      samples_with(
          [&](DatasetWriter& w) {
            w.attribute("", "objective", objective);
            w.attribute("", "domain", std::string("simplex"));
            w.array<double>("x", {1, 2}, {2});
          },
          DatasetKind::problem);
    } catch (const DatasetError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(problem("projection"), "accepted");
  EXPECT_THAT(problem("projektion"), HasSubstr("did you mean 'projection'?"));
  EXPECT_THAT(problem("least_squares"), HasSubstr("array /a [m n] float64 is missing"));
}

// Random damage, mostly in the metadata, which carries no checksum: the outcome is a refusal, or the same
// contents.
TEST_F(Refusal, MutatedFilesNeverTakeTheHostDown) {
  DatasetWriter writer(DatasetKind::samples, "fuzz", "title", "source", "licence");
  writer.array<double>("x", {1, 2, 3, 4}, {4, 1});
  writer.array<double>("truth/weight", {1}, {1});
  writer.save(file_);
  std::ifstream stream(file_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(stream)), {});
  std::mt19937 random(20261123);
  int refused = 0;
  constexpr int k_mutants = 300;
  for (int i = 0; i < k_mutants; ++i) {
    std::string bytes = good;
    for (int change = 0; change <= i % 4; ++change)
      bytes[random() % bytes.size()] = static_cast<char>(i % 3 == 0 ? 0xFF : random() & 0xFF);
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << bytes;
    try {
      screen_dataset(file_);
    } catch (const DatasetError&) {
      ++refused;
    }
  }
  EXPECT_GE(refused, k_mutants / 10);
  std::ofstream(file_, std::ios::binary | std::ios::trunc) << good;
  EXPECT_NO_THROW(screen_dataset(file_));
}

}  // namespace
}  // namespace borel
