//! The webhooks of the OpenAPI document.

use utoipa::ToSchema;

/// A webhook for events.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document; WebhookFields reads it")]
pub(super) struct EventWebhook {
    /// Which events, by CrewAI's names or by those of your own; none twice.
    #[schema(min_items = 1, max_items = 200, example = json!(["crew_kickoff_started"]))]
    events: Vec<String>,
    /// Where it is called: `https://` or `http://`.
    #[schema(max_length = 2048, example = "https://example.org/hook")]
    url: String,
    /// Whether each event is sent by itself and at once.
    realtime: Option<bool>,
    /// What the call shows.
    authentication: Option<Authentication>,
}

/// A webhook for questions to a human.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document; WebhookFields reads it")]
pub(super) struct HumanInputWebhook {
    /// Where it is called: `https://` or `http://`.
    #[schema(max_length = 2048, example = "https://example.org/hook")]
    url: String,
    /// What the call shows.
    authentication: Option<Authentication>,
}

/// What a call of a webhook shows of who calls.
#[derive(ToSchema, serde::Serialize)]
#[schema(as = WebhookAuthentication)]
#[serde(tag = "strategy", rename_all = "lowercase")]
#[expect(dead_code, reason = "it is there for the document; WebhookFields reads it")]
enum Authentication {
    /// `Authorization: Bearer <token>`.
    Bearer {
        /// The token: characters of ASCII, without spaces.
        #[schema(min_length = 1, max_length = 4096)]
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user: without a colon.
        #[schema(min_length = 1, max_length = 4096)]
        username: String,
        /// The password.
        #[schema(max_length = 4096)]
        password: String,
    },
}
