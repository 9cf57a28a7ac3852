//! Records per second that the JSON decoder reads on one core: `cargo run --release -p sluice-format --example decode_bench`.
//! The records are those of the library study: about 200 bytes with `ARRAY<ROW<STRING, ARRAY<STRING>>>`.

use sluice_batch::{Field, Result, TypeKind};
use sluice_format::{FormatContext, FormatOptions, Records, Schema, decoder, encoder};

/// Seconds of CPU that this thread has used, so that other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|t| t.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn main() -> Result<()> {
    let string = || TypeKind::STRING.nullable();
    let array = |of: TypeKind| TypeKind::Array(Box::new(of.nullable()));
    let item = TypeKind::Row(vec![Field::new("pizza", string()), Field::new("toppings", array(TypeKind::STRING).nullable())]);
    let fields = vec![
        Field::new("order_id", TypeKind::BigInt.nullable()),
        Field::new("shop", string()),
        Field::new("price", TypeKind::Double.nullable()),
        Field::new("total", TypeKind::Decimal(10, 2).nullable()),
        Field::new("ts", TypeKind::Timestamp(3).nullable()),
        Field::new("pizzas", array(item).nullable()),
    ];
    let record = |i: usize| {
        format!(
            r#"{{"order_id":{i},"shop":"Luigis Pizza {}","price":{}.5,"total":{}.25,"ts":"2024-01-01 10:{:02}:{:02}.123","pizzas":[{{"pizza":"Salami","toppings":["olives","onion 🧅"]}},{{"pizza":"Diavola","toppings":["pepper"]}}]}}"#,
            i % 10,
            i % 97,
            i % 31,
            i / 60 % 60,
            i % 60
        )
    };
    let records: Vec<String> = (0..300_000).map(record).collect();
    let bytes: usize = records.iter().map(String::len).sum();
    println!("{} records of {} bytes", records.len(), bytes / records.len());
    let cx = FormatContext { time_zone: chrono_tz::UTC };
    for (name, projection) in [("all columns", vec![0, 1, 2, 3, 4, 5]), ("two of six", vec![0, 2]), ("only the nested", vec![5])] {
        let schema = Schema { projection, ..Schema::new(fields.clone()) };
        let mut decoder = decoder(FormatOptions::new("json", "json.", vec![]), schema, cx)?;
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = cpu_seconds();
            for chunk in records.chunks(4096) {
                for r in chunk {
                    decoder.decode(Some(r.as_bytes()))?;
                }
                decoder.finish()?;
            }
            best = best.min(cpu_seconds() - start);
        }
        println!("json decode, {name}: {:.2} M/s, {:.0} MB/s", records.len() as f64 / best / 1e6, bytes as f64 / best / 1e6);
    }
    let mut decoder = decoder(FormatOptions::new("json", "json.", vec![]), Schema::new(fields.clone()), cx)?;
    for r in &records[..4096] {
        decoder.decode(Some(r.as_bytes()))?;
    }
    let batch = sluice_batch::Batch::new(decoder.finish()?.0, 4096);
    let mut encoder = encoder(FormatOptions::new("json", "json.", vec![]), Schema::new(fields), cx)?;
    let mut out = Records::default();
    let start = cpu_seconds();
    for _ in 0..50 {
        out.clear();
        encoder.encode(&batch, &mut out)?;
    }
    println!("json encode, all columns: {:.2} M/s", 50.0 * 4096.0 / (cpu_seconds() - start) / 1e6);
    Ok(())
}
