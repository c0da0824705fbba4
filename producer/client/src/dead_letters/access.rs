//! The dead letters of a namespace.

use std::collections::BTreeSet;

use crewfleet_protocol::CrewName;

use super::error::DeadLetterError;
use super::looking::Looking;
use crate::client::KickoffClient;

/// The dead letters of a namespace.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) client: KickoffClient,
    pub(super) looking: Looking,
}

impl DeadLetters {
    /// The dead letters in the namespace of a client.
    pub fn of(client: &KickoffClient) -> Self {
        Self {
            client: client.clone(),
            looking: Looking::default(),
        }
    }

    /// The same, for looks that may take no more than this.
    pub fn looking(mut self, looking: Looking) -> Self {
        self.looking = looking;
        self
    }

    /// The crews that workers serve at present, by their heartbeats; takes as long as
    /// [`KickoffClient::workers`].
    ///
    /// # Errors
    /// As [`KickoffClient::workers`].
    pub async fn heard_crews(&self) -> Result<Vec<CrewName>, DeadLetterError> {
        let workers = self.client.workers().await?;
        let crews = workers.into_iter().flat_map(|worker| worker.crews);
        let crews: BTreeSet<_> = crews
            .filter_map(|crew| CrewName::parse(&crew.name).ok())
            .collect();
        Ok(crews.into_iter().collect())
    }
}
