//! The one error type: what happened, where, and what to do.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A place in the SQL text. Lines and columns count from 1; `0` means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub line: u32,
    pub column: u32,
}

impl Span {
    pub const NONE: Span = Span { line: 0, column: 0 };

    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

/// Who has to act, and the process' exit code that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The statement cannot be parsed, validated or planned; nothing has run. Exit code 2.
    Plan,
    /// A failure while the job runs. Exit code 1.
    Runtime,
}

/// An error with its place and, where one is known, a hint at the remedy.
#[derive(Clone, Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    span: Span,
    hint: Option<String>,
    last: bool,
}

impl Error {
    /// An error found before anything runs.
    pub fn plan(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Plan, message.into())
    }

    /// An error while the job runs.
    pub fn runtime(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Runtime, message.into())
    }

    /// A clause or feature that Sluice knows of but does not support yet.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Plan, format!("{what} is not supported yet"))
    }

    fn new(kind: ErrorKind, message: String) -> Self {
        Self { inner: Box::new(Inner { kind, message, span: Span::NONE, hint: None, last: false }) }
    }

    /// Adds the place, unless a more precise one is already there.
    pub fn at(mut self, span: Span) -> Self {
        if !self.inner.span.is_known() {
            self.inner.span = span;
        }
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message: `reading t: …`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.inner.message = format!("{context}: {}", self.inner.message);
        self
    }

    /// The same error as one that happened while running (e.g. a constant that fails to evaluate).
    pub fn into_runtime(mut self) -> Self {
        self.inner.kind = ErrorKind::Runtime;
        self
    }

    pub fn into_plan(mut self) -> Self {
        self.inner.kind = ErrorKind::Plan;
        self
    }

    /// Marks an error that a restart of the job would not mend: no restart strategy tries.
    pub fn last(mut self) -> Self {
        self.inner.last = true;
        self
    }

    pub fn is_last(&self) -> bool {
        self.inner.last
    }

    /// Changes the message and the hint.
    pub fn map_text(mut self, f: impl Fn(&str) -> String) -> Self {
        self.inner.message = f(&self.inner.message);
        self.inner.hint = self.inner.hint.as_deref().map(f);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    pub fn message(&self) -> &str {
        &self.inner.message
    }

    pub fn span(&self) -> Span {
        self.inner.span
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inner.span.is_known() {
            write!(f, "line {}, column {}: ", self.inner.span.line, self.inner.span.column)?;
        }
        f.write_str(&self.inner.message)?;
        if let Some(hint) = &self.inner.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Error::runtime(e.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::runtime(e.to_string())
    }
}
