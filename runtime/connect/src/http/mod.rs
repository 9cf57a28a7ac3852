//! Web services that take rows as requests: delivery by a thread, with retries and rate limits. `http` and `slack` differ in what a request
//! is and how its answer is judged.

mod delivery;
mod endpoint;

pub(crate) use delivery::{Delivery, Request};
pub(crate) use endpoint::{Endpoint, Retry, timeout};

use std::time::Duration;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    /// It may be taken later: after this time, if the service says so. It then does not count as a failure.
    Again {
        after: Option<Duration>,
        why: String,
    },
    /// It never will be.
    Refused(String),
}

/// An answer: status, `Retry-After`, body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: String,
}

impl Answer {
    /// By the status alone: what the client did wrong stays wrong, the rest may pass (RFC 9110, RFC 6585).
    pub fn judge(&self) -> Verdict {
        match self.status {
            200..=299 => Verdict::Taken,
            429 => Verdict::Again { after: Some(self.retry_after.unwrap_or(Duration::from_secs(1))), why: "too many requests".into() },
            408 | 425 | 500..=599 => Verdict::Again { after: self.retry_after, why: self.text() },
            _ => Verdict::Refused(self.text()),
        }
    }

    /// Status and the beginning of the body.
    pub fn text(&self) -> String {
        let said: String = self.body.trim().chars().take(200).collect();
        if said.is_empty() { format!("HTTP {}", self.status) } else { format!("HTTP {}: {said}", self.status) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_their_status() {
        let answer = |status, seconds: Option<u64>| Answer { status, retry_after: seconds.map(Duration::from_secs), body: " no ".into() };
        assert_eq!(answer(204, None).judge(), Verdict::Taken);
        assert_eq!(answer(404, None).judge(), Verdict::Refused("HTTP 404: no".into()));
        for (status, given, after) in
            [(429, Some(7), Some(7)), (429, None, Some(1)), (503, Some(2), Some(2)), (500, None, None), (408, None, None)]
        {
            let Verdict::Again { after: found, .. } = answer(status, given).judge() else { panic!("{status}") };
            assert_eq!(found, after.map(Duration::from_secs), "{status}");
        }
        // A redirect is not followed with a body: the URL is wrong.
        assert!(matches!(answer(301, None).judge(), Verdict::Refused(_)));
    }
}
