// HTML and CSV text. Everything that comes from outside passes through here.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace borel {

/// Safe as text and inside quoted attributes. Invalid UTF-8 becomes U+FFFD; control characters but tab and
/// newline go.
std::string escape_html(std::string_view text);

/// Escaped, with `names in backticks` as code; a backtick without its pair stays.
std::string prose_html(std::string_view text);

/// RFC 4180: quoted when it must be.
std::string csv_field(std::string_view text);

/// A download link that carries its content: <a download="file" href="data:text/csv...">.
std::string csv_link(std::string_view csv, std::string_view file_name, std::string_view link_text);

/// A table that readers can sort and search. Numbers sort by `value`, texts by their text.
class HtmlTable {
 public:
  struct Column {
    std::string title, hint;  ///< plain text; the hint explains the title
    bool numeric = false;
  };
  struct Cell {
    std::string html, csv;
    double value = std::numeric_limits<double>::quiet_NaN();  ///< numeric columns; NaN sorts last
    std::string style_class;
  };

  HtmlTable(std::string id, std::string caption, std::vector<Column> columns);
  static Cell text(std::string_view plain);
  static Cell number(double value, std::string_view shown);

  void add_row(std::vector<Cell> row);
  std::size_t n_rows() const { return rows_.size(); }
  std::string csv() const;
  /// With a search field when there are more than `k_search_from` rows, and with its CSV.
  std::string html() const;

 private:
  static constexpr std::size_t k_search_from = 8;
  std::string id_, caption_;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace borel
