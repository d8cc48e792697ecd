//! What must hold between a configuration's parts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ingest::yaml::Node;
use model::AlbKind;
use model::settings::canonical_network;

use super::file::{self, File};
use super::values::{LogPath, Period};
use super::{AccessLog, Admin, Alb, Albs, Config, ConfigError, Kubernetes, Listen, Source};
use crate::access_log::Target;

mod l4;
mod overlay;
mod vpn;

/// Checks one file.
pub(super) struct Checker<'a> {
    pub(super) name: &'a str,
    /// For lines.
    pub(super) document: &'a Node,
    /// For relative paths.
    pub(super) folder: &'a Path,
}

/// Someone who listens, for finding two on one port.
struct Listener {
    key: String,
    address: SocketAddr,
}

impl Checker<'_> {
    pub(super) fn config(&self, mut file: File) -> Result<Config, ConfigError> {
        let source = self.source(std::mem::take(&mut file.source))?;
        let pools = file.l4.enabled;
        // Who only wants tunnels need not say that there is no ALB.
        let public = &mut file.alb.public;
        let (has_vpn, has_overlay) = (file.vpn.enabled, file.overlay.enabled);
        if (has_vpn || has_overlay) && !pools && public.listen.addresses.is_empty() {
            public.enabled = public.enabled.or(Some(false));
        }
        let alb = Albs {
            public: self.alb(AlbKind::Public, file.alb.public, pools)?,
            private: self.alb(AlbKind::Private, file.alb.private, pools)?,
        };
        let has_alb = alb.public.enabled || alb.private.enabled;
        if !has_alb && !pools && !has_vpn && !has_overlay {
            return Err(self
                .error("alb", "has no ALB that is enabled, so nothing would be served")
                .remedy(
                    "write alb.public.enabled: true, alb.private.enabled: true, l4.enabled: true, \
                     vpn.enabled: true or overlay.enabled: true",
                ));
        }
        if alb.public.enabled
            && alb.private.enabled
            && alb.public.ingress_class == alb.private.ingress_class
        {
            let reason = format!("is {:?} for both ALBs", alb.public.ingress_class);
            return Err(self
                .error("alb.private.ingressClass", reason)
                .remedy("give each ALB an IngressClass of its own"));
        }
        self.listeners(&alb, file.admin.listen)?;
        let in_cluster = source.kubernetes.is_some();
        let node_name = in_cluster.then(|| self.own_name(file.node_name.clone())).transpose()?;
        let overlay = self.overlay(file.overlay, file.node_name.clone())?;
        let l4 = self.l4(file.l4, file.node_name, file.admin.listen, overlay.as_ref())?;
        let vpn = self.vpn(file.vpn)?;
        let target = match file.access_log.path {
            LogPath::Stdout => Some(Target::Stdout),
            LogPath::Off => None,
            LogPath::File(path) => Some(Target::File(self.path(path))),
        };
        Ok(Config {
            node_name,
            source,
            alb,
            l4,
            vpn,
            overlay,
            admin: Admin { listen: file.admin.listen },
            workers: file.workers,
            state: self.path(file.state),
            access_log: AccessLog { target },
            drain: file.drain,
        })
    }

    /// Checks an ALB. With `pools` it may get its addresses from AddressPools.
    fn alb(&self, kind: AlbKind, alb: file::Alb, pools: bool) -> Result<Alb, ConfigError> {
        let key = |rest: &str| format!("alb.{kind}.{rest}");
        let enabled = alb.enabled.unwrap_or(kind == AlbKind::Public);
        let ingress_class =
            alb.ingress_class.unwrap_or_else(|| file::default_class(kind).to_owned());
        if ingress_class.is_empty() {
            return Err(self.error(&key("ingressClass"), "is empty").remedy(format!(
                "write {:?}, or another IngressClass",
                file::default_class(kind)
            )));
        }
        let listen = &alb.listen;
        if enabled && listen.addresses.is_empty() && !pools {
            return Err(self
                .error(&key("listen.addresses"), "is missing or empty")
                .remedy("write the addresses to listen on, such as [\"0.0.0.0\", \"::\"]"));
        }
        if enabled
            && !listen.addresses.is_empty()
            && listen.http.is_none()
            && listen.https.is_none()
        {
            return Err(self
                .error(&key("listen"), "has no port")
                .remedy("write http: 80, https: 443 or both"));
        }
        if enabled
            && listen.addresses.is_empty()
            && listen.pool_http.is_none()
            && listen.pool_https.is_none()
        {
            return Err(self
                .error(&key("listen"), "has neither an address nor a port for pools' addresses")
                .remedy("write poolHttp: 80, poolHttps: 443 or both"));
        }
        if listen.pool_http.is_some() && listen.pool_http == listen.pool_https {
            return Err(self
                .error(&key("listen.poolHttps"), "is the same port as poolHttp")
                .remedy("give each a port of its own"));
        }
        let (t, ejection) = (&alb.timeouts, &alb.upstream.ejection);
        let periods = [
            ("timeouts.head", t.head),
            ("timeouts.idle", t.idle),
            ("timeouts.connect", t.connect),
            ("timeouts.upstreamHead", t.upstream_head),
            ("timeouts.bodyStall", t.body_stall),
            ("timeouts.tunnel", t.tunnel),
            ("upstream.idle", alb.upstream.idle),
            ("upstream.ejection.time", ejection.time),
        ];
        if let Some((rest, period)) = periods.into_iter().find(|(_, period)| period.is_zero()) {
            return Err(self.too_short(&key(rest), period));
        }
        if ejection.max_time < ejection.time {
            let reason = format!("is {}, less than time, {}", ejection.max_time, ejection.time);
            return Err(self
                .error(&key("upstream.ejection.maxTime"), reason)
                .remedy("write a longer time"));
        }
        Ok(Alb {
            enabled,
            ingress_class,
            listen: Listen {
                addresses: alb.listen.addresses,
                http: alb.listen.http,
                https: alb.listen.https,
                public_https: alb.listen.public_https,
                pool_http: alb.listen.pool_http,
                pool_https: alb.listen.pool_https,
            },
            ssl_redirect: alb.ssl_redirect,
            default_certificate: alb.default_certificate.map(|name| name.0),
            default_backend: alb.default_backend,
            trusted_proxies: alb
                .trusted_proxies
                .into_iter()
                .map(|network| canonical_network(network.0))
                .collect(),
            timeouts: alb.timeouts,
            limits: alb.limits,
            upstream: alb.upstream,
        })
    }

    /// Listeners share their ports among threads, so the kernel wouldn't refuse a second one for
    /// another purpose: it would give it half of the connections.
    fn listeners(&self, albs: &Albs, admin: Option<SocketAddr>) -> Result<(), ConfigError> {
        let mut all: Vec<Listener> = Vec::new();
        let both = [(AlbKind::Public, &albs.public), (AlbKind::Private, &albs.private)];
        for (kind, alb) in both.into_iter().filter(|(_, alb)| alb.enabled) {
            for (index, address) in alb.listen.addresses.iter().enumerate() {
                if alb.listen.addresses.get(..index).is_some_and(|to| to.contains(address)) {
                    let key = format!("alb.{kind}.listen.addresses");
                    return Err(self
                        .error(&key, format!("has {address} twice"))
                        .remedy("remove one"));
                }
                for (key, port) in [("http", alb.listen.http), ("https", alb.listen.https)] {
                    all.extend(port.map(|port| Listener {
                        key: format!("alb.{kind}.listen.{key}"),
                        address: SocketAddr::new(*address, port),
                    }));
                }
            }
        }
        all.extend(admin.map(|address| Listener { key: "admin.listen".to_owned(), address }));
        for (index, one) in all.iter().enumerate() {
            let before = all.iter().take(index);
            if let Some(other) = before.into_iter().find(|other| other.collides_with(one)) {
                let reason = format!("is {}, where {} listens", one.address, other.key);
                return Err(self.error(&one.key, reason).remedy("give each a port of its own"));
            }
        }
        Ok(())
    }

    fn source(&self, source: file::Source) -> Result<Source, ConfigError> {
        let kubernetes = match (source.manifests, source.kubernetes) {
            (Some(manifests), None) => {
                return Ok(Source { manifests: Some(self.path(manifests)), kubernetes: None });
            }
            (None, Some(kubernetes)) => kubernetes,
            (Some(_), Some(_)) => {
                let reason = "stands beside source.manifests, and objects come from one place";
                let remedy = "remove one of the two";
                return Err(self.error("source.kubernetes", reason).remedy(remedy));
            }
            (None, None) => {
                return Err(self.error("source", "names no place where objects come from").remedy(
                    "write manifests, the path of the directory that holds them, or kubernetes: \
                     {} within a cluster",
                ));
            }
        };
        let file::Kubernetes { kubeconfig, context, namespace, secret_namespaces } = kubernetes;
        if context.is_some() && kubeconfig.is_none() {
            let reason = "is one of a kubeconfig, and none is named";
            let remedy = "write source.kubernetes.kubeconfig, or remove it";
            return Err(self.error("source.kubernetes.context", reason).remedy(remedy));
        }
        let fits = |name: &String| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&name.len())
                && name.bytes().all(inner)
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        if let Some(name) = namespace.as_ref().filter(|name| !fits(name)) {
            let reason = format!("is {name:?}, which is no namespace's name");
            let remedy = "write lower-case letters, digits and dashes";
            return Err(self.error("source.kubernetes.namespace", reason).remedy(remedy));
        }
        let mut wrong = secret_namespaces.iter().enumerate().filter(|(_, name)| !fits(name));
        if let Some((at, name)) = wrong.next() {
            let key = format!("source.kubernetes.secretNamespaces[{at}]");
            let reason = format!("is {name:?}, which is no namespace's name");
            return Err(self
                .error(&key, reason)
                .remedy("write lower-case letters, digits and dashes"));
        }
        let secret_namespaces: BTreeSet<String> = secret_namespaces.into_iter().collect();
        let secret_namespaces = secret_namespaces.into_iter().collect();
        let kubeconfig = kubeconfig.map(|path| self.path(path));
        let kubernetes = Some(Kubernetes { kubeconfig, context, namespace, secret_namespaces });
        Ok(Source { manifests: None, kubernetes })
    }

    fn too_short(&self, key: &str, period: Period) -> ConfigError {
        self.error(key, format!("is {period}, so nothing could be in time"))
            .remedy("write a longer time, such as \"30s\"")
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::of_key(self.name, self.document, key, reason)
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        self.folder.join(path)
    }
}

impl Listener {
    fn collides_with(&self, other: &Self) -> bool {
        let (a, b) = (self.address, other.address);
        let all = |address: IpAddr| address.is_unspecified();
        a.port() == b.port()
            && a.port() != 0
            && a.is_ipv4() == b.is_ipv4()
            && (a.ip() == b.ip() || all(a.ip()) || all(b.ip()))
    }
}
