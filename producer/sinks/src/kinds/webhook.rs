//! A URL that is called with each reply and event.

use std::sync::Arc;

use crewfleet_protocol::Names;
use crewfleet_protocol::webhooks::{Authentication, WebhookUrl};
use futures_util::future::BoxFuture;

use super::{Each, Handed};
use crate::config::Format;
use crate::format::{self, bounded};
use crate::verdict::Verdict;
use crate::webhook::client::{Call, WebhookClient};
use crate::webhook::signing::Signer;

/// A URL that is called with each reply and event.
pub(crate) struct WebhookTarget {
    pub(crate) client: Arc<WebhookClient>,
    pub(crate) names: Names,
    pub(crate) format: Format,
    pub(crate) max_body: usize,
    pub(crate) url: WebhookUrl,
    pub(crate) signer: Signer,
    pub(crate) authentication: Option<Authentication>,
}

impl Each for WebhookTarget {
    fn deliver<'a>(&'a self, handed: &'a Handed) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let Handed { item, body } = handed;
            let body = match bounded::bounded(&self.names, item, body, self.max_body) {
                std::borrow::Cow::Borrowed(_) => body.clone(),
                std::borrow::Cow::Owned(cut) => cut.into(),
            };
            let payload = format::payload(self.format, &self.names, item, body);
            let call = Call {
                id: item.id(),
                url: &self.url,
                // Whoever writes the configuration decides where it calls.
                is_trusted: true,
                authentication: self.authentication.as_ref(),
                content_type: payload.content_type,
                body: payload.body,
                signer: &self.signer,
            };
            self.client.call(&call).await
        })
    }
}
