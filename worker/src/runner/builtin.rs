//! Crews in Rust, in this process: those of a library user, and three for trials and benchmarks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crewfleet_protocol::{KickoffError, KickoffResult};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tracing::warn;

use super::{KickoffContext, Runner};
use crate::execution::outcome::Outcome;

/// The inputs of a kickoff, as sent.
#[derive(Debug, Clone)]
pub struct Inputs(Box<RawValue>);

impl Inputs {
    /// Reads them as `T`.
    ///
    /// # Errors
    /// An `invalid_inputs` error, which makes the kickoff `rejected`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, KickoffError> {
        serde_json::from_str(self.0.get())
            .map_err(|e| KickoffError::new(INVALID_INPUTS, format!("the inputs do not fit the crew: {e}")))
    }

    /// The JSON object as it came.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }
}

/// The error kind that rejects a kickoff instead of failing it.
pub(crate) const INVALID_INPUTS: &str = "invalid_inputs";

/// A crew in Rust. Every `Fn(KickoffContext, Inputs) -> Future<Output = Result<KickoffResult, KickoffError>>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Runs one kickoff. It is dropped at its time limit or when it is cancelled, at an `.await`: what blocks its
    /// thread belongs into `tokio::task::spawn_blocking`. A panic is a crash of this kickoff alone.
    fn handle(
        &self,
        context: KickoffContext,
        inputs: Inputs,
    ) -> BoxFuture<'static, Result<KickoffResult, KickoffError>>;
}

impl<F, R> Handler for F
where
    F: Fn(KickoffContext, Inputs) -> R + Send + Sync + 'static,
    R: Future<Output = Result<KickoffResult, KickoffError>> + Send + 'static,
{
    fn handle(
        &self,
        context: KickoffContext,
        inputs: Inputs,
    ) -> BoxFuture<'static, Result<KickoffResult, KickoffError>> {
        Box::pin(self(context, inputs))
    }
}

/// Runs a [`Handler`].
pub(crate) struct BuiltinRunner {
    handler: Arc<dyn Handler>,
}

impl BuiltinRunner {
    /// A runner of `handler`.
    pub(crate) fn new(handler: Arc<dyn Handler>) -> Self {
        Self { handler }
    }

    /// One of the crews that every worker has: `echo`, `sleep`, `fail`.
    pub(crate) fn named(target: &str) -> Option<Self> {
        let handler: Arc<dyn Handler> = match target {
            "echo" => Arc::new(echo),
            "sleep" => Arc::new(sleep),
            "fail" => Arc::new(fail),
            _ => return None,
        };
        Some(Self { handler })
    }
}

impl Runner for BuiltinRunner {
    fn needs_work_dir(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome> {
        let (stop, limit) = (context.stop.clone(), context.time_limit);
        stop.start_clock();
        let inputs = Inputs(inputs.to_owned());
        // Here, so that what it is given is its own, and not in a kickoff's memory twice.
        let running = unwind(|| self.handler.handle(context, inputs));
        Box::pin(async move {
            let mut running = match running {
                Ok(running) => running,
                Err(crashed) => return crashed,
            };
            let outcome = tokio::select! {
                ended = AssertUnwindSafe(&mut running).catch_unwind() => match ended {
                    Ok(Ok(result)) => Outcome::Succeeded(Box::new(result)),
                    Ok(Err(error)) if error.kind == INVALID_INPUTS => Outcome::Rejected(error),
                    Ok(Err(error)) => Outcome::Failed(error),
                    Err(panic) => Outcome::Crashed(panicked(&*panic)),
                },
                reason = stop.requested() => Outcome::stopped(reason, limit),
            };
            if unwind(|| drop(running)).is_err() {
                warn!("the crew panicked while what was left of it was dropped");
            }
            outcome
        })
    }
}

/// Calls into a crew, which may panic at any time.
fn unwind<T>(call: impl FnOnce() -> T) -> Result<T, Outcome> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Outcome::Crashed(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> KickoffError {
    let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (None, Some(text)) => text,
        (None, None) => "no message",
    };
    KickoffError::new("crashed", format!("the crew panicked: {text}"))
}

/// `result.json` is the inputs as sent, `result.raw` their text.
async fn echo(_: KickoffContext, inputs: Inputs) -> Result<KickoffResult, KickoffError> {
    Ok(echoed(inputs))
}

fn echoed(inputs: Inputs) -> KickoffResult {
    KickoffResult {
        raw: inputs.raw().get().to_owned(),
        json: Some(inputs.0),
        ..KickoffResult::default()
    }
}

#[derive(Deserialize)]
struct SleepInputs {
    seconds: f64,
}

/// Sleeps `seconds`, then answers as [`echo`].
#[expect(
    clippy::manual_async_fn,
    reason = "that would keep the context while it sleeps"
)]
fn sleep(_: KickoffContext, inputs: Inputs) -> impl Future<Output = Result<KickoffResult, KickoffError>> {
    async move {
        let SleepInputs { seconds } = inputs.parse()?;
        let duration = Duration::try_from_secs_f64(seconds).map_err(|e| {
            KickoffError::new(
                INVALID_INPUTS,
                format!("seconds = {seconds} cannot be slept: {e}"),
            )
        })?;
        tokio::time::sleep(duration).await;
        Ok(echoed(inputs))
    }
}

#[derive(Deserialize)]
struct FailInputs {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    times: Option<u32>,
}

/// Fails the first `times` attempts, or always; then answers as [`echo`].
async fn fail(context: KickoffContext, inputs: Inputs) -> Result<KickoffResult, KickoffError> {
    let FailInputs {
        message,
        retryable,
        times,
    } = inputs.parse()?;
    if times.is_some_and(|times| context.attempt > times) {
        return Ok(echoed(inputs));
    }
    let mut error = KickoffError::new("failed", message.unwrap_or_else(|| "failed as asked".into()));
    error.retryable = retryable;
    Err(error)
}
