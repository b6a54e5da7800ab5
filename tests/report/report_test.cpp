// The report as text: safe, complete, deterministic, and honest about what could not be drawn.
#include "report/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "borel/error.hpp"
#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"
#include "sample_run.hpp"

namespace borel {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "borel-report-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// "" when every tag is closed in order, else what is wrong. Scripts and styles are skipped.
std::string tag_problem(const std::string& html) {
  const std::set<std::string> void_tags = {"meta", "link", "input", "br"};
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    if (html.compare(at, 2, "<!") == 0) continue;
    const bool closing = html[at + 1] == '/';
    const std::size_t name_at = at + 1 + closing, end = html.find_first_of(" \t\n/>", name_at);
    const std::string name = html.substr(name_at, end - name_at);
    std::size_t close = at;
    char quote = 0;
    while (++close < html.size() && (quote || html[close] != '>')) {
      if (quote ? html[close] == quote : html[close] == '"' || html[close] == '\'')
        quote = quote ? '\0' : html[close];
    }
    if (close >= html.size()) return "<" + name + " does not end";
    if (closing) {
      if (open.empty() || open.back() != name)
        return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    } else if (html[close - 1] != '/' && !void_tags.contains(name)) {
      open.push_back(name);
      if (name == "script" || name == "style") {
        close = html.find("</" + name, close) - 1;
      }
    }
    at = close;
  }
  return open.empty() ? "" : "<" + open.back() + "> stays open";
}

const std::string& sample_html() {
  static const std::string html = [] {
    const Folder folder;
    write_report(sample_run(), folder.path(), sample_protocols());
    return read(folder.path() / "report.html");
  }();
  return html;
}

TEST(Html, ProseTurnsBackticksIntoCode) {
  EXPECT_EQ(prose_html("`a<b` and c & d"), "<code>a&lt;b</code> and c &amp; d");
  EXPECT_EQ(prose_html("one ` alone"), "one ` alone");
  EXPECT_EQ(prose_html("``"), "<code></code>");
  EXPECT_EQ(prose_html(""), "");
}

TEST(Html, EscapesWhatCouldEndTextOrAttributes) {
  EXPECT_EQ(escape_html("<a href=\"x\" title='y'>&</a>"),
            "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;&lt;/a&gt;");
  EXPECT_EQ(escape_html("é − ∞ 𝛼"), "é − ∞ 𝛼");
  EXPECT_EQ(escape_html(std::string_view("a\0b\x1b[31m\x7f", 9)), "ab[31m");
}

TEST(Html, ReplacesInvalidUtf8) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html("\xff"), bad);
  EXPECT_EQ(escape_html("\xc3"), bad);                      // truncated
  EXPECT_EQ(escape_html("\xc0\xaf"), bad + bad);            // overlong
  EXPECT_EQ(escape_html("\xed\xa0\x80"), bad + bad + bad);  // surrogate
}

TEST(Html, CsvFieldsAreQuotedWhenTheyMustBe) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("a,b\n\"c\""), "\"a,b\n\"\"c\"\"\"");
}

TEST(Html, CsvLinksCarryTheirDataInsideTheAttribute) {
  const std::string link = csv_link("a,\"b\"\n<1>#%\n", "x\".csv", "Data");
  EXPECT_THAT(link, HasSubstr("data:text/csv;charset=utf-8,a,%22b%22%0A%3C1%3E%23%25%0A\""));
  EXPECT_EQ(tag_problem(link), "");
}

TEST(NumberText, ShowsFewDigitsTrueMinusAndShortExponents) {
  EXPECT_EQ(number_text(-0.000123456), "−0.0001235");
  EXPECT_EQ(number_text(1.5e-9), "1.5e−9");
  EXPECT_EQ(number_text(2.5e12, 3), "2.5e12");
  EXPECT_EQ(number_text(std::nan("")), "");
  EXPECT_EQ(number_text(-INFINITY), "−∞");
  EXPECT_EQ(number_text(-2.1, ConfidenceInterval{-2.2, -2.0}), "−2.1 [−2.2, −2]");
  EXPECT_EQ(number_text(100.0002, ConfidenceInterval{100.0001, 100.0003}), "100.0002 [100.0001, 100.0003]");
  EXPECT_EQ(seconds_text(0.00123), "1.23 ms");
  EXPECT_EQ(p_text(0.0001), "p < 0.001");
  EXPECT_EQ(shorten("größer", 4), "grö…");
  EXPECT_EQ(shorten_label("fokker_planck{scheme=euler}", 27), "fokker_planck{scheme=euler}");
  EXPECT_EQ(shorten_label("fokker_planck{scheme=euler}", 24), "fokker_pl…{scheme=euler}");
  EXPECT_EQ(shorten_label("fokker_planck{scheme=crank, of=pi{factor=2}, at=[1, 2]}", 40),
            "fokker_planck{crank, pi{2}, [1, 2]}");
  EXPECT_EQ(shorten_label("fokker_planck{scheme=crank_nicolson}", 12), "fokk…{crank…");
  EXPECT_EQ(shorten_label("no_parameters", 6), "no_pa…");
  EXPECT_EQ(exact_text(0.1), "0.1");
}

