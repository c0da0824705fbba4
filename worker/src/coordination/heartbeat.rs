//! The worker's heartbeat on `kickoff.fleet`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::Utc;
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use crewfleet_protocol::{Body, CrewStatus, Heartbeat, message_type};
use tracing::debug;

use crate::crews::crew::Crew;
use crate::state::WorkerState;

/// Beats until the worker ends: at once, then every [`HEARTBEAT_INTERVAL`], and when there is news (a pause, a drain).
pub(crate) async fn run(worker: Arc<WorkerState>) {
    let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = worker.lifecycle.heartbeat_due.notified() => {}
        }
        let Some(link) = worker.broker.link() else {
            continue;
        };
        let beat = async { worker.broker.declare(&link).await.map_err(|e| e.to_string()) };
        if let Err(error) = beat.await {
            debug!(error, "no heartbeat");
            continue;
        }
        if let Err(error) = worker
            .broker
            .publisher
            .publish_unconfirmed(&[message(&worker)])
            .await
        {
            debug!(%error, "a heartbeat is lost");
        }
    }
}

fn message(worker: &WorkerState) -> Message {
    let memory = worker.limits.admission.memory();
    let heartbeat = Heartbeat {
        worker: worker.id.clone(),
        host: worker.host.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        time: Utc::now(),
        started_at: worker.started_at,
        draining: worker.lifecycle.draining.is_cancelled(),
        crews: worker.crews.iter().map(|crew| status(worker, crew)).collect(),
        memory_bytes: Some(own_memory() + memory.used()),
        memory_limit_bytes: Some(memory.limit()),
    };
    Message {
        exchange: worker.broker.names.fleet(),
        routing_key: worker.id.clone(),
        properties: Properties::json(message_type::FLEET),
        body: heartbeat.body(),
        mandatory: false,
    }
}

/// What this process holds, in bytes.
fn own_memory() -> u64 {
    let resident = procfs::process::Process::myself().and_then(|process| process.statm());
    resident.map_or(0, |memory| memory.resident * procfs::page_size())
}

fn status(worker: &WorkerState, crew: &Crew) -> CrewStatus {
    let hosting = crew.runner.hosting();
    CrewStatus {
        name: crew.name.to_string(),
        runner: crew.runner_name.into(),
        concurrency: crew.options.concurrency.into(),
        in_flight: crew.in_flight.load(Ordering::Relaxed),
        paused: crew.pause.is_paused(),
        timeout_s: crew.options.timeout.as_secs_f64(),
        inputs: crew.runner.inputs(),
        required_inputs: crew.runner.required_inputs(),
        inputs_schema: crew.inputs_schema().map(|schema| schema.hash().to_owned()),
        isolation: hosting.isolation,
        isolation_reasons: hosting.isolation_reasons,
        files: hosting.files,
        working_dir: hosting.working_dir,
        trouble: crew.trouble(),
        held: Some(worker.telemetry.metrics.held(&crew.name)),
        oldest_s: worker
            .runs
            .oldest_of(&crew.name)
            .map(|oldest| oldest.as_secs_f64()),
        waits_for_room: crew.waits_for_room.load(Ordering::Relaxed),
    }
}
