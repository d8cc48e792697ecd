use super::*;

const HEAD: &str = "apiVersion: tidegate.io/v1alpha1\nkind: AgentConfig\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("agent.yaml", &format!("{HEAD}{text}"), Path::new("/etc/tidegate"), "node-1")
        .map_err(|error| error.to_string())
}

#[test]
fn a_source_is_enough() {
    let config = parse("source: {kubernetes: {}}\n").unwrap();
    assert_eq!(config.source, Source::Kubernetes { kubeconfig: None, context: None });
    assert_eq!(config.overlay.name, "node-1");
    assert_eq!(config.overlay.mark_mask, 0x70);
    assert_eq!(config.timing, Timing::default());
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9902");
    assert_eq!(config.on_stop, OnStop::Keep);
    assert_eq!(config.state, Path::new("/var/lib/tidegate-agent"));
}

#[test]
fn what_is_written_counts_and_paths_are_the_files() {
    let text = "nodeName: worker-7
source: {manifests: objects}
overlay:
  mode: wireguard
  interfacePrefix: edge
  markMask: \"0xf00\"
  mtu: 1380
  backend: userspace
  offloads: false
  probeInterval: 100ms
  keyAge: 24h
state: state
admin: {listen: null}
onStop: remove
";
    let config = parse(text).unwrap();
    assert_eq!(config.source, Source::Manifests("/etc/tidegate/objects".into()));
    assert_eq!(config.state, Path::new("/etc/tidegate/state"));
    assert_eq!(config.overlay.name, "worker-7");
    assert_eq!(config.overlay.mark_mask, 0xf00);
    assert_eq!(config.interfaces.prefix, "edge");
    assert_eq!(config.timing.patience, Duration::from_millis(80));
    assert_eq!(config.key_age, Some(Duration::from_secs(86_400)));
    assert_eq!(config.admin, None);
}

#[test]
fn errors_name_line_key_value_and_remedy() {
    for (text, expected) in [
        ("", "agent.yaml:1: missing field `source`"),
        ("source: {}\n", "agent.yaml:3: source: has neither kubernetes nor manifests; write"),
        ("source: {manifests: a, kubernetes: {}}\n", "source: has both"),
        ("source: {kubernetes: {kubeConfig: a}}\n", "agent.yaml:3: source.kubernetes"),
        (
            "source: {kubernetes: {}}\noverlay: {markMask: 0x50}\n",
            "agent.yaml:4: overlay.markMask: ",
        ),
        ("source: {kubernetes: {}}\noverlay: {markMask: 16}\n", "write one such as \"0x70\""),
        (
            "source: {kubernetes: {}}\noverlay: {interfacePrefix: much-too-long}\n",
            "overlay.interfacePrefix: is \"much-too-long\"; write 1 to 11",
        ),
        (
            "source: {kubernetes: {}}\noverlay: {probeInterval: 1m}\n",
            "overlay.probeInterval: is 1m; write a time from 50ms to 10s",
        ),
        ("source: {kubernetes: {}}\noverlay: {keyAge: 5s}\n", "overlay.keyAge: is 5s, shorter"),
        ("source: {kubernetes: {}}\noverlay: {mtu: 500}\n", "overlay.mtu: 500 is not from 1280"),
        ("source: {kubernetes: {}}\nonStop: leave\n", "onStop: "),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let other = Config::parse("a.yaml", "kind: GatewayConfig\n", Path::new(""), "n").unwrap_err();
    assert!(other.to_string().contains("apiVersion"), "{other}");
}
