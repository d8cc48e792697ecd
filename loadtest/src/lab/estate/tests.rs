use super::*;

fn endpoint(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn apps_have_hosts_of_their_own_and_move_alone() {
    let mut estate = Estate::of(3, endpoint(1));
    let moved = estate.move_app(1, endpoint(2)).expect("an app");
    assert_eq!(moved.host(), "app-00001.bench.test");
    let added = estate.add(endpoint(3));
    assert_eq!(added.host(), "app-00003.bench.test");
    assert!(estate.move_app(4, endpoint(2)).is_none());
    let ports: Vec<_> = estate.apps().iter().map(|app| app.endpoint.port()).collect();
    assert_eq!(ports, [1, 2, 1, 3]);
}

#[test]
fn the_products_accept_their_configurations() {
    for (name, check) in [("nginx", "-t"), ("haproxy", "-c")] {
        let folder = tempfile::tempdir().expect("a folder");
        let ground =
            Ground { folder: folder.path().to_owned(), http: free_address().expect("an address") };
        let program = super::super::find_program(name).expect("a program");
        let product = steered(name, program).expect("a product");
        let launch = product.prepare(&ground, &Estate::of(1_000, endpoint(9))).expect("prepared");
        let output = std::process::Command::new(&launch.program.path)
            .args(&launch.program.arguments)
            .arg(check)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.to_lowercase().contains("warn"), "{name}: {said}");
    }
}
