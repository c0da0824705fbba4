//! A list with columns, of which one row is chosen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Span;
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState, Wrap};

use super::super::harmless_text::harmless_line;

/// A column is no wider than this, but for the last one.
const WIDEST: usize = 40;

/// What is listed.
pub(super) struct Listing<'a, const COLUMNS: usize> {
    /// What it is of.
    pub(super) title: String,
    /// Over the columns.
    pub(super) heads: [&'a str; COLUMNS],
    /// The rows, unchanged: they are made harmless here.
    pub(super) rows: Vec<(Style, [String; COLUMNS])>,
    /// Which row is chosen.
    pub(super) chosen: Option<usize>,
    /// Instead of rows, where there are none.
    pub(super) empty: &'a str,
}

impl<const COLUMNS: usize> Listing<'_, COLUMNS> {
    /// Draws it, with the row that is chosen in sight.
    pub(super) fn draw(self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(harmless_line(&self.title));
        if self.rows.is_empty() {
            let text = Paragraph::new(self.empty).wrap(Wrap { trim: true }).block(block);
            return frame.render_widget(text, area);
        }
        let rows: Vec<_> = self
            .rows
            .into_iter()
            .map(|(style, cells)| (style, cells.map(|cell| harmless_line(&cell))))
            .collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|(_, cells)| cells[column].as_str());
            let widths = cells
                .chain([self.heads[column]])
                .map(|cell| Span::raw(cell).width());
            u16::try_from(widths.max().unwrap_or(0).min(WIDEST)).unwrap_or(0)
        };
        let widths: [_; COLUMNS] = std::array::from_fn(|column| match column + 1 == COLUMNS {
            true => Constraint::Fill(1),
            false => Constraint::Length(width(column)),
        });
        let rows = rows
            .into_iter()
            .map(|(style, cells)| Row::new(cells).style(style));
        let table = Table::new(rows, widths)
            .header(Row::new(self.heads).bold())
            .column_spacing(2)
            .row_highlight_style(Style::new().reversed())
            .block(block);
        let mut state = TableState::new().with_selected(self.chosen);
        frame.render_stateful_widget(table, area, &mut state);
    }
}
