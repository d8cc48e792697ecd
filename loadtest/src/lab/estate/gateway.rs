//! The gateway under control: a directory with a file for each app, as `kubectl apply` takes it.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::{App, Estate, Ground, POOL, Steered, put};
use crate::lab::{CLIENT_IDLE_SECONDS, Launch, free_address, text, write};
use crate::system::child::{Program, Supervised};

const NAMESPACE: &str = "bench";

/// The gateway at a path.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    /// The executable.
    pub(super) program: PathBuf,
}

impl Steered for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn prepare(&self, ground: &Ground, estate: &Estate) -> anyhow::Result<Launch> {
        let Ground { folder, http } = ground;
        let manifests = folder.join("manifests");
        fs::create_dir(&manifests).with_context(|| format!("{}", manifests.display()))?;
        for app in estate.apps() {
            write(&manifests.join(file_name(app)), objects(app)?)?;
        }
        let (admin, https) = (free_address()?, free_address()?);
        let access_log = folder.join("access.log");
        let configuration = folder.join("gateway.yaml");
        let config = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "GatewayConfig",
            "source": { "manifests": text(&manifests)? },
            "alb": { "public": {
                "listen": { "addresses": [http.ip()], "http": http.port(), "https": https.port() },
                "sslRedirect": false,
                "timeouts": { "idle": format!("{CLIENT_IDLE_SECONDS}s") },
                "upstream": { "maxIdlePerEndpoint": POOL },
            } },
            "admin": { "listen": admin },
            "workers": 1,
            "state": text(&folder.join("state"))?,
            "accessLog": { "path": text(&access_log)? },
        });
        write(&configuration, serde_json::to_vec_pretty(&config).context("the configuration")?)?;
        Ok(Launch {
            program: Program {
                path: std::path::absolute(&self.program).context("the gateway's path")?,
                arguments: ["run", "--config", &text(&configuration)?].map(str::to_owned).into(),
            },
            output: folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: Some(admin),
        })
    }

    fn stage(&self, ground: &Ground, _: &Estate, changed: &App) -> anyhow::Result<()> {
        // The name of the place is kept beside it, for `apply`.
        write(&ground.folder.join("staged.name"), file_name(changed))?;
        write(&ground.folder.join("staged"), objects(changed)?)
    }

    fn apply(&self, ground: &Ground, _: &Supervised) -> anyhow::Result<()> {
        let name = fs::read_to_string(ground.folder.join("staged.name")).context("staged.name")?;
        put(&ground.folder.join("staged"), &ground.folder.join("manifests").join(name))
    }
}

fn file_name(app: &App) -> String {
    format!("{}.json", app.name())
}

/// An app's Service, EndpointSlice and Ingress.
fn objects(app: &App) -> anyhow::Result<Vec<u8>> {
    let name = app.name();
    let port = app.endpoint.port();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-1"),
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [app.endpoint.ip()], "conditions": { "ready": true } }],
    });
    let backend = json!({ "service": { "name": name, "port": { "number": 80 } } });
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "ingressClassName": "tidegate-public",
            "rules": [{
                "host": app.host(),
                "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
            }],
        },
    });
    let items: [Value; 3] = [service, slice, ingress];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    serde_json::to_vec_pretty(&list).context("manifests")
}
