#include "training_run.hpp"

#include <chrono>
#include <memory>
#include <numbers>

#include <fmt/format.h>

#include "dataset/dataset.hpp"
#include "lossless/text_compressors.hpp"
#include "probe/checkpoint.hpp"
#include "probe/training_file.hpp"
#include "signals.hpp"
#include "study/provenance.hpp"

namespace borel::app {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class TrainingRun {
 public:
  TrainingRun(Session& session, const probe::TrainingConfig& config, const std::filesystem::path& file,
              const TrainingOptions& options)
      : options_(options),
        config_(config),
        text_(find_dataset(config_.dataset)),
        file_(file),
        trainer_(config_, session.registry(), text_->bytes("train")) {
    facts_ = {text_->info().content_digest, probe::plugin_provenance(config_.model, session.registry()),
              gather_provenance(options.threads)};
    if (std::filesystem::exists(file_)) restore();
  }

  int run() {
    start_ = last_save_ = Clock::now();
    first_step_ = trainer_.state().step;
    announce();
    bool out_of_time = false;
    while (trainer_.state().step < config_.n_steps && !signals_.stop_requested()) {
      out_of_time = options_.time_limit_s > 0 && seconds_since(start_) >= options_.time_limit_s;
      if (out_of_time) break;
      // A step is short and is finished even when asked to stop, so that no work is thrown away.
      const probe::StepReport report = trainer_.step();
      const index_t step = trainer_.state().step;
      if (step % options_.validate_every == 0 || step == config_.n_steps) show(report, validation());
      if (seconds_since(last_save_) >= options_.checkpoint_every_s) save(true);
    }
    if (trainer_.state().step == config_.n_steps) return finish();
    save(true);
    if (!options_.silent)
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
    if (options_.quiet) return;
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
                         config_.model.train_length, options_.n_windows);
    validation_s_ += seconds_since(begin);
    return loss * std::numbers::log2e;
  }

  void show(const probe::StepReport& report, double validation) {
    if (options_.quiet) return;
    const index_t step = trainer_.state().step;
    const double per_step =
        (seconds_since(start_) - validation_s_ - save_s_) / static_cast<double>(step - first_step_);
    fmt::print("{:>8} {:>10.4f} {:>12.4f} {:>10.3f} {:>10.2e} {:>9.0f} {:>6.0f}s\n", step,
               report.loss * std::numbers::log2e, validation, report.gradient_norm, report.learning_rate,
               static_cast<double>(config_.n_batch * config_.model.train_length) / per_step,
               per_step * static_cast<double>(config_.n_steps - step));
    std::fflush(stdout);
  }

  int finish() {
    const std::span<const std::uint8_t> text = text_->bytes("test");
    const index_t n = config_.model.train_length;
    facts_.held_out_bits =
        probe::held_out_loss(trainer_.architecture(), trainer_.state().parameters, text, n) *
        std::numbers::log2e;
    if (options_.portable) facts_.plugins.clear(), facts_.machine.clear();
    save(!options_.portable);
    if (options_.compare && !options_.quiet) {
      fmt::print("held-out bits per byte ({} bytes)     alone   after the training text\n", text.size());
      fmt::print("{:<38} {:>7} {:>11.4f}\n",
                 fmt::format("  this network, {} to {} bytes before", n - n / 2 + 1, n), "",
                 facts_.held_out_bits);
      for (const CompressedText& its : compressed_text(text, text_->bytes("train")))
        fmt::print("  {:<36} {:>7.4f} {:>11.4f}\n", its.compressor, its.alone, its.after_training);
    }
    if (!options_.silent) fmt::print("{}: {} steps done\n", file_.string(), config_.n_steps);
    return 0;
  }

  void save(bool with_optimizer) {
    const Clock::time_point begin = Clock::now();
    probe::save_checkpoint(file_, trainer_.architecture(), config_, trainer_.state(), facts_, with_optimizer);
    save_s_ += seconds_since(begin);
    last_save_ = Clock::now();
  }

  const SignalGuard signals_;
  const TrainingOptions& options_;
  const probe::TrainingConfig& config_;
  std::shared_ptr<const Dataset> text_;
  const std::filesystem::path& file_;
  probe::Trainer trainer_;
  probe::CheckpointFacts facts_;
  Clock::time_point start_, last_save_;
  index_t first_step_ = 0;
  double validation_s_ = 0, save_s_ = 0;
};

}  // namespace

int run_training(Session& session, const probe::TrainingConfig& config, const std::filesystem::path& file,
                 const TrainingOptions& options) {
  return TrainingRun(session, config, file, options).run();
}

}  // namespace borel::app
