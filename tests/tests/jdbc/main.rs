//! The `jdbc` connector against a real PostgreSQL, and real Kafka where a job reads it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod demo;
mod errors;
mod exactly_once;
mod lookup;
mod reading;
mod writing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Arguments;
use serde_json::Value;
use sluice_tests::engine::Run;
use sluice_tests::postgres::{PASSWORD, Postgres};
use sluice_tests::services::Kafka;
use sluice_tests::trials::trials;

const DEADLINE: Duration = Duration::from_secs(60);

static POSTGRES: Mutex<Option<Arc<Postgres>>> = Mutex::new(None);
static KAFKA: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);

/// The server that the tests share; each has tables of its own. Started when it is first asked for.
fn postgres() -> Arc<Postgres> {
    POSTGRES.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::new(Postgres::started())).clone()
}

/// The broker that the tests share.
fn kafka() -> String {
    let mut kafka = KAFKA.lock().unwrap_or_else(PoisonError::into_inner);
    kafka.get_or_insert_with(|| Arc::new(Kafka::started())).bootstrap.clone()
}

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = sluice_tests::tests![
        reading::all_types,
        reading::views_partitions_and_cursors,
        reading::several_tasks,
        reading::filters,
        reading::joins_with_a_stream,
        reading::goes_on_where_it_was,
        writing::all_types,
        writing::upserts_and_deletes,
        writing::names_are_found,
        writing::keys_that_are_one,
        writing::buffers,
        writing::idle_connections_are_closed,
        writing::server_restarts,
        exactly_once::dies_at_every_step,
        exactly_once::killed_at_random,
        exactly_once::replaced_instances_write_nothing,
        exactly_once::server_restarts,
        exactly_once::inserts_without_a_key,
        lookup::keys_and_conditions,
        lookup::many_keys,
        lookup::cache_expires,
        lookup::server_restarts,
        lookup::secrets_are_filled_in,
        errors::say_what_is_wrong,
        errors::server_away,
        errors::tls,
        certificates::are_users,
        demo::messages_above_the_thresholds,
        demo::messages_are_sent,
    ];
    let conclusion = libtest_mimic::run(&args, trials(tests));
    // Ends the services: statics are never dropped.
    drop((POSTGRES.lock().unwrap_or_else(PoisonError::into_inner).take(), KAFKA.lock().unwrap_or_else(PoisonError::into_inner).take()));
    conclusion.exit();
}

/// Runs a script to its end.
fn run(sql: &str, args: &[&str]) -> String {
    let output = Run::script(sql, args).wait(DEADLINE);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{sql}\n{}: {err}", output.status);
    assert!(!err.contains(PASSWORD) && !out.contains(PASSWORD), "the password is shown: {err}");
    out
}

/// The rows of a bare SELECT, as JSON.
fn select(sql: &str, args: &[&str]) -> Vec<String> {
    let out = run(sql, &[&["--output", "changelog-json"], args].concat());
    let row = |line: &str| {
        let change: Value = serde_json::from_str(line).ok()?;
        Some(Value::Array(change.get("data")?.as_object()?.values().cloned().collect()).to_string())
    };
    out.lines().filter_map(row).collect()
}

/// The error of a script that must fail; it never shows the password.
fn failed(sql: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Run::script(sql, args).wait(DEADLINE);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{sql} went well");
    assert!(!err.contains(PASSWORD), "the password is shown: {err}");
    (output.status.code(), err)
}
