//! Following a chain: from a kickoff to what its reply names, to the end.

use crewfleet_protocol::{KickoffId, Reply};

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::handle::KickoffHandle;

impl KickoffClient {
    /// Waits for what follows a kickoff in its chain, as its reply says; `None` where nothing does. Keep the handle of a kickoff
    /// that was sent from here: it keeps the replies of what follows. Others are found in the results stream.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub async fn next_of(&self, reply: &Reply) -> Result<Option<KickoffHandle>, ClientError> {
        let next = reply.chain.as_ref().and_then(|chain| chain.next.as_ref());
        let Some(id) = next.and_then(|next| KickoffId::parse(&next.kickoff_id).ok()) else {
            return Ok(None);
        };
        let handle = self.attach_from_now(&id).await?;
        // It may have ended before we knew of it, and its id tells no moment.
        let since = reply.started_at.unwrap_or(reply.finished_at);
        let looking_back = handle.connection().look_back_since(Some(since));
        Ok(Some(handle.looking_back(looking_back)))
    }
}

impl KickoffHandle {
    /// Waits for the end of the chain that the kickoff begins or is in, and returns the last reply. Without a chain that is
    /// the kickoff's own. Cancel-safe, as [`Self::reply`].
    ///
    /// # Errors
    /// As [`Self::reply`] and [`KickoffClient::attach`].
    pub async fn chain_reply(&mut self) -> Result<Reply, ClientError> {
        let client = KickoffClient::over(self.connection());
        let mut reply = self.reply().await?;
        while let Some(mut next) = client.next_of(&reply).await? {
            reply = next.reply().await?;
        }
        Ok(reply)
    }
}
