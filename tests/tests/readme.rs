//! The README says what is true: its support table, and its command lines.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use sluice_tests::engine::{Run, file};

const README: &str = include_str!("../../README.md");
const DEADLINE: Duration = Duration::from_secs(20);

/// The cells of the table whose header begins so.
fn table(header: &str) -> Vec<Vec<String>> {
    let rows = README.lines().skip_while(|l| !l.starts_with(&format!("| {header}"))).skip(2);
    let rows = rows.take_while(|l| l.starts_with('|'));
    // A cell may hold a `|` between backquotes.
    rows.map(|row| {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        for c in row.trim_matches('|').chars() {
            quoted ^= c == '`';
            match c {
                '|' if !quoted => cells.push(String::new()),
                c => cells.last_mut().unwrap().push(c),
            }
        }
        cells.iter().map(|c| c.trim().to_owned()).collect()
    })
    .collect()
}

#[test]
fn what_is_supported_has_its_golden() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let rows = table("supported");
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let names: Vec<&str> = row[1].split('`').filter(|n| !n.trim().is_empty()).collect();
        assert!(!names.is_empty(), "{row:?}");
        for name in names {
            let other = name.ends_with("TestPrograms") || golden.join("../..").join(name).is_file();
            assert!(other || golden.join(name).join("query.sql").exists(), "{name} is no golden case");
        }
    }
}

/// What is between backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Each tutorial has its folder; all jobs of the folder are named, and have a plan; commands and tests are there.
#[test]
fn tutorials_have_their_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let cluster = std::fs::read_to_string(root.join("tests/tests/cluster/examples.rs")).unwrap();
    let rows = table("tutorial ");
    assert_eq!(rows.len(), 4, "{rows:?}");
    for row in rows {
        let folder = root.join("examples").join(quoted(&row[1])[0]);
        let named = quoted(&row[2]);
        for name in &named {
            assert!(folder.join(name).exists(), "{name} is not in {}", folder.display());
        }
        let files = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
        for file in files.filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
            assert!(named.contains(&file.file_name().unwrap().to_str().unwrap()), "{} is not named", file.display());
            let output = Run::start(&["plan", file.to_str().unwrap()]).wait(DEADLINE);
            assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
            let text = std::fs::read_to_string(&file).unwrap();
            let job = text.split("  name: ").nth(1).unwrap().lines().next().unwrap();
            assert!(cluster.contains(&format!("(\"{job}\", ")), "{job} is not run on the test cluster");
        }
        match quoted(&row[3])[0].split_once(' ').unwrap() {
            ("make", target) => assert!(makefile.contains(&format!("\n{target}: ")), "make {target}"),
            ("sluice", arguments) => {
                let arguments: Vec<&str> = arguments.split_whitespace().chain(["--help"]).collect();
                assert!(Run::start(&arguments).wait(DEADLINE).status.success(), "{arguments:?}");
                assert!(root.join(arguments[1]).exists(), "{arguments:?}");
            }
            other => panic!("{other:?}"),
        }
        for test in quoted(&row[4]) {
            assert!(root.join(test).exists(), "{test}");
        }
    }
}

#[test]
fn what_is_not_supported_says_so() {
    let rows = table("not supported yet");
    assert!(rows.len() > 3, "{rows:?}");
    for row in rows {
        let sql = row[1].trim_matches('`');
        let script = file(sql, ".sql");
        let output = Run::start(&["plan", script.path().to_str().unwrap()]).wait(DEADLINE);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{sql}: {message}");
        assert!(message.contains("not supported") && message.contains("line 1, column "), "{sql}: {message}");
    }
}

#[test]
fn command_lines_are_understood() {
    let lines: Vec<&str> = README.lines().map(str::trim).filter(|l| l.starts_with("sluice ")).collect();
    assert!(lines.len() > 3, "{lines:?}");
    for line in lines {
        let command = line.split(" #").next().unwrap();
        // The last argument asks for help, which is only given if those before it are known.
        let args: Vec<&str> = command.split_whitespace().skip(1).chain(["--help"]).collect();
        let output = Run::start(&args).wait(DEADLINE);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
