//! `http`: each row is the body of a request.

use std::time::Duration;

use sluice_batch::{Batch, Result};
use sluice_format::{Encoder, FormatContext, FormatOptions, Records, Schema};

use crate::columns;
use crate::http::{Answer, Delivery, Endpoint, Request};
use crate::options::Options;
use crate::registry::SinkFactory;
use crate::{Later, Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open };

fn read(table: &TableSpec) -> Result<(Endpoint, FormatOptions)> {
    let options = Options::new(table)?;
    let mut endpoint = Endpoint::read(&options)?;
    let format = options.format("format").ok_or_else(|| options.missing("format"))?;
    options.finish()?;
    columns::check_writable(table, &[])?;
    if !endpoint.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        let kind = if format.format.ends_with("json") { "application/json" } else { "application/octet-stream" };
        endpoint.headers.push(("content-type".into(), kind.into()));
    }
    Ok((endpoint, format))
}

fn info(table: &TableSpec) -> Result<SinkInfo> {
    let (_, format) = read(table)?;
    let format = sluice_format::write_info(&format, table.primary_key.is_some())?;
    Ok(SinkInfo { changelog: format.changelog, delete_by_key: format.delete_by_key, guarantee: "at-least-once" })
}

fn open(table: &TableSpec, time_zone: chrono_tz::Tz, _transactions: &Transactions) -> Result<Box<dyn Sink>> {
    let (endpoint, format) = read(table)?;
    let encoder = sluice_format::encoder(format, Schema::new(table.physical.clone()), FormatContext { time_zone })?;
    let delivery = Delivery::start(endpoint, Answer::judge, Duration::ZERO)?;
    Ok(Box::new(Http { delivery, encoder, records: Records::default() }))
}

struct Http {
    delivery: Delivery,
    encoder: Box<dyn Encoder>,
    records: Records,
}

impl Sink for Http {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.records.clear();
        self.encoder.encode(batch, &mut self.records)?;
        // A record that is NULL is a deletion without a body: nothing to say.
        let records = (0..self.records.len()).filter_map(|i| self.records.get(i));
        for body in records.map(<[u8]>::to_vec) {
            self.delivery.send(Request { body, lane: String::new() })?;
        }
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        self.delivery.later()()
    }

    fn flush_later(&mut self) -> Result<Option<Later>> {
        Ok(Some(self.delivery.later()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;
    use crate::test_util::{Service, string, table};

    fn sink(service: &Service, more: &[(&str, &str)]) -> Box<dyn Sink> {
        let url = format!("{}/hook/secret-path?key=1", service.url);
        let options =
            [("connector", "http"), ("url", &url), ("format", "json"), ("sink.retry.backoff", "5 ms"), ("header.X-Token", "secret-token")];
        open(&table(&[&options, more].concat(), &[("a", string())]), chrono_tz::UTC, &Transactions::default()).unwrap()
    }

    fn rows(values: &[&str]) -> Batch {
        Batch::new(vec![Arc::new(StringArray::from(values.to_vec()))], values.len())
    }

    #[test]
    fn each_row_is_a_request_and_all_are_there_at_a_flush() {
        let service = Service::start(&["200", "204"]);
        let mut sink = sink(&service, &[]);
        sink.write(&rows(&["x", "y"])).unwrap();
        sink.write(&rows(&["z"])).unwrap();
        sink.flush(false).unwrap();
        let requests = service.requests();
        assert_eq!(requests.iter().map(|r| r.body.as_str()).collect::<Vec<_>>(), [r#"{"a":"x"}"#, r#"{"a":"y"}"#, r#"{"a":"z"}"#]);
        assert!(requests[0].head.starts_with("POST /hook/secret-path?key=1 "), "{}", requests[0].head);
        let head = requests[0].head.to_ascii_lowercase();
        assert!(head.contains("x-token: secret-token") && head.contains("content-type: application/json"), "{head}");
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_order_stays() {
        let service = Service::start(&["503", "429\r\nRetry-After: 0", "500", "200"]);
        let mut sink = sink(&service, &[]);
        sink.write(&rows(&["x", "y"])).unwrap();
        sink.flush_later().unwrap().unwrap()().unwrap();
        let bodies: Vec<_> = service.requests().into_iter().map(|r| r.body).collect();
        assert_eq!(bodies, [[r#"{"a":"x"}"#; 4].as_slice(), &[r#"{"a":"y"}"#]].concat());
    }

    #[test]
    fn what_is_refused_fails_the_job_without_secrets() {
        for (answers, wanted) in [(&["404"][..], "refuses a request: HTTP 404"), (&["503"], "in 3 tries: HTTP 503")] {
            let service = Service::start(answers);
            let mut sink = sink(&service, &[("sink.max-retries", "2")]);
            sink.write(&rows(&["x"])).unwrap();
            let error = sink.flush(false).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains("secret"), "{error}");
            let error = (0..3000).find_map(|_| sink.write(&rows(&["y"])).err()).unwrap().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_sink_that_is_dropped_does_not_wait() {
        let service = Service::start(&["503"]);
        let mut sink = sink(&service, &[("sink.retry.backoff", "1 h"), ("sink.retry.max-backoff", "1 h")]);
        sink.write(&rows(&["x"])).unwrap();
        service.wait_for(1);
        let started = std::time::Instant::now();
        drop(sink);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn options_are_checked() {
        for (options, wanted) in [
            (&[("url", "hooks.example.com/T0/secret"), ("format", "json")][..], "http://"),
            (&[("format", "json")], "'url'"),
            (&[("url", "http://x")], "'format'"),
            (&[("url", "http://x"), ("format", "json"), ("method", "GET")], "POST"),
            (&[("url", "http://x"), ("format", "json"), ("request.timout", "1 s")], "request.timout"),
        ] {
            let all = [&[("connector", "http")], options].concat();
            let error = info(&table(&all, &[("a", string())])).unwrap_err();
            let text = format!("{error} {}", error.hint_text().unwrap_or_default());
            assert!(text.contains(wanted) && !text.contains("secret"), "{options:?}: {text}");
        }
    }
}
