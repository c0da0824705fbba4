//! One kickoff of one crew, without a broker: run as a worker runs it, and told to the caller instead of a fleet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::traces::{Headers, Span};
use crewfleet_amqp::{Properties, Received};
use crewfleet_protocol::decode::decode;
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Body, CrewName, Event, KickoffError, KickoffId, Reply, Request, message_type};
use crewfleet_service::config::Loaded;
use crewfleet_service::config::time_limit::START_MARGIN;
use crewfleet_service::told::Told;
use prometheus::IntCounter;
use serde_json::json;
use tokio::sync::SetOnce;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Workshop, files};
use crate::config::FileConfig;
use crate::crews;
use crate::crews::crew::Crew;
use crate::error::WorkerError;
use crate::execution::events::{EventSink, LocalEvents};
use crate::execution::execute::{Run, Site, execute};
use crate::execution::outcome::Outcome;
use crate::execution::stop::StopReason;
use crate::folders::retention::blocking;
use crate::intake::admission::{not_expired, work_dir};
use crate::intake::run_key::RunKey;
use crate::runner::late::LateRunner;
use crate::settlement::attempt::Attempt;
use crate::settlement::retry;
use crate::webhooks::tap::WebhookTap;

/// What is to be run.
#[derive(Debug)]
pub struct Kickoff {
    /// A crew of the configuration.
    pub crew: String,
    /// The request's body, as a producer would publish it; its `kickoff_id` may be left out.
    pub request: Vec<u8>,
    /// Where the files that the crew leaves are copied to, once it has succeeded.
    pub files: Option<PathBuf>,
}

/// Runs one attempt as a worker would: the same child, folder, environment, limits and events. It needs no broker.
/// `tell` is given what a worker would publish, and what it would do beside that, and returns whether it has taken it: an
/// event that it has not is counted, and that is told. When `stop` is cancelled, the crew is.
///
/// # Errors
/// [`WorkerError`] for a crew that is not there or cannot be built, and for a folder that cannot be used.
pub async fn run(
    mut config: Loaded<FileConfig>,
    kickoff: Kickoff,
    stop: CancellationToken,
    mut tell: impl FnMut(Told) -> bool,
) -> Result<(), WorkerError> {
    let Kickoff { crew, request, files } = kickoff;
    let known: Vec<_> = config.config.crews.keys().cloned().collect();
    config.config.crews.retain(|name, _| *name == crew);
    let Some(of_crew) = config.config.crews.get_mut(&crew) else {
        return Err(WorkerError::NoSuchCrew { crew, known });
    };
    // No other interpreter than the one that runs it.
    of_crew.concurrency = 1;
    let (name, kind, options) = (
        CrewName::parse(&crew)?,
        of_crew.runner.as_str(),
        (&*of_crew).into(),
    );
    let worker = format!("run-{}", std::process::id());
    let workshop = Workshop::open(&config.config, &worker)?;
    let making = crews::make(&config.config, &workshop.pythons, &workshop.memory);
    let made = match stop.run_until_cancelled(making).await {
        Some(made) => made?.into_iter().next().map(|(_, _, made)| made),
        None => None,
    };
    let runner = match made {
        Some(Ok(runner)) => runner,
        Some(Err(unbuilt)) => {
            workshop.close(&[]).await;
            return Err(config.invalid(unbuilt.problem).into());
        }
        // It is not started any more.
        None => Arc::<LateRunner>::default(),
    };
    for note in runner.environment().notes {
        tell(Told::Note(note));
    }
    let standalone = Standalone {
        workshop: &workshop,
        config: &config.config,
        worker: &worker,
        crew: &crews::crew(name, kind, Arc::clone(&runner), options),
    };
    standalone
        .attempt(&request, files.as_deref(), stop, &mut tell)
        .await;
    workshop.close(&[runner]).await;
    Ok(())
}

/// A crew, and what stands in for its worker.
struct Standalone<'a> {
    workshop: &'a Workshop,
    config: &'a FileConfig,
    worker: &'a str,
    crew: &'a Crew,
}

