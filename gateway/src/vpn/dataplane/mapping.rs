//! How addresses change on the way into a tunnel and out of it (`localSubnetNAT`,
//! `remoteSubnetNAT`).

use ipsec::packet::Parsed;
use ipsec::packet::nat::{Rule, Side, Unequal, translate};
use model::snapshot::vpn::NatPair;
use plan::vpn::Policy;

/// The address changes of a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    outward_source: Vec<Rule>,
    outward_destination: Vec<Rule>,
    inward_source: Vec<Rule>,
    inward_destination: Vec<Rule>,
}

impl Mapping {
    /// Pairs that aren't of equal size are left out; the plan has refused them.
    pub(super) fn new(policy: &Policy) -> Self {
        let rules = |pairs: &[NatPair], rule: fn(&NatPair) -> Result<Rule, Unequal>| {
            pairs.iter().filter_map(|pair| rule(pair).ok()).collect::<Vec<Rule>>()
        };
        Self {
            outward_source: rules(&policy.local_nat, Rule::outbound),
            outward_destination: rules(&policy.remote_nat, Rule::outbound),
            inward_source: rules(&policy.remote_nat, Rule::inbound),
            inward_destination: rules(&policy.local_nat, Rule::inbound),
        }
    }

    /// Changes a packet that goes out.
    #[inline]
    pub(super) fn outward(&self, packet: &mut [u8], parsed: &mut Parsed) {
        translate(packet, parsed, Side::Source, &self.outward_source);
        translate(packet, parsed, Side::Destination, &self.outward_destination);
    }

    /// Changes a packet that has come.
    #[inline]
    pub(super) fn inward(&self, packet: &mut [u8], parsed: &mut Parsed) {
        translate(packet, parsed, Side::Source, &self.inward_source);
        translate(packet, parsed, Side::Destination, &self.inward_destination);
    }
}
