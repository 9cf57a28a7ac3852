//! Errors: a text, and the exit code.

use std::fmt;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Error {
    pub message: String,
    pub code: u8,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Something did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// Something that was given is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// What the API server has against something; `what` was being done.
    pub fn kube(what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::failed(format!("cannot {what}: {}", status.message)),
            other => Self::failed(format!("cannot {what}: {}", innermost(other))),
        }
    }
}

/// The innermost error is what says something: "Connection refused".
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
