//! From objects in the API server to what stands there in the end, as kubectl shows it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use apiserver::Double;
use cluster::watch::{Pace, Watching, What};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::shared::Shared;
use super::super::{Handle, Options, start};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

const OBJECTS: &str = "
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: site, namespace: shop}
spec:
  remote: {gateway: 198.51.100.1, subnets: [10.20.0.0/16]}
  auth: {psk: {secretName: site}}
---
apiVersion: v1
kind: Secret
metadata: {name: site, namespace: shop}
type: Opaque
data: {psk: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}
---
apiVersion: v1
kind: Service
metadata: {name: taken, namespace: shop}
spec: {type: LoadBalancer, loadBalancerClass: example.org/other, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: tidegate-public}
spec: {controller: tidegate.io/ingress-public}
";

/// An edge without planes: it plans, holds what it plans, and writes back.
struct Edge {
    handle: Handle,
    leader: watch::Sender<bool>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Edge {
    async fn start(name: &'static str, kubeconfig: &Path, leads: bool) -> Self {
        let options = cluster::Options {
            kubeconfig: Some(kubeconfig.to_owned()),
            agent: name.to_owned(),
            namespace: Some("default".to_owned()),
            ..cluster::Options::default()
        };
        let client = cluster::connect(&options).await.unwrap().client;
        let mut context = World::new("").context;
        context.name = name.to_owned();
        let (leader, leads) = watch::channel(leads);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let what = What::gateway(&[]);
        let watching =
            cluster::watch::start(client.clone(), what, Pace::default(), &tasks, stop.clone());
        let shared = Shared::start(
            client.clone(),
            "default".to_owned(),
            Allocations::default(),
            leads.clone(),
            stop.clone(),
        );
        let settings = context.settings.clone();
        let handle = start(Options { client, context, leader: leads.clone(), vpn: None });
        let facts = handle.facts();
        let task = tokio::spawn(follow(name, watching, shared, (settings, leads), facts));
        Self { handle, leader, stop, task }
    }

    async fn end(self) {
        self.handle.stop().await;
        self.stop.cancel();
        self.task.abort();
    }
}

/// What the control side of an edge does.
async fn follow(
    name: &'static str,
    mut watching: Watching,
    mut shared: Shared,
    (settings, leads): (Settings, watch::Receiver<bool>),
    facts: watch::Sender<Facts>,
) {
    watching.first().await;
    let mut planner = Planner::new(settings, Allocations::default());
    loop {
        let delivery = Arc::clone(&watching.deliveries.borrow_and_update());
        planner.share(shared.basis());
        let planned = planner.plan(&delivery, &[]);
        if let Some(proposal) = &planned.proposal {
            shared.propose(proposal);
        }
        let l4 = planned.l4.map(|(plan, _)| plan).unwrap_or_default();
        let vips: BTreeSet<IpAddr> = match *leads.borrow() {
            true => l4.vips.iter().map(|vip| vip.address).collect(),
            false => BTreeSet::new(),
        };
        let holders = Holders {
            live: ["edge-a".to_owned(), "edge-b".to_owned()].into(),
            vips: vips.iter().map(|vip| (*vip, name.to_owned())).collect(),
            vpn: match *leads.borrow() {
                true => delivery.objects.vpn.keys().map(|key| (key.clone(), name.into())).collect(),
                false => BTreeMap::new(),
            },
        };
        facts.send_replace(Facts {
            delivery,
            l4: Some(l4),
            planned: planned.diagnostics,
            vips: Arc::new(vips),
            holders: Some(Arc::new(holders)),
            overlay: Arc::new(Overlay { underlay: vec![ip("10.0.0.1")], ..Overlay::default() }),
            joined: true,
            ready: true,
            ..Facts::default()
        });
        tokio::select! {
            changed = watching.deliveries.changed() => if changed.is_err() { return },
            changed = shared.changed() => if changed.is_err() { return },
        }
    }
}

struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    async fn run(&self, arguments: &str) -> String {
        let (kubeconfig, words) = (self.kubeconfig.clone(), arguments.to_owned());
        let run = move || {
            Command::new("kubectl")
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .args(words.split_whitespace())
                .output()
                .expect("kubectl is there")
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The columns of one line of a table.
fn line<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(name)).collect();
    assert_eq!(lines.len(), 1, "{name} in\n{table}");
    lines[0].split_whitespace().collect()
}

fn address(double: &Double, name: &str) -> Option<String> {
    let service = double.get("services", "shop", name)?;
    Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_what_a_user_expects_and_a_released_address_goes_to_who_waits() {
    let double = Double::start(apiserver::Options::default()).unwrap();
    let pool = POOL.replace("192.0.2.0/30", "192.0.2.0-192.0.2.5");
    let waits = service("waits").replace("2026-01-01", "2026-02-01");
    let all = [&*pool, "---", OBJECTS, &service("a"), &service("b"), &service("c"), &service("d")];
    double.put_yaml(&all.join("\n")).unwrap();
    double.put_yaml(&format!("{}{waits}", INGRESS.trim())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    double.write_kubeconfig(&kubeconfig, None).unwrap();
    let leading = Edge::start("edge-a", &kubeconfig, true).await;
    let other = Edge::start("edge-b", &kubeconfig, false).await;
    until("all addresses given out", || {
        ["a", "b", "c", "d"].iter().all(|name| address(&double, name).is_some())
            && double.list("events").iter().any(|event| event["reason"] == "AddressPending")
            && double
                .get("edgegateways.tidegate.io", "", "edge-b")
                .is_some_and(|edge| edge["status"]["conditions"][0]["status"] == "True")
            && double
                .get("vpnconnections.tidegate.io", "shop", "site")
                .is_some_and(|vpn| vpn["status"]["state"].is_string())
    })
    .await;
    let kubectl = Kubectl { kubeconfig };
    let services = kubectl.run("get svc -n shop").await;
    println!("{services}");
    for (name, ip) in [("a ", "192.0.2.2"), ("d ", "192.0.2.5"), ("waits", "<pending>")] {
        assert_eq!(line(&services, name)[3], ip, "{services}");
    }
    assert_eq!(line(&services, "taken")[3], "<pending>");
    let ingresses = kubectl.run("get ingress -n shop").await;
    println!("{ingresses}");
    assert!(line(&ingresses, "web").contains(&"192.0.2.1"), "{ingresses}");
    assert!(!line(&ingresses, "theirs").contains(&"192.0.2.1"), "{ingresses}");
    let own = kubectl.run("get addresspools,edgegateways").await;
    println!("{own}");
    assert!(line(&own, "addresspool.tidegate.io/public").contains(&"0"), "{own}");
    let edge = line(&own, "edgegateway.tidegate.io/edge-a");
    assert_eq!(&edge[1..4], ["True", "false", "10.0.0.1"], "{own}");
    assert!(edge[4].contains("192.0.2.1"), "{own}");
    let vpn = kubectl.run("get vpnconnections -n shop").await;
    println!("{vpn}");
    assert_eq!(&line(&vpn, "site")[1..5], ["198.51.100.1", "[\"10.20.0.0/16\"]", "Down", "edge-a"]);
    let events = kubectl.run("get events -n shop").await;
    println!("{events}");
    assert!(line(&events, "AddressPending").contains(&"service/waits"), "{events}");

    // A Service goes: first its address is given up, then it goes, then another one has it.
    kubectl.run("delete svc -n shop b --wait=false").await;
    until("the address given to who waits", || {
        address(&double, "waits").as_deref() == Some("192.0.2.3")
    })
    .await;
    assert_eq!(double.get("services", "shop", "b"), None);

    // The leader changes: nothing moves.
    let before: Vec<_> = ["a", "c", "d", "waits"].map(|name| address(&double, name)).into();
    leading.leader.send_replace(false);
    other.leader.send_replace(true);
    kubectl.run("delete svc -n shop c --wait=false").await;
    until("the new leader lets it go", || double.get("services", "shop", "c").is_none()).await;
    let after: Vec<_> = ["a", "c", "d", "waits"].map(|name| address(&double, name)).into();
    assert_eq!([&after[0], &after[2], &after[3]], [&before[0], &before[2], &before[3]]);

    // The allocations are lost: they are made anew.
    double.remove("configmaps", "default", "tidegate-allocations");
    until("made anew", || double.get("configmaps", "default", "tidegate-allocations").is_some())
        .await;
    let object = double.get("configmaps", "default", "tidegate-allocations").unwrap();
    assert!(object["data"]["allocations.json"].as_str().unwrap().contains("shop/waits"));
    assert_eq!(address(&double, "waits").as_deref(), Some("192.0.2.3"));
    leading.end().await;
    other.end().await;
    let edge = double.get("edgegateways.tidegate.io", "", "edge-a").unwrap();
    assert_eq!(edge["status"]["conditions"][0]["reason"], "Stopping");
}
