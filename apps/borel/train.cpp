// borel train <config.toml>: trains a probe network; goes on where a stopped or killed run was.
#include <memory>

#include <tbb/global_control.h>
#include <CLI/CLI.hpp>

#include "probe/training_file.hpp"
#include "session.hpp"
#include "training_run.hpp"

namespace borel::app {

void add_train(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("train", "Train a probe network with plugins in its layers on a text");
  struct Request {
    std::string config, out;
    TrainingOptions options;
  };
  auto request = std::make_shared<Request>();
  command->add_option("config", request->config, "Training configuration (TOML)")->required();
  command->add_option("--out", request->out, "Model file (.h5); default: the configuration's name, here");
  command
      ->add_option("--threads", request->options.threads,
                   "Threads; default all cores. The result is the same")
      ->check(CLI::Range(0, 1024));
  command->add_option("--time-limit", request->options.time_limit_s,
                      "Stop after this many seconds, with a checkpoint");
  command->add_option("--checkpoint-every", request->options.checkpoint_every_s,
                      "Seconds between checkpoints, default 60");
  command
      ->add_option("--validate-every", request->options.validate_every,
                   "Steps between validations, default 100")
      ->check(CLI::Range(1, 1000000));
  command
      ->add_option("--validation-windows", request->options.n_windows,
                   "Pieces of test text in a validation, default 64")
      ->check(CLI::Range(1, 100000));
  command->add_flag(
      "--portable", request->options.portable,
      "Finished model without optimizer state (a third of the size) and without names of this machine");
  command->add_flag("--quiet", request->options.quiet, "Only the last line");
  command->footer(
      "A stopped or killed training goes on from its last checkpoint with the same command, and ends with "
      "the same bits.\n"
      "Exit code: 0 done or time limit, 1 diverged, 2 usage or input, 130 after Ctrl-C, 143 after SIGTERM.");
  command->callback([&session, request] {
    std::unique_ptr<tbb::global_control> limit;
    if (request->options.threads > 0)
      limit = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                    static_cast<std::size_t>(request->options.threads));
    const std::filesystem::path file =
        request->out.empty() ? std::filesystem::path(request->config).stem().string() + ".h5" : request->out;
    session.exit_code = run_training(session, probe::read_training(request->config), file, request->options);
  });
}

}  // namespace borel::app
