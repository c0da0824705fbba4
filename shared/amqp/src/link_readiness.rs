//! A link that is fit for use: it is not only connected, its user has seen to it that what it needs is there.

use std::sync::Arc;

use tokio::sync::watch;

use super::link::Link;

/// Opened for one link, closed when that is over or its user says so.
#[derive(Default)]
pub struct LinkReadiness(watch::Sender<Option<Arc<Link>>>);

impl LinkReadiness {
    /// This link is fit for use.
    pub fn open(&self, link: &Arc<Link>) {
        self.0.send_replace(Some(Arc::clone(link)));
    }

    /// No link is.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// Waits for a link that is fit for use.
    pub async fn wait(&self) -> Arc<Link> {
        let mut receiver = self.0.subscribe();
        loop {
            let open = receiver.borrow_and_update().clone();
            if let Some(link) = open.filter(|link| !link.is_over()) {
                return link;
            }
            if receiver.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}
