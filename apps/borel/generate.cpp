// borel generate <model>: text from a trained probe network.
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dataset/dataset.hpp"
#include "probe/checkpoint.hpp"
#include "probe/generation.hpp"
#include "session.hpp"

namespace borel::app {

void add_generate(CLI::App& app, Session& session) {
  struct Request {
    std::string model, prompt = "It is a truth universally acknowledged, that ", position;
    std::int64_t n = 400, context = 0, seed = 1;
    double temperature = 0.8;
  };
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained probe network");
  auto request = std::make_shared<Request>();
  command->add_option("model", request->model, "Model file made by: borel train")->required();
  command->add_option("--prompt", request->prompt, "Text to go on from");
  command->add_option("-n", request->n, "Bytes to write, default 400")->check(CLI::Range(1, 1000000));
  command->add_option("--context", request->context, "Bytes to look back at; default: the training length");
  command->add_option("--temperature", request->temperature, "0 = always the likeliest byte; default 0.8");
  command->add_option("--seed", request->seed, "Other seeds give other texts")->check(CLI::NonNegativeNumber);
  command->add_option("--position", request->position,
                      "Another position encoding for all layers, such as rerope{window=64}");
  command->callback([&session, request] {
    const auto model = find_dataset(request->model);
    probe::ModelConfig config = probe::checkpoint_config(*model).model;
    if (!request->position.empty()) config.position = {parse_method_spec(request->position, "position")};
    const probe::Architecture architecture(config, session.registry());
    const std::vector<float> parameters = probe::parameters_for(*model, architecture);
    fmt::print("{}", request->prompt);
    probe::generate(
        architecture, parameters, request->prompt,
        {request->n, request->context, request->temperature, Seed{static_cast<std::uint64_t>(request->seed)}},
        [](std::uint8_t byte) {
          std::fputc(byte, stdout);
          std::fflush(stdout);
        });
    fmt::print("\n");
  });
}

}  // namespace borel::app