TEST(GnuplotText, CannotBeLeftOrRunACommand) {
  EXPECT_EQ(gnuplot_text("it's `date` $(x) \\n @m"), "'it''s `date` $(x) \\n @m'");
  EXPECT_EQ(gnuplot_text("two\nlines"), "'two lines'");
}

TEST(Report, IsOneWellFormedPageWithoutOutsideReferences) {
  const std::string& html = sample_html();
  EXPECT_EQ(tag_problem(html), "");
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  for (const char* outside :
       {"src=\"http", "href=\"http", "href='http", "url(http", "@import", "<link rel=\"stylesheet"})
    EXPECT_EQ(occurrences(html, outside), 0u) << outside;
}

TEST(Report, DrawsEveryFigureAndGivesItsData) {
  const std::string& html = sample_html();
  const std::size_t n_figures = occurrences(html, "<figure ");
  EXPECT_GE(n_figures, 30u);
  EXPECT_EQ(occurrences(html, "<svg "), n_figures);
  EXPECT_EQ(occurrences(html, "class=\"note\""), 0u);
  EXPECT_GE(occurrences(html, "href=\"data:text/csv"), n_figures);
}

TEST(Report, NeverLetsTextOfARunBecomeMarkup) {
  const std::string& html = sample_html();
  EXPECT_EQ(occurrences(html, "<script>"), 1u);  // its own
  EXPECT_EQ(occurrences(html, "<b>not bold"), 0u);
  EXPECT_EQ(occurrences(html, "<i>"), 0u);
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;"));
}

TEST(Report, ShowsEveryFailureWithItsReason) {
  const std::string& html = sample_html();
  for (const CellRecord& cell : sample_run().cells)
    if (cell.result.outcome != CellOutcome::ok) {
      EXPECT_THAT(html, HasSubstr(escape_html(cell.result.reason)));
      EXPECT_THAT(html, HasSubstr(cell.cell_id));
    }
}

TEST(Report, SaysWhoIsFirstAndHowSureThatIs) {
  EXPECT_THAT(sample_html(), HasSubstr("gmm{n_components=4} is first by log likelihood"));
  EXPECT_THAT(sample_html(), HasSubstr("it cannot be told apart from kde{bandwidth=isj}"));
}

TEST(Report, IsTheSameBytesAgain) {
  const Folder folder;
  write_report(sample_run(), folder.path(), sample_protocols());
  EXPECT_EQ(read(folder.path() / "report.html"), sample_html());
}

TEST(Report, LeavesPapersTheirFilesAndNothingElse) {
  const Folder folder;
  fs::create_directories(folder.path() / "figures");
  std::ofstream(folder.path() / "figures" / "old-figure.pdf") << "old";
  write_report(sample_run(), folder.path(), sample_protocols());
  std::map<std::string, int> extensions;
  for (const auto& entry : fs::directory_iterator(folder.path() / "figures"))
    ++extensions[entry.path().extension().string()];
  EXPECT_EQ(extensions.size(), 3u);
  EXPECT_GE(extensions[".gp"], 30);
  EXPECT_EQ(extensions[".csv"], extensions[".gp"]);
  EXPECT_EQ(extensions[".pdf"], extensions[".gp"]);
  EXPECT_FALSE(fs::exists(folder.path() / "figures" / "old-figure.pdf"));
}

TEST(Report, TakesLessThanTenSeconds) {
  const Folder folder;
  const auto start = std::chrono::steady_clock::now();
  write_report(sample_run(), folder.path(), sample_protocols());
  EXPECT_LE(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 10.0);
}

TEST(Report, WithoutGnuplotItIsMadeAndSaysHowToGetTheFigures) {
  const Folder folder;
  ReportOptions options;
  options.gnuplot = "no-such-gnuplot";
  write_report(sample_run(), folder.path(), sample_protocols(), options);
  const std::string html = read(folder.path() / "report.html");
  EXPECT_EQ(tag_problem(html), "");
  EXPECT_EQ(occurrences(html, "<svg "), 0u);
  EXPECT_THAT(html, HasSubstr("apt install gnuplot-nox"));
  EXPECT_GE(occurrences(html, "href=\"data:text/csv"), 30u);
}

TEST(Report, ATruthStandsDottedInTheFigureOfWhatIsHeldAgainstIt) {
  const Folder folder;
  RunResults run = sample_run();
  write_report(run, folder.path(), sample_protocols());
  const std::string page = read(folder.path() / "report.html");
  EXPECT_THAT(page, HasSubstr("Dotted: true density."));
  EXPECT_THAT(page, Not(HasSubstr("Curves: true density")));
  for (CellRecord& cell : run.cells)  // a truth of each method's own: in the method's colour
    for (Curve& curve : cell.result.curves)
      if (!curve.reference_of.empty()) curve.y[0] += static_cast<double>(cell.methods[0].label.size());
  write_report(run, folder.path(), sample_protocols());
  EXPECT_THAT(read(folder.path() / "report.html"),
              HasSubstr("Dotted: true density, in the colour of what it is held against."));
}

