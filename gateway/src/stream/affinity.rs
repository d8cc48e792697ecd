//! `sessionAffinity: ClientIP`: which endpoint a client had last.
//!
//! Shared by all workers, in shards with a lock each, of a bounded size. Clients that there is no
//! room for are not remembered.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use foldhash::HashMap;
use foldhash::quality::RandomState;

const SHARDS: usize = 16;
/// Clients that one port of a Service remembers.
const MOST: usize = 65_536;

/// What one client had.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// An endpoint's id.
    endpoint: u64,
    /// By the process' clock.
    until_ms: u64,
}

/// Clients and their endpoints.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    /// Neighbouring addresses must not all meet in few shards.
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, Last>>; SHARDS],
}

impl Affinity {
    /// The client's endpoint as `choose` answers it, which is given the id of the last one if that
    /// isn't too long ago. It is remembered for `timeout_ms` from now.
    pub(crate) fn stay<T>(
        &self,
        client: IpAddr,
        (now_ms, timeout_ms): (u64, u64),
        choose: impl FnOnce(Option<u64>) -> Option<(u64, T)>,
    ) -> Option<T> {
        let at = self.hasher.hash_one(client) as usize % SHARDS;
        let mut shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        let last = shard.get(&client).filter(|last| now_ms < last.until_ms);
        let (endpoint, chosen) = choose(last.map(|last| last.endpoint))?;
        if shard.len() >= MOST / SHARDS && !shard.contains_key(&client) {
            shard.retain(|_, last| now_ms < last.until_ms);
        }
        if shard.len() < MOST / SHARDS || shard.contains_key(&client) {
            let until_ms = now_ms.saturating_add(timeout_ms);
            shard.insert(client, Last { endpoint, until_ms });
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(i: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + i).into()
    }

    fn last(affinity: &Affinity, i: u32, now_ms: u64) -> Option<u64> {
        affinity.stay(client(i), (now_ms, 100), |last| Some((last.unwrap_or(0), last))).flatten()
    }

    #[test]
    fn a_client_keeps_its_endpoint_for_the_time_after_its_last_connection() {
        let affinity = Affinity::default();
        affinity.stay(client(1), (0, 100), |_| Some((7, ())));
        assert_eq!(last(&affinity, 1, 99), Some(7));
        assert_eq!(last(&affinity, 1, 198), Some(7), "the time starts over");
        assert_eq!(last(&affinity, 1, 298), None);
        assert_eq!(last(&affinity, 2, 0), None);
    }

    #[test]
    fn only_so_many_clients_are_remembered_and_old_ones_make_room() {
        let affinity = Affinity::default();
        let held = || affinity.shards.iter().map(|s| s.lock().unwrap().len()).sum::<usize>();
        for i in 0..MOST as u32 * 2 {
            last(&affinity, i, 0);
        }
        assert!(held() <= MOST && held() > MOST * 9 / 10);
        assert_eq!(last(&affinity, u32::MAX >> 8, 50), None);
        for i in 0..1000 {
            last(&affinity, i + MOST as u32 * 4, 1000);
        }
        assert!(held() <= 1000 + SHARDS, "{}", held());
    }
}
