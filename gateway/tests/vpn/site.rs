//! The manifests of one site's connection.

use testkit::vpn_lab::Site;
use testkit::{Authority, Pair};

/// The connection `default/site` of one site.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    site: Site,
    auto: &'static str,
    auth: String,
    secrets: String,
    id: String,
    peer_id: String,
    subnets: [String; 2],
    dpd: &'static str,
    more: String,
}

impl Connection {
    /// A begins, B waits; by PSK.
    pub(crate) fn new(site: Site) -> Self {
        let id = |site| format!("{}.test", if site == Site::A { "a" } else { "b" });
        Self {
            site,
            auto: if site == Site::A { "start" } else { "add" },
            auth: "psk: {secretName: site-psk, key: psk}".to_owned(),
            secrets: secret("site-psk", &[("psk", "a key for tests, long enough")]),
            id: id(site),
            peer_id: id(site.other()),
            subnets: [site.network(), site.other().network()],
            dpd: "{delay: 1s, timeout: 3s, action: restart}",
            more: String::new(),
        }
    }

    /// Another end that doesn't answer is given half a minute, as on a bad wire.
    pub(crate) fn patient(mut self) -> Self {
        self.dpd = "{delay: 5s, timeout: 30s, action: restart}";
        self
    }

    /// Who begins.
    pub(crate) fn auto(mut self, auto: &'static str) -> Self {
        self.auto = auto;
        self
    }

    /// Another preshared key.
    pub(crate) fn psk(mut self, psk: &str) -> Self {
        self.secrets = secret("site-psk", &[("psk", psk)]);
        self
    }

    /// By certificate, with the other end's from the same authority.
    pub(crate) fn certificate(mut self, authority: &Authority) -> Self {
        let Pair { certificate, key, .. } = authority.issue(&[&self.id]);
        self.auth = "certificate: {secretName: own, caSecretName: ca}".to_owned();
        self.secrets = secret("own", &[("tls.crt", &certificate), ("tls.key", &key)]);
        self.secrets.push_str(&secret("ca", &[("ca.crt", &authority.certificate())]));
        self
    }

    /// Another ID of its own.
    pub(crate) fn id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }

    /// Other networks of its own.
    pub(crate) fn local(mut self, networks: &str) -> Self {
        self.subnets[0] = networks.to_owned();
        self
    }

    /// No networks but those of children.
    pub(crate) fn without_subnets(mut self) -> Self {
        self.subnets = [String::new(), String::new()];
        self
    }

    /// Other networks of the other end.
    pub(crate) fn remote(mut self, network: &str) -> Self {
        self.subnets[1] = network.to_owned();
        self
    }

    /// Further keys of `spec`, as YAML lines without indent.
    pub(crate) fn spec(mut self, yaml: &str) -> Self {
        for line in yaml.lines() {
            self.more.push_str(&format!("  {line}\n"));
        }
        self
    }

    pub(crate) fn yaml(&self) -> String {
        let Self { site, auto, auth, secrets, id, peer_id, subnets, dpd, more } = self;
        let [local, remote] = subnets.each_ref().map(|networks| match networks.as_str() {
            "" => String::new(),
            networks => format!(", subnets: [{networks}]"),
        });
        format!(
            "apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {{name: site, namespace: default}}
spec:
  auto: {auto}
  auth:
    {auth}
  local: {{address: {}, id: {id}{local}}}
  remote: {{gateway: {}, id: {peer_id}{remote}}}
  dpd: {dpd}
{more}{secrets}",
            site.gateway_address(),
            site.other().gateway_address(),
        )
    }
}

/// The manifest of a Secret.
fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\n\
         stringData:\n"
    );
    for (key, value) in data {
        // JSON is YAML.
        text.push_str(&format!("  {key}: {}\n", serde_json::Value::from(*value)));
    }
    text
}
