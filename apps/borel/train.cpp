// borel train <config.toml>: trains a probe network; goes on where a stopped or killed run was.
#include <memory>
#include <numbers>

#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <CLI/CLI.hpp>

#include "dataset/dataset.hpp"
#include "probe/checkpoint.hpp"
#include "probe/training_file.hpp"
#include "session.hpp"
#include "signals.hpp"
#include "study/provenance.hpp"

namespace borel::app {
namespace {

using Clock = std::chrono::steady_clock;

struct TrainRequest {
  std::string config, out;
  int threads = 0;
  double time_limit_s = 0, checkpoint_every_s = 60;
  std::int64_t validate_every = 100, n_windows = 64;
  bool without_optimizer = false, quiet = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class TrainRun {
 public:
  TrainRun(Session& session, const TrainRequest& request)
      : request_(request),
        config_(probe::read_training(request.config)),
        text_(find_dataset(config_.dataset)),
        file_(request.out.empty() ? std::filesystem::path(request.config).stem().string() + ".h5"
                                  : request.out),
        trainer_(config_, session.registry(), text_->bytes("train")) {
    facts_ = {text_->info().content_digest, probe::plugin_provenance(config_.model, session.registry()),
              gather_provenance(request.threads)};
    if (std::filesystem::exists(file_)) restore();
  }

  int run() {
    start_ = last_save_ = Clock::now();
    first_step_ = trainer_.state().step;
    announce();
    bool out_of_time = false;
    while (trainer_.state().step < config_.n_steps && !signals_.stop_requested()) {
      out_of_time = request_.time_limit_s > 0 && seconds_since(start_) >= request_.time_limit_s;
      if (out_of_time) break;
      // A step is short and is finished even when asked to stop, so that no work is thrown away.
      const probe::StepReport report = trainer_.step();
      const index_t step = trainer_.state().step;
      if (step % request_.validate_every == 0 || step == config_.n_steps) show(report, validation());
      if (seconds_since(last_save_) >= request_.checkpoint_every_s) save(true);
    }
    const bool done = trainer_.state().step == config_.n_steps;
    save(!(done && request_.without_optimizer));
    if (done) {
      fmt::print("{}: {} steps done\n", file_.string(), config_.n_steps);
      return 0;
    }
    fmt::print("{} after step {} of {}; the same command goes on from {}\n",
               out_of_time ? "time limit reached" : "stopped", trainer_.state().step, config_.n_steps,
               file_.string());
    return out_of_time ? 0 : signals_.exit_code();
  }

 private:
  void restore() {
    const auto model = Dataset::open(file_);
    const std::string here = probe::training_text(config_),
                      there = probe::training_text(probe::checkpoint_config(*model));
    if (here != there)
      throw DatasetError(
          fmt::format("{} was made with another configuration; name another file with --out\n  there: {}\n"
                      "  here:  {}",
                      file_.string(), there, here));
    probe::Checkpoint checkpoint = probe::load_checkpoint(*model, trainer_.architecture());
    if (checkpoint.text_digest != facts_.text_digest)
      throw DatasetError(fmt::format("{} learned another text than today's '{}' (digests {} and {})",
                                     file_.string(), config_.dataset, checkpoint.text_digest,
                                     facts_.text_digest));
    if (checkpoint.state.first_moment.empty()) {
      if (checkpoint.state.step < config_.n_steps)
        throw DatasetError(
            fmt::format("{} has no optimizer state, so training cannot go on", file_.string()));
      checkpoint.state.first_moment = checkpoint.state.second_moment =
          std::vector<float>(checkpoint.state.parameters.size());
    }
    trainer_.restore(std::move(checkpoint.state));
  }

  void announce() const {
    if (request_.quiet) return;
    fmt::print("{} parameters, {} bytes of text, {} tokens a step, {} threads; from step {} to {}\n",
               trainer_.architecture().n_parameters(), text_->bytes("train").size(),
               config_.n_batch * config_.model.train_length, max_threads(), first_step_, config_.n_steps);
    fmt::print("{:>8} {:>10} {:>12} {:>10} {:>10} {:>9} {:>7}\n", "step", "bits/byte", "validation",
               "gradient", "rate", "tokens/s", "left");
    std::fflush(stdout);
  }

  /// Bits per byte on the test text, at the training length.
  double validation() {
    const Clock::time_point begin = Clock::now();
    const double loss =
        probe::mean_loss(trainer_.architecture(), trainer_.state().parameters, text_->bytes("test"),
                         config_.model.train_length, request_.n_windows);
    validation_s_ += seconds_since(begin);
    return loss * std::numbers::log2e;
  }

  void show(const probe::StepReport& report, double validation) {
    if (request_.quiet) return;
    const index_t step = trainer_.state().step;
    const double per_step =
        (seconds_since(start_) - validation_s_ - save_s_) / static_cast<double>(step - first_step_);
    fmt::print("{:>8} {:>10.4f} {:>12.4f} {:>10.3f} {:>10.2e} {:>9.0f} {:>6.0f}s\n", step,
               report.loss * std::numbers::log2e, validation, report.gradient_norm, report.learning_rate,
               static_cast<double>(config_.n_batch * config_.model.train_length) / per_step,
               per_step * static_cast<double>(config_.n_steps - step));
    std::fflush(stdout);
  }

  void save(bool with_optimizer) {
    const Clock::time_point begin = Clock::now();
    probe::save_checkpoint(file_, trainer_.architecture(), config_, trainer_.state(), facts_, with_optimizer);
    save_s_ += seconds_since(begin);
    last_save_ = Clock::now();
  }

  const SignalGuard signals_;
  const TrainRequest& request_;
  probe::TrainingConfig config_;
  std::shared_ptr<const Dataset> text_;
  std::filesystem::path file_;
  probe::Trainer trainer_;
  probe::CheckpointFacts facts_;
  Clock::time_point start_, last_save_;
  index_t first_step_ = 0;
  double validation_s_ = 0, save_s_ = 0;
};

}  // namespace

void add_train(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("train", "Train a probe network with plugins in its layers on a text");
  auto request = std::make_shared<TrainRequest>();
  command->add_option("config", request->config, "Training configuration (TOML)")->required();
  command->add_option("--out", request->out, "Model file (.h5); default: the configuration's name, here");
  command->add_option("--threads", request->threads, "Threads; default all cores. The result is the same")
      ->check(CLI::Range(0, 1024));
  command->add_option("--time-limit", request->time_limit_s,
                      "Stop after this many seconds, with a checkpoint");
  command->add_option("--checkpoint-every", request->checkpoint_every_s,
                      "Seconds between checkpoints, default 60");
  command->add_option("--validate-every", request->validate_every, "Steps between validations, default 100")
      ->check(CLI::Range(1, 1000000));
  command
      ->add_option("--validation-windows", request->n_windows,
                   "Pieces of test text in a validation, default 64")
      ->check(CLI::Range(1, 100000));
  command->add_flag("--without-optimizer", request->without_optimizer,
                    "Leave the optimizer state out of the finished model: a third of the size");
  command->add_flag("--quiet", request->quiet, "Only the last line");
  command->footer(
      "A stopped or killed training goes on from its last checkpoint with the same command, and ends with "
      "the same bits.\n"
      "Exit code: 0 done or time limit, 1 diverged, 2 usage or input, 130 after Ctrl-C, 143 after SIGTERM.");
  command->callback([&session, request] {
    std::unique_ptr<tbb::global_control> limit;
    if (request->threads > 0)
      limit = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                    static_cast<std::size_t>(request->threads));
    session.exit_code = TrainRun(session, *request).run();
  });
}

}  // namespace borel::app
