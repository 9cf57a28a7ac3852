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

/// Every statement of the seeds that reads or writes Kafka; the one that needs PostgreSQL and Slack says that it cannot be planned.
#[test]
fn seeds() {
    check("seeds");
    let refused: Vec<_> =
        common::files("seeds", "sql").into_iter().filter(|f| common::plan_script(&std::fs::read_to_string(f).unwrap()).is_err()).collect();
    let names: Vec<_> = refused.iter().map(|f| f.file_stem().unwrap().to_string_lossy().to_string()).collect();
    assert_eq!(names, ["iot_03_thresholds"]);
}

#[test]
fn plans() {
    check("plans");
}
