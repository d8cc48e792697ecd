//! IPsec in the kernel (XFRM): security associations, policies, the interface that packets for
//! them are routed into, and what the kernel tells of them.
//!
//! All that is made here belongs to an interface number (`if_id`): only packets that go through the
//! xfrm interface with that number meet it, and what is listed or flushed is that number's alone.
//! Layouts are those of `linux/xfrm.h` on machines where numbers of 64 bits are aligned to 8
//! octets.

use std::net::IpAddr;

use nix::errno::Errno;
use thiserror::Error;
use zeroize::Zeroize;

use crate::NetlinkError;
use crate::netlink::Socket;
use crate::sysctl::SysctlError;

mod interface;
mod layout;
mod monitor;
mod policy;
mod probe;
mod sa;

pub use interface::{create, remove, remove_left};
pub use monitor::{Event, Monitor};
pub use policy::{Action, Direction, Installed, Policy, Ports, Selector, Template};
pub use probe::{Unable, probe};
pub use sa::{Algorithms, Encap, Limits, Replay, Sa, SaId, State};

/// `linux/netlink.h`.
const NETLINK_XFRM: i32 = 6;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
/// `IPPROTO_ESP`.
const ESP: u8 = 50;

/// What can't be learnt or done.
#[derive(Debug, Error)]
pub enum XfrmError {
    /// The kernel refuses an SA.
    #[error("the kernel refuses the SA {spi:08x} to {destination}: {source}{}", lacking(.source))]
    Sa {
        /// Its SPI.
        spi: u32,
        /// Where its packets go.
        destination: IpAddr,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel refuses a policy.
    #[error("the kernel refuses the policy {selector}: {source}")]
    Policy {
        /// For which packets.
        selector: Box<Selector>,
        /// The reason.
        source: NetlinkError,
    },
    /// The interface.
    #[error("xfrm interface `{name}`: {source}")]
    Interface {
        /// Its name.
        name: String,
        /// The reason.
        source: NetlinkError,
    },
    /// There is an interface of that name that is no xfrm interface of this number.
    #[error(
        "there is an interface `{name}` already; another gateway may be running in this network \
         namespace, or remove it: `ip link del {name}`"
    )]
    Exists {
        /// Its name.
        name: String,
    },
    /// A setting of the interface.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The kernel doesn't tell.
    #[error("XFRM: {0}")]
    Other(#[from] NetlinkError),
}

fn lacking(source: &NetlinkError) -> &'static str {
    match source.errno {
        Errno::ENOSYS => "; the kernel lacks the algorithm: choose another in `esp`",
        _ => "",
    }
}

/// A way to the kernel's SAs and policies, of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Xfrm(Socket);

impl Xfrm {
    /// Opens it.
    ///
    /// # Errors
    /// [`XfrmError::Other`]: the kernel has no XFRM.
    pub fn open() -> Result<Self, XfrmError> {
        Ok(Self(Socket::open_numbered(NETLINK_XFRM, 0, "opening a socket")?))
    }

    /// Adds an SA.
    ///
    /// # Errors
    /// [`XfrmError::Sa`]: there is such a one already, or the kernel lacks its algorithms.
    pub fn add(&mut self, sa: &Sa<'_>) -> Result<(), XfrmError> {
        self.put(sa::NEW, sa, NLM_F_CREATE | NLM_F_EXCL, "adding an SA")
    }

    /// Changes the ports and the limits of an SA that is there. Sequence numbers go on.
    ///
    /// # Errors
    /// [`XfrmError::Sa`].
    pub fn update(&mut self, sa: &Sa<'_>) -> Result<(), XfrmError> {
        self.put(sa::UPDATE, sa, 0, "changing an SA")
    }

    fn put(
        &mut self,
        kind: u16,
        sa: &Sa<'_>,
        flags: u16,
        step: &'static str,
    ) -> Result<(), XfrmError> {
        let mut payload = sa.payload();
        let answer = self.0.request(kind, flags, &payload);
        payload.zeroize();
        answer.map_err(|errno| XfrmError::Sa {
            spi: sa.id.spi,
            destination: sa.id.destination,
            source: NetlinkError::new(step, errno),
        })
    }

    /// Removes an SA. That there is none is fine.
    ///
    /// # Errors
    /// [`XfrmError::Sa`].
    pub fn remove(&mut self, id: &SaId) -> Result<(), XfrmError> {
        match self.0.request(sa::DELETE, 0, &id.payload()) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(XfrmError::Sa {
                spi: id.spi,
                destination: id.destination,
                source: NetlinkError::new("removing an SA", errno),
            }),
        }
    }

    /// The SAs of an interface number.
    ///
    /// # Errors
    /// [`XfrmError::Other`].
    pub fn list(&mut self, if_id: u32) -> Result<Vec<State>, XfrmError> {
        let found = self.0.collect(sa::GET, &[], sa::read);
        let found = found.map_err(|errno| NetlinkError::new("listing SAs", errno))?;
        Ok(found.into_iter().filter(|state| state.if_id == if_id).collect())
    }

    /// Adds a policy, in place of one for the same packets.
    ///
    /// # Errors
    /// [`XfrmError::Policy`].
    pub fn put_policy(&mut self, policy: &Policy) -> Result<(), XfrmError> {
        let answer = self.0.request(policy::UPDATE, 0, &policy.payload());
        answer.map_err(|errno| XfrmError::Policy {
            selector: Box::new(policy.selector),
            source: NetlinkError::new("adding a policy", errno),
        })
    }

    /// Removes a policy. That there is none is fine.
    ///
    /// # Errors
    /// [`XfrmError::Policy`].
    pub fn remove_policy(
        &mut self,
        direction: Direction,
        selector: &Selector,
        if_id: u32,
    ) -> Result<(), XfrmError> {
        match self.0.request(policy::DELETE, 0, &policy::id(direction, selector, if_id)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(XfrmError::Policy {
                selector: Box::new(*selector),
                source: NetlinkError::new("removing a policy", errno),
            }),
        }
    }

    /// The policies of an interface number.
    ///
    /// # Errors
    /// [`XfrmError::Other`].
    pub fn policies(&mut self, if_id: u32) -> Result<Vec<Installed>, XfrmError> {
        let found = self.0.collect(policy::GET, &[], policy::read);
        let found = found.map_err(|errno| NetlinkError::new("listing policies", errno))?;
        Ok(found.into_iter().filter(|policy| policy.if_id == if_id).collect())
    }

    /// Removes all SAs and policies of an interface number, in this order: nothing passes between.
    ///
    /// # Errors
    /// [`XfrmError`].
    pub fn flush(&mut self, if_id: u32) -> Result<(), XfrmError> {
        for state in self.list(if_id)? {
            // The kernel's own marks of SAs that it has asked for go by themselves.
            if state.id.spi != 0 {
                self.remove(&state.id)?;
            }
        }
        for policy in self.policies(if_id)? {
            self.remove_policy(policy.direction, &policy.selector, if_id)?;
        }
        Ok(())
    }
}
