// Numbers as readers want them: few digits, true minus signs, units.
#pragma once

#include <string>
#include <string_view>

#include "statistics/bootstrap.hpp"

namespace borel {

/// Up to `digits` significant digits: "0.0123", "−4.2e−9", "∞", "" for NaN.
std::string number_text(double value, int digits = 4);
/// "1.23 [1.1, 1.4]", or only the value when the interval is unknown or has no width.
std::string number_text(double value, const ConfidenceInterval& interval);
/// "1.23 ms"
std::string seconds_text(double seconds);
/// "p = 0.012", "p < 0.001"
std::string p_text(double p_value);
/// Shortest text that gives the same double back; "nan", "inf", "-inf". For CSV.
std::string exact_text(double value);
/// "held-out log-likelihood (nats)": underscores become spaces, the unit follows when there is one.
std::string axis_text(std::string_view name, std::string_view unit);
std::string words(std::string_view name);
/// words() without the unit that names of timings end with: "fit_s" -> "fit".
std::string timed_words(std::string_view name);
/// "3 datasets", "1 dataset"
std::string counted(std::size_t n, std::string_view thing);
/// At most `n_max` characters (code points), the last one an ellipsis when something is cut.
std::string shorten(std::string_view text, std::size_t n_max);
/// The same for names of methods: what tells them apart stands in braces, so the name before them is cut first (down to
/// four characters), then the names of parameters go: "expo…{variant=accelerated}", "fokk…{crank_nicolson, 0.0125}".
std::string shorten_label(std::string_view label, std::size_t n_max);
std::size_t character_count(std::string_view text);

}  // namespace borel
