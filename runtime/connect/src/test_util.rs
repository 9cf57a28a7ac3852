//! What the tests of this crate share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_batch::{Field, Span, SqlType, TypeKind};

use crate::{ScanColumn, ScanRequest, TableOption, TableSpec};

/// A table whose options stand on lines 2, 3, …
pub(crate) fn table(options: &[(&str, &str)], fields: &[(&str, SqlType)]) -> TableSpec {
    TableSpec {
        name: "t".into(),
        physical: fields.iter().map(|(n, t)| Field::new(*n, t.clone())).collect(),
        metadata: vec![],
        primary_key: None,
        options: options
            .iter()
            .zip(2..)
            .map(|((k, v), line)| TableOption {
                key: (*k).into(),
                value: (*v).into(),
                key_span: Span { line, column: 1 },
                value_span: Span { line, column: 9 },
            })
            .collect(),
        span: Span { line: 1, column: 1 },
    }
}

/// All physical columns, no event time.
pub(crate) fn scan_all(table: &TableSpec) -> ScanRequest {
    ScanRequest {
        columns: (0..table.physical.len()).map(ScanColumn::Physical).collect(),
        watermark: None,
        force_bounded: false,
        time_zone: chrono_tz::Tz::UTC,
        share: crate::Share::ALL,
        group: None,
        filter: None,
    }
}

pub(crate) fn string() -> SqlType {
    TypeKind::STRING.nullable()
}

pub(crate) fn int() -> SqlType {
    TypeKind::Int.nullable()
}

/// A request as a [`Service`] got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its first line and its headers.
    pub head: String,
    pub body: String,
}

/// A web service on loopback that answers as it is told: one answer a request, the last one again and again. An answer is
/// `STATUS`, `STATUS\r\nName: value` or `STATUS\r\n\r\nBODY`.
pub(crate) struct Service {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Service {
    pub fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, answers) = (Arc::new(Mutex::new(vec![])), Arc::new(answers.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answers) = (shared.clone(), answers.clone());
                std::thread::spawn(move || converse(&stream, &seen, &answers));
            }
        });
        Self { url, seen }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn wait_for(&self, count: usize) {
        let started = Instant::now();
        while self.requests().len() < count {
            assert!(started.elapsed() < Duration::from_secs(30), "only {:?}", self.requests());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The requests of one connection, until it is closed.
fn converse(stream: &TcpStream, seen: &Mutex<Vec<Seen>>, answers: &[String]) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
                length = value.trim().parse().unwrap_or_else(|_| panic!("{name}"));
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let at = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen { head, body: String::from_utf8(body).unwrap() });
            seen.len() - 1
        };
        let answer = &answers[at.min(answers.len() - 1)];
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let (status, headers) = head.split_once("\r\n").map_or((head, String::new()), |(s, h)| (s, format!("{h}\r\n")));
        let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        if (&mut &*stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}
