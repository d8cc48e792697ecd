use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use netdev::{address, conntrack, neighbour, route, sysctl};

use crate::lab::with_peer;

/// Set where the test runs without rights.
const WITHOUT: &str = "NETDEV_TEST_WITHOUT_RIGHTS";

#[test]
fn missing_rights_are_named() {
    if std::env::var_os(WITHOUT).is_some() {
        return without_rights();
    }
    with_peer(|_| {
        // Where another user can run it.
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = folder.path().join("kernel");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--clear-groups", "--bounding-set=-all"])
            .arg(&program)
            .args(["--exact", "rights::missing_rights_are_named", "--nocapture"])
            .env(WITHOUT, "1")
            .output()
            .unwrap();
        let (out, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("1 passed"), "{out}{errors}");
    });
}

fn without_rights() {
    let ip = "192.0.2.9".parse().unwrap();
    let text = address::add("edge0", ip).unwrap_err().to_string();
    assert!(text.contains("edge0") && text.contains("CAP_NET_ADMIN"), "{text}");
    let text = neighbour::probe("edge0", ip, Duration::ZERO).unwrap_err().to_string();
    assert!(text.contains("edge0") && text.contains("CAP_NET_RAW"), "{text}");
    let text = conntrack::list(&conntrack::Filter::all()).unwrap_err().to_string();
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    let text = sysctl::set(&sysctl::forwarding_v6(), "7").unwrap_err().to_string();
    assert!(text.contains("net.ipv6.conf.all.forwarding") && text.contains("root"), "{text}");
    let text = route::add(&["192.0.2.0/28".parse().unwrap()]).remove(0).unwrap_err().to_string();
    assert!(text.contains("192.0.2.0/28") && text.contains("CAP_NET_ADMIN"), "{text}");
    // Looking is free.
    assert_eq!(route::list().unwrap(), []);
    assert!(!address::list().unwrap().is_empty());
}
