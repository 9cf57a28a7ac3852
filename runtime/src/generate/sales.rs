//! Sales records: users buy one to three of a thing, and now and then ten, twenty or thirty.

use rand::Rng;
use rand::rngs::StdRng;
use sluice_batch::Millis;

use super::{Generator, avro_string};

pub struct Sales;

const USERS: u32 = 100;
/// One sale in so many is unusual.
const UNUSUAL: u32 = 100;

impl Generator for Sales {
    fn avro_schema(&self) -> Option<&'static str> {
        Some(
            r#"{"namespace":"com.github.streamshub.kafka.data.generator.schema","type":"record","name":"Sales","fields":[{"name":"user_id","type":"string"},{"name":"product_id","type":"string"},{"name":"invoice_id","type":"string"},{"name":"quantity","type":"string"},{"name":"unit_cost","type":"string"}]}"#,
        )
    }

    fn next(&mut self, random: &mut StdRng, _now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let quantity = if random.random_ratio(1, UNUSUAL) { random.random_range(1..=3) * 10 } else { random.random_range(1..=3) };
        avro_string(&format!("user-{}", random.random_range(0..USERS)), out);
        avro_string(&random.random_range(0..i64::MAX).to_string(), out);
        avro_string(&random.random_range(0..i64::MAX).to_string(), out);
        avro_string(&quantity.to_string(), out);
        avro_string(&format!("£{}", random.random_range(1..1000)), out);
        None
    }
}
