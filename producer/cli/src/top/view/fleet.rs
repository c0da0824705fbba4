//! Workers and crews.

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};

use super::super::fleet::Crew;
use super::super::model::{Model, Panel};
use super::listing::Listing;
use crate::format::age;

/// How wide the bar of a crew is.
const BAR: u32 = 10;

/// What is around the rows of a list.
const FRAME: usize = 3;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, now: DateTime<Utc>) {
    let crews = model.crews();
    let wanted = u16::try_from(crews.len() + FRAME).unwrap_or(u16::MAX);
    // The workers are more in most fleets; they have at least a half.
    let of_crews = wanted.clamp(4, (area.height / 2).max(4));
    let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(of_crews)]).areas(area);
    workers(model, now).draw(frame, above);
    crews_listing(model, &crews, now).draw(frame, below);
}

fn workers(model: &Model, now: DateTime<Utc>) -> Listing<'static, 7> {
    let rows = model.fleet.workers().map(|seen| {
        let (heartbeat, state) = (&seen.heartbeat, seen.state(now));
        let style = match state {
            "running" => Style::new(),
            "draining" => Style::new().fg(Color::Yellow),
            _ => Style::new().dim(),
        };
        let crews = heartbeat
            .crews
            .iter()
            .map(|crew| format!("{} {}/{}", crew.name, crew.in_flight, crew.concurrency));
        let running: u32 = heartbeat.crews.iter().map(|crew| crew.in_flight).sum();
        let cells = [
            heartbeat.worker.clone(),
            heartbeat.host.clone(),
            heartbeat.version.clone(),
            state.to_owned(),
            age(Some(heartbeat.started_at), now),
            running.to_string(),
            crews.collect::<Vec<_>>().join(", "),
        ];
        (style, cells)
    });
    Listing {
        title: " workers ".to_owned(),
        heads: ["WORKER", "HOST", "VERSION", "STATE", "UP", "RUNS", "CREWS"],
        rows: rows.collect(),
        chosen: model
            .worker_cursor
            .index(&model.worker_keys())
            .filter(|_| model.panel == Panel::Workers),
        empty: match &model.known {
            None => "Listening for workers …",
            Some(_) => "No worker was heard. Start one: crewfleet-worker --config FILE",
        },
    }
}

fn crews_listing(model: &Model, crews: &[Crew], now: DateTime<Utc>) -> Listing<'static, 7> {
    let retrying = model.queues().iter().filter(|queue| queue.crew.is_none());
    let retrying: u64 = retrying.filter_map(|queue| queue.waiting).map(u64::from).sum();
    let rows = crews.iter().map(|crew| {
        let style = match crew {
            Crew { troubles, .. } if !troubles.is_empty() => Style::new().fg(Color::Red),
            Crew { paused: 1.., .. } => Style::new().fg(Color::Yellow),
            Crew {
                workers: 0,
                waiting: Some(1..),
                ..
            } => Style::new().fg(Color::Red),
            _ => Style::new(),
        };
        let cells = [
            crew.name.clone(),
            crew.workers.to_string(),
            format!(
                "{} {}/{}",
                bar(crew.in_flight, crew.concurrency),
                crew.in_flight,
                crew.concurrency
            ),
            crew.waiting
                .map_or_else(|| "-".to_owned(), |waiting| waiting.to_string()),
            // As an age, it has one unit.
            age(
                crew.oldest_s
                    .map(|seconds| now - TimeDelta::seconds(seconds as i64)),
                now,
            ),
            match (crew.paused, crew.workers) {
                (0, 0) => "no worker".to_owned(),
                (0, _) => "open".to_owned(),
                (paused, workers) if paused == workers => "paused".to_owned(),
                (paused, workers) => format!("paused on {paused} of {workers}"),
            },
            crew.troubles.join("; "),
        ];
        (style, cells)
    });
    Listing {
        title: match retrying {
            0 => " crews ".to_owned(),
            count => format!(" crews; {count} wait for their next attempt "),
        },
        heads: [
            "CREW", "WORKERS", "IN USE", "WAITING", "OLDEST", "STATE", "TROUBLE",
        ],
        rows: rows.collect(),
        chosen: model
            .crew_cursor
            .index(&model.crew_keys())
            .filter(|_| model.panel == Panel::Crews),
        empty: "No crew is known yet.",
    }
}

/// As in `███░░░░░░░`.
fn bar(in_use: u32, of: u32) -> String {
    let full = match of {
        0 => 0,
        // Something in use is seen.
        of => (u64::from(in_use.min(of)) * u64::from(BAR)).div_ceil(u64::from(of)) as usize,
    };
    format!("{}{}", "█".repeat(full), "░".repeat(BAR as usize - full))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_full_where_all_is_in_use() {
        assert_eq!(bar(0, 8), "░░░░░░░░░░");
        assert_eq!(bar(1, 100), "█░░░░░░░░░");
        assert_eq!(bar(4, 8), "█████░░░░░");
        assert_eq!((bar(9, 8), bar(0, 0)), (bar(8, 8), bar(0, 8)));
    }
}
