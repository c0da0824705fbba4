//! Publishing until the broker has it: what settles a kickoff is never given up.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Link, Message, PublishError};
use tracing::{error, info};

use crate::state::WorkerState;

/// How long one round of publishing tries before it is logged and begun again. A reply is never given up.
pub(super) const ROUND: Duration = Duration::from_secs(60);
/// The longest pause before a message that was refused is published again: somebody waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes until the broker has it. While it tries, the delivery stays unacked, so nothing is lost if the
/// worker ends before.
pub(crate) async fn publish_until_confirmed(worker: &WorkerState, message: impl Into<Arc<Message>>) {
    let (mut message, mut retrying) = (message.into(), Retrying::default());
    while let Err(failure) = worker.broker.settling.publish(Arc::clone(&message), ROUND).await {
        if let PublishError::InDoubt { sent: true, .. } = failure {
            message = Arc::new(message.possible_duplicate());
        }
        Box::pin(prepare_republish(worker, &failure, &mut retrying)).await;
    }
    if retrying.works() {
        info!("published after all");
    }
}

/// After a publish that failed: waits, and has the topology declared again where it may be gone.
pub(super) async fn prepare_republish(worker: &WorkerState, failure: &PublishError, retrying: &mut Retrying) {
    if retrying.failed(failure) {
        error!(error = %failure, "not published; trying again");
    }
    // An exchange or queue may be gone: everything is declared again.
    if let PublishError::Unroutable { .. } | PublishError::Broker(_) = failure {
        tokio::time::sleep(retrying.pause().min(LONGEST_PAUSE)).await;
        worker.broker.forget_declared().await;
        let Some(link) = worker.broker.link() else { return };
        // The trouble of another is none of this message.
        for crew in worker.crews.iter().filter(|crew| crew.trouble().is_none()) {
            if let Err(error) = worker.broker.declare_crew(&link, crew).await {
                error!(crew = %crew.name, %error, "the topology cannot be declared");
            }
        }
    }
}

/// What comes of publishing; `None` when the link is over before.
pub(super) async fn before_its_end<T>(link: &Link, publishing: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // What is confirmed counts, also when the link is over by now.
        biased;
        published = publishing => Some(published),
        () = link.ended() => None,
    }
}
