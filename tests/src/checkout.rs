//! Two checkouts share cargo's target folder.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Files of a checkout are new when the other one has built last, and stay as they are when it was this one.
#[test]
fn what_another_checkout_has_built_is_not_taken_for_this_ones() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/checkout.sh");
    let old = SystemTime::now() - Duration::from_secs(3600);
    for name in ["a", "b"] {
        let setup = dir.path().join(name).join("tests/setup");
        std::fs::create_dir_all(&setup).unwrap();
        std::fs::copy(&script, setup.join("checkout.sh")).unwrap();
    }
    let becomes_new = |name: &str| {
        let here = dir.path().join(name);
        let source = std::fs::File::create(here.join("main.rs")).unwrap();
        source.set_modified(old).unwrap();
        let output = Command::new(here.join("tests/setup/checkout.sh")).arg(dir.path().join("cargo")).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        source.metadata().unwrap().modified().unwrap() > old + Duration::from_secs(60)
    };
    let seen: Vec<bool> = ["a", "a", "b", "b", "a"].into_iter().map(becomes_new).collect();
    assert_eq!(seen, [true, false, true, false, true]);
}
