//! Pure: a status that shows what the API server refuses.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sluice_crds::StreamingDeploymentStatus;

use super::status;

/// `status` with the refusal (reason and text) as Ready False and Stalled True; times of conditions that were like that in `old` stay.
pub fn with(
    status: &StreamingDeploymentStatus,
    old: &StreamingDeploymentStatus,
    refusal: &(String, String),
    generation: i64,
    now: Timestamp,
) -> StreamingDeploymentStatus {
    let mut new = status.clone();
    show(&mut new.conditions, &old.conditions, refusal, generation, now);
    new
}

/// The same of conditions.
pub fn show(new: &mut Vec<Condition>, old: &[Condition], refusal: &(String, String), generation: i64, now: Timestamp) {
    for (kind, holds) in [("Ready", false), ("Stalled", true)] {
        let wanted = if holds { "True" } else { "False" };
        if let Some(before) = old.iter().find(|c| c.type_ == kind && c.status == wanted) {
            match new.iter_mut().find(|c| c.type_ == kind) {
                Some(condition) => *condition = before.clone(),
                None => new.push(before.clone()),
            }
        }
        status::set(new, kind, holds, &refusal.0, &refusal.1, generation, now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shown_again_it_is_the_same() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let refusal = ("Forbidden".to_owned(), "cannot create".to_owned());
        let mut status = StreamingDeploymentStatus::default();
        status::set(&mut status.conditions, "Ready", true, "Running", "", 1, at(1));
        let first = with(&status, &status, &refusal, 1, at(2));
        let shown: Vec<_> = first.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.last_transition_time.0)).collect();
        assert_eq!(shown, [("Ready", "False", at(2)), ("Stalled", "True", at(2))]);
        assert_eq!(with(&status, &first, &refusal, 1, at(9)), first);
        let other = with(&status, &first, &("QuotaExceeded".into(), "more".into()), 1, at(9));
        assert_eq!((other.conditions[1].reason.as_str(), other.conditions[1].last_transition_time.0), ("QuotaExceeded", at(2)));
    }
}
