//! Pizza orders with toppings, some of which have no place on a pizza.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use sluice_batch::Millis;

use super::Generator;

pub struct Pizza {
    id: u32,
    /// Orders a second; 0 counts as 100.
    rate: u64,
}

impl Pizza {
    pub fn new(rate: u64) -> Self {
        Self { id: 0, rate: if rate == 0 { 100 } else { rate } }
    }

    /// When in the wave this order comes, by the rate: the clock would make other data of the same seed. The first one comes when there is
    /// some fruit already.
    fn when(&self) -> Millis {
        WAVE / 3 + i64::try_from(u64::from(self.id) * 1000 / self.rate).unwrap_or(0)
    }
}

const SHOPS: &[&str] = &[
    "Marios Pizza",
    "Luigis Pizza",
    "Circular Pi Pizzeria",
    "Ill Make You a Pizza You Cant Refuse",
    "Mammamia Pizza",
    "Its-a me! Mario Pizza!",
];
const PIZZAS: &[&str] = &["Salami", "Peperoni", "Margherita", "Diavola", "Marinara", "Mari & Monti"];
const TOPPINGS: &[&str] = &[
    "🍅 tomato",
    "🧀 blue cheese",
    "🥓 bacon",
    "🧅 onion",
    "🌶️ hot pepper",
    "🐟 tuna",
    "🍳 egg",
    "🧄 garlic",
    "🫒 olives",
    "🌿 green peppers",
    "🍍 pineapple",
    "🍓 strawberry",
    "🍌 banana",
];
const FIRST_NAMES: &[&str] = &["Edward", "Latoya", "Evelyn", "Ian", "Anthony", "Phillip", "Leonard", "Amy", "Beverly"];
const LAST_NAMES: &[&str] = &["Olson", "Reynolds", "Mendez", "Aguilar", "Underwood", "Turner", "Park", "Odonnell", "Houston"];

fn pick(random: &mut StdRng, from: &[&'static str]) -> &'static str {
    from.choose(random).copied().unwrap_or_default()
}

/// How many of the toppings are good ones.
const GOOD: usize = 10;
/// Within this time the taste for fruit grows for two thirds and fades for the last third, so that there are trends to find: whichever way
/// windows of five seconds lie over it, each topping falls in two of them one after the other.
const WAVE: Millis = 30_000;

fn topping(random: &mut StdRng, when: Millis) -> &'static str {
    let phase = when.rem_euclid(WAVE) as f64 / WAVE as f64;
    let daring = (phase * 1.5).min((1.0 - phase) * 3.0).clamp(0.0, 1.0);
    let menu = if random.random_bool(daring) { TOPPINGS } else { &TOPPINGS[..GOOD] };
    pick(random, menu)
}

impl Generator for Pizza {
    fn avro_schema(&self) -> Option<&'static str> {
        None
    }

    fn next(&mut self, random: &mut StdRng, now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let (shop, when) = (pick(random, SHOPS), self.when());
        let pizzas: Vec<Value> = (0..random.random_range(1..=10))
            .map(|_| {
                let toppings: Vec<&str> = (0..random.random_range(0..=5)).map(|_| topping(random, when)).collect();
                json!({"pizzaName": pick(random, PIZZAS), "additionalToppings": toppings})
            })
            .collect();
        let order = json!({
            "id": self.id,
            "shop": shop,
            "name": format!("{} {}", pick(random, FIRST_NAMES), pick(random, LAST_NAMES)),
            "phoneNumber": format!("({:03}){:03}-{:04}", random.random_range(200..999), random.random_range(200..999), random.random_range(0..10_000)),
            "address": format!("Unit {} Box {}\nDPO AP {}", random.random_range(1..9999), random.random_range(1..9999), random.random_range(10_000..99_999)),
            "pizzas": pizzas,
            "timestamp": now,
        });
        self.id = self.id.wrapping_add(1);
        out.extend_from_slice(order.to_string().as_bytes());
        Some(json!({"shop": shop}).to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_clock_changes_nothing_but_the_timestamp() {
        let orders = |now: Millis| {
            let (mut random, mut pizza, mut out) = (StdRng::seed_from_u64(1), Pizza::new(10), vec![]);
            (0..300).for_each(|i| drop(pizza.next(&mut random, now + i * 77, &mut out)));
            let text = String::from_utf8(out).unwrap();
            let orders = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
            orders.map(|o| o.unwrap()).map(|mut o| o.as_object_mut().unwrap().remove("timestamp").map(|_| o)).collect::<Vec<_>>()
        };
        assert_eq!(orders(0), orders(1_700_000_012_345));
    }

    #[test]
    fn fruit_comes_and_goes() {
        let mut random = StdRng::seed_from_u64(1);
        let mut fruit = |now| (0..1000).filter(|_| TOPPINGS[GOOD..].contains(&topping(&mut random, now))).count();
        assert_eq!(fruit(0), 0);
        let (some, many) = (fruit(WAVE * 5 / 12), fruit(WAVE * 2 / 3));
        assert!((100..190).contains(&some) && (180..280).contains(&many), "{some}, {many}");
    }

    /// Orders of each of the fruits by window of five seconds, the first of which is `offset` old when the first order comes.
    fn windows(rate: u64, offset: Millis, seconds: u64) -> Vec<Vec<usize>> {
        let (mut random, mut pizza) = (StdRng::seed_from_u64(1), Pizza::new(rate));
        let mut counts = vec![vec![0; usize::try_from(seconds / 5).unwrap() + 1]; TOPPINGS.len() - GOOD];
        for i in 0..rate * seconds {
            let mut out = vec![];
            pizza.next(&mut random, 0, &mut out);
            let order: Value = serde_json::from_slice(&out).unwrap();
            let window = (u64::try_from(offset).unwrap() + i * 1000 / rate) / 5000;
            for pizza in order["pizzas"].as_array().unwrap() {
                for topping in pizza["additionalToppings"].as_array().unwrap() {
                    if let Some(fruit) = TOPPINGS[GOOD..].iter().position(|t| topping == t) {
                        counts[fruit][usize::try_from(window).unwrap()] += 1;
                    }
                }
            }
        }
        counts
    }

    /// START NR_UP+ NR_DOWN{2}, as in the tutorial: the windows up to the end of the first match.
    fn trend(counts: &[usize]) -> Option<usize> {
        (0..counts.len()).find_map(|start| {
            let ups = counts[start..].windows(2).take_while(|w| w[1] > w[0]).count();
            let falls = |at: usize| at + 2 < counts.len() && counts[at + 1] < counts[at] && counts[at + 2] < counts[at + 1];
            (1..=ups).rev().find(|up| falls(start + up)).map(|up| start + up + 3)
        })
    }

    #[test]
    fn trends_are_found_soon_whichever_way_windows_lie() {
        for (rate, fruits) in [(10, 1), (100, 3)] {
            for offset in (0..5000).step_by(500) {
                let found = windows(rate, offset, 60).iter().filter_map(|counts| trend(counts)).count();
                assert!(found >= fruits, "{rate} orders a second, windows {offset} ms old: a trend in {found} toppings within a minute");
            }
        }
    }
}
