//! What the workers have.

use chrono::{DateTime, Utc};
use crewfleet_protocol::HeldState;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::super::model::Model;
use super::listing::Listing;
use crate::format::age;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, now: DateTime<Utc>) {
    let kickoffs = model.kickoffs();
    let rows = kickoffs.iter().map(|at| {
        let kickoff = &at.kickoff;
        let style = match kickoff.state {
            HeldState::Running => Style::new().fg(Color::Green),
            HeldState::Stopping | HeldState::Retrying => Style::new().fg(Color::Yellow),
            HeldState::Waiting | HeldState::Ended => Style::new(),
        };
        let cells = [
            kickoff.kickoff_id.clone(),
            kickoff.crew.clone().unwrap_or_else(|| "-".to_owned()),
            kickoff.state.to_string(),
            age(kickoff.requested_at, now),
            age(kickoff.started_at, now),
            kickoff
                .attempt
                .map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
            at.worker.clone(),
        ];
        (style, cells)
    });
    let listing = Listing {
        title: title(model, kickoffs.len()),
        heads: ["KICKOFF", "CREW", "STATE", "AGE", "RUNS", "ATTEMPT", "WORKER"],
        rows: rows.collect(),
        chosen: model.kickoff_cursor.index(&model.kickoff_keys()),
        empty: match (&model.known, model.filter.is_empty()) {
            (None, _) => "Asking the workers …",
            (_, true) => "No worker has a kickoff.",
            (_, false) => "No kickoff matches the filter. Esc shows all.",
        },
    };
    listing.draw(frame, area);
}

fn title(model: &Model, shown: usize) -> String {
    let mut title = format!(" kickoffs with workers: {shown}");
    if let Some(known) = &model.known {
        if !model.filter.is_empty() {
            title += &format!(" of {}, filter: {}", known.kickoffs.len(), model.filter);
        }
        if known.left_out > 0 {
            title += &format!("; {} more are left out", known.left_out);
        }
        for doubt in &known.doubts {
            title += &format!("; {doubt}");
        }
    }
    title + " "
}
