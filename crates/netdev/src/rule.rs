//! Policy routing rules: which packets look into which table.
//!
//! A rule is ours if its protocol says so; no other one is touched.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::{Message, ip, name, octets, push_attribute, u32_at};
use crate::sysctl::Family;

// `linux/rtnetlink.h` and `linux/fib_rules.h`.
pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const FIB_RULE_INVERT: u32 = 0x2;
const FR_ACT_TO_TBL: u8 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
/// `struct fib_rule_hdr`.
const HEADER: usize = 12;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
/// Marks the rules that we add, so that they are known after a restart.
const OURS: u8 = 0x54;

/// Packets whose mark is (or is not) this one look into a table: all of them, or those from a
/// network or an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of which protocol's packets.
    pub family: Family,
    /// Rules with lower numbers come first; the kernel's own are 0, 32766 and 32767.
    pub priority: u32,
    /// Only packets *without* the mark.
    pub not: bool,
    /// The mark.
    pub mark: u32,
    /// The bits of it that count. Zero: all packets.
    pub mask: u32,
    /// Only packets from there. None: from anywhere.
    pub from: Option<IpNet>,
    /// Only packets that came in through the interface of this name. None: all, own ones too.
    pub incoming: Option<String>,
    /// The table.
    pub table: u32,
}

/// What can't be learnt or done.
#[derive(Clone, Debug, Error)]
pub enum RuleError {
    /// The kernel refuses to add the rule.
    #[error("{family:?} routing rule {priority} can't be added: {source}")]
    Add {
        /// Of which protocol.
        family: Family,
        /// Its priority.
        priority: u32,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel refuses to remove the rule.
    #[error("{family:?} routing rule {priority} can't be removed: {source}")]
    Remove {
        /// Of which protocol.
        family: Family,
        /// Its priority.
        priority: u32,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel doesn't tell.
    #[error("routing rules can't be listed: {0}")]
    List(#[from] NetlinkError),
}

/// The rules that [`add`] has added, in this run or another one; by family, then in the kernel's
/// order. Without IPv6 there are none of it.
///
/// # Errors
/// [`RuleError::List`].
pub fn list() -> Result<Vec<Rule>, RuleError> {
    let step = "listing routing rules";
    let mut socket = open(step)?;
    let mut rules = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut wanted = [0; HEADER];
        wanted[0] = family;
        let found = socket.collect(RTM_GETRULE, &wanted, |message| {
            (message.kind == RTM_NEWRULE).then(|| read(message)).flatten()
        });
        match found {
            Ok(found) => rules.extend(found),
            Err(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) if family == AF_INET6 => {}
            Err(errno) => return Err(NetlinkError::new(step, errno).into()),
        }
    }
    Ok(rules)
}

/// Adds a rule. That it is there already is fine.
///
/// # Errors
/// [`RuleError::Add`].
pub fn add(rule: &Rule) -> Result<(), RuleError> {
    let answer = change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, "adding a routing rule");
    match answer {
        Ok(()) | Err(NetlinkError { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(source) => Err(RuleError::Add { family: rule.family, priority: rule.priority, source }),
    }
}

/// Removes a rule that is like this one, and ours. That there is none is fine.
///
/// # Errors
/// [`RuleError::Remove`].
pub fn remove(rule: &Rule) -> Result<(), RuleError> {
    match change(RTM_DELRULE, 0, rule, "removing a routing rule") {
        Ok(()) | Err(NetlinkError { errno: Errno::ENOENT | Errno::EAFNOSUPPORT, .. }) => Ok(()),
        Err(source) => {
            Err(RuleError::Remove { family: rule.family, priority: rule.priority, source })
        }
    }
}

fn open(step: &'static str) -> Result<Socket, NetlinkError> {
    Socket::open(SockProtocol::NetlinkRoute, 0, step)
}

fn change(kind: u16, flags: u16, rule: &Rule, step: &'static str) -> Result<(), NetlinkError> {
    let answer = open(step)?.request(kind, flags, &payload(rule));
    answer.map_err(|errno| NetlinkError::new("rtnetlink", errno))
}

/// `struct fib_rule_hdr` and what the rule says.
fn payload(rule: &Rule) -> Vec<u8> {
    let family = match rule.family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    let from = rule.from.map_or(0, |from| from.prefix_len());
    let mut payload = vec![family, 0, from, 0, 0, 0, 0, FR_ACT_TO_TBL];
    let flags = if rule.not { FIB_RULE_INVERT } else { 0 };
    payload.extend_from_slice(&flags.to_ne_bytes());
    let numbers = [
        (FRA_PRIORITY, rule.priority),
        (FRA_FWMARK, rule.mark),
        (FRA_FWMASK, rule.mask),
        (FRA_TABLE, rule.table),
    ];
    for (kind, number) in numbers {
        push_attribute(&mut payload, kind, &number.to_ne_bytes());
    }
    if let Some(from) = rule.from {
        push_attribute(&mut payload, FRA_SRC, &octets(from.network()));
    }
    if let Some(interface) = &rule.incoming {
        push_attribute(&mut payload, FRA_IIFNAME, &[interface.as_bytes(), &[0]].concat());
    }
    push_attribute(&mut payload, FRA_PROTOCOL, &[OURS]);
    payload
}

/// The rule of a message, if it is one of ours.
fn read(message: &Message<'_>) -> Option<Rule> {
    let [family, _, from_length, _, table, _, _, action] = *message.payload.first_chunk::<8>()?;
    let flags = u32_at(message.payload, 8)?;
    let family = match family {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return None,
    };
    let not = flags & FIB_RULE_INVERT != 0;
    let mut rule = Rule {
        family,
        priority: 0,
        not,
        mark: 0,
        mask: 0,
        from: None,
        incoming: None,
        table: table.into(),
    };
    let mut ours = false;
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
            FRA_FWMARK => rule.mark = u32_at(value, 0)?,
            FRA_FWMASK => rule.mask = u32_at(value, 0)?,
            FRA_SRC => {
                let address: IpAddr = ip(value)?;
                rule.from = Some(IpNet::new(address, from_length).ok()?);
            }
            FRA_IIFNAME => rule.incoming = Some(name(value)),
            FRA_TABLE => rule.table = u32_at(value, 0)?,
            FRA_PROTOCOL => ours = value == [OURS],
            _ => {}
        }
    }
    (ours && action == FR_ACT_TO_TBL).then_some(rule)
}
