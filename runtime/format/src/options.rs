//! The options of a format: read by name, checked, and no unknown one left behind.

use std::cell::RefCell;

use sluice_batch::{Error, Result, Span};

/// Options of one format of a table with their prefix taken off (`value.json.fail-on-missing-field` → `fail-on-missing-field`).
/// Reading an option marks it as known; [`FormatOptions::finish`] rejects the rest with a did-you-mean.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// The format's name, e.g. `json`.
    pub format: String,
    /// What users wrote before the option's name, e.g. `value.json.`.
    pub prefix: String,
    pub options: Vec<FormatOption>,
    /// Where the format is named: the value of `'format' = 'json'`.
    pub span: Span,
    /// Names that were asked for.
    known: RefCell<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct FormatOption {
    pub key: String,
    pub value: String,
    pub span: Span,
}

impl FormatOptions {
    pub fn new(format: impl Into<String>, prefix: impl Into<String>, options: Vec<FormatOption>) -> Self {
        Self { format: format.into(), prefix: prefix.into(), options, span: Span::NONE, known: RefCell::default() }
    }

    /// Sets the place of the format's name, for errors.
    pub fn at(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// An option's value, if given.
    pub fn get(&self, key: &str) -> Option<&FormatOption> {
        self.known.borrow_mut().push(key.to_owned());
        self.options.iter().find(|o| o.key == key)
    }

    pub fn string(&self, key: &str) -> Option<String> {
        self.get(key).map(|o| o.value.clone())
    }

    /// An option without which the format cannot work.
    ///
    /// # Errors
    /// If it is not given.
    pub fn required(&self, key: &str) -> Result<String> {
        self.string(key)
            .ok_or_else(|| Error::plan(format!("format '{}' needs the option '{}{key}'", self.format, self.prefix)).at(self.span))
    }

    /// `true` or `false` in any case; false if not given.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flag(&self, key: &str) -> Result<bool> {
        let Some(option) = self.get(key) else { return Ok(false) };
        match option.value.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.invalid(option, "true or false")),
        }
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
    pub fn invalid(&self, option: &FormatOption, expected: &str) -> Error {
        let value = &option.value;
        Error::plan(format!("option '{}{}' is '{value}'; expected: {expected}", self.prefix, option.key)).at(option.span)
    }

    /// Takes options out that start with `prefix`, as properties for something else; all of them count as known.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found = vec![];
        for option in self.options.iter().filter(|o| o.key.starts_with(prefix)) {
            self.known.borrow_mut().push(option.key.clone());
            found.push((option.key[prefix.len()..].to_owned(), option.value.clone()));
        }
        found
    }

    /// Rejects options that nobody asked for.
    ///
    /// # Errors
    /// If there is one; with its place and the known name most like it.
    pub fn finish(&self) -> Result<()> {
        let known = self.known.borrow();
        let Some(unknown) = self.options.iter().find(|o| !known.contains(&o.key)) else { return Ok(()) };
        let error = Error::plan(format!("format '{}' has no option '{}{}'", self.format, self.prefix, unknown.key)).at(unknown.span);
        Err(match closest(&unknown.key, known.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean '{}{near}'?", self.prefix)),
            None => error,
        })
    }
}

/// The candidate most like a word, if one is like it at all.
pub(crate) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|c| (strsim::jaro_winkler(word, c), c));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
