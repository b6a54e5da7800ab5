#include "study/cell_id.hpp"

#include <nlohmann/json.hpp>

#include "dataset/digest.hpp"

namespace borel {

std::string cell_inputs(const CellRecord& cell, int protocol_version, std::uint64_t study_seed,
                        std::string_view library_sha256) {
  nlohmann::json inputs;  // keys are sorted, so the text is canonical
  inputs["protocol"] = cell.protocol;
  inputs["protocol_version"] = protocol_version;
  inputs["options"] = cell.options;
  inputs["dataset"] = cell.dataset_digest;
  inputs["methods"] = nlohmann::json::array();
  for (const MethodUse& method : cell.methods)
    inputs["methods"].push_back({{"spec", method.spec}, {"plugin", method.plugin_sha256}});
  inputs["repetition"] = cell.repetition;
  inputs["study_seed"] = study_seed;
  inputs["library"] = library_sha256;
  return inputs.dump();
}

std::string cell_id(std::string_view inputs) { return sha256_hex(inputs).substr(0, 32); }

Seed cell_seed(std::uint64_t study_seed, std::string_view protocol, std::string_view options,
               std::string_view dataset_digest, std::int64_t repetition) {
  return Seed{study_seed}
      .derive(protocol)
      .derive(options)
      .derive(dataset_digest)
      .derive(static_cast<std::uint64_t>(repetition));
}

int shard_of(std::string_view cell_id, int n_shards) {
  const unsigned long long head = std::stoull(std::string(cell_id.substr(0, 12)), nullptr, 16);
  return static_cast<int>(head % static_cast<unsigned long long>(n_shards)) + 1;
}

}  // namespace borel
