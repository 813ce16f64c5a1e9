//! How text on stdout is dressed, and tables.

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// Colours, and the width there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Whether text has colours.
    pub(super) colours: bool,
    /// Columns of the terminal; lines are not broken without one.
    pub(super) width: Option<usize>,
}

/// A cell of a table: its text, and its colour as the number in an escape sequence.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Option<&'static str>,
}

impl Style {
    /// Text as it is.
    pub(super) const PLAIN: Self = Self {
        colours: false,
        width: None,
    };

    /// Colours on a terminal only, and not where `NO_COLOR` asks for none (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::PLAIN;
        }
        let asked_not = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: !asked_not,
            width: tcgetwinsize(&stdout)
                .ok()
                .map(|size| usize::from(size.ws_col)),
        }
    }

    /// Bold text.
    pub(super) fn bold(self, text: &str) -> String {
        self.dress("1", text)
    }

    /// Text in a colour: the number in an escape sequence.
    pub(super) fn dress(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Columns below their headings, as wide as their widest cell; the last one is not filled up.
    pub(super) fn table<const N: usize>(self, headings: [&str; N], rows: &[[Cell; N]]) -> String {
        let mut widths = headings.map(str::len);
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.chars().count().max(*width);
            }
        }
        let headings = headings.map(|text| Cell {
            text: text.to_owned(),
            colour: Some("1"),
        });
        let mut out = String::new();
        for row in [&headings].into_iter().chain(rows) {
            self.write_row(&mut out, row, &widths);
        }
        out
    }

    fn write_row(self, out: &mut String, row: &[Cell], widths: &[usize]) {
        let mut gap = 0;
        for (cell, width) in row.iter().zip(widths) {
            out.extend(std::iter::repeat_n(' ', gap));
            match cell.colour {
                Some(code) => out.push_str(&self.dress(code, &cell.text)),
                None => out.push_str(&cell.text),
            }
            gap = 2 + width - cell.text.chars().count();
        }
        out.push('\n');
    }
}

impl Cell {
    /// The cell in a colour.
    pub(super) fn coloured(self, code: &'static str) -> Self {
        Self {
            colour: Some(code),
            ..self
        }
    }
}

/// Text for people, from wherever it comes: what would move a terminal's cursor or colour it is shown instead.
impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: plain(&text.to_string()),
            colour: None,
        }
    }
}

/// `text` without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Breaks `text` between words so that it fits right of a margin; the first line's margin is the caller's.
pub(super) fn indented(text: &str, margin: usize, width: Option<usize>) -> String {
    /// A terminal too narrow for words beside the margin gets unbroken lines.
    const NARROWEST: usize = 24;
    let room = match width.and_then(|width| width.checked_sub(margin)) {
        Some(room) if room >= NARROWEST => room,
        _ => return text.to_owned(),
    };
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', margin));
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// A sentence of a report's summary, as it stands alone.
pub(super) fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["web".into(), "é".into()], ["a".into(), "long".into()]];
        let text = Style::PLAIN.table(["NAME", "X"], &rows);
        assert_eq!(text, "NAME  X\nweb   é\na     long\n");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let style = Style {
            colours: true,
            width: None,
        };
        let rows = [[Cell::from("up").coloured("32"), 7.into()]];
        let text = style.table(["STATE", "N"], &rows);
        assert!(text.ends_with("\x1b[32mup\x1b[0m     7\n"), "{text:?}");
    }

    #[test]
    fn nothing_in_a_cell_is_obeyed_by_the_terminal() {
        let rows = [[Cell::from("a\x1b[2J\nb")]];
        let text = Style::PLAIN.table(["X"], &rows);
        assert_eq!(text, "X\na\\u{1b}[2J\\nb\n");
    }

    #[test]
    fn long_evidence_is_broken_between_words_at_the_margin() {
        let broken = indented("one two three four five six seven", 4, Some(28));
        assert_eq!(broken, "one two three four five\n    six seven");
        assert_eq!(indented("one two", 4, Some(10)), "one two");
        assert_eq!(indented("one two", 4, None), "one two");
    }
}
