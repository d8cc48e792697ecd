//! Whether a changed configuration makes a connection another one.

use std::sync::Arc;

use crate::ike::config::{Auth, Connection, Ppk};

/// Whether the IKE SAs of one can go on under the other, from the same address: how long they
/// live and what follows their end doesn't matter.
pub(super) fn is_same(one: &Connection, other: &Connection) -> bool {
    one.name == other.name
        && one.remote == other.remote
        && one.local_id == other.local_id
        && one.remote_id == other.remote_id
        && is_same_auth(&one.auth, &other.auth)
        && is_same_ppk(one.ppk.as_ref(), other.ppk.as_ref())
        && one.proposals == other.proposals
        && one.children == other.children
        && one.force_udp == other.force_udp
        && one.fragmentation == other.fragmentation
        && one.mobike == other.mobike
        && one.childless == other.childless
        && one.replay_window == other.replay_window
}

fn is_same_auth(one: &Auth, other: &Auth) -> bool {
    match (one, other) {
        (Auth::Psk(one), Auth::Psk(other)) => one == other,
        (
            Auth::Certificate { signer: one, verifier: believed },
            Auth::Certificate { signer: other, verifier },
        ) => Arc::ptr_eq(one, other) && Arc::ptr_eq(believed, verifier),
        _ => false,
    }
}

fn is_same_ppk(one: Option<&Ppk>, other: Option<&Ppk>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.id == other.id && one.key == other.key && one.required == other.required
        }
        _ => false,
    }
}
