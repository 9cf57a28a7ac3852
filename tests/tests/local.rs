//! `sluice run … --local`: every example runs without anything else on the machine, and what the demo prints is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sluice_tests::engine::binary;

const DEMO: &str = "anomaly-detection/standalone-etl-anomaly.yaml";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// A run in the background; killed when dropped.
struct Run(Child);

impl Run {
    fn start(example: &str, more: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("run").arg(examples().join(example)).arg("--local").args(more);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
    }

    /// Exit code and stderr; fails if the process does not end in time.
    fn end(&mut self, deadline: Duration) -> (Option<i32>, String) {
        let started = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < deadline, "still runs after {deadline:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut stderr = String::new();
        if let Some(mut pipe) = self.0.stderr.take() {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        (self.0.wait().unwrap().code(), stderr)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A record of flink.sales.records.
#[derive(Clone, Debug)]
struct Sale {
    user: String,
    invoice: String,
    quantity: i64,
    at: i64,
}

impl Sale {
    /// Confluent's five bytes, then five Avro strings: user, product, invoice, quantity, unit cost.
    fn decode(value: &[u8], at: i64) -> Self {
        let (mut rest, mut fields) = (&value[5..], vec![]);
        for _ in 0..5 {
            let (mut zigzag, mut shift) = (0u64, 0);
            loop {
                let byte = rest[0];
                rest = &rest[1..];
                zigzag |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let (text, tail) = rest.split_at(usize::try_from(zigzag / 2).unwrap());
            fields.push(std::str::from_utf8(text).unwrap().to_owned());
            rest = tail;
        }
        assert!(rest.is_empty());
        Self { user: fields[0].clone(), invoice: fields[2].clone(), quantity: fields[3].parse().unwrap(), at }
    }
}

/// A timestamp as the csv format writes it: no zeros behind the last digit.
fn csv_time(at: i64) -> String {
    let text = chrono::DateTime::from_timestamp_millis(at).unwrap().format("%Y-%m-%d %H:%M:%S%.3f").to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The tutorial's pattern, for one user: `TYPICAL_SALE+? UNUSUAL_SALE` within 10 s, where the unusual quantity is more than three
/// times the (whole) average; leftmost first, the next search begins behind the match. Lines with the time of their last row.
fn matches(sales: &[Sale]) -> Vec<(i64, String)> {
    let (mut found, mut start) = (vec![], 0);
    while start < sales.len() {
        let (first, mut sum) = (&sales[start], 0);
        let mut next = start + 1;
        for end in start + 1..sales.len() {
            let (sale, last) = (&sales[end], &sales[end - 1]);
            sum += last.quantity;
            let average = sum / i64::try_from(end - start).unwrap();
            if sale.at - first.at >= 10_000 {
                break;
            }
            if sale.quantity > average * 3 {
                let times = [sale.at, first.at, last.at].map(csv_time);
                let line = format!(
                    "{},{},{},\"{}\",{average},\"{}\",\"{}\"",
                    sale.user, sale.invoice, sale.quantity, times[0], times[1], times[2]
                );
                found.push((sale.at, line));
                next = end + 1;
                break;
            }
        }
        start = next;
    }
    found
}

#[test]
fn the_model_finds_what_it_should() {
    let sale = |quantity, at: i64| Sale { user: "u".into(), invoice: at.to_string(), quantity, at };
    let times = |sales: &[Sale]| matches(sales).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(times(&[sale(1, 0), sale(2, 1000), sale(10, 2000), sale(30, 3000), sale(1, 4000), sale(4, 5000)]), [2000, 5000]);
    assert_eq!(times(&[sale(1, 0), sale(10, 10_000)]), [0; 0]);
    assert_eq!(times(&[sale(1, 0), sale(10, 9_999)]), [9_999]);
    let line = &matches(&[sale(1, 0), sale(2, 1500), sale(30, 2010)])[0].1;
    assert_eq!(line, r#"u,2010,30,"1970-01-01 00:00:02.01",1,"1970-01-01 00:00:00","1970-01-01 00:00:01.5""#);
}

/// Reads a topic of the run's broker until the run ends.
fn read_input(bootstrap: &str, run: &mut Run) -> Vec<Sale> {
    let config = [
        ("bootstrap.servers", bootstrap),
        ("group.id", "test"),
        ("enable.auto.commit", "false"),
        ("fetch.wait.max.ms", "10"),
        ("log_level", "0"),
    ];
    let consumer: BaseConsumer = config.iter().fold(ClientConfig::new(), |mut c, (k, v)| c.set(*k, *v).clone()).create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset("flink.sales.records", 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut sales = vec![];
    while run.0.try_wait().unwrap().is_none() {
        // An error is the broker's end.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            sales.push(Sale::decode(message.payload().unwrap(), message.timestamp().to_millis().unwrap()));
        }
    }
    // Closing it would wait most of a minute for the broker that has just ended.
    std::mem::forget(consumer);
    sales
}

#[test]
fn the_demo_prints_the_matches_of_its_input() {
    let mut run = Run::start(DEMO, &["--duration", "14s", "--log", "sluice_broker=info"]);
    let mut log = BufReader::new(run.0.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let (_, rest) = line.split_once("Kafka broker on ").unwrap_or_else(|| panic!("no address in {line:?}"));
    let bootstrap = rest.split_whitespace().next().unwrap().to_owned();
    let stdout = run.stdout();
    let printed = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect::<Vec<String>>());
    let sales = read_input(&bootstrap, &mut run);
    assert_eq!(run.end(Duration::from_secs(5)).0, Some(0));
    let lines = printed.join().unwrap();

    let mut by_user: BTreeMap<&str, (Vec<Sale>, Vec<&str>)> = BTreeMap::new();
    for sale in &sales {
        by_user.entry(&sale.user).or_default().0.push(sale.clone());
    }
    for line in &lines {
        by_user.get_mut(line.split(',').next().unwrap()).unwrap_or_else(|| panic!("{line}: no such user")).1.push(line);
    }
    // Watermark 1 s behind, WITHIN 10 s, and what was under way when it stopped.
    let certain = sales.iter().map(|s| s.at).max().unwrap() - 13_000;
    let mut expected = 0;
    for (user, (sales, lines)) in by_user {
        let model = matches(&sales);
        let must = model.iter().filter(|(at, _)| *at < certain).count();
        expected += must;
        assert!(lines.len() >= must && lines.len() <= model.len(), "{user}: {lines:#?} of {model:#?}");
        for (line, (_, matched)) in lines.iter().zip(&model) {
            assert_eq!(line, matched);
        }
    }
    assert!(expected > 3, "only {expected} of {} matches were certain", lines.len());
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    for signal in ["-INT", "-TERM"] {
        let mut run = Run::start(DEMO, &[]);
        let mut stdout = run.stdout();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line.matches(',').count(), 6, "{line}");
        run.signal(signal);
        let (code, stderr) = run.end(Duration::from_secs(1));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{signal}");
    }
}

#[test]
fn it_ends_when_nobody_reads() {
    let mut run = Run::start(DEMO, &[]);
    let mut stdout = run.stdout();
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    assert_eq!(run.end(Duration::from_secs(20)).0, Some(0));
}

#[test]
fn every_example_gives_something() {
    let folders = std::fs::read_dir(examples()).unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_dir());
    let files = folders.flat_map(|f| std::fs::read_dir(f).unwrap().map(|f| f.unwrap().path()));
    let local = |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| text.contains("sluice.dev/local-generate"));
    let names: Vec<String> = files.filter(local).map(|f| f.to_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        // The first record ends the wait; a slow machine gets a minute.
        let mut run = Run::start(&name, &["--duration", "60s"]);
        let mut first = String::new();
        let mut stdout = run.stdout();
        stdout.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "{name} printed nothing: {}", run.end(Duration::from_secs(10)).1);
        run.signal("-TERM");
        drop(std::io::copy(&mut stdout, &mut std::io::sink()));
        let (code, stderr) = run.end(Duration::from_secs(10));
        assert_eq!(code, Some(0), "{name}: {stderr}");
    }
}

#[test]
fn what_cannot_run_says_why() {
    let mut run = Run::start(DEMO, &["--bounded"]);
    let (code, stderr) = run.end(Duration::from_secs(10));
    assert_eq!(code, Some(2), "{stderr}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unknown.yaml");
    let demo = std::fs::read_to_string(examples().join(DEMO)).unwrap();
    std::fs::write(&file, demo.replace("local-generate: sales", "local-generate: sails")).unwrap();
    let (code, stderr) = Run::start(file.to_str().unwrap(), &[]).end(Duration::from_secs(10));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("'sails'") && stderr.contains("sales, pizza"), "{stderr}");
}
