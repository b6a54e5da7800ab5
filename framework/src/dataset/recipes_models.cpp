// Trained networks that come with the program, so that studies of them can start at once. datasets/README.md says how each
// was trained and how to train it again.
#include "dataset/dataset.hpp"
#include "dataset/recipe_lists.hpp"
#include "loader/program_folders.hpp"

namespace borel {
namespace {

/// Arrays and attributes of a file in datasets/models. @throws DatasetError when it is not beside the program, or damaged
void copy_stored(const std::string& id, DatasetWriter& writer) {
  const std::filesystem::path file = share_folder() / "datasets" / "models" / (id + ".h5");
  const auto stored = Dataset::open(file);  // compares the digest
  const h5::Reader reader(file);
  for (const auto& [path, object] : reader.objects()) {
    if (object.is_group) continue;
    if (object.type == h5::ElementType::float32)
      writer.array(path, reader.read<float>(path), object.shape);
    else
      writer.array(path, reader.read<double>(path), object.shape);
  }
  for (const char* name : {"training", "text_digest"})
    writer.attribute("", name, stored->attribute("", name));
  writer.attribute("", "step", stored->integer("", "step", 0, 100000000));
  writer.attribute("", "held_out_bits", stored->number("", "held_out_bits"));
}

}  // namespace

void add_model_recipes(std::vector<Recipe>& list) {
  list.push_back({.id = "model_rope_128",
                  .kind = DatasetKind::model,
                  .title = "A network trained with RoPE on 128 bytes: 3 layers, width 128, text_austen",
                  .licence = "Apache-2.0, as this program",
                  .source = "borel train studies/train/shipped.toml",
                  .needs = {"text_austen"},
                  .make = [](DatasetWriter& writer) { copy_stored("model_rope_128", writer); }});
}

}  // namespace borel
