//! A link that is fit for use: it is not only connected, its user has seen to it that what it needs is there.

use std::sync::Arc;

use tokio::sync::watch;

use super::link::Link;

/// Opened for one link, closed when that is over or its user says so.
pub struct LinkReadiness<L = Link>(watch::Sender<Option<Arc<L>>>);

/// What may be over.
pub trait Passing {
    /// Whether it is.
    fn is_over(&self) -> bool;
}

impl Passing for Link {
    fn is_over(&self) -> bool {
        Link::is_over(self)
    }
}

impl<L> Default for LinkReadiness<L> {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl<L: Passing> LinkReadiness<L> {
    /// This link is fit for use.
    pub fn open(&self, link: &Arc<L>) {
        self.0.send_replace(Some(Arc::clone(link)));
    }

    /// No link is.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// Waits for a link that is fit for use.
    pub async fn wait(&self) -> Arc<L> {
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