TEST(Report, AGnuplotThatHangsIsEnded) {
  const Folder folder;
  const fs::path fake = folder.path() / "gnuplot";
  std::ofstream(fake) << "#!/bin/sh\nexec sleep 60\n";
  fs::permissions(fake, fs::perms::owner_all);
  ReportOptions options;
  options.gnuplot = fake.string();
  options.gnuplot_limit_s = 0.3;
  write_report(sample_run(), folder.path(), sample_protocols(), options);
  EXPECT_THAT(read(folder.path() / "report.html"), HasSubstr("gnuplot was ended after 0.3 s"));
  const std::atomic<bool> stop = true;
  options.gnuplot_limit_s = 60;
  options.interrupted = &stop;
  EXPECT_THROW(write_report(sample_run(), folder.path(), sample_protocols(), options), Stopped);
}

TEST(Report, OneRefusedFigureDoesNotTakeTheOthers) {
  const Folder folder;
  std::vector<Figure> figures(3);
  for (std::size_t i = 0; i < 3; ++i) {
    figures[i].name = "f" + std::to_string(i);
    figures[i].title = "Figure";
    figures[i].script = i == 1 ? "plot undefined_thing(x)\n" : "plot sin(x) notitle\n";
  }
  draw_figures(figures, folder.path(), {});
  EXPECT_THAT(figures[0].svg, HasSubstr("</svg>"));
  EXPECT_EQ(figures[1].svg, "");
  EXPECT_THAT(figures[1].problem, HasSubstr("undefined function"));
  EXPECT_THAT(figures[2].svg, HasSubstr("</svg>"));
  EXPECT_EQ(figures[2].problem, "");
}

TEST(Report, AnEmptyRunHasAPage) {
  const Folder folder;
  write_report(RunResults{}, folder.path(), ProtocolTable{});
  const std::string html = read(folder.path() / "report.html");
  EXPECT_EQ(tag_problem(html), "");
  EXPECT_THAT(html, HasSubstr("no finished cell"));
}

TEST(Report, OneMethodOneDatasetOneRepetitionHasAPage) {
  RunResults run = sample_run();
  run.cells.resize(1);
  const Folder folder;
  write_report(run, folder.path(), ProtocolTable{});
  const std::string html = read(folder.path() / "report.html");
  EXPECT_EQ(tag_problem(html), "");
  EXPECT_THAT(html, HasSubstr("was measured alone"));
  EXPECT_EQ(occurrences(html, "class=\"note\""), 0u);
}

TEST(Report, ValuesThatAreNotFiniteAreNotDrawnButListed) {
  RunResults run = sample_run();
  run.cells.resize(12);
  run.cells[0].result.metrics[0].value = INFINITY;
  run.cells[1].result.metrics[0].value = std::nan("");
  run.cells[2].result.curves[0].y[1] = std::nan("");
  run.cells[3].result.curves[0].y = {};
  run.cells[4].result.pictures[0].values[5] = INFINITY;
  const Folder folder;
  write_report(run, folder.path(), ProtocolTable{});
  const std::string html = read(folder.path() / "report.html");
  EXPECT_EQ(occurrences(html, "class=\"note\""), 0u);
  EXPECT_THAT(html, HasSubstr("∞"));
}

TEST(Report, AFolderThatCannotBeWrittenIsNamed) {
  try {
    write_report(sample_run(), "/proc/no-such-folder", ProtocolTable{});
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("/proc/no-such-folder"));
  }
}

TEST(CriticalDifference, TheDiagramSaysWhenNothingCanBeToldApart) {
  const RunResults run = sample_run();
  const auto groups = comparison_groups(run);
  Comparison comparison = compare_entries(groups[0], {"accuracy", "", Direction::higher_is_better, "", true});
  comparison.critical_difference = 5;
  EXPECT_THAT(critical_difference_figure(groups[0], comparison).caption,
              HasSubstr("no pair can be told apart"));
  comparison.critical_difference = 1;
  EXPECT_THAT(critical_difference_figure(groups[0], comparison).caption, Not(HasSubstr("no pair")));
}

TEST(CostFigure, TheFrontHoldsExactlyTheUndominatedMethods) {
  const RunResults run = sample_run();
  const auto groups = comparison_groups(run);
  const auto figure =
      cost_figure(groups[0], {"accuracy", "", Direction::higher_is_better, "", true}, "forward_s", 0);
  ASSERT_TRUE(figure.has_value());
  // The sample's faster mechanisms are its worse ones: all four are on the front.
  EXPECT_EQ(occurrences(figure->csv, ",1\n"), 4u);
  const auto inverse =
      cost_figure(groups[0], {"accuracy", "", Direction::lower_is_better, "", true}, "forward_s", 0);
  EXPECT_EQ(occurrences(inverse->csv, ",1\n"), 1u);
}

}  // namespace
}  // namespace borel
