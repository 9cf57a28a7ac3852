//! Restart strategies (Flink: `RestartStrategyOptions`): whether a failed job is built anew from its last commit, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use sluice_batch::{Error, Result, duration};

/// `restart-strategy.type` with its options.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    None,
    FixedDelay { attempts: u64, delay: Duration },
    FailureRate { most: u64, interval: Duration, delay: Duration },
    ExponentialDelay { initial: Duration, most: Duration, multiplier: f64, reset: Duration, jitter: f64, attempts: u64 },
}

impl Strategy {
    /// Flink's default of jobs that have checkpoints.
    pub fn patient() -> Self {
        let seconds = Duration::from_secs;
        Self::ExponentialDelay {
            initial: seconds(1),
            most: seconds(60),
            multiplier: 1.5,
            reset: seconds(3600),
            jitter: 0.1,
            attempts: u64::MAX,
        }
    }

    /// Reads the settings; `default` if they name no strategy.
    ///
    /// # Errors
    /// If a value is none of its option.
    pub fn read(settings: &IndexMap<String, String>, default: Self) -> Result<Self> {
        let read = Reader(settings);
        let named = settings.get("restart-strategy.type").or_else(|| settings.get("restart-strategy"));
        let Some(named) = named else { return Ok(default) };
        match named.trim().to_ascii_lowercase().as_str() {
            "none" | "off" | "disable" => Ok(Self::None),
            "fixed-delay" | "fixeddelay" => Ok(Self::FixedDelay {
                attempts: read.number("fixed-delay.attempts", 1)?,
                delay: read.time("fixed-delay.delay", Duration::from_secs(1))?,
            }),
            "failure-rate" | "failurerate" => Ok(Self::FailureRate {
                most: read.number("failure-rate.max-failures-per-interval", 1)?,
                interval: read.time("failure-rate.failure-rate-interval", Duration::from_secs(60))?,
                delay: read.time("failure-rate.delay", Duration::from_secs(1))?,
            }),
            "exponential-delay" | "exponentialdelay" => {
                let strategy = Self::ExponentialDelay {
                    initial: read.time("exponential-delay.initial-backoff", Duration::from_secs(1))?,
                    most: read.time("exponential-delay.max-backoff", Duration::from_secs(60))?,
                    multiplier: read.fraction("exponential-delay.backoff-multiplier", 1.5)?,
                    reset: read.time("exponential-delay.reset-backoff-threshold", Duration::from_secs(3600))?,
                    jitter: read.fraction("exponential-delay.jitter-factor", 0.1)?,
                    attempts: read.number("exponential-delay.attempts-before-reset-backoff", u64::MAX)?,
                };
                match &strategy {
                    Self::ExponentialDelay { multiplier, jitter, .. } if *multiplier < 1.0 || !(0.0..=1.0).contains(jitter) => {
                        Err(Error::plan("'restart-strategy.exponential-delay': the multiplier is at least 1, the jitter from 0 to 1"))
                    }
                    _ => Ok(strategy),
                }
            }
            other => Err(Error::plan(format!("'restart-strategy.type' cannot be '{other}'"))
                .hint("it is one of none, fixed-delay, failure-rate, exponential-delay")),
        }
    }
}

struct Reader<'a>(&'a IndexMap<String, String>);

impl Reader<'_> {
    fn get<T>(&self, key: &str, default: T, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let key = format!("restart-strategy.{key}");
        match self.0.get(&key) {
            None => Ok(default),
            Some(text) => parse(text.trim()).ok_or_else(|| Error::plan(format!("'{key}' = '{text}' is no {what}"))),
        }
    }

    fn number(&self, key: &str, default: u64) -> Result<u64> {
        // Flink's default of some is Integer.MAX_VALUE, `infinite` here.
        self.get(key, default, "number", |t| if t == "infinite" { Some(u64::MAX) } else { t.parse().ok() })
    }

    fn fraction(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key, default, "number", |t| t.parse().ok().filter(|f: &f64| f.is_finite()))
    }

    fn time(&self, key: &str, default: Duration) -> Result<Duration> {
        self.get(key, default, "duration", |t| duration::parse(t).ok())
    }
}

/// The failures of a running job.
pub struct Restarts {
    strategy: Strategy,
    failures: u64,
    recent: VecDeque<Instant>,
    backoff: Duration,
    last_failure: Option<Instant>,
    /// The last error and how often it came in a row.
    repeated: (String, u64),
}

