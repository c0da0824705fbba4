//! What stands where on the screen.

#![allow(clippy::unwrap_used, clippy::panic)]

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet::{Event, Heartbeat, KickoffId, Kickoffs, Reply};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::super::action::Action;
use super::super::choices::{Effect, choose};
use super::super::command::Command;
use super::super::model::Model;
use super::super::news::{News, OfKickoff};
use super::draw;

fn now() -> DateTime<Utc> {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn heartbeat(worker: &str, crew: &str, paused: bool) -> News {
    let heartbeat = json!({"worker": worker, "host": "alpha", "version": "0.1.0", "time": now(),
        "started_at": now() - TimeDelta::hours(3), "draining": false, "crews": [
        {"name": crew, "runner": "builtin", "concurrency": 4, "in_flight": 2, "paused": paused,
         "timeout_s": 60.0, "inputs": null}]});
    News::Heartbeat(Box::new(serde_json::from_value::<Heartbeat>(heartbeat).unwrap()))
}

fn kickoffs(ids: &[&str]) -> News {
    let at = |id: &&str| crewfleet::status::KickoffAt {
        worker: "w-1".into(),
        kickoff: serde_json::from_value(
            json!({"kickoff_id": id, "crew": "echo", "state": "running", "attempt": 1,
            "redrive": 0, "body_hash": "00", "requested_at": now() - TimeDelta::minutes(10),
            "started_at": now() - TimeDelta::seconds(42)}),
        )
        .unwrap(),
    };
    News::Kickoffs(Box::new(Kickoffs {
        kickoffs: ids.iter().map(at).collect(),
        left_out: 0,
        queues: Vec::new(),
        paused: Vec::new(),
        doubts: Vec::new(),
    }))
}

fn model(news: impl IntoIterator<Item = News>) -> Model {
    let mut model = Model::default();
    for news in news {
        model.hear(news, now());
    }
    model
}

/// The lines of the screen.
fn screen(model: &mut Model) -> Vec<String> {
    let (width, height) = (100, 20);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, model, "amqp://b:5672", now()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(line).collect()
}

/// The first line that has this, and its place.
fn line_with<'a>(screen: &'a [String], text: &str) -> (usize, &'a str) {
    let found = screen.iter().position(|line| line.contains(text));
    let at = found.unwrap_or_else(|| panic!("no line has {text:?}: {screen:#?}"));
    (at, &screen[at])
}

#[test]
fn the_fleet_has_its_workers_above_its_crews() {
    let mut model = model([heartbeat("w-1", "echo", false), heartbeat("w-2", "echo", true)]);
    let screen = screen(&mut model);
    assert!(
        screen[0].contains("2 workers, 1 crew, 4 running  amqp://b"),
        "{screen:#?}"
    );
    let (worker, line) = line_with(&screen, "w-1");
    assert!(
        line.contains("alpha  0.1.0    running  3h  2     echo 2/4"),
        "{line}"
    );
    let (crew, line) = line_with(&screen, "█████░░░░░ 4/8");
    assert!(line.contains("paused on 1 of 2") && worker < crew, "{line}");
    assert!(
        screen[19].contains("Tab kickoffs") && screen[19].contains("q quit"),
        "{screen:#?}"
    );
}

#[test]
fn escape_sequences_of_others_are_harmless() {
    let evil = "\u{1b}[2J\u{1b}]0;title\u{7}evil\u{9b}31m";
    let mut model = model([heartbeat("w-1", evil, false)]);
    let shown = screen(&mut model);
    assert!(line_with(&shown, "evil").1.contains("evil31m 2/4"), "{shown:#?}");
    choose(&mut model, Action::ToCrews);
    choose(&mut model, Action::PauseOrResume);
    line_with(&screen(&mut model), "Pause the crew evil31m?");
    model.hear(
        News::Outcome {
            text: format!("no: {evil}"),
            is_bad: true,
        },
        now(),
    );
    choose(&mut model, Action::No);
    model.hear(News::Problem(evil.to_owned()), now());
    for line in screen(&mut model) {
        assert!(
            !line.contains("[2J") && !line.contains("title") && !line.contains('\u{1b}'),
            "{line}"
        );
    }
}

#[test]
fn kickoffs_are_filtered_as_one_types_and_the_chosen_one_is_cancelled() {
    let mut model = model([kickoffs(&["long-1", "long-2", "other"])]);
    choose(&mut model, Action::ShowKickoffs);
    let shown = screen(&mut model);
    let (_, line) = line_with(&shown, "long-1");
    assert!(line.contains("echo  running  10m  42s   1        w-1"), "{line}");
    choose(&mut model, Action::Filter);
    for letter in "LONG".chars() {
        choose(&mut model, Action::Type(letter));
    }
    let shown = screen(&mut model);
    line_with(&shown, "filter: LONG▏");
    assert!(!shown.iter().any(|line| line.contains("other")), "{shown:#?}");
    choose(&mut model, Action::Typed);
    choose(&mut model, Action::Step(1));
    // Rows that come above do not move what is chosen.
    model.hear(kickoffs(&["long-0", "long-1", "long-2"]), now());
    choose(&mut model, Action::Cancel);
    line_with(&screen(&mut model), "Cancel kickoff long-2? (y/n)");
    let effect = choose(&mut model, Action::Yes);
    assert_eq!(
        effect,
        Some(Effect::Send(Command::Cancel {
            id: "long-2".into(),
            is_redriven: false
        }))
    );
    line_with(&screen(&mut model), "Cancelling kickoff long-2 …");
}

