//! `crewfleet top`: the fleet in a terminal, live.
//!
//! News from the broker and keys change a model; after each change it is drawn. The loop here never waits for the
//! broker.
//!
//! | file | what it holds |
//! |---|---|
//! | `model` | all that is known and chosen, and what news make of it |
//! | `fleet`, `kickoff` | its parts: workers and crews; one kickoff that is followed |
//! | `choices` | what actions make of the model |
//! | `cursor` | which row is chosen |
//! | `command` | what the fleet can be asked to do, and how one sees that it was done |
//! | `action`, `input` | keys, and what they ask for |
//! | `news` | what comes from the broker |
//! | `refresh`, `follow` | asking the broker, for all and for one kickoff |
//! | `view` | drawing |
//! | `screen` | the terminal, and how it is given back |
//! | `harmless_text` | text of others in lines that a terminal can bear |

mod action;
mod choices;
mod command;
mod cursor;
mod fleet;
mod follow;
mod harmless_text;
mod input;
mod kickoff;
mod model;
mod news;
mod refresh;
mod screen;
mod view;

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use crewfleet::KickoffClient;
use crewfleet_protocol::CrewName;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use ratatui::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::choices::{Effect, choose};
use self::follow::Follow;
use self::model::{Model, View};
use self::refresh::Refresh;
use self::screen::Screen;
use crate::output::say;

/// News that wait to be shown; whoever has more of them waits.
const NEWS: usize = 256;

/// Keys and news that come faster are drawn together.
const FRAME: Duration = Duration::from_millis(40);

/// How long a command that is being sent has, when somebody quits.
const UNSENT: Duration = Duration::from_secs(2);

/// Ages go on.
const TICK: Duration = Duration::from_secs(1);

/// How often workers are asked what they have, where that is shown …
const OFTEN: Duration = Duration::from_secs(1);

/// … and where only the depths of queues are.
const SELDOM: Duration = Duration::from_secs(4);

/// Shows the fleet until somebody quits, or `stop`. `why_away` says why there is no connection yet, where there is
/// none.
pub(crate) async fn show(
    client: &KickoffClient,
    crews: Vec<CrewName>,
    why_away: Option<String>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (sender, mut news) = mpsc::channel(NEWS);
    let (pause, paused) = watch::channel(SELDOM);
    let refresh = Refresh {
        client: client.clone(),
        crews: crews.clone(),
        news: sender.clone(),
    };
    // All end with this function.
    let _tasks = [
        AbortOnDropHandle::new(tokio::spawn(refresh.clone().connection())),
        AbortOnDropHandle::new(tokio::spawn(refresh.clone().heartbeats())),
        AbortOnDropHandle::new(tokio::spawn(refresh.clone().kickoffs(paused))),
    ];
    let (mut following, commands) = (None, TaskTracker::new());
    let mut model = Model::new(why_away);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let broker = client.endpoint().to_string();
    let mut screen = Screen::take(stop)?;
    let mut keys = EventStream::new();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_drawn = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break screen.ended(),
            _ = frames.tick(), if !is_drawn => {
                let draw = |frame: &mut Frame<'_>| view::draw(frame, &mut model, &broker, Utc::now());
                if let Err(error) = screen.terminal.draw(draw) {
                    break Err(error).context("cannot write to the terminal");
                }
                is_drawn = true;
                continue;
            }
            event = keys.next() => {
                let action = match event {
                    Some(Ok(Event::Key(key))) => input::action(key, &model.mode),
                    // Its size has changed: it is drawn anew.
                    Some(Ok(_)) => None,
                    // The terminal is gone.
                    Some(Err(_)) | None => break Ok(()),
                };
                match action.and_then(|action| choose(&mut model, action)) {
                    Some(Effect::Quit) => break Ok(()),
                    Some(Effect::Send(command)) => {
                        tokio::spawn(refresh.clone().perform(command, commands.token()));
                    }
                    None => {}
                }
                pause.send_if_modified(|pause| {
                    let wanted = if model.view == View::Fleet { SELDOM } else { OFTEN };
                    std::mem::replace(pause, wanted) != wanted
                });
                follow(&model, &mut following, &refresh);
            }
            _ = ticks.tick() => model.tick(Utc::now()),
            Some(first) = news.recv() => {
                model.hear(first, Utc::now());
                // Of many that came at once, the last state is drawn.
                while let Ok(next) = news.try_recv() {
                    model.hear(next, Utc::now());
                }
            }
        }
        is_drawn = false;
    };
    drop((screen, news));
    commands.close();
    if timeout(UNSENT, commands.wait()).await.is_err() {
        say("you quit before the outcome of the last command was known; it may have been sent");
    }
    ended
}

/// The kickoff that is followed, and its task.
type Following = Option<(crewfleet::KickoffId, AbortOnDropHandle<()>)>;

/// Follows what the model does, and nothing else any more.
fn follow(model: &Model, following: &mut Following, refresh: &Refresh) {
    let wanted = model.follows();
    if following.as_ref().map(|(id, _)| id) == wanted {
        return;
    }
    *following = wanted.map(|id| {
        let follow = Follow {
            client: refresh.client.clone(),
            crews: refresh.crews.clone(),
            id: id.clone(),
            news: refresh.news.clone(),
        };
        (id.clone(), AbortOnDropHandle::new(tokio::spawn(follow.run())))
    });
}
