//! The web application of the fraud detection example in headless Chromium: payments flow, a rule is added, its alerts come, it is
//! paused, and none comes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Map, Value, json};
use sluice_tests::engine::binary;
use sluice_tests::services::{free_port, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// A process that is stopped when dropped. Both have processes of their own, which they end when they are asked to end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let started = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The application with its own broker and job; where its page is.
fn application() -> (Running, String) {
    let webapp = binary().with_file_name("fraud-webapp");
    assert!(webapp.exists(), "{} is missing: build it with `cargo build -p sluice-fraud-webapp`", webapp.display());
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection/fraud-detection.yaml");
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(webapp);
    command.args(["--listen", &address, "--demo"]).arg(example).arg("--sluice").arg(binary());
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    wait_until("the application", DEADLINE, || std::net::TcpStream::connect(&address).is_ok());
    (running, format!("http://{address}"))
}

async fn browser(profile: &std::path::Path) -> (Running, Client) {
    let port = free_port();
    let mut driver = Command::new("chromedriver");
    driver.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let driver = Running(driver.spawn().expect("chromedriver, which tests/setup/setup.sh installs"));
    wait_until("chromedriver", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let data = format!("--user-data-dir={}", profile.display());
    let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", data]});
    let capabilities: Map<String, Value> = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
    let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
        .capabilities(capabilities)
        .connect(&format!("http://127.0.0.1:{port}"))
        .await
        .unwrap();
    (driver, client)
}

/// The page's elements.
struct Page(Client);

impl Page {
    async fn click(&self, css: &str) {
        self.0.wait().at_most(DEADLINE).for_element(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    async fn fill(&self, name: &str, text: &str) {
        let field = self.0.find(Locator::Css(&format!("[name={name}]"))).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn choose(&self, name: &str, word: &str) {
        self.0.find(Locator::Css(&format!("[name={name}]"))).await.unwrap().select_by_label(word).await.unwrap();
    }

    async fn count(&self, css: &str) -> usize {
        self.0.find_all(Locator::Css(css)).await.unwrap().len()
    }

    async fn text(&self, css: &str) -> String {
        self.0.wait().at_most(DEADLINE).for_element(Locator::Css(css)).await.unwrap().text().await.unwrap()
    }

    async fn until(&self, what: &str, mut reached: impl AsyncFnMut(&Self) -> bool) {
        let started = Instant::now();
        while !reached(self).await {
            assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn alerts(&self) -> usize {
        self.text("#alert-count").await.parse().unwrap()
    }
}

async fn flow(page: &Page, url: &str) {
    page.0.goto(url).await.unwrap();
    page.until("connected", async |p| p.text("#connection").await == "connected").await;

    // Start the flow.
    page.click("#start").await;
    page.until("payments", async |p| p.count("#payments li").await > 5).await;
    assert_eq!(page.alerts().await, 0);

    // Add a rule and see its alerts, with the rule and the payment.
    page.choose("aggregateFieldName", "COUNT_FLINK").await;
    page.fill("groupingKeyNames", "paymentType").await;
    page.choose("limitOperatorType", "GREATER_EQUAL").await;
    page.fill("limit", "3").await;
    page.click("#add-rule").await;
    assert!(page.text("#rules [data-rule='1']").await.contains("SUM of COUNT_FLINK by paymentType in 1440 min ≥ 3"));
    page.until("alerts", async |p| p.alerts().await > 3).await;
    let alert = page.text("#alerts li").await;
    assert!(alert.contains("Rule #1: ") && alert.contains("{paymentType=C") && alert.contains(" → "), "{alert}");
    assert!(alert.contains("SUM of COUNT_FLINK by paymentType"), "{alert}");
    // From the payment's making to here, over Kafka twice and the job once.
    let latency = page.text("#latency").await;
    let milliseconds: u64 = latency.strip_suffix(" ms").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{latency}"));
    assert!((1..10_000).contains(&milliseconds), "{latency}");
    let took = page.text("#alerts li .took").await;
    assert!(took.strip_suffix(" ms").is_some_and(|n| n.parse::<u64>().is_ok()), "{took}");

    // Pause it and see none.
    page.click("#rules [data-rule='1'] [data-state='PAUSE']").await;
    page.until("a paused rule", async |p| p.count("#rules li.PAUSE").await == 1).await;
    page.until("no more alerts", async |p| {
        let before = p.alerts().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        p.alerts().await == before
    })
    .await;
    let (alerts, payments) = (page.alerts().await, page.text("#payments li").await);
    page.until("more payments", async |p| p.text("#payments li").await != payments).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(page.alerts().await, alerts);

    // A rule that is wrong is said to be, and goes.
    page.fill("groupingKeyNames", "payer").await;
    page.click("#add-rule").await;
    page.until("a rejected rule", async |p| p.text("#rejected").await.contains("payer is not a column")).await;
    page.until("one rule", async |p| p.count("#rules li").await == 1).await;

    // The job still knows the paused rule.
    page.click("[data-command='EXPORT_RULES_CURRENT']").await;
    page.until("the rule", async |p| p.count("#rules li.PAUSE[data-rule='1']").await == 1).await;
    page.click("#stop").await;
    page.until("stopped", async |p| p.count("#stop:disabled").await == 1).await;
}

#[test]
fn a_rule_is_added_fires_and_is_paused() {
    let (_application, url) = application();
    let profile = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_driver, client) = browser(profile.path()).await;
        let page = Page(client);
        flow(&page, &url).await;
        page.0.close().await.unwrap();
    });
}
