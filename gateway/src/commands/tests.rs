use std::fs;

use clap::Parser;
use tempfile::TempDir;

use super::*;

const GOOD: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: tidegate-public
  rules:
  - host: shop.example.com
    http:
      paths:
      - path: /cart
        pathType: Prefix
        backend: {service: {name: web, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}}]
ports: [{port: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
";

#[derive(Parser)]
enum Cli {
    Check(check::CheckArgs),
    Plan(plan::PlanArgs),
    Explain(explain::ExplainArgs),
}

/// Manifests in a directory of their own.
struct World(TempDir);

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    /// What a command writes, and whether it says that all is well.
    fn run(&self, arguments: &[&str]) -> Result<(String, bool)> {
        let manifests = self.0.path().to_str().unwrap();
        let manifests = ["--manifests", manifests];
        let line = ["gateway"].iter().chain(arguments).chain(&manifests);
        let mut out = Vec::new();
        let code = match Cli::try_parse_from(line)? {
            Cli::Check(args) => check::run(&args, &mut out)?,
            Cli::Plan(args) => plan::run(&args, &mut out)?,
            Cli::Explain(args) => explain::run(&args, &mut out)?,
        };
        Ok((String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS))
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.run(&arguments).unwrap().0).unwrap()
    }
}

#[test]
fn check_passes_where_nothing_is_wrong_and_counts_what_it_left_alone() {
    let (text, well) = World::new(&[("a.yaml", GOOD)]).run(&["check"]).unwrap();
    assert!(well, "{text}");
    assert_eq!(text, "left alone: 1 v1 ConfigMap\nobjects: 3, errors: 0, warnings: 0\n");
}

#[test]
fn check_fails_at_errors_and_names_each() {
    let world = World::new(&[("a.yaml", GOOD), ("b.yaml", "kind: ["), ("c.yaml", GOOD)]);
    let (text, well) = world.run(&["check"]).unwrap();
    assert!(!well, "{text}");
    assert!(text.contains("error: File") && text.contains("b.yaml:1"), "{text}");
    assert!(text.contains("error: Ingress shop/web: stands in"), "{text}");
    let report = world.json(&["check"]);
    assert_eq!(report["errors"], 4);
    assert_eq!(report["objects"], 3);
    assert_eq!(report["diagnostics"][0]["severity"], "error");
    assert!(report["diagnostics"][0]["location"]["line"].is_u64(), "{report}");
}

#[test]
fn warnings_fail_only_if_asked_for() {
    let misspelt = GOOD.replace("spec: {ports", "spec: {prots: 1, ports");
    let world = World::new(&[("a.yaml", &misspelt)]);
    let (text, well) = world.run(&["check"]).unwrap();
    assert!(well && text.contains("warning: Service shop/web: spec.prots"), "{text}");
    assert!(!world.run(&["check", "--strict"]).unwrap().1);
}

#[test]
fn plan_shows_routes_and_endpoints() {
    let world = World::new(&[("a.yaml", GOOD), ("broken.yaml", "kind: [")]);
    let (text, well) = world.run(&["plan"]).unwrap();
    assert!(well);
    let row = text.lines().find(|line| line.starts_with("shop.example.com")).unwrap();
    assert!(row.contains("Prefix /cart") && row.contains("shop/web:80"), "{row}");
    assert!(row.ends_with("Ingress shop/web spec.rules[0].http.paths[0]"), "{row}");
    assert!(text.contains("192.0.2.1:8080"), "{text}");
    let plan = world.json(&["plan"]);
    assert_eq!(plan["albs"]["public"]["routes"].as_array().unwrap().len(), 1);
    assert_eq!(plan["albs"]["private"]["routes"].as_array().unwrap().len(), 0);
}

#[test]
fn explain_answers_for_each_alb_or_the_one_asked_for() {
    let world = World::new(&[("a.yaml", GOOD)]);
    let url = "http://shop.example.com/cart/1";
    let both = world.json(&["explain", url]);
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(both[0]["route"]["ingress"]["name"], "web");
    assert_eq!(both[1]["outcome"], "not-found");
    let (text, well) = world.run(&["explain", url, "--alb", "public", "--from", "::1"]).unwrap();
    assert!(well && text.contains("192.0.2.1:8080") && !text.contains("private"), "{text}");
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let world = World::new(&[("a.yaml", GOOD)]);
    let error = format!("{:#}", world.run(&["explain", "ftp://x/"]).unwrap_err());
    assert!(error.contains("ftp://x/: the scheme is none of http, https"), "{error}");
    assert!(world.run(&["explain", "http://x/", "--from", "nobody"]).is_err());
    let world = World::new(&[("gateway.yaml", "a: 1")]);
    let config = world.0.path().join("gateway.yaml");
    let error = world.run(&["check", "--config", config.to_str().unwrap()]).unwrap_err();
    assert!(error.to_string().contains("apiVersion: is missing"), "{error}");
    assert!(Cli::try_parse_from(["gateway", "check"]).is_err());
}