#[test]
fn one_kickoff_has_its_events_and_then_its_error() {
    let mut model = model([kickoffs(&["a"])]);
    choose(&mut model, Action::ShowKickoffs);
    choose(&mut model, Action::Open);
    let id = KickoffId::parse("a").unwrap();
    assert_eq!(model.follows(), Some(&id));
    let event = |sequence: u64, line: &str| -> Event {
        let event = json!({"kickoff_id": "a", "crew": "echo", "attempt": 1, "sequence": sequence,
            "time": now() + TimeDelta::seconds(sequence as i64), "type": "log", "data": {"line": line}, "meta": null});
        serde_json::from_str(&event.to_string()).unwrap()
    };
    let of = |news| News::Of(KickoffId::parse("a").unwrap(), news);
    model.hear(of(OfKickoff::Event(Box::new(event(2, "second\u{1b}[2J")))), now());
    model.hear(
        of(OfKickoff::Past(vec![event(1, "first"), event(2, "second")])),
        now(),
    );
    let reply = json!({"kickoff_id": "a", "crew": "echo", "status": "failed", "result": null,
        "error": {"kind": "exception", "message": "it \u{1b}[31mbroke", "retryable": false,
        "detail": {"exception": "ValueError"}},
        "attempt": 1, "redrive": 0, "worker": "w", "requested_at": null, "started_at": null, "finished_at": now(),
        "meta": null});
    let reply = serde_json::from_str::<Reply>(&reply.to_string()).unwrap();
    model.hear(of(OfKickoff::Reply(Box::new(reply))), now());
    let screen = screen(&mut model);
    let (first, _) = line_with(&screen, "10:00:01.000 | first");
    let (second, line) = line_with(&screen, "10:00:02.000 | second");
    assert!(second == first + 1 && !line.contains("[2J"), "{screen:#?}");
    assert!(line_with(&screen, "── failed ──").0 == second + 1, "{screen:#?}");
    line_with(&screen, "ValueError: it broke");
    assert_eq!(screen.iter().filter(|line| line.contains("second")).count(), 1);
    choose(&mut model, Action::Back);
    assert_eq!(model.follows(), None);
}

#[test]
fn what_a_person_reads_stays_where_it_is_while_events_come() {
    let mut model = model([kickoffs(&["a"])]);
    choose(&mut model, Action::ShowKickoffs);
    choose(&mut model, Action::Open);
    let happens = |model: &mut Model, number: u64| {
        let event = json!({"kickoff_id": "a", "crew": "echo", "attempt": 1, "sequence": number, "time": now(),
            "type": "log", "data": {"line": format!("line {number}.")}, "meta": null});
        let event = Box::new(serde_json::from_str::<Event>(&event.to_string()).unwrap());
        model.hear(
            News::Of(KickoffId::parse("a").unwrap(), OfKickoff::Event(event)),
            now(),
        );
    };
    (1..=40).for_each(|number| happens(&mut model, number));
    line_with(&screen(&mut model), "line 40.");
    choose(&mut model, Action::Step(-5));
    assert!(line_with(&screen(&mut model), "line 35.").0 == 16);
    happens(&mut model, 41);
    let shown = screen(&mut model);
    assert!(line_with(&shown, "line 35.").0 == 16, "{shown:#?}");
    line_with(&shown, "6 more lines below");
    choose(&mut model, Action::Step(-1000));
    line_with(&screen(&mut model), "line 1.");
    choose(&mut model, Action::Step(1000));
    line_with(&screen(&mut model), "line 41.");
}

#[test]
fn a_small_terminal_shows_what_fits() {
    let mut model = model([heartbeat("w-1", "echo", false), kickoffs(&["a"])]);
    for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        for action in [
            Action::ShowFleet,
            Action::ShowKickoffs,
            Action::Open,
            Action::Cancel,
            Action::No,
        ] {
            choose(&mut model, action);
            terminal
                .draw(|frame| draw(frame, &mut model, "b", now()))
                .unwrap();
        }
    }
}

#[test]
fn heartbeats_confirm_a_command_or_time_runs_out() {
    let mut model = model([heartbeat("w-1", "echo", false)]);
    model.hear(News::Sent(Command::Pause("echo".into())), now());
    line_with(
        &screen(&mut model),
        "Pausing the crew echo … RabbitMQ has the command",
    );
    model.hear(heartbeat("w-1", "echo", true), now());
    line_with(&screen(&mut model), "the crew echo is paused on w-1");
    model.hear(News::Sent(Command::Drain("w-1".into())), now());
    model.tick(now() + TimeDelta::seconds(11));
    line_with(&screen(&mut model), "Draining worker w-1 …");
    model.tick(now() + TimeDelta::seconds(12));
    line_with(&screen(&mut model), "not yet confirmed that it drains: w-1");
    model.hear(News::Sent(Command::Drain("w-1".into())), now());
    model.hear(News::Gone("w-1".into()), now());
    line_with(&screen(&mut model), "worker w-1 has ended");
}

#[test]
fn a_broker_that_is_away_is_told_until_it_is_back() {
    let mut model = model([heartbeat("w-1", "echo", false), News::Connected(false)]);
    // Nobody can be heard, so nobody is gone.
    model.tick(now() + TimeDelta::hours(1));
    let shown = screen(&mut model);
    line_with(&shown, "RabbitMQ is away; trying again");
    line_with(&shown, "w-1");
    // Where it was away from the start, the reason is told, too.
    model.problem = Some("nothing listens there".to_owned());
    let shown = screen(&mut model);
    assert_eq!(line_with(&shown, "nothing listens there").0, 18, "{shown:#?}");
    model.hear(News::Connected(true), now());
    assert!(!screen(&mut model).iter().any(|line| line.contains("is away")));
}
