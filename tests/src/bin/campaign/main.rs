//! The campaign: producers publish kickoffs while faults come down on everything, and a checker reads what became of
//! each.
//!
//! ```text
//! cargo run -p crewfleet-tests --bin campaign -- --kickoffs 600 --seed 7 --faults all
//! cargo run -p crewfleet-tests --bin campaign -- --kickoffs 50 --faults worker_sigkill --fault-count 3
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`] | the campaign from start to end |
//! | [`options`] | the command line |
//! | [`workload`], [`follow`] | the kickoffs, made from a seed; what follows them |
//! | [`schedule`] | the faults, made from the same seed: kinds, targets, times |
//! | [`site`] | the broker, and the proxies before it |
//! | [`fleet`] | the worker processes |
//! | [`crew`] | what the crews do: in Rust, in this binary as a program, and the configuration of the Python one |
//! | [`producer`], [`producers`] | a producer process with the client library; all producers |
//! | [`caller`], [`native`] | producers that call gateways: AMP's API; the native one, under keys |
//! | [`batch`] | a batch with an end, by `crewfleet kickoff-for-each` |
//! | [`gateway`] | the gateways |
//! | [`sinks`], [`hook`] | the processes of sinks; the receiver of webhooks |
//! | [`lives`] | one process after the other, of those that are killed |
//! | [`faults`], [`misdeclared`] | doing harm, as scheduled; to one queue |
//! | [`journal`] | lines that survive a SIGKILL of their writer |
//! | [`records`] | what is seen, each as a value |
//! | [`calls`], [`keyed`] | the same of what is seen over HTTP: of AMP's API, and of the native one |
//! | [`history`], [`resolve`] | all that was seen, as one value; finding what was asked for over HTTP in it |
//! | [`evidence`] | reading the history from the files and the broker |
//! | [`survey`], [`shown`] | what the gateways show at the end: asking for it; as a value |
//! | [`checker`], [`explain`], [`endings`] | what the history must not hold; which fault explains which repeat, and which ending |
//! | [`summary`] | the last line |
//!
//! # What is promised, and so checked
//!
//! Delivery is at least once. So a second execution of one attempt is allowed where a fault hit the first one's
//! process, worker or connection between its start and its ack ([`explain`]), and a second copy of the same reply is no
//! fault at all. What is never allowed: a confirmed kickoff without a terminal reply; a reply, an execution or a dead
//! letter that belongs to nobody; an answer with another's payload; two different answers of one attempt; an ending
//! that neither the kickoff's plan nor a fault explains; anything left in a queue; a caller over HTTP who is told another
//! end than the reply's, or that what was accepted is not there. A caller of AMP's API that hears no answer asks again:
//! then one kickoff of the plan may run under two ids, which is counted; after "not taken" it may not.
//!
//! A caller of the native API sends its key again, to either gateway, until it is accepted, and later once more: one
//! key is one kickoff, and another body under it is refused. "Not now" says when to ask again, and each answer comes
//! within the gateway's own limits. When all is settled, each gateway lists every kickoff exactly once and as its reply
//! has it, whoever published it, also where its file was lost. Filters take what they name of the list. The kickoff,
//! its result and its events say the same.
//!
//! A step of a chain is a kickoff like any other, and each reply says which one follows. It follows once, by what the
//! kickoff before returned, and never twice: a worker that may have started it before says so, and others ask. Who asks to
//! be told of an end is told of it and of each step's, under one id each. The receiver fails half of the time. A sink writes
//! every reply into PostgreSQL, once.
//!
//! Rows of a file are a batch: one kickoff follows when the last has ended, and is told how many ended how. So do the
//! gateways show it.

mod batch;
mod caller;
mod calls;
mod checker;
mod crew;
mod endings;
mod evidence;
mod explain;
mod faults;
mod fleet;
mod follow;
mod gateway;
mod history;
mod hook;
mod journal;
mod keyed;
mod lives;
mod misdeclared;
mod native;
mod options;
mod producer;
mod producers;
mod records;
mod resolve;
mod run;
mod schedule;
mod shown;
mod sinks;
mod site;
mod summary;
mod survey;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use options::{Arguments, Role};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Worker { config }) => crew::worker(&config).await?,
        Some(Role::Crew) => crew::program()?,
        Some(Role::Producer(arguments)) => producer::run(&arguments).await?,
        Some(Role::Caller(arguments)) => caller::run(&arguments).await?,
        Some(Role::Native(arguments)) => native::run(&arguments).await?,
        Some(Role::Gateway(arguments)) => gateway::run(&arguments).await?,
        Some(Role::Sinks(arguments)) => sinks::run(&arguments).await?,
        None if !run::run(&arguments.options).await? => return Ok(ExitCode::FAILURE),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
