//! The lines at the top and at the bottom.

use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

use super::super::harmless_text::{harmless_line, wrapped};
use super::super::model::{Mode, Model, Panel, View};
use crate::output::counted;

/// What is told takes no more lines than this.
const MOST_TOLD: usize = 4;

/// The line at the top: where we are, and how much there is.
pub(super) fn summary(model: &Model, broker: &str) -> Line<'static> {
    let crews = model.crews();
    let running: u64 = crews.iter().map(|crew| u64::from(crew.in_flight)).sum();
    let waiting = crews.iter().filter_map(|crew| crew.waiting).map(u64::from);
    // Before the queues are counted, nobody knows.
    let waiting = waiting.reduce(|sum, count| sum + count);
    let waiting = waiting.map_or_else(String::new, |count| format!(", {count} waiting"));
    let tab = |text: &'static str, is_shown: bool| match is_shown {
        true => Span::from(text).reversed(),
        false => Span::from(text),
    };
    let mut spans = vec![
        Span::from("crewfleet top ").bold(),
        tab(" 1 fleet ", model.view == View::Fleet),
        tab(" 2 kickoffs ", model.view == View::Kickoffs),
    ];
    if let Some(followed) = &model.followed {
        spans.push(Span::from(format!(" kickoff {} ", followed.id)).reversed());
    }
    spans.push(Span::from(format!(
        "  {}, {}, {running} running{waiting}  {}",
        counted(model.fleet.workers().len() as u64, "worker"),
        counted(crews.len() as u64, "crew"),
        harmless_line(broker),
    )));
    Line::from(spans)
}

/// The lines of what is asked, told, or wrong: the most urgent of these.
pub(super) fn told(model: &Model, width: u16) -> Vec<Line<'static>> {
    let (text, style) = match (&model.mode, &model.told) {
        (Mode::Asking(command), _) => (command.question(), Style::new().fg(Color::Yellow).bold()),
        _ if model.is_away => {
            let why = model.problem.as_deref().unwrap_or_default();
            let text = format!("RabbitMQ is away; trying again\n{why}");
            (text, Style::new().fg(Color::Red).bold())
        }
        (_, Some(told)) if told.is_bad => (told.text.clone(), Style::new().fg(Color::Red)),
        (_, Some(told)) => (told.text.clone(), Style::new().fg(Color::Green)),
        (Mode::Typing, None) => (format!("filter: {}▏", model.filter), Style::new().bold()),
        (Mode::Choosing, None) => match &model.problem {
            Some(problem) => (problem.clone(), Style::new().fg(Color::Red)),
            None => (String::new(), Style::new()),
        },
    };
    let lines = text.lines().flat_map(|line| wrapped(&harmless_line(line), width));
    let lines: Vec<_> = lines
        .take(MOST_TOLD)
        .map(|line| Line::styled(line, style))
        .collect();
    match lines.is_empty() {
        true => vec![Line::default()],
        false => lines,
    }
}

/// The keys that do something at present.
pub(super) fn keys(model: &Model) -> Line<'static> {
    let keys: &[(&str, &str)] = match (&model.mode, model.view, model.panel) {
        (Mode::Asking(_), ..) => &[("y", "yes"), ("n", "no")],
        (Mode::Typing, ..) => &[("Enter", "keep the filter"), ("Esc", "show all")],
        (_, View::Fleet, Panel::Workers) => &[
            ("Tab", "kickoffs"),
            ("↑↓", "choose"),
            ("→", "crews"),
            ("Enter", "its kickoffs"),
            ("d", "drain"),
            ("q", "quit"),
        ],
        (_, View::Fleet, Panel::Crews) => &[
            ("Tab", "kickoffs"),
            ("↑↓", "choose"),
            ("←", "workers"),
            ("Enter", "its kickoffs"),
            ("p", "pause/resume"),
            ("q", "quit"),
        ],
        (_, View::Kickoffs, _) => &[
            ("Tab", "fleet"),
            ("↑↓", "choose"),
            ("Enter", "follow"),
            ("/", "filter"),
            ("c", "cancel"),
            ("p", "pause/resume crew"),
            ("d", "drain worker"),
            ("q", "quit"),
        ],
        (_, View::Kickoff, _) => &[
            ("Esc", "back"),
            ("↑↓", "scroll"),
            ("c", "cancel"),
            ("p", "pause/resume crew"),
            ("d", "drain worker"),
            ("q", "quit"),
        ],
    };
    let spans = keys
        .iter()
        .flat_map(|(key, does)| [Span::from(*key).reversed(), Span::from(format!(" {does}  "))]);
    Line::from(Vec::from_iter(spans))
}
