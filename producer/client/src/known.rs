//! Whether a kickoff is known already, before it is sent.

use crewfleet_protocol::body_hash;
use sha2::{Digest, Sha256};

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::handle::KickoffHandle;
use crate::request::Kickoff;

impl Kickoff {
    /// Whether a kickoff with this id and this very request is known already: then it is attached to, and need not be sent.
    /// The workers are asked, and the replies that are kept are looked through; that takes some second. `None` where nobody
    /// knows, which need not mean that there is none: what waits in a queue cannot be seen.
    ///
    /// # Errors
    /// [`ClientError::OtherKickoff`] where somebody knows the id with another request; else as awaiting it.
    pub async fn known(&self) -> Result<Option<KickoffHandle>, ClientError> {
        // Of a copy: it is still to be sent.
        let (crew, message, kickoff_id) = self.preview()?;
        let client = KickoffClient::over(&self.connection);
        let hash = body_hash(&Sha256::digest(&message.body).into());
        let Some((found, known_by)) = client.body_hash_of(&kickoff_id, &crew).await? else {
            return Ok(None);
        };
        if found != hash {
            return Err(ClientError::OtherKickoff { kickoff_id, known_by });
        }
        let mut handle = client.attach(&kickoff_id).await?;
        if self.events {
            handle.follow().await?;
        }
        Ok(Some(handle))
    }
}
