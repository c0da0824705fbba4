//! Drawing the model.
//!
//! | file | what it draws |
//! |---|---|
//! | `bars` | the lines at the top and at the bottom: numbers, what is told or asked, keys |
//! | `fleet` | workers and crews |
//! | `kickoffs` | what the workers have |
//! | `kickoff` | one kickoff |
//! | `listing` | a list with columns, of which one row is chosen |

mod bars;
mod fleet;
mod kickoff;
mod kickoffs;
mod listing;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};

use super::model::{Model, View};

/// Draws all of it. Cursors stay at their rows, and what cannot be scrolled that far is scrolled back.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model, broker: &str, now: DateTime<Utc>) {
    model.settle();
    let told = bars::told(model, frame.area().width);
    let told_height = u16::try_from(told.len()).unwrap_or(1);
    let [top, middle, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(told_height),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(bars::summary(model, broker), top);
    match model.view {
        View::Fleet => fleet::draw(frame, middle, model, now),
        View::Kickoffs => kickoffs::draw(frame, middle, model, now),
        View::Kickoff => kickoff::draw(frame, middle, model),
    }
    frame.render_widget(ratatui::text::Text::from(told), bottom);
    frame.render_widget(bars::keys(model), keys);
}
