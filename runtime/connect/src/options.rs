//! A table's options: read by name, checked, and no unknown one left behind.

use std::cell::RefCell;
use std::str::FromStr;
use std::time::Duration;

use sluice_batch::{Error, Result};
use sluice_format::{FormatOption, FormatOptions};

use crate::{TableOption, TableSpec};

/// Reads a table's options. Reading one marks it as known; [`Options::finish`] rejects the rest with a did-you-mean.
pub(crate) struct Options<'a> {
    pub table: &'a TableSpec,
    known: RefCell<Vec<String>>,
}

impl<'a> Options<'a> {
    /// Starts with what every table may have.
    ///
    /// # Errors
    /// If one of those is wrong.
    pub fn new(table: &'a TableSpec) -> Result<Self> {
        let options = Self { table, known: RefCell::default() };
        options.get("connector");
        options.choice("scan.watermark.emit.strategy", &["on-periodic", "on-event"])?;
        options.duration("scan.watermark.idle-timeout")?;
        for key in ["scan.parallelism", "sink.parallelism"] {
            if let Some(option) = options.get(key)
                && !option.value.trim().parse::<u32>().is_ok_and(|n| n > 0)
            {
                return Err(options.invalid(option, "a number above 0"));
            }
        }
        for key in ["group", "max-drift", "update-interval"] {
            options.unsupported(&format!("scan.watermark.alignment.{key}"))?;
        }
        Ok(options)
    }

    /// An option, if given.
    pub fn get(&self, key: &str) -> Option<&'a TableOption> {
        self.known.borrow_mut().push(key.to_owned());
        self.table.options.iter().find(|o| o.key == key)
    }

    pub fn string(&self, key: &str) -> Option<&'a str> {
        self.get(key).map(|o| o.value.as_str())
    }

    /// An option without which the connector cannot work.
    ///
    /// # Errors
    /// If it is not given.
    pub fn required(&self, key: &str) -> Result<&'a TableOption> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    pub fn missing(&self, key: &str) -> Error {
        let connector = self.table.options.iter().find(|o| o.key == "connector").map_or("", |o| o.value.as_str());
        let error =
            Error::plan(format!("table '{}' needs the option '{key}' of connector '{connector}'", self.table.name)).at(self.table.span);
        let known = self.known.borrow();
        let mut unread = self.table.options.iter().map(|o| o.key.as_str()).filter(|k| !known.iter().any(|known| known == k));
        match unread.find(|k| strsim::damerau_levenshtein(k, key) <= 2) {
            Some(near) => error.hint(format!("is '{near}' meant to be '{key}'?")),
            None => error,
        }
    }

    /// A number or other value with a textual form; `what` names it in the error.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>> {
        let Some(option) = self.get(key) else { return Ok(None) };
        option.value.trim().parse().map(Some).map_err(|_| self.invalid(option, what))
    }

    /// `true` or `false` in any case.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(option) = self.get(key) else { return Ok(default) };
        match option.value.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.invalid(option, "true, false")),
        }
    }

    /// `10 s`, `200 ms`, …; no unit means milliseconds.
    ///
    /// # Errors
    /// If it is something else.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some(option) = self.get(key) else { return Ok(None) };
        sluice_batch::duration::parse(&option.value)
            .map(Some)
            .map_err(|_| self.invalid(option, "a duration such as '10 s', '200 ms', '1 min'"))
    }

    /// One of some words, compared without case; the first if not given.
    ///
    /// # Errors
    /// If it is something else.
    pub fn choice(&self, key: &str, words: &[&'static str]) -> Result<&'static str> {
        let Some(option) = self.get(key) else { return Ok(words.first().copied().unwrap_or_default()) };
        let found = words.iter().find(|w| w.eq_ignore_ascii_case(option.value.trim()));
        found.copied().ok_or_else(|| self.invalid(option, &words.join(", ")))
    }

    /// The error for a value that is none of what is expected.
    pub fn invalid(&self, option: &TableOption, expected: &str) -> Error {
        let error = Error::plan(format!("option '{}' is '{}'; expected: {expected}", option.key, option.value)).at(option.value_span);
        match closest(&option.value, expected.split(", ")) {
            Some(near) if near != option.value => error.hint(format!("did you mean '{near}'?")),
            _ => error,
        }
    }

    /// An option of Flink's that has no meaning here yet.
    ///
    /// # Errors
    /// If it is given.
    pub fn unsupported(&self, key: &str) -> Result<()> {
        match self.get(key) {
            Some(option) => Err(Error::unsupported(format!("option '{key}'")).at(option.key_span)),
            None => Ok(()),
        }
    }

    /// All options that begin with `prefix`, which count as known.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(&'a str, &'a TableOption)> {
        let found: Vec<_> = self.table.options.iter().filter_map(|o| Some((o.key.strip_prefix(prefix)?, o))).collect();
        self.known.borrow_mut().extend(found.iter().map(|(_, o)| o.key.clone()));
        found
    }

    /// A format by the option that names it (`format`, `key.format`, `value.format`) and its own options.
    pub fn format(&self, key: &str) -> Option<FormatOptions> {
        let option = self.get(key)?;
        let prefix = format!("{}{}.", key.strip_suffix("format").unwrap_or_default(), option.value);
        let own = self.with_prefix(&prefix).into_iter();
        let own = own.map(|(key, o)| FormatOption { key: key.to_owned(), value: o.value.clone(), span: o.value_span });
        Some(FormatOptions::new(option.value.clone(), prefix, own.collect()).at(option.value_span))
    }

    /// Rejects options that nobody asked for.
    ///
    /// # Errors
    /// If there is one; with its place and the known name most like it.
    pub fn finish(&self) -> Result<()> {
        let known = self.known.borrow();
        let Some(unknown) = self.table.options.iter().find(|o| !known.contains(&o.key)) else { return Ok(()) };
        let connector = self.table.options.iter().find(|o| o.key == "connector").map_or("", |o| o.value.as_str());
        let error = Error::plan(format!("connector '{connector}' has no option '{}'", unknown.key)).at(unknown.key_span);
        Err(match closest(&unknown.key, known.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => {
                let mut names: Vec<_> = known.iter().map(String::as_str).filter(|k| *k != "connector").collect();
                names.sort_unstable();
                names.dedup();
                error.hint(format!("options: {}", names.join(", ")))
            }
        })
    }
}

