//! The fraud detection example on real Kafka: rules come, change and go while the job runs, over several tasks and a restart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::engine::Run;
use sluice_tests::services::Kafka;
use sluice_tests::topics::{Read, Reader, Record, create, produce};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
const TOPICS: [(&str, i32); 6] =
    [("livetransactions", 3), ("rules", 1), ("alerts", 1), ("dry-run-alerts", 1), ("current-rules", 1), ("rejected-rules", 1)];

struct Lab {
    kafka: Kafka,
    dir: TempDir,
    job: PathBuf,
    readers: Vec<(&'static str, Reader)>,
    /// The number of the next payment.
    next: i64,
    /// The time of the first payment.
    start: i64,
}

impl Lab {
    fn new() -> Self {
        let kafka = Kafka::started();
        let topics: Vec<_> = TOPICS.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        create(&kafka.bootstrap, &topics);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection/fraud-detection.yaml");
        let yaml = std::fs::read_to_string(example).unwrap();
        let place = "my-cluster-kafka-bootstrap.flink.svc:9092";
        assert!(yaml.contains(place));
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("job.yaml");
        std::fs::write(&job, yaml.replace(place, &kafka.bootstrap)).unwrap();
        let readers = TOPICS[2..].iter().map(|(name, _)| (*name, Reader::new(&kafka.bootstrap, &[(*name).to_owned()]))).collect();
        let start = chrono::Utc::now().timestamp_millis();
        Self { kafka, dir, job, readers, next: 1, start }
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::start(&[&["run", self.job.to_str().unwrap()], args].concat())
    }

    fn send(&self, topic: &str, partition: i32, value: &str) {
        let value = Some(value.as_bytes().to_vec());
        let timestamp = chrono::Utc::now().timestamp_millis();
        produce(&self.kafka.bootstrap, &[Record { topic: topic.into(), partition, value, timestamp, ..Record::default() }]);
    }

    fn rule(&self, rule: &Value) {
        self.send("rules", 0, &rule.to_string());
    }

    /// Sends a payment; its number.
    fn pay(&mut self, payer: i64, beneficiary: i64, amount: &str) -> i64 {
        let id = self.next;
        self.next += 1;
        let time = self.start + id;
        let text = format!(
            r#"{{"transactionId":{id},"eventTime":{time},"payerId":{payer},"beneficiaryId":{beneficiary},"paymentAmount":{amount},"paymentType":"CRD"}}"#
        );
        self.send("livetransactions", (payer % 3) as i32, &text);
        id
    }

    /// What came into a topic since the last call.
    fn news(&self, topic: &str) -> Vec<Read> {
        let (_, reader) = self.readers.iter().find(|(name, _)| *name == topic).unwrap();
        let mut all = vec![];
        let quiet = Duration::from_millis(300);
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            if let Some(record) = reader.poll(Duration::from_millis(50)) {
                all.push(record);
                last = Instant::now();
            }
        }
        all
    }

    fn json(&self, topic: &str) -> Vec<Value> {
        self.news(topic).iter().map(|r| serde_json::from_slice(r.value.as_deref().unwrap()).unwrap()).collect()
    }

