//! A model server that speaks OpenAI's chat completions, and thinks for a second.

use std::time::Duration;

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

const LATENCY: Duration = Duration::from_secs(1);

/// Serves as long as this process lives. Returns the base URL.
pub(crate) async fn serve() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/embeddings", post(embed));
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(format!("http://{address}/v1"))
}

/// At once, and the same for every text.
async fn embed(Json(request): Json<Value>) -> Json<Value> {
    let texts = request["input"].as_array().map_or(1, Vec::len);
    let data: Vec<_> = (0..texts)
        .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.1, 0.2, 0.3, 0.4]}))
        .collect();
    Json(json!({
        "object": "list", "model": "text-embedding-3-large", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }))
}

async fn complete() -> Json<Value> {
    sleep(LATENCY).await;
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content":
                "Thought: I now can give a great answer\nFinal Answer: People who read at night will want this lamp."},
        }],
        "usage": {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220},
    }))
}
