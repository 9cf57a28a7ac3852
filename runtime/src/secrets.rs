//! `{{secret:name/key}}` in the options of tables: the file `name/key` below a folder, where Kubernetes mounts the Secret's key.
//!
//! They are filled in when the job starts, behind planning: plans, errors of planning, savepoints and operator identities hold the reference
//! only, and a new password is no new job.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use sluice_batch::{Error, Result};
use sluice_operators::spec::OperatorSpec;
use sluice_plan::{Graph, NodeKind};

const OPEN: &str = "{{secret:";

/// Where the references are looked up if `--secrets` does not say it.
pub const FOLDER: &str = "/etc/sluice/secrets";

/// The secrets that a job has been given, so that no message shows one.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Value and reference, the longest value first.
    given: Vec<(String, String)>,
}

impl Secrets {
    /// Replaces the references in the options of the tables that a job reads and writes.
    ///
    /// # Errors
    /// A plan error at the option if a reference is malformed or its file cannot be read.
    pub fn fill(&mut self, graph: &mut Graph, folder: &Path) -> Result<()> {
        for node in &mut graph.nodes {
            let table = match &mut node.kind {
                NodeKind::Source { table, .. } | NodeKind::Sink { table } => table,
                NodeKind::Operator(OperatorSpec::LookupJoin(join)) => &mut join.table,
                _ => continue,
            };
            for option in &mut table.options {
                let quoted = option.key.ends_with("sasl.jaas.config");
                let filled = self.filled(&option.value, folder, if quoted { within_quotes } else { as_it_is });
                option.value = filled.map_err(|e| e.context(format!("'{}'", option.key)).at(option.value_span))?;
            }
        }
        self.given.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Ok(())
    }

    /// `write`: how a value stands in a text around it.
    fn filled(&mut self, text: &str, folder: &Path, write: fn(&str) -> Cow<'_, str>) -> Result<String> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (path, after) = reference(after)?;
            let file = folder.join(&path);
            let value = std::fs::read_to_string(&file).map_err(|e| {
                Error::plan(format!("the secret {} cannot be read: {}: {e}", path.display(), file.display()))
                    .hint("the file is a Secret's key, mounted by the operator; --secrets names another folder")
            })?;
            // Files often end with a line break, which is none of the secret's: `kubectl create secret --from-file` takes them as they are.
            let value = value.strip_suffix('\n').map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v));
            out.push_str(before);
            // The whole of an option may be a secret.
            let is_all = before.is_empty() && after.trim().is_empty() && out.is_empty();
            out.push_str(&if is_all { as_it_is(value) } else { write(value) });
            if !value.trim().is_empty() {
                self.given.push((value.trim().to_owned(), format!("{OPEN}{}}}}}", path.display())));
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A text without the values.
    pub fn masked(&self, text: &str) -> String {
        self.given.iter().fold(text.to_owned(), |text, (value, reference)| text.replace(value.as_str(), reference))
    }

    /// An error without the values.
    pub fn masked_error(&self, error: Error) -> Error {
        if self.given.is_empty() { error } else { error.map_text(|text| self.masked(text)) }
    }
}

fn as_it_is(value: &str) -> Cow<'_, str> {
    value.into()
}

/// As a JAAS line has what stands between quotes.
fn within_quotes(value: &str) -> Cow<'_, str> {
    value.replace('\\', "\\\\").replace('"', "\\\"").into()
}

/// `name/key` (or `namespace/name/key`: the operator has seen to it that the namespace is the job's) as a path, and what follows `}}`.
fn reference(text: &str) -> Result<(PathBuf, &str)> {
    let shape = || Error::plan("a secret is written {{secret:name/key}}");
    let (inner, after) = text.split_once("}}").ok_or_else(shape)?;
    let parts: Vec<&str> = inner.split('/').map(str::trim).collect();
    let [.., name, key] = parts[..] else { return Err(shape()) };
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with("..") && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    if parts.len() > 3 || !plain(name) || !plain(key) {
        return Err(Error::plan(format!("'{inner}' names no secret and key")).hint("a secret is written {{secret:name/key}}"));
    }
    Ok((PathBuf::from(name).join(key), after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn references_become_values_and_values_references() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        std::fs::write(folder.path().join("kafka/password"), "s3cr\"et").unwrap();
        std::fs::write(folder.path().join("kafka/token"), "t0ken\n").unwrap();
        let mut secrets = Secrets::default();
        let cases = [("plain {{x}}", "plain {{x}}"), ("a {{secret:kafka/password}};{{secret: ns/kafka/password }}", "a s3cr\"et;s3cr\"et")];
        for (text, want) in cases {
            assert_eq!(secrets.filled(text, folder.path(), as_it_is).unwrap(), want);
        }
        assert_eq!(secrets.masked("no s3cr\"et here"), "no {{secret:kafka/password}} here");
        for (text, want) in [("{{secret:kafka/password}}", "s3cr\"et"), ("p=\"{{secret:kafka/password}}\"", "p=\"s3cr\\\"et\"")] {
            assert_eq!(secrets.filled(text, folder.path(), within_quotes).unwrap(), want);
        }
        assert_eq!(within_quotes("a\\b"), "a\\\\b");
        assert_eq!(secrets.filled("{{secret:kafka/token}}", folder.path(), as_it_is).unwrap(), "t0ken");
        assert_eq!(secrets.masked("Bearer t0ken"), "Bearer {{secret:kafka/token}}");
        let error = secrets.masked_error(Error::runtime("wrong: s3cr\"et").hint("not s3cr\"et"));
        assert!(!error.to_string().contains("s3cr"), "{error}");
        for (text, message) in [
            ("{{secret:kafka/password", "is written"),
            ("{{secret:kafka}}", "is written"),
            ("{{secret:a/b/c/d}}", "names no secret"),
            ("{{secret:../password}}", "names no secret"),
            ("{{secret:kafka/user}}", "kafka/user cannot be read"),
        ] {
            let error = secrets.filled(text, folder.path(), as_it_is).unwrap_err();
            assert!(error.message().contains(message), "{text}: {error}");
        }
    }
}
