use std::time::Duration;

use super::*;

mod l4;
mod overlay;
mod vpn;

const HEAD: &str = "apiVersion: tidegate.io/v1alpha1\nkind: GatewayConfig\n";
const SOURCE: &str = "source: {manifests: m}\n";
const LISTEN: &str = "listen: {addresses: [\"127.0.0.1\"], http: 8080}";

fn parse(rest: &str) -> Result<Config, ConfigError> {
    Config::parse("f.yaml", &format!("{HEAD}{rest}"), Path::new("/etc/tidegate"))
}

/// A configuration that is right but for `rest`.
fn with(rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("{SOURCE}alb: {{public: {{{LISTEN}}}}}\n{rest}"))
}

/// The same, with more keys for the public ALB.
fn with_alb(rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("{SOURCE}alb:\n  public:\n    {LISTEN}\n    {rest}\n"))
}

#[track_caller]
fn refused(result: Result<Config, ConfigError>, line: u64, key: &str, parts: &[&str]) {
    let error = result.unwrap_err();
    let message = error.to_string();
    assert_eq!((error.line, error.key.as_str()), (line, key), "{message}");
    assert!(message.starts_with(&format!("f.yaml:{line}: {key}: ")), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = with("").unwrap();
    assert_eq!(config.source.manifests.as_deref(), Some(Path::new("/etc/tidegate/m")));
    assert_eq!(config.admin.listen, Some("127.0.0.1:9901".parse().unwrap()));
    assert_eq!(config.workers, Workers::Auto);
    assert_eq!(config.state, Path::new("/var/lib/tidegate"));
    assert_eq!(config.access_log.target(), Some(&Target::Stdout));
    assert_eq!(Duration::from(config.drain), Duration::from_secs(30));
    let alb = &config.alb.public;
    assert!(alb.enabled && alb.ssl_redirect && !config.alb.private.enabled);
    assert_eq!(
        (alb.limits.head_bytes, alb.limits.target_bytes, alb.limits.headers),
        (16384, 8192, 100)
    );
    assert_eq!((alb.limits.body_bytes, alb.limits.connections), (None, None));
    let t = &alb.timeouts;
    let seconds = [t.head, t.idle, t.connect, t.upstream_head, t.body_stall, t.tunnel]
        .map(|period| Duration::from(period).as_secs());
    assert_eq!(seconds, [15, 75, 5, 60, 60, 3600]);
    assert_eq!((alb.upstream.tries, alb.upstream.max_idle_per_endpoint), (3, 256));
    assert_eq!(alb.upstream.ejection.failures, 5);
    let settings = config.settings().albs;
    assert_eq!(settings.len(), 1);
    assert_eq!(settings[0].ingress_class, "tidegate-public");
}

#[test]
fn what_is_written_is_taken() {
    let config = parse(
        "\
source: {manifests: /abs}
alb:
  public: {enabled: false, listen: {http: 80}}
  private:
    enabled: true
    ingressClass: mine
    listen: {addresses: [\"::1\", \"10.0.0.1\"], https: 8443, publicHttps: 443}
    sslRedirect: false
    defaultCertificate: edge/tls
    defaultBackend: edge/web:http
    trustedProxies: [10.0.0.0/8, \"::1\", 192.168.1.7/24]
    timeouts: {head: 500ms, idle: 1m30s}
    limits: {headBytes: 65536, bodyBytes: 1048576, connections: 10}
workers: 3
state: state
accessLog: {path: log/access.json}
admin: {listen: null}
drain: 0s
l4: {enabled: false, interfaces: {public: [eth0]}, nodePortRange: 30000-32767}
overlay: {enabled: false, mode: auto}
",
    )
    .unwrap();
    let alb = &config.alb.private;
    assert_eq!(config.enabled_albs().map(|(kind, _)| kind).collect::<Vec<_>>(), [AlbKind::Private]);
    let settings = &config.settings().albs[0];
    assert_eq!((settings.ingress_class.as_str(), settings.ssl_redirect), ("mine", false));
    assert_eq!(settings.default_certificate, Some(ObjectKey::new("edge", "tls")));
    let backend = (ObjectKey::new("edge", "web"), "http".to_owned());
    assert_eq!(settings.default_backend, Some(backend));
    let proxies: Vec<String> = alb.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128", "192.168.1.0/24"]);
    assert_eq!((alb.listen.https, alb.listen.public_https), (Some(8443), Some(443)));
    assert_eq!(Duration::from(alb.timeouts.idle), Duration::from_secs(90));
    assert_eq!((alb.limits.body_bytes, alb.limits.connections), (Some(1 << 20), Some(10)));
    assert_eq!(config.workers.count(), 3);
    assert_eq!(config.source.manifests.as_deref(), Some(Path::new("/abs")));
    assert_eq!(config.state, Path::new("/etc/tidegate/state"));
    let log = Target::File("/etc/tidegate/log/access.json".into());
    assert_eq!(config.access_log.target(), Some(&log));
    assert_eq!(config.admin.listen, None);
    assert!(config.drain.is_zero());
    assert_eq!(with("accessLog: {path: \"off\"}\n").unwrap().access_log.target(), None);
}

#[test]
fn a_wrong_value_is_named_with_line_key_value_and_remedy() {
    for (text, key, parts) in [
        ("limits: {headBytes: 12}", "alb.public.limits.headBytes", vec!["12 is not from 1024"]),
        ("limits: {connections: 0}", "alb.public.limits.connections", vec!["0 is not from 1 to"]),
        ("upstream: {tries: 9}", "alb.public.upstream.tries", vec!["9 is not from 1 to 8"]),
        ("sslRedirect: yes", "alb.public.sslRedirect", vec!["\"yes\"", "expected true or false"]),
        (
            "timeouts: {head: 15}",
            "alb.public.timeouts.head",
            vec!["15 has no unit", "write \"15s\""],
        ),
        (
            "timeouts: {head: 15x}",
            "alb.public.timeouts.head",
            vec!["\"15x\"", "write it as \"30s\""],
        ),
        ("timeouts: {head: [1]}", "alb.public.timeouts.head", vec!["a time, such as \"30s\""]),
        ("limits: {bodyBytes: 8m}", "alb.public.limits.bodyBytes", vec!["a whole number from 0"]),
        ("limits: 8", "alb.public.limits", vec!["expected keys with their values"]),
        ("trustedProxies: ::1", "alb.public.trustedProxies", vec!["expected a list, such as"]),
        ("timeouts: {head: 0s}", "alb.public.timeouts.head", vec!["is 0s", "a longer time"]),
        (
            "trustedProxies: [10.0.0.0/8, x]",
            "alb.public.trustedProxies[1]",
            vec!["\"x\"", "10.0.0.0/8"],
        ),
        (
            "defaultCertificate: tls",
            "alb.public.defaultCertificate",
            vec!["\"tls\"", "namespace/name"],
        ),
        (
            "defaultBackend: a/b",
            "alb.public.defaultBackend",
            vec!["\"a/b\"", "namespace/name:port"],
        ),
        ("ingressClass: \"\"", "alb.public.ingressClass", vec!["is empty", "tidegate-public"]),
        (
            "upstream: {ejection: {maxTime: 5s}}",
            "alb.public.upstream.ejection.maxTime",
            vec!["is 5s, less than time, 10s"],
        ),
    ] {
        refused(with_alb(text), 7, key, &parts);
    }
    refused(with("drain: 30\n"), 5, "drain", &["30 has no unit; write \"30s\""]);
    let listen = |listen: &str| parse(&format!("{SOURCE}alb: {{public: {{listen: {listen}}}}}\n"));
    refused(
        listen("{addresses: [\"::1\", localhost], http: 80}"),
        4,
        "alb.public.listen.addresses[1]",
        &["\"localhost\" is no address; write one such as \"127.0.0.1\""],
    );
    refused(
        listen("{addresses: [\"::1\"], http: 70000}"),
        4,
        "alb.public.listen.http",
        &["`70000`, expected a whole number from 0 to 65535"],
    );
    refused(
        listen("{addresses: [\"::1\"], https: 8443, publicHttps: 0}"),
        4,
        "alb.public.listen.publicHttps",
        &["0 is not from 1 to 65535"],
    );
    refused(
        with("admin: {listen: \"::1\"}\n"),
        5,
        "admin.listen",
        &["\"::1\" is no address with a port; write one such as \"[::1]:9901\""],
    );
    refused(with("workers: 0\n"), 5, "workers", &["`0`", "\"auto\" or a number from 1 to 1024"]);
    refused(with("accessLog: {path: \"\"}\n"), 5, "accessLog.path", &["must not be empty"]);
}

#[test]
fn an_unknown_key_is_refused_with_those_there_are() {
    let error = with_alb("sslredirect: true").unwrap_err();
    assert_eq!(error.line, 7, "{error}");
    assert!(error.to_string().contains("unknown field `sslredirect`"), "{error}");
    assert!(error.to_string().contains("`sslRedirect`"), "{error}");
    assert_eq!(error.key, "alb.public.sslredirect");
}

#[test]
fn sections_of_later_versions_are_refused_once_enabled() {
    let alb = format!("alb: {{public: {{{LISTEN}}}}}\n");
    refused(parse(&format!("{alb}source: {{}}\n")), 4, "source", &["no place", "manifests"]);
}

#[test]
fn objects_come_from_manifests_or_from_the_kubernetes_api() {
    let alb = format!("alb: {{public: {{{LISTEN}}}}}\n");
    let source = |text: &str| parse(&format!("{alb}source: {text}\n"));
    let kubernetes = |text: &str| source(text).unwrap().source.kubernetes;
    assert_eq!(kubernetes("{kubernetes: {}}"), Some(Kubernetes::default()));
    let config = kubernetes("{kubernetes: {kubeconfig: k, context: c, namespace: n}}").unwrap();
    assert!(config.kubeconfig.is_some_and(|path| path.ends_with("k")));
    assert_eq!((config.context.as_deref(), config.namespace.as_deref()), (Some("c"), Some("n")));
    let both = source("{manifests: m, kubernetes: {}}");
    refused(both, 4, "source.kubernetes", &["beside source.manifests", "remove one"]);
    let context = source("{kubernetes: {context: c}}");
    refused(context, 4, "source.kubernetes.context", &["kubeconfig"]);
    let namespace = source("{kubernetes: {namespace: No}}");
    refused(namespace, 4, "source.kubernetes.namespace", &["\"No\"", "lower-case"]);
    let secrets = kubernetes("{kubernetes: {secretNamespaces: [vpn, shop, vpn]}}").unwrap();
    assert_eq!(secrets.secret_namespaces, ["shop", "vpn"]);
    let secrets = source("{kubernetes: {secretNamespaces: [shop, No]}}");
    refused(secrets, 4, "source.kubernetes.secretNamespaces[1]", &["\"No\"", "lower-case"]);
    let unknown = source("{kubernetes: {kubeConfig: k}}");
    refused(unknown, 4, "source.kubernetes.kubeConfig", &["kubeconfig"]);
}

#[test]
fn an_alb_that_serves_needs_an_address_and_a_port_and_its_own_class() {
    let refuse = |alb: &str, line, key, parts: &[&str]| {
        refused(parse(&format!("{SOURCE}alb:\n{alb}")), line, key, parts);
    };
    refuse("  public: {}\n", 5, "alb.public.listen.addresses", &["missing or empty", "0.0.0.0"]);
    refuse(
        "  public: {listen: {addresses: [\"::\"]}}\n",
        5,
        "alb.public.listen",
        &["has no port", "http: 80"],
    );
    refuse("  public: {enabled: false}\n", 4, "alb", &["no ALB that is enabled"]);
    refuse(
        &format!(
            "  public: {{{LISTEN}}}\n  private:\n    enabled: true\n    ingressClass: \
             tidegate-public\n    listen: {{addresses: [\"127.0.0.2\"], http: 1}}\n"
        ),
        8,
        "alb.private.ingressClass",
        &["\"tidegate-public\" for both"],
    );
}

#[test]
fn two_listeners_on_one_port_are_refused() {
    let private = |listen: &str| {
        parse(&format!(
            "{SOURCE}alb:\n  public: {{{LISTEN}}}\n  private:\n    enabled: true\n    listen: {listen}\n"
        ))
    };
    let key = "alb.private.listen.http";
    let both = ["alb.public.listen.http listens", "a port of its own"];
    refused(private("{addresses: [\"127.0.0.1\"], http: 8080}"), 8, key, &both);
    refused(private("{addresses: [\"0.0.0.0\"], http: 8080}"), 8, key, &both);
    private("{addresses: [\"127.0.0.2\", \"::\"], http: 8080}").unwrap();
    private("{addresses: [\"127.0.0.1\"], http: 8081}").unwrap();
    private("{addresses: [\"127.0.0.1\"], http: 0, https: 0}").unwrap();
    let twice = private("{addresses: [\"::1\", \"::1\"], http: 1}");
    refused(twice, 8, "alb.private.listen.addresses", &["has ::1 twice"]);
    let admin = with("admin: {listen: \"127.0.0.1:8080\"}\n");
    refused(admin, 5, "admin.listen", &["is 127.0.0.1:8080, where alb.public.listen.http"]);
}

#[test]
fn a_file_of_another_kind_is_told_apart() {
    let parse = |text: &str| Config::parse("f.yaml", text, Path::new("")).unwrap_err();
    let error = parse("apiVersion: v1\nkind: Service\nmetadata: {}\n").to_string();
    assert_eq!(error, "f.yaml:1: apiVersion: is v1; write apiVersion: tidegate.io/v1alpha1");
    let error = parse("apiVersion: tidegate.io/v1alpha1\n").to_string();
    assert!(error.contains("kind: is missing; write kind: GatewayConfig"), "{error}");
    assert!(parse("").to_string().contains("holds 0 YAML documents"));
    assert_eq!(parse("a: 1\n---\nb: 1\n").line, 3);
    let twice = parse("apiVersion: tidegate.io/v1alpha1\nkind: a\nkind: b\n").to_string();
    assert_eq!(twice, "f.yaml:3: kind: stands here twice; remove one");
    assert!(parse("a: [").line >= 1);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/f.yaml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/f.yaml: can't be read: No such file"), "{error}");
}

#[test]
fn periods_are_read_and_written_back() {
    for (text, millis, back) in [
        ("500ms", 500, "500ms"),
        ("30s", 30_000, "30s"),
        ("90s", 90_000, "90s"),
        ("5m", 300_000, "5m"),
        ("1h", 3_600_000, "1h"),
        ("1m30s", 90_000, "90s"),
        ("0s", 0, "0s"),
        ("168h", 604_800_000, "168h"),
    ] {
        let period = Period::try_from(text.to_owned()).unwrap();
        assert_eq!(Duration::from(period).as_millis(), millis, "{text}");
        assert_eq!(period.to_string(), back);
    }
    for text in ["", "30", "s", "-1s", "1.5s", "1d", "30 s", "169h", "99999999999999999999s", "1s1"]
    {
        assert!(Period::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn every_sample_configuration_is_accepted() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for name in ["gateway.yaml", "samples.yaml", "quickstart/gateway.yaml"] {
        Config::load(&configs.join(name)).unwrap();
    }
}

#[test]
fn the_sample_with_every_key_states_the_defaults() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let sample = Config::load(&configs.join("gateway.yaml")).unwrap();
    let plain = parse(&format!(
        "{SOURCE}alb: {{public: {{listen: {{addresses: [\"127.0.0.1\"], http: 8080, https: 8443}}}}}}\n"
    ))
    .unwrap();
    assert_eq!(sample.alb, plain.alb);
    assert_eq!((sample.admin, sample.workers), (plain.admin, plain.workers));
    assert_eq!((sample.drain, sample.access_log), (plain.drain, plain.access_log));
}
