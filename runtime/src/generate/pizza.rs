//! Pizza orders with toppings, some of which have no place on a pizza.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use sluice_batch::Millis;

use super::Generator;

#[derive(Default)]
pub struct Pizza {
    id: u32,
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
/// Within this time the taste for fruit grows, and at its end breaks off, so that there are trends to find.
const WAVE: Millis = 30_000;

fn topping(random: &mut StdRng, now: Millis) -> &'static str {
    let phase = now.rem_euclid(WAVE) as f64 / WAVE as f64;
    let daring = (phase * 1.2).min((1.0 - phase) * 6.0).clamp(0.0, 1.0);
    let menu = if random.random_bool(daring) { TOPPINGS } else { &TOPPINGS[..GOOD] };
    pick(random, menu)
}

impl Generator for Pizza {
    fn avro_schema(&self) -> Option<&'static str> {
        None
    }

    fn next(&mut self, random: &mut StdRng, now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let shop = pick(random, SHOPS);
        let pizzas: Vec<Value> = (0..random.random_range(1..=10))
            .map(|_| {
                let toppings: Vec<&str> = (0..random.random_range(0..=5)).map(|_| topping(random, now)).collect();
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
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn fruit_comes_and_goes() {
        let mut random = StdRng::seed_from_u64(1);
        let mut fruit = |now| (0..1000).filter(|_| TOPPINGS[GOOD..].contains(&topping(&mut random, now))).count();
        assert_eq!(fruit(0), 0);
        let (some, many) = (fruit(WAVE * 5 / 12), fruit(WAVE * 5 / 6));
        assert!((60..170).contains(&some) && (180..280).contains(&many), "{some}, {many}");
    }
}
