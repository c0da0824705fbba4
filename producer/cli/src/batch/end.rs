//! The end of a batch. Gateways count its rows, and start what follows; here they are told, and what follows is awaited.

use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet::{ClientError, KickoffClient, KickoffHandle};
use crewfleet_amqp::{PublishError, reply_code};
use crewfleet_protocol::batch::{BatchChange, BatchSpec};
use crewfleet_protocol::{CrewName, KickoffId, OnItemFailure, Reply, Step};
use sha2::{Digest, Sha256};

use super::error::BatchError;
use super::journal::{Journal, Opened};
use super::options::BatchOptions;
use crate::output::say;

/// How long nobody may know of what follows. A gateway that is started again reads the streams first.
const PATIENCE: Duration = Duration::from_secs(300);

/// The end that a batch is to have.
pub(super) struct End<'a> {
    journal: &'a Journal,
    crew: &'a CrewName,
    then: Option<&'a Step>,
    on_item_failure: OnItemFailure,
    told: Opened,
}

/// What follows, and will be answered.
pub(super) struct Following<'a> {
    journal: &'a Journal,
    client: &'a KickoffClient,
    crew: &'a CrewName,
    handle: KickoffHandle,
    /// Since when it may have been.
    since: Option<DateTime<Utc>>,
}

impl<'a> End<'a> {
    /// `None` where nothing is asked for.
    ///
    /// # Errors
    /// [`BatchError::Input`] where an earlier run asked for something else.
    pub(super) fn of(
        options: &'a BatchOptions,
        journal: &'a Journal,
        rows: u64,
    ) -> Result<Option<Self>, BatchError> {
        let (then, on_item_failure) = (options.then.as_ref(), options.on_item_failure);
        if then.is_none() && on_item_failure == OnItemFailure::Continue {
            return Ok(None);
        }
        if journal.meta().is_none() {
            return Err(BatchError::Input(
                "an older version began this batch, and its rows do not say which batch they are of: --then and \
                 --on-item-failure need another --output"
                    .to_owned(),
            ));
        }
        let hash = Sha256::digest(serde_json::to_vec(&(then, on_item_failure)).unwrap_or_default());
        let told = Opened {
            rows,
            hash: hex::encode(&hash[..8]),
            at: Utc::now(),
        };
        let other = |before: &&Opened| before.rows != told.rows || before.hash != told.hash;
        if let Some(before) = journal.opened().filter(other) {
            return Err(BatchError::Input(format!(
                "an earlier run of this batch had {} rows and told the gateways what is to follow these: the rows, --then \
                 and --on-item-failure must stay as they were, or name another --output",
                before.rows
            )));
        }
        Ok(Some(Self {
            journal,
            crew: &options.crew,
            then,
            on_item_failure,
            told,
        }))
    }

    /// Whether an earlier run has seen its end.
    pub(super) fn has_followed(&self) -> bool {
        self.journal.followed().is_some() || (self.then.is_none() && self.journal.opened().is_some())
    }

    /// Tells the gateways, before any row is sent.
    ///
    /// # Errors
    /// [`BatchError`], where no gateway ever ran, or nobody serves what is to follow.
    pub(super) async fn open(&self, client: &'a KickoffClient) -> Result<Option<Following<'a>>, BatchError> {
        if let Some(then) = self.then {
            // Not everybody may see it.
            if let Ok(false) = client.has_queue(&then.crew).await {
                return Err(BatchError::Input(format!(
                    "--then: no worker has ever served the crew {}; this run sent nothing",
                    then.crew
                )));
            }
            let required = client.required_inputs(then.crew.as_str()).await;
            // A worker would reject it, when all rows have run.
            let lacking = then.lacking(&required.unwrap_or_default());
            if !lacking.is_empty() {
                return Err(BatchError::Input(format!(
                    "--then: the crew {} needs inputs that it is not given: {}; this run sent nothing",
                    then.crew,
                    lacking.join(", ")
                )));
            }
        }
        let opened = BatchChange::Opened(BatchSpec {
            crew: self.crew.clone(),
            items: self.told.rows,
            then: self.then.cloned(),
            on_item_failure: self.on_item_failure,
            reply_to: self.then.map(|_| client.reply_key().to_owned()),
            meta: None,
        });
        let told = client.tell_of_batch(self.journal.batch(), opened).await;
        told.map_err(|cause| not_told(&client.names().batches(), cause))?;
        let before = self.journal.opened();
        if before.is_none() {
            self.journal.tell_opened(&self.told)?;
        }
        Ok(self.then.map(|then| Following {
            journal: self.journal,
            client,
            crew: &then.crew,
            // Before the reply queue is opened: its reply may lie in it.
            handle: client.await_own(&KickoffId::of_batch(self.journal.batch())),
            since: before.map(|before| before.at),
        }))
    }
}

fn not_told(exchange: &str, cause: PublishError) -> BatchError {
    let refused = |why: &str| {
        BatchError::Input(format!(
            "--then and --on-item-failure need a gateway: {why}. This run sent nothing"
        ))
    };
    match &cause {
        PublishError::Unroutable { .. } => refused(&format!(
            "nothing reads the exchange {exchange}; start one (`crewfleet gateway`)"
        )),
        PublishError::Broker(error) if error.code() == Some(reply_code::NOT_FOUND) => refused(&format!(
            "none has ever run here, since there is no exchange {exchange}; start one (`crewfleet gateway`)"
        )),
        PublishError::Broker(error) if error.code() == Some(reply_code::ACCESS_REFUSED) => refused(&format!(
            "the user of [broker] url may not publish to the exchange {exchange}, by which gateways are told; allow it"
        )),
        _ => BatchError::Client(ClientError::Command { cause }),
    }
}

impl Following<'_> {
    /// Waits for the reply. All rows have ended, so a gateway starts it, if one runs and can.
    ///
    /// # Errors
    /// [`BatchError`].
    pub(super) async fn reply(mut self) -> Result<Reply, BatchError> {
        if let Some(since) = self.since {
            self.client.replay_replies(Some(since)).await;
        }
        if !self.handle.is_answered() {
            say(&format!(
                "waiting for what follows: kickoff {} of the crew {}",
                self.handle.id(),
                self.crew
            ));
        }
        let crews = [self.crew.clone()];
        let reply = self.handle.reply_unless_unknown(&crews, PATIENCE, |_| {}).await?;
        let reply = reply.map_err(|status| BatchError::NotFollowed {
            kickoff_id: status.kickoff_id,
            crew: self.crew.clone(),
            batch: self.journal.batch().to_owned(),
            waited_s: PATIENCE.as_secs(),
        })?;
        self.journal.tell_followed(reply.status)?;
        Ok(reply)
    }
}
