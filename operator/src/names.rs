//! Every name, label and annotation that the operator gives or reads.

use std::collections::BTreeMap;

/// The one field manager of all server-side applies.
pub const FIELD_MANAGER: &str = "sluice-operator";
/// Keeps a StreamingDeployment until its job has ended as `onDelete` says.
pub const FINALIZER: &str = "sluice.dev/job";

/// Keeps a Savepoint until its files are deleted.
pub const SAVEPOINT_FINALIZER: &str = "sluice.dev/savepoint-files";

/// On a StreamingDeployment: `paused` stops reconciling it.
pub const RECONCILE_ANNOTATION: &str = "sluice.dev/reconcile";
/// On a StreamingDeployment or a Savepoint that is being deleted: `true` lets it go at once.
pub const FORCE_DELETE_ANNOTATION: &str = "sluice.dev/force-delete";
/// On children: hash of what was applied.
pub const HASH_ANNOTATION: &str = "sluice.dev/applied-hash";
/// On StatefulSets: which state the job runs on, see `StartedFrom`.
pub const STATE_ID_ANNOTATION: &str = "sluice.dev/state-id";
/// On StatefulSets: the savepoint that this state began with.
pub const RESTORED_FROM_ANNOTATION: &str = "sluice.dev/restored-from";

/// On children: the StreamingDeployment's name.
pub const DEPLOYMENT_LABEL: &str = "sluice.dev/deployment";
/// On Jobs that delete files: the Savepoint's name.
pub const SAVEPOINT_LABEL: &str = "sluice.dev/savepoint";
/// On children: `r3`.
pub const REVISION_LABEL: &str = "sluice.dev/revision";
/// On children of a SessionCluster: its name.
pub const SESSION_LABEL: &str = "sluice.dev/session-cluster";
/// On the StatefulSet of a SessionCluster: hash of its storage.
pub const STORAGE_ANNOTATION: &str = "sluice.dev/storage-hash";
/// On pods of a SessionCluster: hash of what they are made of.
pub const TEMPLATE_ANNOTATION: &str = "sluice.dev/template-hash";
/// On jobs of a session: the uid of their StreamingDeployment.
pub const UID_ANNOTATION: &str = "sluice.dev/uid";
/// On ControllerRevisions: hash of the content.
pub const CONTENT_LABEL: &str = "sluice.dev/content-hash";
/// On pods: `job`, `preflight` or `savepoint-deletion`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The container that runs the job.
pub const CONTAINER: &str = "sluice";
/// Port of the runtime's REST API.
pub const REST_PORT: i32 = 8081;

/// Where the ConfigMap is mounted, and the file in it.
pub const JOB_FOLDER: &str = "/etc/sluice/job";
pub const JOB_FILE: &str = "deployment.yaml";
/// Where Secrets are mounted, a folder each.
pub const SECRETS_FOLDER: &str = "/etc/sluice/secrets";

/// `name-r3`: ControllerRevision, ConfigMap and StatefulSet of a revision.
pub fn revision(name: &str, number: i64) -> String {
    format!("{name}-r{number}")
}

pub fn preflight(name: &str, number: i64) -> String {
    format!("{name}-r{number}-preflight")
}

/// The volume claim that the operator makes.
pub fn volume_claim(name: &str) -> String {
    format!("{name}-state")
}

pub fn rest_service(name: &str) -> String {
    format!("{name}-rest")
}

/// ServiceAccount and PodDisruptionBudget.
pub fn job(name: &str) -> String {
    format!("{name}-job")
}

/// StatefulSet, ServiceAccount and PodDisruptionBudget of a SessionCluster.
pub fn session(cluster: &str) -> String {
    format!("{cluster}-session")
}

/// The headless Service that gives each pod of a SessionCluster a name.
pub fn workers(cluster: &str) -> String {
    format!("{cluster}-workers")
}

/// A job of a session, below a pod's `host:port`.
pub fn session_job(host: &str, job: &str) -> String {
    format!("{host}/api/v1/jobs/{job}")
}

