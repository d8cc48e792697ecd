//! A client for the API: from within the cluster, or as a kubeconfig says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::Client;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

mod fault;
mod transport;

pub use fault::Fault;
use fault::Places;
use transport::Transport;

/// The namespace where nothing names another.
pub const NAMESPACE: &str = "tidegate";

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(3);

/// How to reach the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// None for the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// One of the kubeconfig's contexts; none for its current one.
    pub context: Option<String>,
    /// Where Leases and the like are; none for the service account's, or [`NAMESPACE`].
    pub namespace: Option<String>,
    /// Who asks, such as `tidegate-gateway/0.1.0`.
    pub agent: String,
    /// Where these options stand in the configuration, such as `source.kubernetes`; for errors.
    pub field: String,
}

/// A way to the API.
#[derive(Clone)]
pub struct Cluster {
    /// Bound to the runtime in which it was made. Tries nothing twice by itself.
    pub client: Client,
    /// Where Leases and the like are.
    pub namespace: String,
    /// Where the API is, for people.
    pub server: String,
    /// The address or the name in that.
    pub host: String,
}

/// The API can't be reached as configured. Whether it answers is another matter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {place}: {reason}; {remedy}")]
pub struct ConnectError {
    /// The configuration's key.
    pub field: String,
    /// The file or variable, perhaps with the key in it.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Makes a client. Asks the API nothing.
///
/// # Errors
/// Where the kubeconfig or the service account can't be used.
pub async fn connect(options: &Options) -> Result<Cluster, ConnectError> {
    let config = config(options).await?;
    let namespace = options.namespace.clone().or_else(own_namespace);
    let server = config.cluster_url.to_string();
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let places = options.places(&server);
    let transport = Transport::new(&config, options, places).map_err(|error| ConnectError {
        field: options.field.clone(),
        place: options.place(),
        reason: chain(&error),
        remedy: "correct the certificates, the token or the command that makes one".to_owned(),
    })?;
    let client = Client::new(transport, config.default_namespace);
    let namespace = namespace.unwrap_or_else(|| NAMESPACE.to_owned());
    Ok(Cluster { client, namespace, server, host })
}

/// What the kubeconfig or the service account says at present.
async fn config(options: &Options) -> Result<Config, ConnectError> {
    let mut config = match &options.kubeconfig {
        Some(path) => from_kubeconfig(path, options).await?,
        None => Config::incluster_env().map_err(|error| options.in_cluster(&error))?,
    };
    let agent = HeaderValue::from_str(&options.agent)
        .unwrap_or_else(|_| HeaderValue::from_static("tidegate"));
    config.headers.push((USER_AGENT, agent));
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}

async fn from_kubeconfig(path: &Path, options: &Options) -> Result<Config, ConnectError> {
    let of_file = |error| options.kubeconfig(path, &error);
    let file = Kubeconfig::read_from(path).map_err(of_file)?;
    let contexts: Vec<String> = file.contexts.iter().map(|context| context.name.clone()).collect();
    let choice = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    Config::from_custom_kubeconfig(file, &choice).await.map_err(|error| {
        let mut error = of_file(error);
        if options.context.is_some() && error.place.ends_with("contexts") {
            error.field = format!("{}.context", options.field);
            error.remedy = format!("write one of its contexts: {}", contexts.join(", "));
        }
        error
    })
}

/// The namespace of the pod that this runs in.
fn own_namespace() -> Option<String> {
    let text = std::fs::read_to_string(format!("{SERVICE_ACCOUNT}/namespace")).ok()?;
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

impl Options {
    /// Where its options come from, for people.
    fn place(&self) -> String {
        self.kubeconfig.as_ref().map_or_else(
            || format!("{SERVICE_ACCOUNT} (this pod's service account)"),
            |path| path.display().to_string(),
        )
    }

    /// Where what the API is asked with stands.
    fn places(&self, server: &str) -> Places {
        let (credentials, authority) = match &self.kubeconfig {
            Some(path) => {
                let path = path.display();
                let of = self.context.as_ref().map_or_else(
                    || "its current context".to_owned(),
                    |context| format!("the context {context}"),
                );
                (
                    format!("{path}: the user of {of}"),
                    format!("{path}: certificate-authority of {of}"),
                )
            }
            None => (
                format!("{SERVICE_ACCOUNT}/token (this pod's service account)"),
                format!("{SERVICE_ACCOUNT}/ca.crt"),
            ),
        };
        Places { server: server.to_owned(), credentials, authority }
    }

    fn in_cluster(&self, error: &InClusterError) -> ConnectError {
        let file = |name: &str| format!("{SERVICE_ACCOUNT}/{name}");
        let mount = "run in a pod whose service account's token is mounted, or name a kubeconfig";
        let (place, remedy) = match error {
            InClusterError::ReadEnvironmentVariable(_) => (
                "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT".to_owned(),
                "outside of a cluster, name a kubeconfig",
            ),
            InClusterError::ParseClusterPort(_) | InClusterError::ParseClusterUrl(_) => (
                "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT".to_owned(),
                "set them to the API's address and port, or leave them as the kubelet does",
            ),
            InClusterError::ReadDefaultNamespace(_) => (file("namespace"), mount),
            _ => (file("ca.crt"), mount),
        };
        let field = format!("{}.kubeconfig", self.field);
        ConnectError { field, place, reason: chain(error), remedy: remedy.to_owned() }
    }

    fn kubeconfig(&self, path: &Path, error: &KubeconfigError) -> ConnectError {
        use KubeconfigError as E;
        let (key, remedy) = match error {
            E::ReadConfig(..) | E::FindPath => {
                ("", "name a kubeconfig that this user may read, or none within the cluster")
            }
            E::CurrentContextNotSet => ("current-context", "set it, or name a context"),
            E::LoadContext(_) => ("contexts", "name one that it has"),
            E::LoadClusterOfContext(_) => ("clusters", "name a cluster that it has in the context"),
            E::MissingClusterUrl | E::ParseClusterUrl(_) => {
                ("clusters[].cluster.server", "write the API's URL, such as https://10.0.0.1:6443")
            }
            E::ParseProxyUrl(_) => ("clusters[].cluster.proxy-url", "correct or remove it"),
            E::LoadCertificateAuthority(_) | E::ParseCertificates(_) => (
                "clusters[].cluster.certificate-authority",
                "write a certificate in PEM, as base64 or in a file",
            ),
            E::LoadClientCertificate(_) => (
                "users[].user.client-certificate",
                "write a certificate in PEM, as base64 or in a file",
            ),
            E::LoadClientKey(_) => {
                ("users[].user.client-key", "write a key in PEM, as base64 or in a file")
            }
            _ => ("", "compare it with what `kubectl config view` prints"),
        };
        let file = path.display();
        let place = if key.is_empty() { file.to_string() } else { format!("{file}: {key}") };
        let field = format!("{}.kubeconfig", self.field);
        ConnectError { field, place, reason: chain(error), remedy: remedy.to_owned() }
    }
}

/// Why a request came to nothing, for people: a [`Fault`] where it is one.
pub fn reason(error: &kube::Error) -> String {
    chain(error)
}

/// An error with its causes, those that say the same left out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(fault) = fault::find(error) {
        return fault.to_string();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
