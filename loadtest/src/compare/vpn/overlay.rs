//! The tables of the overlay's suite: the interface of edges and nodes beside others that speak
//! WireGuard.

use super::{
    A_SIDE, BORINGTUN, EVERYBODY, OF_ALL, ROUTING, Table, a_side, everybody, median_latency,
};

const OVERLAY: &str = "overlay";
const PLAIN: &str = "overlay-plain";
const WIREGUARD_GO: &str = "wireguard-go";
const ALL: &[&str] = &[OVERLAY, PLAIN, BORINGTUN, WIREGUARD_GO, ROUTING];

pub(super) const BULK: &[Table] = &[
    Table {
        suffix: "",
        title: "",
        unit: A_SIDE,
        parties: &[OVERLAY, BORINGTUN, WIREGUARD_GO],
        cost: a_side,
        own_goal: None,
        goals: &[(BORINGTUN, 4.0)],
        note: None,
    },
    Table {
        suffix: "-plain",
        title: ", without offloads",
        unit: A_SIDE,
        parties: &[PLAIN, BORINGTUN, WIREGUARD_GO],
        cost: a_side,
        own_goal: None,
        goals: &[],
        note: None,
    },
    of_all("CPU µs/packet", everybody),
];

pub(super) const SMALL: &[Table] = &[
    Table {
        suffix: "",
        title: "",
        unit: A_SIDE,
        parties: &[OVERLAY, PLAIN, BORINGTUN, WIREGUARD_GO],
        cost: a_side,
        own_goal: None,
        goals: &[],
        note: None,
    },
    of_all("CPU µs/packet", everybody),
];

pub(super) const LATENCY: &[Table] =
    &[Table { suffix: "", title: "", note: None, ..of_all("µs", median_latency) }];

const fn of_all(unit: &'static str, cost: fn(&super::Window) -> f64) -> Table {
    Table {
        suffix: OF_ALL,
        title: ", everybody's CPU time",
        unit,
        parties: ALL,
        cost,
        own_goal: None,
        goals: &[],
        note: Some(EVERYBODY),
    }
}
