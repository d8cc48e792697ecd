//! kubectl.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use apiserver::Double;
use serde_json::json;

use super::{PATIENCE, double};

struct Kubectl {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Kubectl {
    fn new(double: &Double) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        double.write_kubeconfig(&config, Some("gateway")).unwrap();
        Self { folder, config }
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("kubectl")
            .args(arguments)
            .env("KUBECONFIG", &self.config)
            .env("HOME", self.folder.path())
            .output()
            .expect("kubectl is on the machine");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// A table's cells, line by line.
    fn table(&self, arguments: &[&str]) -> Vec<Vec<String>> {
        let text = self.run(arguments);
        text.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| !line.is_empty())
            .collect()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: tidegate-public
  tls: [{hosts: [a.example]}]
  rules:
  - host: a.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: tidegate.io/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: ["203.0.113.0/29"], visibility: public}
"#;

#[test]
fn get_prints_what_a_user_expects() {
    let double = double();
    let kubectl = Kubectl::new(&double);
    let file = kubectl.file("all.yaml", MANIFESTS);
    kubectl.run(&["apply", "-f", &file]);
    double.change("ingresses.networking.k8s.io", "default", "web", |ingress| {
        ingress["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
    });
    double
        .put(json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "EdgeGateway",
            "metadata": {"name": "edge-a"},
            "spec": {},
            "status": {
                "underlayAddresses": ["192.0.2.1", "192.0.2.2"],
                "vips": ["203.0.113.1"],
                "version": "0.1.0",
                "conditions": [
                    {"type": "Other", "status": "False"},
                    {"type": "Ready", "status": "True"},
                ],
            },
        }))
        .unwrap();
    let lines =
        kubectl.table(&["get", "ingress,svc,vpnconnections,addresspools,edgegateways", "-A"]);
    let line = |name: &str| -> &Vec<String> {
        let found = lines.iter().find(|line| line.iter().any(|cell| cell == name));
        found.unwrap_or_else(|| panic!("{name} in {lines:?}"))
    };
    let ingress = line("ingress.networking.k8s.io/web");
    assert_eq!(ingress[2..7], ["tidegate-public", "a.example", "203.0.113.1", "80,", "443"]);
    let service = line("service/web");
    assert_eq!(service[2], "LoadBalancer");
    assert_eq!(service[4], "<pending>");
    assert!(service[5].starts_with("80:3"), "{service:?}");
    assert_eq!(line("addresspool.tidegate.io/public")[1..3], ["public", "[\"203.0.113.0/29\"]"]);
    let edge = line("edgegateway.tidegate.io/edge-a");
    assert_eq!(edge[1..3], ["True", "192.0.2.1"]);
    assert!(edge.contains(&"0.1.0".to_owned()));
}

#[test]
fn apply_notices_what_changed() {
    let double = double();
    let kubectl = Kubectl::new(&double);
    let file = kubectl.file("all.yaml", MANIFESTS);
    let changed = kubectl.file("changed.yaml", &MANIFESTS.replace("8080", "9090"));
    assert!(kubectl.run(&["apply", "-f", &file]).contains("service/web created"));
    assert!(kubectl.run(&["apply", "-f", &file]).contains("service/web unchanged"));
    assert!(kubectl.run(&["apply", "-f", &changed]).contains("service/web configured"));
    let service = double.get("services", "default", "web").unwrap();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 9090);
    assert!(service["spec"]["ports"][0]["nodePort"].is_u64(), "what was allocated stays");

    let other = ["apply", "--server-side", "--field-manager=other", "-f"];
    let conflict = kubectl.try_run(&[&other[..], &[file.as_str()]].concat()).unwrap_err();
    assert!(conflict.contains(".spec.ports[port=80,protocol=\"TCP\"].targetPort"), "{conflict}");
    kubectl.run(&[&other[..], &[file.as_str(), "--force-conflicts"]].concat());
    let service = double.get("services", "default", "web").unwrap();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
}

#[test]
fn describe_shows_events_and_delete_deletes() {
    let double = double();
    let kubectl = Kubectl::new(&double);
    let file = kubectl.file("all.yaml", MANIFESTS);
    kubectl.run(&["apply", "-f", &file]);
    let service = double.get("services", "default", "web").unwrap();
    double
        .put(json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "web.1", "namespace": "default"},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Service", "name": "web", "namespace": "default",
                "uid": service["metadata"]["uid"],
            },
            "type": "Warning",
            "reason": "PoolExhausted",
            "message": "no address is free",
            "source": {"component": "tidegate"},
            "firstTimestamp": service["metadata"]["creationTimestamp"],
            "lastTimestamp": service["metadata"]["creationTimestamp"],
            "count": 1,
        }))
        .unwrap();
    let described = kubectl.run(&["describe", "service", "web"]);
    assert!(described.contains("PoolExhausted"), "{described}");
    assert!(kubectl.run(&["describe", "ingress", "web"]).contains("a.example"));
    assert!(kubectl.run(&["describe", "addresspool", "public"]).contains("203.0.113.0/29"));
    let events = kubectl.run(&["get", "events"]);
    assert!(events.contains("service/web") && events.contains("no address is free"), "{events}");

    kubectl.run(&["delete", "-f", &file]);
    assert!(double.list("services").is_empty());
    assert!(double.list("addresspools.tidegate.io").is_empty());
}

#[test]
fn what_kubectl_sends_as_protobuf_is_understood() {
    let double = double();
    let kubectl = Kubectl::new(&double);
    kubectl.run(&["create", "namespace", "team"]);
    kubectl.run(&["-n", "team", "create", "configmap", "map", "--from-literal=a=b"]);
    kubectl.run(&["-n", "team", "create", "secret", "generic", "psk", "--from-literal=psk=secret"]);
    let secret = double.get("secrets", "team", "psk").unwrap();
    assert_eq!(secret["data"]["psk"], "c2VjcmV0");
    assert_eq!(double.get("configmaps", "team", "map").unwrap()["data"]["a"], "b");
    assert_eq!(kubectl.run(&["auth", "can-i", "list", "secrets"]).trim(), "yes");
    double.deny(apiserver::Denial {
        verbs: vec!["list".to_owned()],
        resource: "secrets".to_owned(),
        ..apiserver::Denial::default()
    });
    assert!(kubectl.try_run(&["auth", "can-i", "list", "secrets"]).is_err());
    assert!(kubectl.run(&["auth", "can-i", "--list"]).contains("addresspools.tidegate.io"));
}

struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it runs until then");
    }
}

#[test]
fn the_program_loads_a_directory_and_writes_a_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    std::fs::write(manifests.join("all.yaml"), MANIFESTS).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_apiserver-double"))
        .args(["--listen", "127.0.0.1:0", "--user", "gateway=secret", "--load"])
        .arg(&manifests)
        .arg("--kubeconfig")
        .arg(&config)
        .spawn()
        .unwrap();
    let _process = Process(child);
    let deadline = Instant::now() + PATIENCE;
    while !config.exists() {
        assert!(Instant::now() < deadline, "the kubeconfig is written in time");
        std::thread::sleep(Duration::from_millis(10));
    }
    let kubectl = Kubectl { folder, config };
    let lines = kubectl.table(&["get", "services,ingresses,addresspools", "--no-headers"]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        kubectl.run(&["wait", "--for=condition=Established", "--all", "crd"]).lines().count(),
        10
    );
}
