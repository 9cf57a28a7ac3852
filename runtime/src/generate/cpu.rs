//! CPU load of IoT devices, in percent.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use sluice_batch::Millis;

use super::Generator;

pub struct Cpu;

const HOSTS: &[&str] = &["doc", "grumpy", "sleepy", "bashful", "happy", "sneezy", "dopey"];
const CPUS: &[&str] = &["cpu1", "cpu2", "cpu3", "cpu4", "cpu5"];

impl Generator for Cpu {
    fn avro_schema(&self) -> Option<&'static str> {
        None
    }

    fn next(&mut self, random: &mut StdRng, now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let host = HOSTS.choose(random).copied().unwrap_or_default();
        let cpu = CPUS.choose(random).copied().unwrap_or_default();
        let usage: f64 = random.random_range(70.0..100.0);
        let value = serde_json::json!({"hostname": host, "cpu": cpu, "usage": usage, "occurred_at": now});
        out.extend_from_slice(value.to_string().as_bytes());
        Some(host.to_owned())
    }
}
