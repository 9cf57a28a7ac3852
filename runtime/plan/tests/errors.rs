//! Bad input of all kinds: what is said, and where. `UPDATE_SNAPSHOTS=1 cargo test -p sluice-plan --test errors` writes the messages anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

/// The messages of the statements of a file, which are apart by empty lines; every one must fail and know its place.
fn messages(file: &str) -> Vec<(String, String)> {
    let tables = common::catalog(include_str!("errors/tables.sql"));
    let text = std::fs::read_to_string(common::folder("errors").join(file)).unwrap();
    let cases = text.split("\n\n").map(str::trim).filter(|c| !c.is_empty());
    let mut found = vec![];
    let mut wrong = vec![];
    for sql in cases {
        match common::plan_with(&mut tables.clone(), sql) {
            Ok(_) => wrong.push(format!("accepted: {sql}")),
            Err(e) if !e.span().is_known() || e.kind() != sluice_batch::ErrorKind::Plan => {
                wrong.push(format!("no place, or not a plan error: {e}\n  {sql}"))
            }
            Err(e) => found.push((sql.to_string(), e.to_string())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    found
}

fn compare(file: &str) -> Vec<(String, String)> {
    let messages = messages(&format!("{file}.sql"));
    let text: String = messages.iter().map(|(sql, e)| format!("{sql}\n  {e}\n\n")).collect();
    let differs = common::snapshot(&common::folder("errors").join(format!("{file}.out")), &text);
    assert!(differs.is_none(), "{}", differs.unwrap_or_default());
    messages
}

#[test]
fn misspelt_names_are_recognised() {
    let mut all = compare("misspelt");
    all.retain(|(_, message)| !message.contains("did you mean"));
    assert!(all.is_empty(), "without a did-you-mean: {all:#?}");
}

#[test]
fn wrong_statements() {
    compare("wrong");
}