/// The candidate most like a word, if one is like it at all.
pub(crate) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let score = |c: &str| strsim::normalized_damerau_levenshtein(word, c).max(if c.starts_with(word) { 0.9 } else { 0.0 });
    let scored = candidates.map(|c| (score(c), c));
    scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::test_util::table;

    fn table_with(options: &[(&str, &str)]) -> TableSpec {
        table(options, &[])
    }

    #[test]
    fn unknown_option_gets_a_did_you_mean() {
        let table = table(&[("connector", "print"), ("print-identifer", "x")], &[]);
        let options = Options::new(&table).unwrap();
        options.get("print-identifier");
        let error = options.finish().unwrap_err();
        assert_eq!(error.message(), "connector 'print' has no option 'print-identifer'");
        assert_eq!(error.hint_text(), Some("did you mean 'print-identifier'?"));
        assert_eq!(error.span().line, 3);
    }

    #[test]
    fn wrong_values_list_what_is_allowed() {
        let table = table(&[("connector", "x"), ("mode", "earlist"), ("flag", "yes"), ("n", "1x"), ("d", "5 parsecs")], &[]);
        let options = Options::new(&table).unwrap();
        let error = options.choice("mode", &["latest", "earliest"]).unwrap_err();
        assert_eq!(error.message(), "option 'mode' is 'earlist'; expected: latest, earliest");
        assert_eq!(error.hint_text(), Some("did you mean 'earliest'?"));
        assert!(options.flag("flag", true).is_err());
        assert!(options.parse::<i64>("n", "a number").is_err());
        assert!(options.duration("d").is_err());
        let error = options.required("nothing").unwrap_err();
        assert!(error.message().contains("needs the option 'nothing'"));
        assert_eq!(error.hint_text(), None);
        let misspelt = table_with(&[("connector", "x"), ("topik", "t")]);
        let error = Options::new(&misspelt).unwrap().required("topic").unwrap_err();
        assert_eq!(error.hint_text(), Some("is 'topik' meant to be 'topic'?"));
    }

    #[test]
    fn format_takes_its_own_options() {
        let table = table(&[("value.format", "json"), ("value.json.ignore-parse-errors", "true"), ("json.x", "1")], &[]);
        let options = Options::new(&table).unwrap();
        let format = options.format("value.format").unwrap();
        assert_eq!((format.format.as_str(), format.prefix.as_str()), ("json", "value.json."));
        assert_eq!(format.options.len(), 1);
        assert_eq!(format.options[0].key, "ignore-parse-errors");
        assert!(options.finish().unwrap_err().message().contains("json.x"));
    }
}
