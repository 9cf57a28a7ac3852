//! The table: schedule × what is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use sluice_crds::{Halted, NextSavepoint, SavepointPhase};

use super::*;

const HOURLY: &str = "0 * * * *";

fn scheduled(phase: SavepointPhase, due: Time) -> ObservedSavepoint {
    let name = crate::names::scheduled_savepoint("job", due.0.as_second());
    ObservedSavepoint { name, trigger: "scheduled".into(), phase, ..ObservedSavepoint::default() }
}

#[test]
fn savepoints_come_by_schedule() {
    let next = |seconds: i64, schedule: &str| Some(NextSavepoint { at: ago(seconds), schedule: schedule.into() });
    let due = || next(0, HOURLY);
    let halted = Halted { hash: String::new(), reason: "Suspended".into(), message: String::new() };
    for (what, scene, creates, at, skipped) in [
        ("seen for the first time", Scene::new(), false, Some("13:00:00"), false),
        ("not due", Scene::new().with(|s| s.status.next_savepoint = next(-600, HOURLY)), false, Some("12:10:00"), false),
        ("due", Scene::new().with(|s| s.status.next_savepoint = due()), true, Some("12:00:00"), false),
        (
            "written by a clock that went ahead",
            Scene::new().with(|s| s.status.next_savepoint = next(-86_400, HOURLY)),
            false,
            Some("13:00:00"),
            false,
        ),
        ("long due", Scene::new().with(|s| s.status.next_savepoint = next(86_400, HOURLY)), true, Some("12:00:00"), false),
        ("another schedule", Scene::new().with(|s| s.status.next_savepoint = next(60, "1 * * * *")), false, Some("13:00:00"), false),
        (
            "made",
            Scene::new().with(|s| {
                s.status.next_savepoint = due();
                s.observed.savepoints.push(scheduled(SavepointPhase::Pending, ago(0)));
            }),
            false,
            Some("13:00:00"),
            false,
        ),
        (
            "the one before is under way",
            Scene::new().with(|s| {
                s.status.next_savepoint = due();
                s.observed.savepoints.push(scheduled(SavepointPhase::InProgress, ago(3600)));
            }),
            false,
            Some("13:00:00"),
            true,
        ),
        (
            "the one before is done",
            Scene::new().with(|s| {
                s.status.next_savepoint = due();
                s.observed.savepoints.push(scheduled(SavepointPhase::Completed, ago(3600)));
            }),
            true,
            Some("12:00:00"),
            false,
        ),
        (
            "down",
            Scene::new().with(|s| {
                (s.status.next_savepoint, s.status.halted) = (due(), Some(halted));
                s.spec["suspend"] = json!(true);
            }),
            false,
            None,
            false,
        ),
        ("an operation", Scene::upgrading(Step::Start, 5).with(|s| s.status.next_savepoint = due()), false, Some("12:00:00"), false),
    ] {
        let mut scene = scene;
        scene.spec["savepoints"] = json!({"schedule": HOURLY});
        let decision = scene.decide();
        let made: Vec<_> = decision.actions.iter().filter(|a| matches!(a, Action::CreateSavepoint { trigger: "scheduled", .. })).collect();
        assert_eq!(made.len(), usize::from(creates), "{what}");
        let time = decision.status.next_savepoint.as_ref().map(|n| n.at.0.strftime("%H:%M:%S").to_string());
        assert_eq!(time.as_deref().filter(|_| what != "long due"), at.filter(|_| what != "long due"), "{what}");
        assert_eq!(decision.events.iter().any(|e| e.reason == "SavepointSkipped"), skipped, "{what}");
    }
    // A time that comes before the next idle look is not slept through.
    let mut soon = Scene::new().with(|s| s.status.next_savepoint = next(-5, HOURLY));
    soon.spec["savepoints"] = json!({"schedule": HOURLY});
    assert_eq!(soon.decide().requeue, SignedDuration::from_secs(5));
}

#[test]
fn history_holds_completed_ones_and_failed_ones_apart() {
    let one = |n: i64, phase: SavepointPhase| ObservedSavepoint { completed_at: Some(ago(n * 100)), ..scheduled(phase, ago(n * 100)) };
    let mut scene = Scene::new();
    scene.spec["savepoints"] = json!({"historyLimit": 1});
    for (n, phase) in
        [(1, SavepointPhase::Failed), (2, SavepointPhase::Failed), (3, SavepointPhase::Completed), (4, SavepointPhase::Completed)]
    {
        scene.observed.savepoints.push(one(n, phase));
    }
    scene.observed.savepoints.push(scheduled(SavepointPhase::InProgress, ago(0)));
    scene.observed.savepoints.push(ObservedSavepoint { deleting: true, ..one(5, SavepointPhase::Completed) });
    let gone: Vec<String> = (scene.decide().actions.into_iter())
        .filter_map(|a| if let Action::DeleteSavepoint(name) = a { Some(name) } else { None })
        .collect();
    assert_eq!(gone, [4, 2].map(|n| scheduled(SavepointPhase::Pending, ago(n * 100)).name));
}
