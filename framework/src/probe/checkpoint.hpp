// Trained networks as datasets of kind `model`.
//
//   parameters/<tensor>                  float32, one array per tensor ("parameters/layer_2/qkv")
//   optimizer/first_moment, second_moment  float32 [n_parameters], in the network's order; absent in a model
//                                          that is only to be used
//   losses                               float64 [steps], nats per byte
//   attributes: training (the configuration), step, text_digest, plugins (with their SHA-256), machine_* (absent in a
//                                          portable model), held_out_bits (bits per byte, once training is done)
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "dataset/dataset.hpp"
#include "probe/training.hpp"

namespace borel::probe {

struct Checkpoint {
  TrainingConfig config;
  TrainingState state;  ///< without moments when the file has none
  std::string text_digest;
};

struct CheckpointFacts {
  std::string text_digest;                                        ///< content digest of the text
  std::vector<std::string> plugins = {};                          ///< "attention/softmax <file> <sha256>"
  std::vector<std::pair<std::string, std::string>> machine = {};  ///< gather_provenance()
  double held_out_bits = 0;                                       ///< per byte; 0 = not measured
};

/// Replaces `file` in one step: after a kill it is the old or the new one. @throws DatasetError
void save_checkpoint(const std::filesystem::path& file, const Architecture& architecture,
                     const TrainingConfig& config, const TrainingState& state, const CheckpointFacts& facts,
                     bool with_optimizer);

/// The configuration of a model. @throws DatasetError when the dataset is of another kind or its layout is not met
TrainingConfig checkpoint_config(const Dataset& model);

/// Everything. @throws DatasetError when tensors do not fit the configuration (a plugin declares other parameters today)
Checkpoint load_checkpoint(const Dataset& model, const Architecture& architecture);

/// Weights of a trained network for an architecture with other positions (or mechanisms): tensors are found by name, fixed
/// ones that are new are initialised. @throws MethodError naming a trainable tensor that the model does not have
std::vector<float> parameters_for(const Dataset& model, const Architecture& architecture);

/// The files that an architecture's methods came from, with their digests.
std::vector<std::string> plugin_provenance(const ModelConfig& config, const Registry& registry);

}  // namespace borel::probe