/// Labels of everything that belongs to a SessionCluster.
pub fn session_labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = labels(cluster);
    labels.remove(DEPLOYMENT_LABEL);
    labels.insert(SESSION_LABEL.into(), cluster.into());
    labels
}

/// Selects all children of a SessionCluster.
pub fn session_selector(cluster: &str) -> String {
    format!("{SESSION_LABEL}={cluster},{MANAGED_BY_LABEL}={FIELD_MANAGER}")
}

/// The Savepoint that an operation takes of a revision: `name-r3-upgrade`. `started` (seconds) keeps those of one revision apart.
pub fn savepoint(name: &str, number: i64, trigger: &str, started: i64) -> String {
    format!("{name}-r{number}-{trigger}-{started:x}")
}

/// The Savepoint of a schedule, by when it was due (seconds).
pub fn scheduled_savepoint(name: &str, due: i64) -> String {
    format!("{name}-scheduled-{due:x}")
}

/// The Job that deletes a Savepoint's files. A Savepoint's name may be as long as a Job's.
pub fn savepoint_deletion(savepoint: &str) -> String {
    let hash = crate::deployment::revision::hash(&serde_json::Value::String(savepoint.into()));
    let (name, hash) = (savepoint.get(..40).unwrap_or(savepoint).trim_end_matches(['-', '.']), hash.get(..8).unwrap_or(&hash));
    format!("{name}-{hash}-delete")
}

/// The component of the Job that deletes a deployment's state, and of its pods.
pub const STATE_DELETION: &str = "state-deletion";

/// The Job that deletes a deployment's state.
pub fn state_deletion(name: &str) -> String {
    format!("{name}-delete-state")
}

/// Where a deployment's state is in its storage. Not by uid: a StreamingDeployment that is deleted and made again goes on.
pub fn state_folder(owner: &crate::deployment::build::Owner, kind: &str) -> String {
    format!("{}/{}/{kind}", owner.namespace, owner.name)
}

/// The state id of a deployment's first start when it is told nothing: it goes on with what is in its state folder.
pub const FIRST_START: i64 = 1;

/// What the runtime knows a start by: as long as it is the same the job goes on from its last commit. None for the first start.
pub fn start(owner: &crate::deployment::build::Owner, state_id: i64) -> Option<String> {
    (state_id != FIRST_START).then(|| format!("{}-{state_id}", owner.uid))
}

/// Labels of everything that belongs to a deployment.
pub fn labels(name: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "sluice"),
        ("app.kubernetes.io/instance", name),
        (MANAGED_BY_LABEL, FIELD_MANAGER),
        (DEPLOYMENT_LABEL, name),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

/// Labels of what belongs to one revision of it.
pub fn revision_labels(name: &str, number: i64) -> BTreeMap<String, String> {
    let mut labels = labels(name);
    labels.insert(REVISION_LABEL.into(), format!("r{number}"));
    labels
}

/// Selects all children of a deployment.
pub fn selector(name: &str) -> String {
    format!("{DEPLOYMENT_LABEL}={name},{MANAGED_BY_LABEL}={FIELD_MANAGER}")
}

/// Selects the pods that run a deployment's jobs, or one revision's.
pub fn job_pods(name: &str, revision: Option<i64>) -> String {
    let revision = revision.map(|r| format!(",{REVISION_LABEL}=r{r}")).unwrap_or_default();
    format!("{DEPLOYMENT_LABEL}={name}{revision},{COMPONENT_LABEL}=job")
}

/// The revision's number in `r3`.
pub fn revision_number(labels: Option<&BTreeMap<String, String>>) -> Option<i64> {
    labels?.get(REVISION_LABEL)?.strip_prefix('r')?.parse().ok()
}

/// `host:port` of a pod's REST API.
pub fn address(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{REST_PORT}") } else { format!("{ip}:{REST_PORT}") }
}
