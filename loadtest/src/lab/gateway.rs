//! Our own gateway, from Kubernetes manifests as its users write them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Bench, Launch, Product, first_line, free_address, text, write};
use crate::system::child::Program;

/// The name of the Service, its EndpointSlice and the Secret.
const NAMESPACE: &str = "bench";

/// The gateway at a path.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// The executable.
    pub(crate) path: PathBuf,
}

impl Product for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        if !self.path.is_file() {
            bail!(
                "{}: no such file: build it with `cargo build --release -p gateway`, \
                 or say where it is with --gateway",
                self.path.display()
            );
        }
        Ok(self.path.clone())
    }

    fn version(&self) -> anyhow::Result<String> {
        first_line(&self.locate()?, "--version")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        let manifests = bench.folder.join("manifests");
        fs::create_dir(&manifests).with_context(|| format!("{}", manifests.display()))?;
        write_list(&manifests.join("backend.json"), backend_objects(bench)?)?;
        write_list(&manifests.join("routes.json"), ingresses(bench))?;
        let admin = free_address()?;
        let access_log = bench.folder.join("access.log");
        let configuration = bench.folder.join("gateway.yaml");
        // JSON is YAML. What is not said here is at its default: limits, time-outs, metrics and
        // all forwarding headers are on, only the pool and the idle time are as with its peers.
        let config = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "GatewayConfig",
            "source": { "manifests": text(&manifests)? },
            "alb": { "public": {
                "listen": {
                    "addresses": [bench.http.ip()],
                    "http": bench.http.port(),
                    "https": bench.https.port(),
                },
                "sslRedirect": false,
                "timeouts": { "idle": format!("{}s", super::CLIENT_IDLE_SECONDS) },
                "upstream": { "maxIdlePerEndpoint": super::UPSTREAM_POOL },
            } },
            "admin": { "listen": admin },
            "workers": 1,
            "state": text(&bench.folder.join("state"))?,
            "accessLog": { "path": text(&access_log)? },
        });
        write(&configuration, serde_json::to_vec_pretty(&config).context("the configuration")?)?;
        Ok(Launch {
            program: Program {
                // Absolute: the process is started through another.
                path: std::path::absolute(self.locate()?).context("the gateway's path")?,
                arguments: ["run", "--config", &text(&configuration)?].map(str::to_owned).into(),
            },
            output: bench.folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: Some(admin),
        })
    }
}

/// The Service, its endpoint and the certificate.
fn backend_objects(bench: &Bench<'_>) -> anyhow::Result<Vec<Value>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("{}", path.display()));
    let (certificate, key) = (read(bench.certificate)?, read(bench.key)?);
    let port = bench.backend.port();
    Ok(vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "backend", "namespace": NAMESPACE },
            "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": port }] },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "backend-1",
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": "backend" },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [bench.backend.ip()], "conditions": { "ready": true } }],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": { "name": "certificate", "namespace": NAMESPACE },
            "data": { "tls.crt": BASE64.encode(certificate), "tls.key": BASE64.encode(key) },
        }),
    ])
}

/// One Ingress a host.
fn ingresses(bench: &Bench<'_>) -> Vec<Value> {
    let paths: Vec<_> = bench
        .site
        .paths()
        .iter()
        .map(|path| {
            json!({
                "path": path,
                "pathType": "Prefix",
                "backend": { "service": { "name": "backend", "port": { "number": 80 } } },
            })
        })
        .collect();
    let ingress = |(number, host): (usize, &String)| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": { "name": format!("site-{number:04}"), "namespace": NAMESPACE },
            "spec": {
                "ingressClassName": "tidegate-public",
                "tls": [{ "hosts": [host], "secretName": "certificate" }],
                "rules": [{ "host": host, "http": { "paths": paths } }],
            },
        })
    };
    bench.site.hosts().iter().enumerate().map(ingress).collect()
}

fn write_list(path: &Path, items: Vec<Value>) -> anyhow::Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    write(path, serde_json::to_vec_pretty(&list).context("manifests")?)
}

#[cfg(test)]
mod tests {
    use ingest::ObjectSet;
    use model::{AlbKind, AlbSettings};

    use super::*;
    use crate::lab::certificate::{Certificate, Key};
    use crate::lab::site::Site;

    #[test]
    fn the_planners_accept_every_route_of_the_manifests() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let certificate = Certificate::make(folder, Key::Ecdsa).expect("a certificate");
        let site = Site::with_routes(1_000);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8000));
        // Any file serves as the binary: it is not started.
        let gateway = Gateway { path: certificate.key.clone() };
        let bench = Bench {
            site: &site,
            backend: address,
            folder,
            certificate: &certificate.chain,
            key: &certificate.key,
            pair: &certificate.pair,
            http: address,
            https: address,
            connections: 1,
        };
        gateway.configure(&bench).expect("a configuration");

        let mut set = ObjectSet::default();
        for name in ["backend.json", "routes.json"] {
            let file = folder.join("manifests").join(name);
            let parsed = ingest::manifest::parse(name, &fs::read_to_string(file).expect(name));
            assert_eq!(parsed.diagnostics, []);
            parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
        }
        let albs = vec![AlbSettings {
            kind: AlbKind::Public,
            ingress_class: "tidegate-public".to_owned(),
            ssl_redirect: false,
            default_certificate: None,
            default_backend: None,
        }];
        let (snapshot, complaints) = ingest::ingest(
            &set,
            &model::Settings { albs: albs.clone(), ..model::Settings::default() },
        );
        assert_eq!(complaints, []);
        let (plan, complaints) = plan::l7::plan(&snapshot, &albs);
        assert_eq!(complaints, []);
        assert_eq!(plan.albs[&AlbKind::Public].routes.len(), 1_000);
        assert_eq!(plan.backends.len(), 1);
    }
}