impl Standalone<'_> {
    /// The way of one delivery, without its ends.
    async fn attempt(
        &self,
        request: &[u8],
        files: Option<&Path>,
        stop: CancellationToken,
        tell: &mut impl FnMut(Told) -> bool,
    ) {
        let message = self.message(request);
        let trace = Span::sender(&Headers::of(&message.properties));
        let limit = self.config.broker.max_request_bytes;
        let request = match decode(&message.body, &message.properties, &self.crew.name, limit) {
            Ok(request) => request,
            Err(rejection) => {
                let attempt = Attempt::of_rejected(&rejection, self.crew, &message, &trace);
                let id = rejection.kickoff_id.clone().unwrap_or_else(KickoffId::generate);
                let reply = attempt.reply(self.worker, &id, &mut Outcome::Rejected(rejection.error.clone()));
                tell(Told::Reply(Box::new(reply)));
                return;
            }
        };
        if request.webhooks.is_some() {
            tell(Told::Note(
                "the request asks for webhooks; a worker would order their calls, here none is called"
                    .to_owned(),
            ));
        }
        let key = RunKey::new(&request, &message.body);
        let mut attempt = Attempt::of(&request, self.crew, &message, &key, &trace);
        let outcome = match may_start(&request, &stop) {
            Ok(()) => {
                attempt.start(Utc::now(), 0, 0);
                self.outcome(&request, &trace, stop, tell).await
            }
            Err(outcome) => outcome,
        };
        self.tell_end(&request, &attempt, outcome, files, tell).await;
    }

    /// The request as its queue would have delivered it.
    fn message(&self, body: &[u8]) -> Received {
        Received {
            body: body.to_owned(),
            properties: Properties::json(message_type::REQUEST)
                .with_correlation_id(KickoffId::generate().as_str()),
            routing_key: self.crew.name.to_string(),
            redelivered: false,
            delivery_count: 0,
            stream_offset: None,
        }
    }

    /// Runs the crew, and tells its events meanwhile, and where its folder is kept.
    async fn outcome(
        &self,
        request: &Request,
        trace: &Span,
        stop: CancellationToken,
        tell: &mut impl FnMut(Told) -> bool,
    ) -> Outcome {
        let work_dir = match work_dir(&self.workshop.work_dirs, self.crew, request).await {
            Ok(work_dir) => work_dir,
            Err(outcome) => return outcome,
        };
        let lost = &self.workshop.metrics.events_lost;
        let (sink, mut events) = EventSink::local(request, self.crew.options.events, &self.workshop.metrics);
        let asked = Arc::new(SetOnce::new());
        let run = Run {
            trace,
            work_dir: &work_dir,
            start_by: Instant::now() + self.start_limit(),
            stop: &asked,
            events: sink.clone(),
            webhooks: WebhookTap::default(),
        };
        let site = Site {
            worker: self.worker,
            config: &self.config.worker,
            metrics: &self.workshop.metrics,
            work_dirs: &self.workshop.work_dirs,
        };
        let outcome = {
            let mut running = Box::pin(execute(site, self.crew, request, run));
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled(), if !asked.initialized() => {
                        // The first reason counts.
                        let _ = asked.set(StopReason::Cancelled);
                    }
                    event = events.next() => tell_event(event, lost, tell),
                    outcome = &mut running => break outcome,
                }
            }
        };
        if let Some(status) = outcome.status() {
            sink.emit(event_type::FINISHED, &json!({"status": status}));
        }
        tell_rest(&mut events, lost, tell);
        let (keep, path) = (outcome.keeps_work_dir(), work_dir.path().to_owned());
        work_dir.finish(keep).await;
        if keep && path.is_absolute() && path.exists() {
            let path = path.display();
            tell(Told::Note(format!(
                "the kickoff's folder is kept for a while: {path}"
            )));
        }
        outcome
    }

    /// As with a broker whose consumer timeout is the configured one.
    fn start_limit(&self) -> Duration {
        let timeout = Duration::from_secs(self.config.broker.consumer_timeout_s);
        timeout
            .saturating_sub(self.crew.options.timeout)
            .max(START_MARGIN)
    }

    /// What a worker would publish for it, and what else it would do.
    async fn tell_end(
        &self,
        request: &Request,
        attempt: &Attempt<'_>,
        mut outcome: Outcome,
        files: Option<&Path>,
        tell: &mut impl FnMut(Told) -> bool,
    ) {
        let next = retry::judge(&self.crew.options.retry, request, &mut outcome);
        if let Outcome::Requeued { reason, .. } = &outcome {
            let reason = reason.as_str();
            tell(Told::Unfinished(reason.to_owned()));
            return;
        }
        if let Some(next) = next {
            let (attempt, of, delay_s) = (
                next.attempt,
                self.crew.options.retry.max_attempts,
                next.delay.as_secs_f64(),
            );
            tell(Told::Note(format!(
                "a worker would try it again {delay_s:.0} s later: attempt {attempt} of at most {of} ([crews.{}.retry])",
                self.crew.name
            )));
        }
        let mut reply = attempt.reply(self.worker, &request.kickoff_id, &mut outcome);
        let (bytes, most) = (reply.body().len(), self.config.broker.max_reply_bytes);
        if bytes > most {
            let message =
                format!("the reply has {bytes} bytes; at most {most} are sent ([broker] max_reply_bytes)");
            let mut too_large = Outcome::Failed(KickoffError::new("result_too_large", message));
            reply = attempt.reply(self.worker, &request.kickoff_id, &mut too_large);
        }
        let reply = match files {
            Some(folder) => self.copy_files(reply, folder.to_owned(), tell).await,
            None => reply,
        };
        tell(Told::Reply(Box::new(reply)));
    }

    async fn copy_files(&self, reply: Reply, folder: PathBuf, tell: &mut impl FnMut(Told) -> bool) -> Reply {
        let kept = self.workshop.work_dirs.files().clone();
        let (of, into) = (reply.clone(), folder.clone());
        let copying = blocking(move || Ok(files::copy(&kept, &of, &into)));
        let (copied, troubles) = copying.await.unwrap_or_else(|error| (0, vec![error.to_string()]));
        if copied > 0 {
            let noun = if copied == 1 { "file is" } else { "files are" };
            tell(Told::Note(format!(
                "{copied} {noun} copied to {}",
                folder.display()
            )));
        }
        for trouble in troubles {
            tell(Told::Trouble(format!("a file is not copied: {trouble}")));
        }
        reply
    }
}

/// Whether it may: what was cancelled, or came too late, is not started.
fn may_start(request: &Request, stop: &CancellationToken) -> Result<(), Outcome> {
    if stop.is_cancelled() {
        let message = "the kickoff was cancelled before it started";
        return Err(Outcome::Cancelled(KickoffError::new("cancelled", message)));
    }
    not_expired(request)
}

fn tell_event(event: Event, lost: &IntCounter, tell: &mut impl FnMut(Told) -> bool) {
    if !tell(Told::Event(event)) {
        lost.inc();
    }
}

/// What was emitted until now. Others may hold the sink for longer, and have nothing to say.
fn tell_rest(events: &mut LocalEvents, lost: &IntCounter, tell: &mut impl FnMut(Told) -> bool) {
    while let Some(event) = events.next_now() {
        tell_event(event, lost, tell);
    }
    if lost.get() > 0 {
        tell(Told::Note(format!("events were lost on the way: {}", lost.get())));
    }
}
