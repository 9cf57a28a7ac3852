//! `slack`: each row is a message, by chat.postMessage (<https://api.slack.com/methods/chat.postMessage>).

use std::time::Duration;

use arrow::array::{Array, AsArray};
use sluice_batch::{Batch, Error, Result, TypeKind};
use sluice_format::ChangelogMode;

use crate::columns;
use crate::http::{Answer, Delivery, Endpoint, Request, Retry, Verdict, timeout};
use crate::options::Options;
use crate::registry::SinkFactory;
use crate::{Later, Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open };

const API: &str = "https://slack.com/api";
/// Slack takes one message a second and channel (<https://api.slack.com/apis/rate-limits>).
const DISTANCE: Duration = Duration::from_secs(1);
/// The words for too many messages: of its limits for all methods, and of chat.postMessage.
const LIMITED: &[&str] = &["ratelimited", "rate_limited"];
/// Errors that pass; all others are of the message, the channel or the token, and stay.
const PASSING: &[&str] = &["internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org", "accesslimited"];

struct SlackTable {
    endpoint: Endpoint,
    dry_run: bool,
    /// Positions of `channel_id` and `message`.
    columns: [usize; 2],
}

fn read(table: &TableSpec) -> Result<SlackTable> {
    let options = Options::new(table)?;
    let token = options.required("token")?.value.clone();
    let dry_run = options.flag("dry-run", false)?;
    let api = options.string("api.url").unwrap_or(API).trim_end_matches('/');
    let headers = vec![
        ("authorization".to_owned(), format!("Bearer {}", token.trim())),
        ("content-type".to_owned(), "application/json; charset=utf-8".to_owned()),
    ];
    let endpoint = Endpoint {
        url: format!("{api}/chat.postMessage"),
        method: "POST",
        headers,
        timeout: timeout(&options)?,
        retry: Retry::read(&options)?,
    };
    options.finish()?;
    columns::check_writable(table, &[])?;
    let column = |name: &str| {
        let found = table.physical.iter().position(|f| f.name == name && matches!(f.ty.kind, TypeKind::VarChar(_) | TypeKind::Char(_)));
        found.ok_or_else(|| {
            Error::plan(format!("table '{}' has no column {name} STRING", table.name))
                .at(table.span)
                .hint("a Slack table has the columns channel_id STRING and message STRING")
        })
    };
    let columns = [column("channel_id")?, column("message")?];
    if let Some(other) = table.physical.iter().enumerate().find(|(i, _)| !columns.contains(i)) {
        return Err(Error::plan(format!("a Slack table has the columns channel_id and message only, not {}", other.1.name)).at(table.span));
    }
    Ok(SlackTable { endpoint, dry_run, columns })
}

fn info(table: &TableSpec) -> Result<SinkInfo> {
    read(table)?;
    Ok(SinkInfo { changelog: ChangelogMode::InsertOnly, delete_by_key: false, guarantee: "at-least-once" })
}

fn open(table: &TableSpec, _time_zone: chrono_tz::Tz, _transactions: &Transactions) -> Result<Box<dyn Sink>> {
    let SlackTable { endpoint, dry_run, columns } = read(table)?;
    let delivery = if dry_run { None } else { Some(Delivery::start(endpoint, judge, DISTANCE)?) };
    Ok(Box::new(Slack { delivery, columns }))
}

/// Slack answers with 200 and `{"ok":false,"error":"…"}` to what it does not take.
fn judge(answer: &Answer) -> Verdict {
    let by_status = answer.judge();
    if by_status != Verdict::Taken {
        return by_status;
    }
    let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if said["ok"].as_bool() == Some(true) {
        return Verdict::Taken;
    }
    match said["error"].as_str() {
        Some(error) if LIMITED.contains(&error) => {
            Verdict::Again { after: Some(answer.retry_after.unwrap_or(DISTANCE)), why: error.to_owned() }
        }
        Some(error) if PASSING.contains(&error) => Verdict::Again { after: None, why: error.to_owned() },
        Some(error) => Verdict::Refused(format!("{error}{}", hint(error))),
        None => Verdict::Again { after: None, why: answer.text() },
    }
}

/// What to do about the errors that users meet first.
fn hint(error: &str) -> &'static str {
    match error {
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            " (is 'token' the app's bot token, xoxb-…?)"
        }
        "channel_not_found" | "not_in_channel" => " (is channel_id the channel's ID, C…, and is the app invited to it?)",
        "missing_scope" => " (the app needs the scope chat:write)",
        _ => "",
    }
}

struct Slack {
    /// `None`: messages are only logged.
    delivery: Option<Delivery>,
    columns: [usize; 2],
}

