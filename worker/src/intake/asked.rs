//! The webhooks that a delivery asks for.

use std::sync::Arc;

use crewfleet_amqp::Received;
use crewfleet_protocol::{Rejection, Request, body_hash};
use sha2::{Digest, Sha256};

use super::run_key::RunKey;
use crate::crews::crew::Crew;
use crate::state::WorkerState;
use crate::webhooks::collected::Place;
use crate::webhooks::orders::WebhookOrders;

/// What the request wants to be called with. Boxed, since few do.
pub(super) fn orders(
    worker: &Arc<WorkerState>,
    request: &Request,
    key: &RunKey,
    message: &Received,
) -> Option<Box<WebhookOrders>> {
    let asked = request.webhooks.as_deref()?;
    let place = Place {
        kickoff_id: &request.kickoff_id,
        crew: &request.crew,
        redrive: request.redrive,
        attempt: request.attempt,
        meta: request.meta.as_deref(),
        body_hash: &key.body_hash(),
    };
    Some(Box::new(WebhookOrders::new(
        worker,
        asked,
        &place,
        &message.properties,
    )))
}

/// What can still be told of what was no request.
pub(super) fn orders_of_rejected(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    rejection: &Rejection,
    message: &Received,
) -> Option<WebhookOrders> {
    let place = Place {
        kickoff_id: rejection.kickoff_id.as_ref()?,
        crew: &crew.name,
        redrive: rejection.redrive,
        attempt: rejection.attempt,
        meta: rejection.meta.as_deref(),
        body_hash: &body_hash(&Sha256::digest(&message.body).into()),
    };
    let asked = rejection.webhooks.as_deref()?;
    Some(WebhookOrders::new(worker, asked, &place, &message.properties))
}
