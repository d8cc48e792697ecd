//! The same objects from a directory and from the API make the same set and the same snapshot.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Double, Options};
use cluster::watch::{self, Pace, What};
use ingest::{Delivery, ObjectSet};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::settings::FailSafe;
use model::{AlbKind, AlbSettings, L4Settings, PortRange, Settings, VpnSettings};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All manifests that people are shown.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    ["quickstart/manifests", "samples", "samples-l4", "samples-vpn"]
        .map(|folder| root.join(folder))
        .into()
}

async fn through_the_api(folder: &Path) -> Delivery {
    let double = Double::start(Options::default()).unwrap();
    double.load(folder).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kubeconfig");
    double.write_kubeconfig(&path, None).unwrap();
    let options = cluster::Options { kubeconfig: Some(path), ..cluster::Options::default() };
    let cluster = cluster::connect(&options).await.unwrap();
    let stop = CancellationToken::new();
    let (tasks, pace) = (TaskTracker::new(), Pace::default());
    let mut watching = watch::start(cluster.client, What::gateway(&[]), pace, &tasks, stop.clone());
    let told = tokio::time::timeout(Duration::from_secs(60), watching.first()).await;
    assert!(told.unwrap());
    let delivery = Delivery::clone(&watching.deliveries.borrow());
    stop.cancel();
    delivery
}

/// Without what only a server sets, and what isn't kept of what it tells.
fn trim(set: &mut ObjectSet, like: &ObjectSet) {
    fn meta(meta: &mut ObjectMeta) {
        meta.uid = None;
        meta.creation_timestamp = None;
        meta.generation = None;
    }
    macro_rules! all {
        ($($map:ident),*) => {
            $(set.$map.values_mut().for_each(|object| meta(&mut Arc::make_mut(object).metadata));)*
        };
    }
    all!(ingresses, ingress_classes, services, endpoint_slices, secrets, namespaces, nodes);
    all!(pools, vpn, edges, ipam_blocks);
    set.calico.policies.values_mut().for_each(|object| meta(&mut object.metadata));
    set.calico.endpoints.values_mut().for_each(|object| meta(&mut object.metadata));
    set.calico.sets.values_mut().for_each(|object| meta(&mut object.metadata));
    for slice in set.endpoint_slices.values_mut() {
        for endpoint in &mut Arc::make_mut(slice).endpoints {
            endpoint.target_ref = None;
            endpoint.hostname = None;
        }
    }
    for namespace in set.namespaces.values_mut() {
        let namespace = Arc::make_mut(namespace);
        (namespace.spec, namespace.status) = (None, None);
        // Set by the server, too.
        namespace.metadata.labels.as_mut().map(|all| all.remove("kubernetes.io/metadata.name"));
        namespace.metadata.labels.take_if(|all| all.is_empty());
    }
    for secret in set.secrets.values_mut() {
        // The double has loaded them as they are written.
        let secret = Arc::make_mut(secret);
        let texts = secret.string_data.take().into_iter().flatten();
        let bytes = texts.map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
    set.namespaces.retain(|name, _| like.namespaces.contains_key(name));
    // Others are of no use.
    set.secrets.retain(|key, _| like.secrets.contains_key(key));
    set.origins.clear();
}

fn settings() -> Settings {
    let alb = |kind, class: &str| AlbSettings {
        kind,
        ingress_class: class.to_owned(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    let albs =
        vec![alb(AlbKind::Public, "tidegate-public"), alb(AlbKind::Private, "tidegate-private")];
    let l4 = L4Settings {
        node_name: "edge-1".to_owned(),
        public: vec!["eth0".to_owned()],
        private: vec!["eth1".to_owned()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/edge".to_owned(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    Settings { albs, l4: Some(l4), vpn: Some(VpnSettings::default()), ..Settings::default() }
}

#[tokio::test]
async fn manifests_are_the_same_objects_from_a_directory_and_from_the_api() {
    for folder in folders() {
        let read = source::directory::read(&folder).unwrap();
        let told = through_the_api(&folder).await;
        assert_eq!(told.diagnostics, [], "{}", folder.display());
        let (mut read, mut told) = (read.objects, told.objects);
        let (like_read, like_told) = (read.clone(), told.clone());
        trim(&mut read, &like_told);
        trim(&mut told, &like_read);
        macro_rules! same {
            ($($map:ident),*) => {
                $(assert_eq!(read.$map, told.$map, "{}: {}", folder.display(), stringify!($map));)*
            };
        }
        same!(ingresses, ingress_classes, services, endpoint_slices, secrets, namespaces, nodes);
        same!(pools, vpn, edges, ipam_blocks, calico);
        assert!(!read.is_empty());
        let settings = settings();
        let (from_read, findings) = ingest::ingest(&read, &settings);
        assert_eq!((from_read, findings), ingest::ingest(&told, &settings), "{}", folder.display());
    }
}
