//! The controllers: what is watched, and what a change leads to.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use sluice_crds::{Savepoint, SessionCluster, StreamingDeployment};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::Kind;
use crate::names;

/// Where to look.
#[derive(Clone, Debug)]
pub enum Scope {
    All,
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// Only metadata is kept: reconciles read what they need, fresh. An object that this version does not understand does not stop the watch.
type Meta<K> = PartialObjectMeta<K>;

type Reconcile = for<'a> fn(&'a Context, &'a str, &'a str) -> Pin<Box<dyn Future<Output = Result<Action>> + Send + 'a>>;

async fn counted<K: Resource<DynamicType = ()>>(object: Arc<Meta<K>>, context: Arc<Context>, reconcile: Reconcile) -> Result<Action> {
    let kind = Kind { kind: K::kind(&()).into_owned() };
    context.metrics.reconciles.get_or_create(&kind).inc();
    let (started, name, namespace) = (Instant::now(), object.name_any(), object.namespace().unwrap_or_default());
    let result = reconcile(&context, &namespace, &name).await;
    context.metrics.duration.observe(started.elapsed().as_secs_f64());
    if let Err(error) = &result {
        context.metrics.failures.get_or_create(&kind).inc();
        tracing::warn!(kind = kind.kind, namespace, name, "{}", error.text());
    }
    result
}

/// Transient errors are tried again soon; what needs a human, rarely.
fn failed<K>(_: Arc<Meta<K>>, error: &Error, _: Arc<Context>) -> Action {
    Action::requeue(if error.is_terminal() { Duration::from_secs(60) } else { Duration::from_secs(5) })
}

/// Between the errors of a controller's watches. These count together: an API server that has just begun refuses each of them once or more, and a
/// pause that grew with every one (kube's default) would leave the controller deaf for minutes.
struct Pause;

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {}
}

async fn drive<K>(controller: Controller<Meta<K>>, context: Arc<Context>, reconcile: Reconcile)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let work = move |object, context| counted::<K>(object, context, reconcile);
    controller
        .with_config(Config::default().concurrency(AT_A_TIME))
        .trigger_backoff(Pause)
        .run(work, failed::<K>, context)
        .for_each(|_| async {})
        .await;
}

/// Reconciles at a time. Without a limit an operator that begins asks the API server for a thousand deployments at once, and is told to wait.
const AT_A_TIME: u16 = 50;

fn children() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::FIELD_MANAGER))
}

/// The deployment that a pod, job or savepoint belongs to, by label.
fn deployment_of<K: ResourceExt>(object: K) -> Option<ObjectRef<Meta<StreamingDeployment>>> {
    let name = object.labels().get(names::DEPLOYMENT_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The session cluster that a pod belongs to, by label.
fn cluster_of<K: ResourceExt>(object: K) -> Option<ObjectRef<Meta<SessionCluster>>> {
    let name = object.labels().get(names::SESSION_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// What is told of a child is told to [`crate::deployment::kept`], too.
fn marked<K, I, F>(context: &Arc<Context>, map: F) -> impl Fn(K) -> Vec<ObjectRef<Meta<StreamingDeployment>>> + use<K, I, F>
where
    F: Fn(K) -> I,
    I: IntoIterator<Item = ObjectRef<Meta<StreamingDeployment>>>,
{
    let context = context.clone();
    move |object| {
        let refs: Vec<_> = map(object).into_iter().collect();
        for deployment in &refs {
            context.kept.changed(deployment.namespace.as_deref().unwrap_or_default(), &deployment.name);
        }
        refs
    }
}

/// Runs all controllers until they are dropped.
pub async fn run(context: Arc<Context>, scope: &Scope) {
    let client = || context.client.clone();
    let index = context.clone();
    let readers = move |map: Meta<ConfigMap>| {
        let namespace = map.namespace().unwrap_or_default();
        let refs = index.readers(&namespace, &map.name_any()).into_iter();
        refs.map(move |name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let users = context.clone();
    // A pod of a session cluster is the business of all whose jobs it runs.
    let of_pod = move |pod: Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let own = pod.labels().get(names::DEPLOYMENT_LABEL).cloned();
        let shared = pod.labels().get(names::SESSION_LABEL).map(|cluster| users.users(&namespace, cluster));
        let refs = own.into_iter().chain(shared.unwrap_or_default());
        refs.map(|name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let users = context.clone();
    let of_cluster = move |cluster: Meta<SessionCluster>| {
        let namespace = cluster.namespace().unwrap_or_default();
        let names = users.users(&namespace, &cluster.name_any()).into_iter();
        names.map(|name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let places = context.clone();
    let used_by = move |deployment: Meta<StreamingDeployment>| {
        let namespace = deployment.namespace()?;
        let cluster = places.cluster_of(&namespace, &deployment.name_any())?;
        Some(ObjectRef::<Meta<SessionCluster>>::new(&cluster).within(&namespace))
    };
    let deployments = Controller::new(scope.api::<Meta<StreamingDeployment>>(client()), watcher::Config::default())
        .watches(scope.api::<Meta<StatefulSet>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Pod>(client()), children(), marked(&context, of_pod))
        .watches(scope.api::<Meta<SessionCluster>>(client()), watcher::Config::default(), of_cluster)
        .watches(scope.api::<Job>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<ControllerRevision>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<ConfigMap>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<Service>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<ServiceAccount>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<PersistentVolumeClaim>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<PodDisruptionBudget>>(client()), children(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<Savepoint>>(client()), watcher::Config::default(), marked(&context, deployment_of))
        .watches(scope.api::<Meta<ConfigMap>>(client()), watcher::Config::default(), readers);
    let savepoints = Controller::new(scope.api::<Meta<Savepoint>>(client()), watcher::Config::default());
    let clusters = Controller::new(scope.api::<Meta<SessionCluster>>(client()), watcher::Config::default())
        .watches(scope.api::<Meta<StatefulSet>>(client()), children(), cluster_of)
        .watches(scope.api::<Pod>(client()), children(), cluster_of)
        .watches(scope.api::<Meta<StreamingDeployment>>(client()), watcher::Config::default(), used_by);
    context.kept.enable();
    tokio::join!(
        drive(deployments, context.clone(), |c, ns, n| Box::pin(crate::deployment::reconcile(c, ns, n))),
        drive(savepoints, context.clone(), |c, ns, n| Box::pin(crate::savepoint::reconcile(c, ns, n))),
        drive(clusters, context.clone(), |c, ns, n| Box::pin(crate::session::reconcile(c, ns, n))),
    );
}