    /// Does something again and again until it gives what is wanted.
    fn until<T>(&mut self, what: &str, mut act: impl FnMut(&mut Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = act(self) {
                return found;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        }
    }

    /// Pays until a rule gives an alert.
    fn until_alert(&mut self, topic: &'static str, rule: i64, payer: i64, amount: &str) -> Value {
        self.until(&format!("an alert of rule {rule}"), |lab| {
            lab.pay(payer, 12, amount);
            lab.json(topic).into_iter().find(|a| a["ruleId"] == rule)
        })
    }
}

fn sum_rule(id: i64, state: &str, limit: i64) -> Value {
    json!({"ruleId": id, "ruleState": state, "groupingKeyNames": ["payerId", "beneficiaryId"], "aggregateFieldName": "paymentAmount",
        "aggregatorFunctionType": "SUM", "limitOperatorType": "GREATER", "limit": limit, "windowMinutes": 10080})
}

#[test]
fn rules_come_change_and_go_while_the_job_runs() {
    let mut lab = Lab::new();
    let savepoint = lab.dir.path().join("savepoint");
    let run = lab.run(&["--parallelism", "3", "--savepoint-at-end", savepoint.to_str().unwrap()]);

    // A rule is effective from the next event on.
    lab.rule(&sum_rule(1, "ACTIVE", 1_000_000));
    let alert = lab.until_alert("alerts", 1, 25, "400000.01");
    assert_eq!(alert["key"], "{payerId=25;beneficiaryId=12}");
    assert_eq!(alert["triggeringValue"], json!(1_200_000.03));
    assert_eq!(alert["triggeringEvent"]["paymentAmount"], json!(400_000.01));
    assert_eq!(alert["violatedRule"], sum_rule(1, "ACTIVE", 1_000_000).to_string());

    // What is no rule is said, and harms nothing.
    lab.send("rules", 0, "{\"ruleId\": 1, ");
    lab.rule(&json!({"ruleId": 9, "ruleState": "ACTIVE", "groupingKeyNames": ["payer"]}));
    let rejected = lab.until("rejected rules", |lab| Some(lab.json("rejected-rules")).filter(|r| !r.is_empty()));
    assert!(rejected[0]["reason"].as_str().unwrap().starts_with("not a JSON object"), "{rejected:?}");
    assert_eq!((&rejected[1]["ruleId"], &rejected[1]["reason"]), (&json!(9), &json!("aggregateFieldName is missing")));
    lab.until_alert("alerts", 1, 25, "1");

    // A rule on trial sees what the same keys have had, and its alerts go elsewhere.
    lab.rule(&sum_rule(2, "DRY_RUN", 1_100_000));
    lab.until_alert("dry-run-alerts", 2, 25, "1");
    assert!(lab.json("alerts").iter().all(|a| a["ruleId"] == 1));

    // Paused rules give nothing and go on counting.
    lab.rule(&json!({"ruleId": 1, "ruleState": "PAUSE"}));
    lab.until("a payment without alert", |lab| {
        lab.pay(25, 12, "1");
        lab.json("alerts").is_empty().then_some(())
    });
    for _ in 0..5 {
        lab.pay(25, 12, "1");
    }
    assert!(lab.json("alerts").is_empty());
    lab.rule(&json!({"ruleState": "CONTROL", "controlType": "EXPORT_RULES_CURRENT"}));
    let current = lab.until("the rules", |lab| Some(lab.json("current-rules")).filter(|r| r.len() == 2));
    assert_eq!(current, [sum_rule(1, "PAUSE", 1_000_000), sum_rule(2, "DRY_RUN", 1_100_000)]);

    // Another number of tasks goes on from a savepoint with rules and events.
    lab.rule(&json!({"ruleId": 2, "ruleState": "DELETE"}));
    assert!(run.stop(DEADLINE).status.success());
    lab.rule(&json!({"ruleId": 1, "ruleState": "ACTIVE"}));
    let run = lab.run(&["--parallelism", "2", "--restore-from", savepoint.to_str().unwrap()]);
    let alert = lab.until_alert("alerts", 1, 25, "1");
    assert!(alert["triggeringValue"].as_f64().unwrap() > 1_200_000.0, "{alert}");
    assert!(lab.json("dry-run-alerts").iter().all(|a| a["triggeringEvent"]["transactionId"].as_i64() < Some(lab.next - 1)));

    // What was seen can be forgotten.
    lab.rule(&json!({"ruleState": "CONTROL", "controlType": "CLEAR_STATE_ALL"}));
    lab.until("a payment without alert", |lab| {
        lab.pay(25, 12, "1");
        lab.json("alerts").is_empty().then_some(())
    });
    let alert = lab.until_alert("alerts", 1, 25, "400000");
    assert!(alert["triggeringValue"].as_f64().unwrap() < 1_400_000.0, "{alert}");
    lab.rule(&json!({"ruleState": "CONTROL", "controlType": "DELETE_RULES_ALL"}));
    lab.until("a payment without alert", |lab| {
        lab.pay(25, 12, "400000");
        lab.json("alerts").is_empty().then_some(())
    });
    let output = run.stop(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