#[test]
fn a_configuration_gives_manifests_and_albs() {
    let config = "\
apiVersion: tidegate.io/v1alpha1
kind: GatewayConfig
source: {manifests: m}
alb: {public: {ingressClass: other, listen: {addresses: [127.0.0.1], http: 0}}}
";
    let world = World::new(&[("gateway.yaml", config)]);
    fs::create_dir(world.0.path().join("m")).unwrap();
    fs::write(world.0.path().join("m/a.yaml"), GOOD).unwrap();
    let config = world.0.path().join("gateway.yaml");
    let mut out = Vec::new();
    let Ok(Cli::Plan(args)) = Cli::try_parse_from([
        "gateway",
        "plan",
        "--output",
        "json",
        "--config",
        config.to_str().unwrap(),
    ]) else {
        panic!("the arguments are right")
    };
    plan::run(&args, &mut out).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&out).unwrap();
    // The one ALB serves another class than the Ingress's.
    assert_eq!(plan["albs"].as_object().unwrap().len(), 1);
    assert_eq!(plan["albs"]["public"]["routes"].as_array().unwrap().len(), 0);
}

const VIPS: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: AddressPool
metadata: {name: portable}
spec:
  addresses: [198.51.100.16/29]
  reserved: [198.51.100.16, 198.51.100.17, 198.51.100.23]
  alb: 198.51.100.18
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 5432, nodePort: 30432}]}
---
apiVersion: v1
kind: Service
metadata: {name: mail, namespace: shop}
spec: {type: LoadBalancer, loadBalancerIP: 203.0.113.1, ports: [{port: 25}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.9], conditions: {ready: true}}]
ports: [{port: 5432}]
";

#[test]
fn plan_and_check_have_the_l4_plane_where_it_is_enabled() {
    let config = "\
apiVersion: tidegate.io/v1alpha1
kind: GatewayConfig
source: {manifests: m}
state: state
alb: {public: {listen: {addresses: [127.0.0.1], http: 0}}}
l4: {enabled: true, interfaces: {public: [eth0]}}
";
    let world = World::new(&[("gateway.yaml", config)]);
    for folder in ["m", "state"] {
        fs::create_dir(world.0.path().join(folder)).unwrap();
    }
    fs::write(world.0.path().join("m/vips.yaml"), VIPS).unwrap();
    let path = world.0.path().join("gateway.yaml");
    let run = |arguments: &[&str]| {
        let config = ["--config", path.to_str().unwrap()];
        let line = ["gateway"].iter().chain(arguments).chain(&config);
        let mut out = Vec::new();
        match Cli::try_parse_from(line).unwrap() {
            Cli::Check(args) => check::run(&args, &mut out).unwrap(),
            Cli::Plan(args) => plan::run(&args, &mut out).unwrap(),
            Cli::Explain(_) => panic!("nothing is explained here"),
        };
        String::from_utf8(out).unwrap()
    };
    let row = |text: &str, begins: &str| {
        let line = text.lines().find(|line| line.starts_with(begins)).expect("a row").to_owned();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = run(&["plan"]);
    assert_eq!(row(&text, "portable"), "portable 1 4");
    assert_eq!(row(&text, "198.51.100.18"), "198.51.100.18 portable public l2 the public ALB");
    assert_eq!(row(&text, "198.51.100.19"), "198.51.100.19 portable public l2 shop/db");
    assert_eq!(
        row(&text, "shop/db"),
        "shop/db TCP 5432 198.51.100.19:5432 *:30432 kernel, random 192.0.2.9:5432 -"
    );
    assert!(row(&text, "shop/mail").contains("203.0.113.1 is in no AddressPool"), "{text}");
    let checked = run(&["check"]);
    assert!(
        checked.contains("error: Service shop/mail: spec.loadBalancerIP \"203.0.113.1\""),
        "{checked}"
    );
    // What the gateway remembers is part of the plan.
    let remembered =
        r#"{"version": 1, "allocations": {"services": {"shop/db": ["198.51.100.21"]}}}"#;
    fs::write(world.0.path().join("state/allocations.json"), remembered).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&run(&["plan", "--output", "json"])).unwrap();
    assert_eq!(json["l4"]["allocations"]["services"]["shop/db"][0], "198.51.100.21");
    assert!(json["albs"]["public"]["routes"].is_array());
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
    assert_eq!(finish(Err(pipe.into())), ExitCode::SUCCESS);
    assert_eq!(finish(Err(anyhow::anyhow!("other"))), ExitCode::FAILURE);
}

