//! The cluster that kubectl would speak to, and what all commands ask of it.

use std::fmt::Debug;
use std::path::PathBuf;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_crds::StreamingDeployment;
use sluice_operator::names;

use crate::error::{Error, Result, innermost};

/// kubectl's flags that say where, by the same names.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Cluster, as for kubectl")]
pub struct Flags {
    /// The namespace; that of the context if not said.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The cluster of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The user of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// The kubeconfig; KUBECONFIG, or ~/.kube/config if not said.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// A client, and the namespace that names are in.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Flags {
    /// # Errors
    /// If there is no kubeconfig, or nothing by the names given in it.
    pub async fn connect(&self) -> Result<Cluster> {
        let config = self.config().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| Error::failed(format!("cannot use the kubeconfig: {}", innermost(&e))))?;
        Ok(Cluster { client, namespace })
    }

    async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        let asked = self.context.is_some() || self.cluster.is_some() || self.user.is_some();
        let file = match &self.kubeconfig {
            Some(file) => Some(Kubeconfig::read_from(file).map_err(|e| Error::usage(format!("{}: {}", file.display(), innermost(&e))))?),
            None if asked => Some(Kubeconfig::read().map_err(|e| Error::usage(format!("cannot read the kubeconfig: {}", innermost(&e))))?),
            None => None,
        };
        let Some(file) = file else {
            return Config::infer()
                .await
                .map_err(|e| Error::failed(format!("there is no cluster: no kubeconfig, and this is no pod ({})", innermost(&e))));
        };
        if let Some(context) = &self.context
            && !file.contexts.iter().any(|c| &c.name == context)
        {
            let known = file.contexts.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            return Err(Error::usage(format!("the kubeconfig has no context '{context}'{}", similar(context, &known))));
        }
        Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|e| Error::usage(format!("cannot use the kubeconfig: {}", innermost(&e))))
    }
}

/// `: did you mean 'x'?`, or the names that there are, if they are few.
pub fn similar(name: &str, known: &[String]) -> String {
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min();
    let contains = || known.iter().find(|k| k.contains(name));
    match best.filter(|(distance, k)| *distance <= 2.max(k.len() / 3)).map(|(_, k)| k).or_else(contains) {
        Some(name) => format!(": did you mean '{name}'?"),
        None if !known.is_empty() && known.len() <= 8 => format!("; there is {}", known.join(", ")),
        None => String::new(),
    }
}

impl Cluster {
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn list<K>(&self, params: &ListParams) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let found = self.api::<K>().list(params).await;
        found.map(|list| list.items).map_err(|e| Error::kube(&format!("list {}", K::plural(&())), &e))
    }

    /// A StreamingDeployment by its name.
    ///
    /// # Errors
    /// If there is none: with one of a similar name, or where there is one.
    pub async fn deployment(&self, name: &str) -> Result<StreamingDeployment> {
        let name = ["sdep/", "streamingdeployment/", "streamingdeployments/"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
        let found = self.api::<StreamingDeployment>().get_opt(name).await;
        match found.map_err(|e| Error::kube(&format!("read the StreamingDeployment {name}"), &e))? {
            Some(deployment) => Ok(deployment),
            None => Err(self.missing(name).await),
        }
    }

    async fn missing(&self, name: &str) -> Error {
        let here = match self.api::<StreamingDeployment>().list_metadata(&ListParams::default()).await {
            Ok(list) => list.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Error::failed(
                    "this cluster knows no StreamingDeployments: is Sluice installed? (kubectl apply --server-side -f manifests/install.yaml)",
                );
            }
            Err(_) => vec![],
        };
        let mut text = format!("there is no StreamingDeployment '{name}' in the namespace '{}'", self.namespace);
        // Who may not look elsewhere is told nothing of it.
        let all: Api<StreamingDeployment> = Api::all(self.client.clone());
        let elsewhere = all.list_metadata(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
        match elsewhere.ok().and_then(|list| list.items.first().and_then(ResourceExt::namespace)) {
            Some(namespace) => text.push_str(&format!("; there is one in '{namespace}': add -n {namespace}")),
            None => text.push_str(&similar(name, &here)),
        }
        Error::usage(text)
    }

    /// Where the job of a deployment runs.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn place(&self, deployment: &StreamingDeployment) -> Result<Place> {
        if deployment.spec.session_cluster_ref.is_none() {
            return Ok(Place { pods: self.pods(deployment).await?, in_session: None });
        }
        let pods = match deployment.status.as_ref().and_then(|s| s.worker.as_ref()) {
            Some(worker) => {
                let found = self.api::<Pod>().get_opt(worker).await;
                found.map_err(|e| Error::kube(&format!("read the pod {worker}"), &e))?.into_iter().collect()
            }
            None => vec![],
        };
        Ok(Place { pods, in_session: Some(deployment.name_any()) })
    }

    /// Pods of a deployment's current revision, the newest first.
    async fn pods(&self, deployment: &StreamingDeployment) -> Result<Vec<Pod>> {
        let current = deployment.status.as_ref().and_then(|s| s.revision).unwrap_or_default().current;
        let selector = names::job_pods(&deployment.name_any(), Some(current));
        let mut pods: Vec<Pod> = self.list(&ListParams::default().labels(&selector)).await?;
        pods.sort_by_key(|p| std::cmp::Reverse(p.metadata.creation_timestamp.clone()));
        Ok(pods)
    }

    /// Asks a pod's REST API, through the API server.
    ///
    /// # Errors
    /// What the API server or the pod has against it.
    pub async fn ask(&self, pod: &str, path: &str) -> Result<String> {
        let url = format!("/api/v1/namespaces/{}/pods/{pod}:{}/proxy{path}", self.namespace, names::REST_PORT);
        let request = http::Request::get(url).body(vec![]).map_err(|e| Error::failed(e.to_string()))?;
        self.client.request_text(request).await.map_err(|e| match &e {
            kube::Error::Api(status) if status.code == 403 => {
                Error::failed(format!("you may not ask the job's REST API: that needs the right to get pods/proxy ({})", status.message))
            }
            _ => Error::kube(&format!("ask the pod {pod}"), &e),
        })
    }
}

