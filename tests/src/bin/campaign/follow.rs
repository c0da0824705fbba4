//! What follows a kickoff: the steps of a chain, and the call of a webhook.

use crewfleet_protocol::{CrewName, Step, When};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::workload::{Act, FORKED, Order, PROGRAM, Planned, SWIFT};

/// One of so many kickoffs begins a chain; so many ask to be told of their end.
const CHAINS: u32 = 6;
const WEBHOOKS: u32 = 4;

/// What is to follow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Follow {
    /// The steps of the chain.
    #[serde(default)]
    pub steps: Vec<PlannedStep>,
    /// Whether the campaign's receiver is to be told how it ends, and how each step does.
    #[serde(default)]
    pub webhook: bool,
}

/// A step of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedStep {
    /// Its crew.
    pub crew: String,
    /// After which end of the kickoff before.
    pub when: When,
    /// Its place in the list of the chain's first kickoff, from 0.
    pub index: usize,
    /// What its crew gets.
    pub order: Order,
}

impl Follow {
    /// The steps, as a request has them.
    pub(crate) fn then(&self) -> Vec<Step> {
        self.steps.iter().map(PlannedStep::step).collect()
    }
}

impl PlannedStep {
    /// Its payload comes out of what the kickoff before returned, or was given where that returned nothing.
    fn step(&self) -> Step {
        let from = match self.when {
            When::Succeeded => "result.json",
            When::Failed | When::Ended => "inputs",
        };
        let mut inputs = match json!(self.order) {
            Value::Object(order) => order,
            _ => Map::new(),
        };
        inputs.insert(
            "nonce".to_owned(),
            json!(format!("$.{from}.steps[{}]", self.index)),
        );
        inputs.insert("steps".to_owned(), json!("$.inputs.steps"));
        let mut step = Step::new(CrewName::parse(&self.crew).expect("a crew of ours"));
        (step.when, step.inputs) = (self.when, inputs);
        step
    }
}

/// Adds to a kickoff what follows it.
pub(crate) fn add(random: &mut Rng, planned: &mut Planned, is_mixed: bool) {
    // The same numbers are drawn for each kickoff, whatever its crew is.
    let (webhook, chain, two) = (random.u32(0..WEBHOOKS), random.u32(0..CHAINS), random.u32(0..3));
    let drawn = [(); 2].map(|()| {
        (
            random.u32(0..10),
            random.u32(0..20),
            random.u32(0..20),
            random.u64(5..300),
        )
    });
    if is_mixed && planned.crew != SWIFT {
        return;
    }
    planned.follow.webhook = webhook == 0;
    if chain != 0 {
        return;
    }
    let drawn = &drawn[..if two == 0 { 2 } else { 1 }];
    let nonce = |index| format!("{}-step-{index}", planned.order.nonce);
    let nonces: Vec<String> = (0..drawn.len()).map(nonce).collect();
    for (index, (when, crew, acts, work_ms)) in drawn.iter().enumerate() {
        let crew = match crew {
            _ if is_mixed => SWIFT,
            0..3 => FORKED,
            3 => PROGRAM,
            _ => SWIFT,
        };
        let acts = match acts {
            0..2 => vec![Act::FailForNow, Act::Succeed],
            2 => vec![Act::Fail],
            3 => vec![Act::Crash, Act::Succeed],
            _ => vec![Act::Succeed],
        };
        planned.follow.steps.push(PlannedStep {
            crew: crew.to_owned(),
            when: match when {
                0..6 => When::Succeeded,
                6..8 => When::Failed,
                _ => When::Ended,
            },
            index,
            order: Order {
                nonce: nonces[index].clone(),
                work_ms: *work_ms,
                acts,
                steps: nonces.clone(),
                ..Order::default()
            },
        });
    }
    planned.order.steps = nonces;
}
