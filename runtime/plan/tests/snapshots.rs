//! The plans of the seeds' statements and of other scripts, as `sluice plan` prints them.
//! `UPDATE_SNAPSHOTS=1 cargo test -p sluice-plan --test snapshots` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

fn check(folder: &str) {
    let mut wrong = vec![];
    for file in common::files(folder, "sql") {
        let text = match common::explain_script(&std::fs::read_to_string(&file).unwrap()) {
            Ok(text) => text,
            Err(e) => format!("{e}\n"),
        };
        wrong.extend(common::snapshot(&file.with_extension("plan"), &text));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every statement of the seeds has a plan.
#[test]
fn seeds() {
    check("seeds");
    let refused = |f: &std::path::PathBuf| common::plan_script(&std::fs::read_to_string(f).unwrap()).is_err();
    let refused: Vec<_> = common::files("seeds", "sql").into_iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn plans() {
    check("plans");
}
