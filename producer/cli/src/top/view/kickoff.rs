//! One kickoff: where it is, what happens, and how it ended.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph};

use super::super::harmless_text::wrapped;
use super::super::model::Model;

/// Its status takes no more lines than this.
const MOST_STATUS: usize = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let Some(followed) = &mut model.followed else {
        return;
    };
    // Within the borders.
    let width = area.width.saturating_sub(2);
    let status = followed.status.iter().flat_map(|line| wrapped(line, width));
    let status: Vec<_> = status.take(MOST_STATUS).map(Line::from).collect();
    let of_status = u16::try_from(status.len() + 2).unwrap_or(u16::MAX);
    let [above, below] = Layout::vertical([Constraint::Length(of_status), Constraint::Fill(1)]).areas(area);
    let block = Block::bordered().title(format!(" kickoff {} ", followed.id));
    frame.render_widget(Paragraph::new(Text::from(status)).block(block), above);

    let height = usize::from(below.height.saturating_sub(2));
    let lines: Vec<_> = followed.lines().flat_map(|line| wrapped(line, width)).collect();
    followed.scrolled = followed.scrolled.min(lines.len().saturating_sub(height));
    let end = lines.len() - followed.scrolled;
    let shown: Vec<_> = lines[end.saturating_sub(height)..end]
        .iter()
        .map(|line| Line::from(line.as_str()))
        .collect();
    let title = match (followed.has_events(), followed.reply.is_some()) {
        (false, false) => " events: none yet ".to_owned(),
        _ if followed.scrolled > 0 => format!(" events; {} more lines below ", followed.scrolled),
        _ if followed.left_out() > 0 => format!(" events; {} older ones are left out ", followed.left_out()),
        _ => " events ".to_owned(),
    };
    let block = Block::bordered().title(title);
    frame.render_widget(Paragraph::new(Text::from(shown)).block(block), below);
}
