//! The seeds' data generators: endless, made from a random seed, one file a data set.

mod clicks;
mod cpu;
mod fraud;
mod pizza;
mod producer;
mod sales;

use std::time::Duration;

use rand::rngs::StdRng;
use sluice_batch::Millis;

pub use producer::{Target, produce};

/// What `sluice generate` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataset {
    /// Sales of the anomaly-detection tutorial: Avro, topic flink.sales.records.
    Sales,
    /// Pizza orders: JSON, topic pizzas.
    Pizza,
    /// CPU load of IoT devices: JSON, topic cpu_load_stats_real.
    Cpu,
    /// Click streams: Avro, topic flink.click.streams.
    Clicks,
    /// Payments of the fraud detection demo: JSON, topic livetransactions.
    Transactions,
    /// Its rules, one that is wrong, and commands: JSON, topic rules.
    Rules,
}

impl Dataset {
    /// By its name on the command line and in the annotation of a StreamingDeployment.
    pub fn parse(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::from_str(name, true).ok()
    }

    /// The topic the seeds use.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Sales => "flink.sales.records",
            Self::Pizza => "pizzas",
            Self::Cpu => "cpu_load_stats_real",
            Self::Clicks => "flink.click.streams",
            Self::Transactions => "livetransactions",
            Self::Rules => "rules",
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        <Self as clap::ValueEnum>::value_variants().iter().copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sales => "sales",
            Self::Pizza => "pizza",
            Self::Cpu => "cpu",
            Self::Clicks => "clicks",
            Self::Transactions => "transactions",
            Self::Rules => "rules",
        }
    }

    /// How `sluice run --local` plays it: some of the past at once, so that there is something to see from the start
    /// (windows of 5 s and 30 s that have ended, users with several sales), then as time goes.
    pub fn pace(self) -> Pace {
        let (rate, history) = match self {
            Self::Sales | Self::Clicks => (100, 10),
            Self::Pizza => (10, 180),
            Self::Cpu => (20, 90),
            Self::Transactions => (50, 30),
            Self::Rules => (1, 30),
        };
        Pace { rate, history: Duration::from_secs(history) }
    }

    /// A generator of the data set for so many records a second (0: as fast as possible).
    pub fn generator(self, rate: u64) -> Box<dyn Generator> {
        match self {
            Self::Sales => Box::new(sales::Sales),
            Self::Pizza => Box::new(pizza::Pizza::new(rate)),
            Self::Cpu => Box::new(cpu::Cpu),
            Self::Clicks => Box::new(clicks::Clicks),
            Self::Transactions => Box::new(fraud::Transactions::default()),
            Self::Rules => Box::new(fraud::Rules::default()),
        }
    }
}

/// A data set's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Records a second.
    pub rate: u64,
    /// How far back it begins.
    pub history: Duration,
}

/// Makes records of one data set.
pub trait Generator: Send {
    /// The Avro schema of the values (JSON text), if they are Avro; it is registered and its id written before each value.
    fn avro_schema(&self) -> Option<&'static str>;

    /// Writes the next value behind what is in `out`; answers the key, if records have one. No value: no record, this time.
    fn next(&mut self, random: &mut StdRng, now: Millis, out: &mut Vec<u8>) -> Option<String>;
}

/// Avro's variable-length, zig-zag long.
fn avro_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Avro's string: its length, then its bytes.
fn avro_string(text: &str, out: &mut Vec<u8>) {
    avro_long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn avro_longs_are_zigzag_varints() {
        for (value, bytes) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![127]), (64, vec![128, 1]), (150, vec![172, 2])] {
            let mut out = vec![];
            avro_long(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn json_data_sets_are_json_with_the_seeds_fields() {
        for (dataset, fields) in [
            (Dataset::Pizza, vec!["id", "shop", "name", "phoneNumber", "address", "pizzas"]),
            (Dataset::Cpu, vec!["hostname", "cpu", "usage", "occurred_at"]),
            (Dataset::Transactions, vec!["transactionId", "eventTime", "payerId", "beneficiaryId", "paymentAmount", "paymentType"]),
            (Dataset::Rules, vec!["ruleState"]),
        ] {
            let (mut random, mut generator) = (StdRng::seed_from_u64(1), dataset.generator(0));
            for _ in 0..100 {
                let mut out = vec![];
                generator.next(&mut random, 1_700_000_000_000, &mut out);
                if out.is_empty() {
                    continue;
                }
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                for field in &fields {
                    assert!(value.get(field).is_some(), "{dataset:?} has no {field}");
                }
            }
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for dataset in Dataset::all() {
            assert_eq!(Dataset::parse(dataset.name()), Some(dataset));
        }
        assert_eq!(Dataset::parse("sale"), None);
    }

    #[test]
    fn some_sales_are_unusual() {
        let (mut random, mut generator) = (StdRng::seed_from_u64(1), Dataset::Sales.generator(0));
        let mut unusual = 0;
        for _ in 0..10_000 {
            let mut out = vec![];
            generator.next(&mut random, 0, &mut out);
            unusual += usize::from(out.windows(3).any(|w| w == b"\x0430" || w == b"\x0420" || w == b"\x0410"));
        }
        assert!((50..2_000).contains(&unusual), "{unusual} of 10000");
    }
}
