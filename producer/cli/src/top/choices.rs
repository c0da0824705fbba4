//! What actions make of the model, and what is to be done then.

use crewfleet::KickoffId;

use super::action::Action;
use super::command::Command;
use super::kickoff::Followed;
use super::model::{Mode, Model, Panel, View};

/// What is to be done beyond the model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// End.
    Quit,
    /// Send this.
    Send(Command),
}

/// Does what a person wants. What the model then follows is to be followed.
pub(crate) fn choose(model: &mut Model, action: Action) -> Option<Effect> {
    // What was told stays until somebody does something else.
    if !matches!(action, Action::Step(_)) {
        model.told = None;
    }
    match action {
        Action::Quit => return Some(Effect::Quit),
        Action::ShowFleet => show(model, View::Fleet),
        Action::ShowKickoffs => show(model, View::Kickoffs),
        Action::ShowNext => match model.view {
            View::Fleet | View::Kickoff => show(model, View::Kickoffs),
            View::Kickoffs => show(model, View::Fleet),
        },
        Action::Step(by) => step(model, by),
        Action::ToWorkers => model.panel = Panel::Workers,
        Action::ToCrews => model.panel = Panel::Crews,
        Action::Open => open(model),
        Action::Back => back(model),
        Action::Filter => {
            show(model, View::Kickoffs);
            model.mode = Mode::Typing;
        }
        Action::Type(letter) => model.filter.push(letter),
        Action::Erase => drop(model.filter.pop()),
        Action::Typed => model.mode = Mode::Choosing,
        Action::PauseOrResume => ask(model, pause_or_resume, "choose a crew to pause or resume it"),
        Action::Drain => ask(model, drain, "choose a worker to drain it"),
        Action::Cancel => ask(model, cancel, "choose a kickoff to cancel it"),
        Action::Yes => {
            if let Mode::Asking(command) = std::mem::take(&mut model.mode) {
                model.tell(command.under_way(), false);
                return Some(Effect::Send(command));
            }
        }
        Action::No => {
            model.mode = Mode::Choosing;
            model.tell("nothing was sent".to_owned(), false);
        }
    }
    None
}

fn show(model: &mut Model, view: View) {
    model.view = view;
    if view != View::Kickoff {
        model.followed = None;
    }
}

fn step(model: &mut Model, by: isize) {
    match (model.view, model.panel) {
        (View::Fleet, Panel::Workers) => {
            let keys = model.worker_keys();
            model.worker_cursor.step(&keys, by);
        }
        (View::Fleet, Panel::Crews) => {
            let keys = model.crew_keys();
            model.crew_cursor.step(&keys, by);
        }
        (View::Kickoffs, _) => {
            let keys = model.kickoff_keys();
            model.kickoff_cursor.step(&keys, by);
        }
        (View::Kickoff, _) => {
            if let Some(followed) = &mut model.followed {
                // Up is further from the end. Where all of it fits, drawing takes it back.
                followed.scrolled = followed.scrolled.saturating_add_signed(by.saturating_neg());
            }
        }
    }
}

fn open(model: &mut Model) {
    match model.view {
        // What the worker or the crew has.
        View::Fleet => {
            let chosen = match model.panel {
                Panel::Workers => chosen_worker(model),
                Panel::Crews => chosen_crew(model),
            };
            model.filter = chosen.unwrap_or_default();
            show(model, View::Kickoffs);
        }
        View::Kickoffs => {
            let Some(at) = model.chosen_kickoff() else {
                return;
            };
            match KickoffId::parse(&at.kickoff.kickoff_id) {
                Ok(id) => {
                    let followed = Followed::new(id, at);
                    model.followed = Some(followed);
                    show(model, View::Kickoff);
                }
                Err(error) => model.tell(error.to_string(), true),
            }
        }
        View::Kickoff => {}
    }
}

fn back(model: &mut Model) {
    match (&model.mode, model.view) {
        (Mode::Typing, _) => {
            model.mode = Mode::Choosing;
            model.filter.clear();
        }
        (_, View::Kickoff) => show(model, View::Kickoffs),
        (_, View::Kickoffs) if !model.filter.is_empty() => model.filter.clear(),
        _ => show(model, View::Fleet),
    }
}

fn ask(model: &mut Model, command: impl Fn(&Model) -> Option<Command>, otherwise: &str) {
    match command(model) {
        Some(command) => model.mode = Mode::Asking(command),
        None => model.tell(otherwise.to_owned(), false),
    }
}

/// A crew that any worker has paused is resumed.
fn pause_or_resume(model: &Model) -> Option<Command> {
    let name = chosen_crew(model)?;
    let crew = model.crews().into_iter().find(|crew| crew.name == name);
    Some(match crew.is_some_and(|crew| crew.paused > 0) {
        true => Command::Resume(name),
        false => Command::Pause(name),
    })
}

fn drain(model: &Model) -> Option<Command> {
    chosen_worker(model).map(Command::Drain)
}

fn cancel(model: &Model) -> Option<Command> {
    let (id, is_redriven) = match model.view {
        View::Fleet => return None,
        View::Kickoffs => {
            let kickoff = &model.chosen_kickoff()?.kickoff;
            (kickoff.kickoff_id.clone(), kickoff.redrive > 0)
        }
        View::Kickoff => {
            let followed = model.followed.as_ref()?;
            (followed.id.to_string(), followed.is_redriven)
        }
    };
    Some(Command::Cancel { id, is_redriven })
}

/// The crew that is chosen, or that of the kickoff.
fn chosen_crew(model: &Model) -> Option<String> {
    match (model.view, model.panel) {
        (View::Fleet, Panel::Workers) => None,
        (View::Fleet, Panel::Crews) => {
            let mut keys = model.crew_keys();
            let at = model.crew_cursor.index(&keys)?;
            Some(keys.swap_remove(at))
        }
        (View::Kickoffs, _) => model.chosen_kickoff()?.kickoff.crew.clone(),
        (View::Kickoff, _) => model.followed.as_ref()?.crew.clone(),
    }
}

/// The worker that is chosen, or that has the kickoff.
fn chosen_worker(model: &Model) -> Option<String> {
    match (model.view, model.panel) {
        (View::Fleet, Panel::Crews) => None,
        (View::Fleet, Panel::Workers) => {
            let mut keys = model.worker_keys();
            let at = model.worker_cursor.index(&keys)?;
            Some(keys.swap_remove(at))
        }
        (View::Kickoffs, _) => Some(model.chosen_kickoff()?.worker.clone()),
        (View::Kickoff, _) => model.followed.as_ref()?.worker.clone(),
    }
}
