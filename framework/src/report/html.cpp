#include "report/html.hpp"

#include <fmt/format.h>

#include <cassert>
#include <cmath>

#include "report/number_text.hpp"

namespace borel {
namespace {

/// Bytes of the well-formed UTF-8 character at `i`, 0 when it is none (overlong forms and surrogates
/// included).
std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t at) { return at < s.size() ? static_cast<unsigned char>(s[at]) : 0U; };
  const unsigned a = byte(i), b = byte(i + 1);
  const auto continues = [&](std::size_t at) { return (byte(at) & 0xC0U) == 0x80U; };
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return continues(i + 1) ? 2 : 0;
  if (a >= 0xE0 && a <= 0xEF) {
    const bool allowed = continues(i + 1) && !(a == 0xE0 && b < 0xA0) && !(a == 0xED && b > 0x9F);
    return allowed && continues(i + 2) ? 3 : 0;
  }
  if (a >= 0xF0 && a <= 0xF4) {
    const bool allowed = continues(i + 1) && !(a == 0xF0 && b < 0x90) && !(a == 0xF4 && b > 0x8F);
    return allowed && continues(i + 2) && continues(i + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    if (length > 1) {
      out += text.substr(i, length);
    } else {
      const char c = text[i];
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          if ((c >= ' ' && c != 0x7F) || c == '\t' || c == '\n') out += c;
      }
    }
    i += length;
  }
  return out;
}

std::string prose_html(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t open = text.find('`', at), close = open == text.npos ? open : text.find('`', open + 1);
    if (close == text.npos) return out + escape_html(text.substr(at));
    out += escape_html(text.substr(at, open - at)) + "<code>" +
           escape_html(text.substr(open + 1, close - open - 1)) + "</code>";
    at = close + 1;
  }
  return out;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::string csv_link(std::string_view csv, std::string_view file_name, std::string_view link_text) {
  std::string data;
  data.reserve(csv.size() + csv.size() / 4);
  constexpr std::string_view k_plain = "-_.!~*(),;:/=+";  // legal in a URI and harmless inside the attribute
  for (char c : csv) {
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alphanumeric || k_plain.find(c) != std::string_view::npos)
      data += c;
    else
      data += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return fmt::format(R"(<a class="csv" download="{}" href="data:text/csv;charset=utf-8,{}">{}</a>)",
                     escape_html(file_name), data, escape_html(link_text));
}

HtmlTable::HtmlTable(std::string id, std::string caption, std::vector<Column> columns)
    : id_(std::move(id)), caption_(std::move(caption)), columns_(std::move(columns)) {}

HtmlTable::Cell HtmlTable::text(std::string_view plain) {
  return {escape_html(plain), std::string(plain), std::nan(""), ""};
}

HtmlTable::Cell HtmlTable::number(double value, std::string_view shown) {
  return {escape_html(shown), std::isnan(value) ? "" : exact_text(value), value, ""};
}

void HtmlTable::add_row(std::vector<Cell> row) {
  assert(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

std::string HtmlTable::csv() const {
  std::string out;
  const auto line = [&](const auto& items, const auto& field) {
    for (std::size_t i = 0; i < items.size(); ++i)
      out.append(i ? "," : "").append(csv_field(field(items[i])));
    out += "\n";
  };
  line(columns_, [](const Column& column) -> const std::string& { return column.title; });
  for (const auto& row : rows_) line(row, [](const Cell& cell) -> const std::string& { return cell.csv; });
  return out;
}

std::string HtmlTable::html() const {
  constexpr std::size_t k_many_columns = 8;  // wider than paper: printed as a list a row, see page.css
  const bool is_wide = columns_.size() > k_many_columns;
  const std::string id = escape_html(id_);
  std::string out = fmt::format(R"(<div class="table" id="{}">)", id);
  out += R"(<div class="table-tools">)";
  if (rows_.size() > k_search_from)
    out +=
        fmt::format(R"(<label>Search <input type="search" data-table="{0}-table" autocomplete="off"></label>)"
                    R"(<output aria-live="polite" data-count="{0}-table">{1}</output>)",
                    id, counted(rows_.size(), "row"));
  out += csv_link(csv(), id_ + ".csv", "Data (CSV)") + "</div>";
  out +=
      fmt::format(R"(<div class="scroll" tabindex="0" role="region" aria-label="{}"><table id="{}-table"{}>)",
                  escape_html(caption_), id, is_wide ? R"( class="many")" : "");
  out += "<caption>" + escape_html(caption_) + "</caption><thead><tr>";
  for (const Column& column : columns_)
    out += fmt::format(
        R"(<th scope="col"{}><button type="button"{}>{}<span class="arrow" aria-hidden="true"></span></button></th>)",
        column.numeric ? R"( class="n")" : "",
        column.hint.empty() ? "" : fmt::format(R"( title="{}")", escape_html(column.hint)),
        escape_html(column.title));
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows_) {
    out += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) {
      const Cell& cell = row[c];
      std::string classes = columns_[c].numeric ? "n" : "";
      if (!cell.style_class.empty()) classes += (classes.empty() ? "" : " ") + cell.style_class;
      const std::string_view tag = c == 0 ? "th" : "td";
      out += fmt::format("<{}{}{}{}{}>{}</{}>", tag, c == 0 ? R"( scope="row")" : "",
                         classes.empty() ? "" : fmt::format(R"( class="{}")", classes),
                         columns_[c].numeric && !std::isnan(cell.value)
                             ? fmt::format(R"( data-v="{}")", exact_text(cell.value))
                             : "",
                         is_wide && c > 0 && !cell.csv.empty()
                             ? fmt::format(R"( data-label="{}")", escape_html(columns_[c].title))
                             : "",
                         cell.html, tag);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></div>\n";
}

}  // namespace borel
