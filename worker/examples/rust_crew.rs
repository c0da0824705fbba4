//! A worker with a crew in Rust, and no configuration file: it serves `greet` until Ctrl-C.
//!
//! ```text
//! cargo run -p crewfleet-worker --example rust_crew
//! crewfleet kickoff greet --input name=Ada
//! ```

use crewfleet_protocol::{KickoffError, KickoffResult};
use crewfleet_service::{shutdown, telemetry};
use crewfleet_worker::{Inputs, KickoffContext, Worker};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Greeting {
    name: String,
}

/// Inputs that do not fit (`parse`) reject the kickoff; an `Err` fails it; a panic is a crash of it alone.
async fn greet(context: KickoffContext, inputs: Inputs) -> Result<KickoffResult, KickoffError> {
    let Greeting { name } = inputs.parse()?;
    context.events.emit("greeting_started", &json!({"name": name}));
    Ok(KickoffResult {
        raw: format!("hello, {name}"),
        ..KickoffResult::default()
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _logging = telemetry::init("info,lapin=off");
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    Worker::builder()
        .crew("greet", greet)
        .build()?
        .run(shutdown.cancelled_owned())
        .await?;
    Ok(())
}
