use plan::l4::ServicePlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn service(name: &str, port: u16, local_endpoints: usize) -> ServicePlan {
    ServicePlan {
        service: ObjectKey::new("shop", name),
        load_balancer: true,
        addresses: Vec::new(),
        pending: None,
        ports: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        snat: false,
        local_only: true,
        health_check_node_port: Some(port),
        local_endpoints,
    }
}

fn plan(services: Vec<ServicePlan>) -> L4Plan {
    let services = services.into_iter().map(Arc::new).collect();
    L4Plan { services, ..L4Plan::default() }
}

async fn get(address: (&str, u16)) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_port_tells_of_local_endpoints_and_comes_and_goes_with_its_service() {
    let port = free_port();
    let mut ports = HealthPorts::default();
    ports.apply(&plan(vec![service("web", port, 2)]));
    for host in ["127.0.0.1", "::1"] {
        let answer = get((host, port)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-load-balancing-endpoint-weight: 2"), "{answer}");
        let body = r#"{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}"#;
        assert!(answer.ends_with(body), "{answer}");
    }
    ports.apply(&plan(vec![service("web", port, 0)]));
    let answer = get(("127.0.0.1", port)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"localEndpoints\":0"));
    ports.apply(&plan(Vec::new()));
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while get(("127.0.0.1", port)).await.is_some() {
        assert!(tokio::time::Instant::now() < end, "still open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_finding_until_it_is_free() {
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut ports = HealthPorts::default();
    let plan = plan(vec![service("a", port, 1)]);
    ports.apply(&plan);
    let found = ports.diagnostics()[0].to_string();
    assert!(
        found.contains("Service shop/a: spec.healthCheckNodePort")
            && found.contains(&port.to_string()),
        "{found}"
    );
    drop(taken);
    ports.apply(&plan);
    assert!(ports.diagnostics().is_empty() && get(("127.0.0.1", port)).await.is_some());
}

#[tokio::test]
async fn of_two_services_with_a_port_the_first_has_it() {
    let port = free_port();
    let mut ports = HealthPorts::default();
    ports.apply(&plan(vec![service("a", port, 1), service("b", port, 1)]));
    assert!(get(("127.0.0.1", port)).await.unwrap().contains("\"name\":\"a\""));
    assert!(ports.diagnostics()[0].to_string().contains("Service shop/b"));
}
