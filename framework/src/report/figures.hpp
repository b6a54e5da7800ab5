// The figures of a report. Each function turns results into gnuplot scripts; nothing is drawn here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/gnuplot.hpp"
#include "statistics/comparison.hpp"

namespace borel {

/// Average ranks with their 95 % intervals, best on top.
Figure ranking_figure(const ComparisonGroup& group, const Comparison& comparison);

/// Demsar's critical-difference diagram: average ranks on an axis, bars join what the Nemenyi test cannot
/// tell apart.
Figure critical_difference_figure(const ComparisonGroup& group, const Comparison& comparison);

/// Means of a metric, entry x dataset, coloured by the place within the dataset.
Figure heat_map_figure(const ComparisonGroup& group, const MetricInfo& metric);

/// Values of a metric on one dataset: every repetition, the mean and its interval.
Figure values_figure(const ComparisonGroup& group, const MetricInfo& metric, std::size_t dataset);

/// Median seconds of a timed task against a metric, with the Pareto front. Empty when fewer than two entries
/// have both.
std::optional<Figure> cost_figure(const ComparisonGroup& group, const MetricInfo& metric,
                                  const std::string& timing, std::size_t dataset);

/// Work to reach a level ("calls_to_1e_6"): such metrics have a performance profile.
bool is_work_to_reach(const MetricInfo& metric);
/// Share of datasets and repetitions on which a method needs at most a given multiple of the least work. Empty for fewer
/// than two entries or problems.
std::optional<Figure> profile_figure(const ComparisonGroup& group, const MetricInfo& metric);

/// Curves of one name on one dataset: median over repetitions, band from lowest to highest.
std::optional<Figure> curve_figure(const ComparisonGroup& group, const std::string& curve,
                                   std::size_t dataset);

/// Pictures of one name on one dataset, one panel per entry, one colour scale. First repetition that has the
/// picture.
std::optional<Figure> picture_figure(const ComparisonGroup& group, const std::string& picture,
                                     std::size_t dataset);

/// Names that occur in the cells of a group, in order of appearance.
std::vector<std::string> curve_names(const ComparisonGroup& group);
std::vector<std::string> picture_names(const ComparisonGroup& group);
std::vector<std::string> timing_names(const ComparisonGroup& group);

/// All raw seconds of a timed task, over repetitions.
std::vector<double> timing_seconds(const ComparisonGroup& group, std::size_t entry, std::size_t dataset,
                                   const std::string& timing);

}  // namespace borel
