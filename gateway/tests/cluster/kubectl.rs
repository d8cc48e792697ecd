//! What a user sees.

use std::time::Duration;

use super::objects::{ALB, VIPS};
use super::world::World;

#[test]
fn kubectl_shows_addresses_states_and_edges() {
    let world = World::new("wireguard");
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    world.api.write_kubeconfig(&kubeconfig, None).unwrap();
    let cache = folder.path().join("cache");
    let get = |what: &str| {
        let arguments = [
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--cache-dir",
            cache.to_str().unwrap(),
            "get",
            what,
            "-A",
        ];
        world.lab.api().try_command("kubectl", &arguments, "").unwrap_or_else(|error| {
            panic!("kubectl: {error}; if it is missing, scripts/deps.sh installs it")
        })
    };
    let kinds = "ingress,svc,vpnconnections,addresspools,edgegateways";
    let wanted = [ALB, VIPS[0], VIPS[1], "edge-1", "edge-2"];
    let mut seen = String::new();
    let mut ended = std::time::Instant::now() + Duration::from_secs(15);
    world.within("kubectl shows it all", Duration::from_secs(20), || {
        seen = get(kinds);
        if std::time::Instant::now() > ended {
            println!("{seen}");
            ended += Duration::from_secs(60);
        }
        let connection = seen.lines().find(|line| line.contains("/hq"))?.to_lowercase();
        let all = wanted.iter().all(|word| seen.contains(word));
        (all && connection.contains(" established ") && connection.contains("edge-")).then_some(())
    });
    println!("$ kubectl get {kinds} -A\n{seen}");
    let line = |name: &str| seen.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("ingress.networking.k8s.io/web").contains(ALB), "{seen}");
    assert!(line("service/line").contains(VIPS[0]), "{seen}");
    assert!(line("service/other").contains(VIPS[1]), "{seen}");
    let vpn = world.vpn_vip();
    let holder = format!("edge-{}", world.holder(&vpn).unwrap());
    assert!(line("vpnconnection.tidegate.io/hq").contains(&holder), "{seen}");
    assert!(line(&format!("edgegateway.tidegate.io/{holder}")).contains(&vpn), "{seen}");
    println!("{}", get("events"));
}
