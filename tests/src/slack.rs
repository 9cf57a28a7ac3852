//! A server that speaks Slack's chat.postMessage as it is documented (<https://api.slack.com/methods/chat.postMessage>).

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::web::{self, Answer, Request};

/// The token that it takes. No message of the engine may have it in it.
pub const TOKEN: &str = "xoxb-hush-hush";

/// The first message has to be sent again: too many, it says.
pub struct Slack {
    /// The option `api.url`.
    pub url: String,
    messages: Arc<Mutex<Vec<(String, String)>>>,
}

impl Slack {
    pub fn started_on(host: &str) -> Self {
        let messages = Arc::new(Mutex::new(vec![]));
        let (taken, busy) = (messages.clone(), Mutex::new(true));
        let url = web::start(host, move |request| {
            if std::mem::take(&mut *busy.lock().unwrap()) {
                return Answer { status: 429, headers: vec![("Retry-After", "1".into())], body: String::new() };
            }
            Answer::json(&match message(request) {
                Ok((channel, text)) => {
                    taken.lock().unwrap().push((channel.clone(), text));
                    json!({"ok": true, "channel": channel, "ts": "1503435956.000247"})
                }
                Err(error) => json!({"ok": false, "error": error}),
            })
        });
        Self { url, messages }
    }

    /// Channel and text of what it has taken.
    pub fn messages(&self) -> Vec<(String, String)> {
        self.messages.lock().unwrap().clone()
    }
}

fn message(request: &Request) -> Result<(String, String), &'static str> {
    if !request.line.starts_with("POST /chat.postMessage ") {
        return Err("unknown_method");
    }
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        return Err("invalid_auth");
    }
    let body: Value = serde_json::from_str(&request.body).map_err(|_| "invalid_json")?;
    let field = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Ok((field("channel").ok_or("channel_not_found")?, field("text").ok_or("no_text")?))
}
