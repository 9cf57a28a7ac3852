//! Makes payments, as the demo's `DemoTransactionsGenerator` does: of 5 to 20, and now and then one of many millions.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::app::App;
use crate::kafka::{TRANSACTIONS, now};

/// Payments that a page is shown a second.
const SHOWN: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);

/// Makes payments in a thread of its own while the application runs.
pub fn start(app: Arc<App>) {
    std::thread::spawn(move || {
        let mut maker = Maker::new(now());
        let (mut next, mut shown) = (Instant::now(), Instant::now());
        loop {
            if !app.running.load(Relaxed) {
                std::thread::sleep(PAUSE);
                next = Instant::now();
                continue;
            }
            if Instant::now() < next {
                std::thread::sleep(PAUSE.min(next - Instant::now()));
                continue;
            }
            next += Duration::from_secs(1) / app.rate.load(Relaxed).max(1);
            // After a stand-still it does not make up for what was missed.
            next = next.max(Instant::now().checked_sub(Duration::from_millis(200)).unwrap_or(next));
            let payment = maker.payment(&mut rand::rng(), now());
            if let Err(message) = app.send(TRANSACTIONS, &payment) {
                eprintln!("{message}");
            }
            if shown.elapsed() >= SHOWN {
                shown = Instant::now();
                app.tell(format!(r#"{{"type":"payment","payment":{payment}}}"#));
            }
        }
    });
}

struct Maker {
    to_one: i64,
    between_two: i64,
}

impl Maker {
    fn new(now: i64) -> Self {
        Self { to_one: now + 5000, between_two: now + 9000 }
    }

    fn payment(&mut self, random: &mut impl Rng, now: i64) -> String {
        let mut cents: i64 = random.random_range(500..2000);
        if now > self.to_one {
            self.to_one = now + 8000 + random.random_range(0..5000);
            cents = 1_000_000_000 + random.random_range(0..100_000_000);
        }
        if now > self.between_two {
            self.between_two = now + 12_000 + random.random_range(0..10_000);
            cents = 2_000_000_000 + random.random_range(0..100_000_000);
        }
        format!(
            r#"{{"transactionId":{},"eventTime":{now},"payerId":{},"beneficiaryId":{},"paymentAmount":{}.{:02},"paymentType":"{}"}}"#,
            // A page's numbers have 53 bits.
            random.random_range(0..1_000_000_000_000i64),
            random.random_range(0..100_000),
            random.random_range(0..100_000),
            cents / 100,
            cents % 100,
            if random.random() { "CRD" } else { "CSH" }
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn large_payments_come_now_and_then() {
        let mut maker = Maker::new(0);
        let amounts = (0..600).map(|i| {
            let text = maker.payment(&mut rand::rng(), i * 100);
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["paymentAmount"].as_f64().unwrap()
        });
        let amounts: Vec<f64> = amounts.collect();
        assert!(amounts.iter().all(|a| (5.0..20.0).contains(a) || (10_000_000.0..=21_000_000.0).contains(a)));
        let large = amounts.iter().filter(|a| **a > 100.0).count();
        assert!((5..=13).contains(&large), "{large}");
    }
}