impl Restarts {
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, failures: 0, recent: VecDeque::new(), backoff: Duration::ZERO, last_failure: None, repeated: (String::new(), 0) }
    }

    /// How often this error, the last one, has come in a row.
    pub fn repeated(&self) -> u64 {
        self.repeated.1
    }

    /// The error with which the job ends, when [`Restarts::next`] has said so.
    pub fn give_up(&self, error: Error) -> Error {
        match (self.failures, self.repeated()) {
            (0 | 1, _) => error,
            (n, 0 | 1) => error.context(format!("the restart strategy gives up behind {} restarts", n - 1)),
            (n, row) => error.context(format!("the restart strategy gives up behind {} restarts; {row} times in a row", n - 1)),
        }
    }

    /// The job has failed at `now`: how long to wait before the next attempt; `None`: it ends. `luck`, from 0 to 1, sets the jitter.
    pub fn next(&mut self, error: &Error, now: Instant, luck: f64) -> Option<Duration> {
        if error.is_last() {
            return None;
        }
        if self.repeated.0 == error.message() {
            self.repeated.1 += 1;
        } else {
            self.repeated = (error.message().to_owned(), 1);
        }
        let quiet = self.last_failure.replace(now).map(|t| now.saturating_duration_since(t));
        self.failures += 1;
        match self.strategy {
            Strategy::None => None,
            Strategy::FixedDelay { attempts, delay } => (self.failures <= attempts).then_some(delay),
            Strategy::FailureRate { most, interval, delay } => {
                self.recent.push_back(now);
                while self.recent.front().is_some_and(|t| now.saturating_duration_since(*t) > interval) {
                    self.recent.pop_front();
                }
                (self.recent.len() as u64 <= most).then_some(delay)
            }
            Strategy::ExponentialDelay { initial, most, multiplier, reset, jitter, attempts } => {
                if quiet.is_none_or(|q| q >= reset + self.backoff) {
                    (self.failures, self.backoff) = (1, initial);
                } else {
                    self.backoff = self.backoff.mul_f64(multiplier).min(most);
                }
                let wait = self.backoff.mul_f64((1.0 + jitter * (2.0 * luck - 1.0)).max(0.0)).min(most);
                (self.failures <= attempts).then_some(wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Strategy> {
        Strategy::read(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(), Strategy::None)
    }

    fn waits(strategy: Strategy, at: &[u64]) -> Vec<Option<u64>> {
        let (mut restarts, start) = (Restarts::new(strategy), Instant::now());
        let error = Error::runtime("x");
        at.iter().map(|s| restarts.next(&error, start + Duration::from_secs(*s), 0.5).map(|d| d.as_millis() as u64)).collect()
    }

    #[test]
    fn strategies_say_when() {
        let fixed = read(&[("restart-strategy.type", "fixed-delay"), ("restart-strategy.fixed-delay.attempts", "2")]).unwrap();
        assert_eq!(waits(fixed, &[0, 1, 2]), [Some(1000), Some(1000), None]);
        let rate = read(&[
            ("restart-strategy.type", "failure-rate"),
            ("restart-strategy.failure-rate.max-failures-per-interval", "2"),
            ("restart-strategy.failure-rate.failure-rate-interval", "10 s"),
            ("restart-strategy.failure-rate.delay", "3 s"),
        ]);
        assert_eq!(waits(rate.unwrap(), &[0, 8, 15, 16, 17]), [Some(3000), Some(3000), Some(3000), None, None]);
        let exponential = read(&[
            ("restart-strategy.type", "exponential-delay"),
            ("restart-strategy.exponential-delay.max-backoff", "4 s"),
            ("restart-strategy.exponential-delay.backoff-multiplier", "2"),
        ]);
        assert_eq!(waits(exponential.unwrap(), &[0, 5, 9, 20, 9000]), [Some(1000), Some(2000), Some(4000), Some(4000), Some(1000)]);
        assert_eq!(waits(read(&[]).unwrap(), &[0]), [None]);
        assert_eq!(waits(Strategy::patient(), &[0, 1]), [Some(1000), Some(1500)]);
    }

    #[test]
    fn wrong_options_and_last_errors_end_it() {
        for pairs in [
            &[("restart-strategy.type", "sometimes")][..],
            &[("restart-strategy.type", "fixed-delay"), ("restart-strategy.fixed-delay.delay", "soon")],
            &[("restart-strategy.type", "exponential-delay"), ("restart-strategy.exponential-delay.jitter-factor", "2")],
        ] {
            assert!(read(pairs).is_err(), "{pairs:?}");
        }
        let mut restarts = Restarts::new(Strategy::patient());
        let now = Instant::now();
        assert_eq!(restarts.next(&Error::runtime("fenced").last(), now, 0.5), None);
        for n in 1..4 {
            assert!(restarts.next(&Error::runtime("poison"), now, 0.5).is_some());
            assert_eq!(restarts.repeated(), n);
        }
        restarts.next(&Error::runtime("other"), now, 0.5);
        assert_eq!(restarts.repeated(), 1);
    }
}
