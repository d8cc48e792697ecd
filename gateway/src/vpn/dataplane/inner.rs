//! What is done to packets on their way into a tunnel and out of it.

use ipsec::packet::Parsed;

use super::mapping::Mapping;
use super::sa::Sa;

pub(super) fn too_big(_packet: &[u8], _largest: usize) -> Option<Vec<u8>> {
    None
}
pub(super) fn prohibited(_packet: &[u8]) -> Option<Vec<u8>> {
    None
}
pub(super) fn clamp(_packet: &mut [u8], _parsed: &Parsed, _largest: usize) {}
pub(super) fn change_outward(_packet: &mut [u8], _parsed: &mut Parsed, _mapping: &Mapping) {}
pub(super) fn change_inward(_packet: &mut [u8], _parsed: &mut Parsed, _mapping: &Mapping) {}
pub(super) fn fragments(_packet: &[u8], _largest: usize) -> Vec<Vec<u8>> {
    Vec::new()
}
pub(super) fn outer_tos(tos: u8, copy_dscp: bool) -> u8 {
    if copy_dscp { tos } else { tos & 3 }
}
pub(super) fn is_error_about(_parsed: &Parsed, _packet: &[u8], _sa: &Sa) -> bool {
    false
}
pub(super) fn combine_ecn(_packet: &mut [u8], _parsed: &mut Parsed, _ecn: u8) -> bool {
    true
}
