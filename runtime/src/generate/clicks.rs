//! Click streams: which user looked at which product.

use rand::Rng;
use rand::rngs::StdRng;
use sluice_batch::Millis;

use super::{Generator, avro_string};

pub struct Clicks;

impl Generator for Clicks {
    fn avro_schema(&self) -> Option<&'static str> {
        Some(
            r#"{"namespace":"com.github.streamshub.kafka.data.generator.schema","type":"record","name":"ClickStream","fields":[{"name":"user_id","type":"string"},{"name":"product_id","type":"string"}]}"#,
        )
    }

    fn next(&mut self, random: &mut StdRng, _now: Millis, out: &mut Vec<u8>) -> Option<String> {
        avro_string(&format!("user-{}", random.random_range(0..100)), out);
        avro_string(&random.random_range(0..200).to_string(), out);
        None
    }
}