impl Sink for Slack {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let [channels, messages] = self.columns.map(|c| batch.columns()[c].as_string::<i32>());
        for row in 0..batch.rows() {
            // Slack would refuse one without text for ever ("no_text"), and with it all that comes behind.
            if channels.is_null(row) || messages.is_null(row) || messages.value(row).trim().is_empty() {
                tracing::warn!("a message without {} is left out", if channels.is_null(row) { "channel_id" } else { "text" });
                continue;
            }
            let (channel, text) = (channels.value(row), messages.value(row));
            match &mut self.delivery {
                None => tracing::info!(target: "slack", "dry run: to {channel}: {text}"),
                Some(delivery) => {
                    let body = serde_json::json!({"channel": channel, "text": text}).to_string().into_bytes();
                    delivery.send(Request { body, lane: channel.to_owned() })?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        self.delivery.as_ref().map_or(Ok(()), |d| d.later()())
    }

    fn flush_later(&mut self) -> Result<Option<Later>> {
        Ok(self.delivery.as_ref().map(Delivery::later))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;
    use std::time::Instant;

    use arrow::array::StringArray;

    use super::*;
    use crate::test_util::{Service, int, string, table};

    const OK: &str = "200\r\n\r\n{\"ok\":true}";

    fn error(code: &str) -> String {
        format!("200\r\n\r\n{{\"ok\":false,\"error\":\"{code}\"}}")
    }

    fn sink(service: &Service, more: &[(&str, &str)]) -> Box<dyn Sink> {
        let options = [("connector", "slack"), ("token", "xoxb-secret"), ("api.url", &service.url), ("sink.retry.backoff", "5 ms")];
        let columns = [("channel_id", string()), ("message", string())];
        open(&table(&[&options, more].concat(), &columns), chrono_tz::UTC, &Transactions::default()).unwrap()
    }

    fn messages(rows: &[(Option<&str>, Option<&str>)]) -> Batch {
        let column = |f: fn(&(Option<&str>, Option<&str>)) -> Option<String>| Arc::new(rows.iter().map(f).collect::<StringArray>());
        Batch::new(vec![column(|r| r.0.map(str::to_owned)), column(|r| r.1.map(str::to_owned))], rows.len())
    }

    #[test]
    fn messages_of_a_channel_keep_their_distance() {
        let service = Service::start(&[OK]);
        let mut sink = sink(&service, &[]);
        let started = Instant::now();
        sink.write(&messages(&[
            (Some("C1"), Some("one")),
            (Some("C2"), Some("two")),
            (None, Some("lost")),
            (Some("C1"), None),
            (Some("C1"), Some(" \n")),
            (Some("C1"), Some("three \"q\"")),
        ]))
        .unwrap();
        sink.flush(true).unwrap();
        assert!(started.elapsed() >= DISTANCE);
        let requests = service.requests();
        let bodies: Vec<_> = requests.iter().map(|r| r.body.as_str()).collect();
        assert_eq!(
            bodies,
            [r#"{"channel":"C1","text":"one"}"#, r#"{"channel":"C2","text":"two"}"#, r#"{"channel":"C1","text":"three \"q\""}"#]
        );
        assert!(
            requests[0].head.starts_with("POST /chat.postMessage ") && requests[0].head.contains("Bearer xoxb-secret"),
            "{}",
            requests[0].head
        );
    }

    #[test]
    fn messages_of_several_tasks_to_a_channel_keep_their_distance() {
        let service = Service::start(&[OK]);
        let started = Instant::now();
        let mut tasks = [sink(&service, &[]), sink(&service, &[])];
        for task in &mut tasks {
            task.write(&messages(&[(Some("C1"), Some("one"))])).unwrap();
        }
        tasks.iter_mut().for_each(|task| task.flush(true).unwrap());
        assert!(started.elapsed() >= DISTANCE);
        assert_eq!(service.requests().len(), 2);
    }

    #[test]
    fn errors_are_told_apart() {
        let limited = "200\r\nRetry-After: 0\r\n\r\n{\"ok\":false,\"error\":\"rate_limited\"}";
        let passing = [error("internal_error"), "429\r\nRetry-After: 0".into(), limited.into(), error("service_unavailable"), OK.into()];
        let service = Service::start(&passing.each_ref().map(String::as_str));
        let mut taken = sink(&service, &[]);
        taken.write(&messages(&[(Some("C1"), Some("one"))])).unwrap();
        taken.flush(false).unwrap();
        assert_eq!(service.requests().len(), 5);
        for (code, wanted) in [("invalid_auth", "bot token"), ("channel_not_found", "invited"), ("msg_too_long", "msg_too_long")] {
            let service = Service::start(&[&error(code)]);
            let mut refused = sink(&service, &[]);
            refused.write(&messages(&[(Some("C1"), Some("one"))])).unwrap();
            let text = refused.flush(false).unwrap_err().to_string();
            assert!(text.contains(wanted) && text.contains(code) && !text.contains("xoxb-secret"), "{text}");
            assert_eq!(service.requests().len(), 1, "it is not tried again");
        }
    }

    #[test]
    fn a_dry_run_sends_nothing() {
        let service = Service::start(&[OK]);
        let mut dry = sink(&service, &[("dry-run", "true")]);
        dry.write(&messages(&[(Some("C1"), Some("one"))])).unwrap();
        dry.flush(true).unwrap();
        assert!(service.requests().is_empty());
    }

    #[test]
    fn the_table_is_checked() {
        let check =
            |options: &[(&str, &str)], columns: &[(&str, sluice_batch::SqlType)]| info(&table(options, columns)).unwrap_err().to_string();
        let both = [("channel_id", string()), ("message", string())];
        assert!(check(&[("connector", "slack")], &both).contains("token"));
        assert!(check(&[("connector", "slack"), ("token", "t")], &both[..1]).contains("message"));
        assert!(check(&[("connector", "slack"), ("token", "t")], &[("channel_id", int()), ("message", string())]).contains("channel_id"));
        let three = [("channel_id", string()), ("message", string()), ("more", int())];
        assert!(check(&[("connector", "slack"), ("token", "t")], &three).contains("not more"));
    }
}
