//! Rows for people: columns aligned, no borders, one line each.

use comfy_table::{ContentArrangement, Table, presets};

use super::escape;

/// Rows under a header; empty when there are no rows.
pub fn grid(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare();
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| cell_text(cell)).collect::<Vec<_>>()));
    if table.row(0).is_some() { trimmed(&table) } else { String::new() }
}

/// One thing: its fields below each other.
pub fn card(fields: &[(&str, String)]) -> String {
    let mut table = bare();
    for (name, value) in fields {
        table.add_row([format!("{name}:"), cell_text(value)]);
    }
    trimmed(&table)
}

/// A cell stays on its line whoever wrote it; an empty one is seen to be empty.
fn cell_text(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { escape::line(cell) }
}

fn bare() -> Table {
    let mut table = Table::new();
    // Never wrapped: a line is a row, for eyes and for `grep`.
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    table
}

fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_cells_stay_on_their_line() {
        let rows = vec![
            vec!["web-01".to_owned(), "eu".to_owned(), String::new()],
            vec!["db\n\u{1b}[2J".to_owned(), "us-east".to_owned(), "x".to_owned()],
        ];
        insta::assert_snapshot!(grid(&["name", "site", "note"], rows), @r"
        NAME         SITE     NOTE
        web-01       eu       -
        db\n\x1b[2J  us-east  x
        ");
        assert_eq!(grid(&["name", "site"], Vec::new()), "");
        insta::assert_snapshot!(card(&[("name", "a".into()), ("longer", "b".into())]), @r"
        name:    a
        longer:  b
        ");
    }
}
