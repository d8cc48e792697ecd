//! Which certificate for which name.

use std::collections::{BTreeMap, BTreeSet};

use model::snapshot::TlsBlock;
use model::{Diagnostic, ObjectKey, Snapshot};

use super::Source;
use crate::l7::{CertificatePair, Certificates, HostMatch};

/// The names of an ALB that have TLS.
pub(super) struct TlsHosts<'a>(BTreeSet<&'a HostMatch>);

impl<'a> TlsHosts<'a> {
    pub(super) fn new(ingresses: &[Source<'a>]) -> Self {
        let blocks = ingresses.iter().flat_map(|source| &source.ingress.tls);
        Self(blocks.flat_map(|block| &block.hosts).collect())
    }

    /// Whether a rule's host has TLS, by its own name or by a wildcard over it.
    pub(super) fn contains(&self, host: &HostMatch) -> bool {
        let wildcard = match host {
            HostMatch::Exact(name) => {
                name.split_once('.').map(|(_, parent)| HostMatch::Wildcard(parent.to_owned()))
            }
            HostMatch::Wildcard(_) | HostMatch::Any => None,
        };
        self.0.contains(host) || wildcard.is_some_and(|wildcard| self.0.contains(&wildcard))
    }
}

/// Gives each name a certificate: names that stand in an Ingress before those that only stand in
/// a certificate, then the older Ingress before the younger.
pub(super) fn plan(
    snapshot: &Snapshot,
    ingresses: &[Source<'_>],
    default: Option<&ObjectKey>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Certificates {
    let mut winners: BTreeMap<&HostMatch, (&ObjectKey, &ObjectKey)> = BTreeMap::new();
    for explicit in [true, false] {
        for source in ingresses {
            let blocks = source.ingress.tls.iter().filter(|block| block.explicit == explicit);
            for block in blocks {
                let Some(secret) = block.secret.as_ref() else { continue };
                if !snapshot.certificates.contains_key(secret) {
                    continue;
                }
                for host in &block.hosts {
                    let (winner, owner) = winners.entry(host).or_insert((secret, source.key));
                    if *winner != secret {
                        diagnostics.push(conflict(source, block, host, winner, owner));
                    }
                }
            }
        }
    }
    let default = default.filter(|secret| snapshot.certificates.contains_key(*secret));
    let secrets: BTreeSet<&ObjectKey> =
        winners.values().map(|&(secret, _)| secret).chain(default).collect();
    let index: BTreeMap<&ObjectKey, usize> =
        secrets.into_iter().enumerate().map(|(index, secret)| (secret, index)).collect();

    let mut certificates = Certificates {
        default: default.and_then(|secret| index.get(secret).copied()),
        ..Certificates::default()
    };
    for &secret in index.keys() {
        if let Some(pair) = snapshot.certificates.get(secret) {
            let (secret, pair) = (secret.clone(), pair.clone());
            certificates.pairs.push(CertificatePair { secret, pair });
        }
    }
    for (host, (secret, _)) in winners {
        let Some(&index) = index.get(secret) else { continue };
        match host {
            HostMatch::Exact(name) => certificates.exact.insert(name.clone(), index),
            HostMatch::Wildcard(suffix) => certificates.wildcard.insert(suffix.clone(), index),
            HostMatch::Any => None,
        };
    }
    certificates
}

fn conflict(
    source: &Source<'_>,
    block: &TlsBlock,
    host: &HostMatch,
    winner: &ObjectKey,
    owner: &ObjectKey,
) -> Diagnostic {
    let field = if block.explicit {
        format!("{}.hosts", block.field)
    } else {
        format!("{}.secretName", block.field)
    };
    let reason = if owner == source.key {
        format!("{host} has the certificate of Secret {winner} in the same Ingress already")
    } else {
        format!("{host} has the certificate of Secret {winner} by Ingress {owner}")
    };
    Diagnostic::warning(source.object(), field, reason)
        .value(host.to_string())
        .remedy("name the same Secret in both, or the host in one only")
        .at(source.ingress.location.clone())
}