#[test]
fn check_misses_the_access_logs_folder() {
    let config = |log: &str| {
        format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: GatewayConfig\nsource: {{manifests: m}}\n\
             alb: {{public: {{listen: {{addresses: [127.0.0.1], http: 0}}}}}}\n\
             accessLog: {{path: {log}}}\n"
        )
    };
    let world = World::new(&[
        ("bad.yaml", &config("nowhere/access.json")),
        ("good.yaml", &config("m/access.json")),
    ]);
    fs::create_dir(world.0.path().join("m")).unwrap();
    let check = |name: &str| {
        let config = world.0.path().join(name);
        let input = Input { config: Some(config), manifests: None };
        Loaded::from(&input).unwrap().diagnostics
    };
    assert_eq!(check("good.yaml"), []);
    let findings = check("bad.yaml");
    let text = findings[0].to_string();
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Error));
    assert!(text.contains("accessLog.path") && text.contains("nowhere/access.json"), "{text}");
    assert!(text.contains("make the folder") && text.contains("bad.yaml"), "{text}");
}

#[test]
fn plan_hints_at_findings_in_one_line() {
    let input = |world: &World| Input { config: None, manifests: Some(world.0.path().into()) };
    let world = World::new(&[("a.yaml", GOOD)]);
    assert_eq!(Loaded::from(&input(&world)).unwrap().hint(), None);
    let world = World::new(&[("a.yaml", GOOD), ("b.yaml", "kind: [")]);
    assert_eq!(
        Loaded::from(&input(&world)).unwrap().hint().unwrap(),
        "errors: 1, warnings: 0; `gateway check` prints them"
    );
}

const TUNNELS: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: hq}
spec:
  auth: {psk: {secretName: psk}}
  local: {subnets: [172.30.0.0/16]}
  remote: {gateway: 203.0.113.7, subnets: [10.20.0.0/16]}
  localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]
---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: old}
spec:
  ikeVersion: 1
  auth: {psk: {secretName: psk}}
  local: {subnets: [172.30.0.0/16]}
  remote: {gateway: 203.0.113.8, subnets: [10.30.0.0/16]}
---
apiVersion: v1
kind: Secret
metadata: {name: psk}
stringData: {psk: 3f0a9c7be1d24685aa70}
";

#[test]
fn tunnels_are_shown_with_what_is_refused_and_no_key() {
    let world = World::new(&[("a.yaml", TUNNELS)]);
    let (text, well) = world.run(&["check"]).unwrap();
    assert!(!well && text.contains("vpn connections: 1 good, 1 refused"), "{text}");
    assert!(text.contains("error: VpnConnection default/old: spec.ikeVersion"), "{text}");
    let (text, _) = world.run(&["plan"]).unwrap();
    let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(row("default/hq ").contains("good"), "{text}");
    assert!(row("default/old ").contains("refused"), "{text}");
    assert!(row("default/hq hq").contains("local 172.30.0.0/16=10.130.0.0/16"), "{text}");
    assert!(text.contains("GUARDED: 10.20.0.0/16 10.30.0.0/16"), "{text}");
    assert!(text.contains("counter name guard_out drop"), "{text}");
    let plan = world.json(&["plan"]);
    let child = &plan["vpn"]["connections"]["default/hq"]["children"][0];
    assert_eq!(child["localSelectors"][0], "10.130.0.0/16");
    assert_eq!(plan["vpn"]["refused"][0], "default/old");
    assert_eq!(world.json(&["check"])["vpn"]["good"][0], "default/hq");
    assert!(!text.contains("3f0a9c7be1d24685aa70") && !plan.to_string().contains("3f0a9c7b"));
}
