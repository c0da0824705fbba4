//! All that was seen of a campaign, as one value: the checker is a function of it.

use std::collections::BTreeMap;

use super::{
    calls::Call,
    hook::Hooked,
    keyed::Keyed,
    shown::Survey,
    workload::{BATCHER, PROBER, Planned},
};
pub(crate) use super::{
    journal::Nanos,
    records::{
        Asked, CrewLine, DeadLetter, Ending, Execution, Fault, ProducerLine, Publish, ReplySeen, Row, Target,
        place,
    },
};

/// A batch with an end.
#[derive(Debug, Clone)]
pub(crate) struct BatchRan {
    /// Its id.
    pub id: String,
    /// How many items it has, numbered from 1.
    pub items: u64,
    /// The id of the kickoff that follows it.
    pub callback: String,
}

/// The whole history of a campaign.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// What was asked for, by kickoff id.
    pub asked: BTreeMap<String, Asked>,
    /// What was asked for over AMP's API: see [`History::resolve_calls`].
    pub calls: Vec<Call>,
    /// What was asked for over the native API: see [`History::resolve_keyed`].
    pub keyed: Vec<Keyed>,
    /// What each gateway shows at the end.
    pub surveys: Vec<Survey>,
    /// What the crews wrote, in the order of their starts.
    pub executions: Vec<Execution>,
    /// All replies on the reply exchange, in order.
    pub replies: Vec<ReplySeen>,
    /// The replies of steps that producers got, and when.
    pub followed: Vec<(Nanos, ReplySeen)>,
    /// The batch with an end.
    pub batch: Option<BatchRan>,
    /// The calls of webhooks.
    pub hooked: Vec<Hooked>,
    /// What a sink wrote into the database, where there is one.
    pub rows: Option<Vec<Row>>,
    /// What lies in the queues of dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Messages that are left in other queues, by the queue.
    pub left: BTreeMap<String, u64>,
    /// What was done to the fleet.
    pub faults: Vec<Fault>,
    /// What the campaign itself saw go wrong: a worker that ended unexpectedly, an exit status.
    pub troubles: Vec<String>,
}

impl History {
    /// The kickoffs of the plan, by their ids: without the probes, the batch, and the steps that follow. One that was asked for over HTTP, and taken without
    /// a word, is there again under another id.
    pub(crate) fn kickoffs(&self) -> impl Iterator<Item = (&String, &Asked)> {
        let asked = self.asked.iter();
        asked.filter(|(_, asked)| ![PROBER, BATCHER].contains(&&*asked.producer) && asked.step.is_none())
    }

    /// Adds what a producer wrote.
    pub(crate) fn add_producer(
        &mut self,
        producer: &str,
        plan: &BTreeMap<u64, Planned>,
        lines: Vec<ProducerLine>,
    ) {
        for line in lines {
            match line {
                ProducerLine::Publishing { t, number, id } => {
                    let planned = &plan[&number];
                    let asked = self.asked.entry(id).or_insert_with(|| Asked {
                        producer: producer.to_owned(),
                        crew: planned.crew.clone(),
                        order: planned.order.clone(),
                        publishes: Vec::new(),
                        cancelled: false,
                        has_deadline: planned.deadline_ms.is_some(),
                        answers: Vec::new(),
                        follow: planned.follow.clone(),
                        step: None,
                    });
                    asked.publishes.push(Publish {
                        begin: t,
                        end: None,
                        is_confirmed: false,
                    });
                }
                ProducerLine::Confirmed { t, id } => self.publish_ended(&id, t, true),
                // Whether the broker has it is not known, but no fault after this can touch it any more.
                ProducerLine::Refused { t, id, .. } => self.publish_ended(&id, t, false),
                ProducerLine::Cancelling { id, .. } => {
                    self.asked.get_mut(&id).expect("it was published").cancelled = true;
                }
                ProducerLine::Replied { t, reply } => {
                    let asked = self.asked.get_mut(&reply.id);
                    asked.expect("it was published").answers.push((t, reply));
                }
                ProducerLine::Followed { t, reply } => self.followed.push((t, reply)),
            }
        }
    }

    fn publish_ended(&mut self, id: &str, at: Nanos, is_confirmed: bool) {
        let asked = self.asked.get_mut(id);
        let publish = asked.and_then(|asked| asked.publishes.last_mut());
        let publish = publish.expect("a publish is written down before its end");
        publish.end = Some(at);
        publish.is_confirmed = is_confirmed;
    }

    /// Adds what crews wrote.
    pub(crate) fn add_crew(&mut self, lines: Vec<CrewLine>) {
        let mut places = BTreeMap::new();
        for line in lines {
            match line {
                CrewLine::Start {
                    t,
                    run,
                    id,
                    attempt,
                    redrive,
                    pid,
                    worker,
                    nonce,
                } => {
                    places.insert(run, self.executions.len());
                    self.executions.push(Execution {
                        id,
                        attempt,
                        redrive,
                        worker,
                        pid,
                        nonce,
                        start: t,
                        end: None,
                    });
                }
                CrewLine::End { t, run, how } => {
                    let place = places.get(&run).expect("a start is written down before its end");
                    self.executions[*place].end = Some((t, how));
                }
            }
        }
        self.executions.sort_by_key(|execution| execution.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_publish_ends_when_it_is_confirmed_or_refused() {
        let id = || "k-1".to_owned();
        let publishing = |t| ProducerLine::Publishing {
            t,
            number: 0,
            id: id(),
        };
        let refused = ProducerLine::Refused {
            t: 2,
            id: id(),
            error: "no connection".to_owned(),
        };
        let confirmed = ProducerLine::Confirmed { t: 5, id: id() };
        let plan = workload::kickoffs(1, 1, std::time::Duration::from_secs(1), false);
        let plan = plan
            .into_iter()
            .map(|planned| (planned.number, planned))
            .collect();
        let mut history = History::default();
        let lines = vec![publishing(1), refused, publishing(3), publishing(4), confirmed];
        history.add_producer("p1", &plan, lines);
        let ends: Vec<(Option<Nanos>, bool)> = history.asked["k-1"]
            .publishes
            .iter()
            .map(|publish| (publish.end, publish.is_confirmed))
            .collect();
        assert_eq!(ends, [(Some(2), false), (None, false), (Some(5), true)]);
    }
}