/// The pods that run a job, the newest first; in a session it is one, which runs others, too.
#[derive(Default)]
pub struct Place {
    pub pods: Vec<Pod>,
    /// The job's name in a session.
    pub in_session: Option<String>,
}

impl Place {
    /// A pod that runs and is not going away.
    pub fn running(&self) -> Option<&Pod> {
        running(&self.pods)
    }

    /// Where a pod says how the job is.
    pub fn job(&self) -> String {
        self.in_session.as_ref().map_or_else(|| "/api/v1/job".to_owned(), |name| names::session_job("", name))
    }

    /// Where it says what state the job has.
    pub fn state(&self) -> String {
        self.in_session.as_ref().map_or_else(|| "/api/v1/state".to_owned(), |name| format!("{}/state", names::session_job("", name)))
    }

    /// Whether a line of a pod's metrics is the job's.
    pub fn has(&self, metric: &str) -> bool {
        self.in_session.as_ref().is_none_or(|name| metric.contains(&format!("{{job_name=\"{name}\"")))
    }
}

fn running(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).find(|p| {
        let containers = p.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        containers.into_iter().flatten().any(|c| c.name == names::CONTAINER && c.state.as_ref().is_some_and(|s| s.running.is_some()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_a_session_share_its_pod() {
        let (own, shared) = (Place::default(), Place { in_session: Some("a".into()), ..Place::default() });
        assert_eq!((own.job(), own.state()), ("/api/v1/job".into(), "/api/v1/state".into()));
        assert_eq!((shared.job(), shared.state()), ("/api/v1/jobs/a".into(), "/api/v1/jobs/a/state".into()));
        let line = |job: &str| format!("lag{{job_name=\"{job}\",split=\"x\"}} 1");
        assert!(own.has("lag 1") && shared.has(&line("a")) && !shared.has(&line("ab")) && !shared.has("slots 3"));
    }

    #[test]
    fn names_that_are_meant() {
        let known = ["standalone-etl-anomaly", "pizza", "cpu-filtering"].map(str::to_owned);
        for (name, says) in [
            ("standalone-etl-anomly", ": did you mean 'standalone-etl-anomaly'?"),
            ("piza", ": did you mean 'pizza'?"),
            ("anomaly", ": did you mean 'standalone-etl-anomaly'?"),
            ("x", "; there is standalone-etl-anomaly, pizza, cpu-filtering"),
        ] {
            assert_eq!(similar(name, &known), says, "{name}");
        }
        assert_eq!(similar("x", &[]), "");
    }
}
