//! The calls that kickoffs ask for.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crewfleet_protocol::WebhookOrder;
use futures_util::future::BoxFuture;
use lru::LruCache;
use tracing::info;

use super::{Each, Handed};
use crate::item::Item;
use crate::verdict::Verdict;
use crate::webhook::client::{Call, WebhookClient};
use crate::webhook::signing::Signer;

/// So many URLs that want nothing more are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// Calls what kickoffs ask for.
pub(crate) struct Orders {
    client: Arc<WebhookClient>,
    signer: Signer,
    /// Kickoffs and their URLs that have answered 410.
    gone: Mutex<LruCache<(String, String), ()>>,
}

impl Orders {
    pub(crate) fn new(client: Arc<WebhookClient>, signer: Signer) -> Self {
        Self {
            client,
            signer,
            gone: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    fn is_gone(&self, order: &WebhookOrder) -> bool {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.get(&of(order)).is_some()
    }

    async fn call(&self, order: &WebhookOrder) -> Verdict {
        if self.is_gone(order) {
            return Verdict::Gone;
        }
        let call = Call {
            id: &order.id,
            url: &order.url,
            is_trusted: false,
            authentication: order.authentication.as_ref(),
            content_type: "application/json",
            body: Bytes::copy_from_slice(order.body.get().as_bytes()),
            signer: &self.signer,
        };
        let verdict = self.client.call(&call).await;
        if verdict == Verdict::Gone {
            info!(kickoff_id = order.kickoff_id, url = %order.url, "the webhook answers 410: this kickoff calls it no more");
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.put(of(order), ());
        }
        verdict
    }
}

fn of(order: &WebhookOrder) -> (String, String) {
    (order.kickoff_id.clone(), order.url.as_str().to_owned())
}

impl Each for Orders {
    fn deliver<'a>(&'a self, handed: &'a Handed) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match &handed.item {
                Item::Order(order) => self.call(order).await,
                Item::Reply(_) | Item::Event(_) => {
                    Verdict::never("it is no webhook that a kickoff asked for")
                }
            }
        })
    }
}
