//! The operator on a real Kubernetes: what users do with kubectl, and what happens to them. Jobs read and write a real Kafka on this machine,
//! and what they have written is counted row by row.
//!
//! Each test has a namespace of its own; they run beside each other, and behind them, one at a time, those that disturb the operator itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod changes;
mod deletion;
mod examples;
mod faults;
mod job;
mod life;
mod operator;
mod plugin;
mod refusals;
mod savepoints;
mod scale;
mod sessions;
mod storage;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Completion, Trial};
use sluice_tests::cluster::{Cluster, impossible, take_down};
use sluice_tests::services::Kafka;

/// What all tests share.
pub struct Lab {
    pub cluster: Cluster,
    /// `host:port`, for pods and for this process.
    pub kafka: String,
    _broker: Kafka,
}

/// Tests at a time: they wait more than they compute.
const AT_A_TIME: usize = 5;

type Test = (&'static str, fn(&Lab));

struct NotHere(&'static str);

/// Ends a test that a cluster of this kind cannot have: it counts as ignored, for this reason.
fn not_here(why: &'static str) -> ! {
    resume_unwind(Box::new(NotHere(why)))
}

fn main() {
    let args = Arguments::from_args();
    let together = [
        examples::TESTS,
        life::TESTS,
        changes::TESTS,
        refusals::TESTS,
        savepoints::TESTS,
        sessions::TESTS,
        storage::TESTS,
        faults::TESTS,
        deletion::TESTS,
        plugin::TESTS,
    ]
    .concat();
    let alone = [operator::TESTS, scale::TESTS].concat();
    let why_not = impossible();
    if let Some(why) = why_not {
        eprintln!("ignored: {why}");
    }
    let wanted = |tests: &[Test]| tests.iter().any(|(name, _)| selected(&args, name));
    let needed = !args.list && why_not.is_none() && (wanted(&together) || wanted(&alone));
    let lab = needed.then(|| {
        // A cluster without its operator is of no use to the next run.
        catch_unwind(set_up).unwrap_or_else(|panic| {
            take_down();
            resume_unwind(panic)
        })
    });
    let trials = |tests: Vec<Test>| -> Vec<Trial> {
        let trial = |(name, test): Test| {
            let lab = lab.clone();
            let run = move || {
                let started = Instant::now();
                let lab = lab.expect("there is one if a test runs");
                let ended = catch_unwind(AssertUnwindSafe(|| test(&lab)));
                eprintln!("  {name}: {:.0?}", started.elapsed());
                let why =
                    ended.map_or_else(|panic| Some(panic.downcast::<NotHere>().unwrap_or_else(|panic| resume_unwind(panic)).0), |()| None);
                Ok(why.map_or(Completion::Completed, Completion::ignored_with))
            };
            Trial::ignorable_test(name, run).with_ignored_flag(why_not.is_some())
        };
        tests.into_iter().map(trial).collect()
    };
    let threads = |n: usize| Arguments { test_threads: Some(args.test_threads.unwrap_or(n).min(n)), ..args.clone() };
    if args.list {
        libtest_mimic::run(&args, trials([together, alone].concat())).exit();
    }
    let first = libtest_mimic::run(&threads(AT_A_TIME), trials(together));
    let second = libtest_mimic::run(&threads(1), trials(alone));
    // exit() drops nothing, and what has been started is to end.
    if let Some(lab) = lab.and_then(Arc::into_inner) {
        lab.cluster.down();
    }
    if first.has_failed() {
        first.exit();
    }
    second.exit();
}

fn set_up() -> Arc<Lab> {
    let cluster = Cluster::up();
    let broker = Kafka::started_on(&cluster.host);
    cluster.install();
    Arc::new(Lab { kafka: broker.bootstrap.clone(), _broker: broker, cluster })
}

fn selected(args: &Arguments, name: &str) -> bool {
    let fits = |filter: &String| if args.exact { name == filter } else { name.contains(filter.as_str()) };
    args.filter.as_ref().is_none_or(fits) && !args.skip.iter().any(|s| name.contains(s.as_str()))
}
