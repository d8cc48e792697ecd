//! Neighbours on a link: duplicate address detection before an address is taken, and telling them
//! that it is here.
//!
//! For IPv4, ARP (RFC 826): probes and the listening for conflicts of RFC 5227, and gratuitous
//! ARP in both its forms. For IPv6, RFC 4861: solicitations of the unspecified address to the
//! solicited-node group (RFC 4862, 5.4), and unsolicited advertisements to all nodes.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use thiserror::Error;

use crate::address::{self, AddressError, Interface, MacAddr};
use crate::sysctl::{self, Family, Key};
use crate::wait;

mod frame;
mod link;
mod table;

pub use table::known;

use link::Link;

/// Probes sent for an address (RFC 5227's PROBE_NUM), spread over the time.
const PROBES: u32 = 3;

/// What can't be learnt or told.
#[derive(Clone, Debug, Error)]
pub enum NeighbourError {
    /// The interface isn't there, or can't be looked at.
    #[error(transparent)]
    Interface(#[from] AddressError),
    /// It is switched off, or its link is down.
    #[error("interface `{interface}` is down; bring it up, or check its link")]
    Down {
        /// The interface.
        interface: String,
    },
    /// The kernel refuses.
    #[error(
        "neighbours on interface `{interface}` can't be reached: {}{}",
        io::Error::from(*.errno),
        remedy(*.errno)
    )]
    Link {
        /// The interface.
        interface: String,
        /// The reason.
        errno: Errno,
    },
}

impl NeighbourError {
    fn new(interface: &str, error: &io::Error) -> Self {
        let interface = interface.to_owned();
        match error.raw_os_error().map_or(Errno::EIO, Errno::from_raw) {
            Errno::ENETDOWN => Self::Down { interface },
            errno => Self::Link { interface, errno },
        }
    }
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => {
            "; give the process CAP_NET_RAW (run as root, or add the capability)"
        }
        Errno::EAFNOSUPPORT | Errno::ENODEV | Errno::EADDRNOTAVAIL => {
            "; the protocol may be off there: see net.ipv6.conf.*.disable_ipv6"
        }
        _ => "",
    }
}

/// Which neighbour has the address, or is about to take it too; none if nobody says so in time.
/// As [`probe_all`].
///
/// # Errors
/// [`NeighbourError`].
pub fn probe(
    interface: &str,
    ip: IpAddr,
    timeout: Duration,
) -> Result<Option<MacAddr>, NeighbourError> {
    let mut answers = probe_all(&[(interface, ip)], timeout);
    answers.pop().unwrap_or(Ok(None))
}

/// The same for many addresses at once, in the order of asking. It takes the whole timeout unless
/// all of them are taken; 3 probes are sent in the first two thirds of it. Three seconds or more
/// suit networks that lose frames or whose switches learn slowly; half a second finds a neighbour
/// that is awake.
///
/// On an interface without neighbours (loopback, point-to-point) nobody has it.
pub fn probe_all(
    addresses: &[(&str, IpAddr)],
    timeout: Duration,
) -> Vec<Result<Option<MacAddr>, NeighbourError>> {
    let mut batch = Batch::new(addresses, true);
    let start = Instant::now();
    for round in 0..PROBES {
        if !batch.is_open() {
            break;
        }
        batch.probe();
        batch.listen(start + timeout * (round + 1) / PROBES);
    }
    batch.answers
}

/// Tells all neighbours that the addresses are here, in the order of telling. Repeat it after a
/// while: a frame may be lost. The addresses should be on their interfaces by then.
///
/// On an interface without neighbours there is nobody to tell.
pub fn announce_all(addresses: &[(&str, IpAddr)]) -> Vec<Result<(), NeighbourError>> {
    let mut batch = Batch::new(addresses, false);
    batch.announce();
    batch.answers.into_iter().map(|answer| answer.map(drop)).collect()
}

/// The same for one.
///
/// # Errors
/// [`NeighbourError`].
pub fn announce(interface: &str, ip: IpAddr) -> Result<(), NeighbourError> {
    announce_all(&[(interface, ip)]).pop().unwrap_or(Ok(()))
}

/// Addresses on several links, and what is known of each.
struct Batch {
    answers: Vec<Result<Option<MacAddr>, NeighbourError>>,
    links: Vec<OnLink>,
    /// The machine's own link addresses: it is no neighbour of its own.
    own: Vec<MacAddr>,
}

/// The addresses on one link, of one family.
struct OnLink {
    interface: String,
    link: Link,
    places: Places,
}

/// Addresses, each with its places in the batch.
type Places = BTreeMap<IpAddr, Vec<usize>>;

impl Batch {
    /// Opens a socket for each interface and family; to listen for claims too, or only to tell.
    fn new(addresses: &[(&str, IpAddr)], listen: bool) -> Self {
        let answers = addresses.iter().map(|_| Ok(None)).collect();
        let mut batch = Self { answers, links: Vec::new(), own: Vec::new() };
        let mut wanted: BTreeMap<(&str, bool), Places> = BTreeMap::new();
        for (place, (interface, ip)) in addresses.iter().enumerate() {
            let places = wanted.entry((interface, ip.is_ipv6())).or_default();
            places.entry(*ip).or_default().push(place);
        }
        let interfaces = address::interfaces();
        if let Ok(interfaces) = &interfaces {
            batch.own = interfaces.iter().filter_map(|interface| interface.mac).collect();
        }
        for ((name, v6), places) in wanted {
            let opened = match &interfaces {
                Ok(all) => open(all, name, v6, listen.then_some(&places)),
                Err(error) => Err(error.clone().into()),
            };
            match opened {
                Ok(Some(link)) => {
                    batch.links.push(OnLink { interface: name.to_owned(), link, places });
                }
                Ok(None) => {}
                Err(error) => fail(&mut batch.answers, &places, &error),
            }
        }
        batch
    }

    /// Whether the answer to anything that can be asked is still open.
    fn is_open(&self) -> bool {
        let mut places = self.links.iter().flat_map(|on| on.places.values().flatten());
        places.any(|place| matches!(self.answers[*place], Ok(None)))
    }

    /// Asks for all addresses whose answer is open.
    fn probe(&mut self) {
        let answers = &mut self.answers;
        self.links.retain(|on| {
            let open = |places: &&Vec<usize>| matches!(answers[places[0]], Ok(None));
            let asked: Vec<IpAddr> =
                on.places.iter().filter(|(_, places)| open(places)).map(|(ip, _)| *ip).collect();
            match asked.iter().try_for_each(|ip| on.link.probe(*ip)) {
                Ok(()) => true,
                Err(error) => on.fail(answers, &error),
            }
        });
    }

    /// Takes neighbours' claims until then, or all are answered.
    fn listen(&mut self, until: Instant) {
        while self.is_open() {
            let left = until.saturating_duration_since(Instant::now());
            let sockets: Vec<_> = self.links.iter().map(|on| on.link.as_fd()).collect();
            if left.is_zero() || wait::any(&sockets, Some(left)).is_err() {
                return;
            }
            let (answers, own) = (&mut self.answers, &self.own);
            self.links.retain(|on| match on.take_claims(answers, own) {
                Ok(()) => true,
                Err(error) => on.fail(answers, &error),
            });
        }
    }

    /// Says of all addresses that they are here.
    fn announce(&mut self) {
        for on in &self.links {
            // A router says so (RFC 4861, 4.4); what the kernel itself answers says the same.
            let key = Key::of_interface(Family::V6, &on.interface, "forwarding");
            let router = sysctl::read(&key).is_ok_and(|value| value != "0");
            for (ip, places) in &on.places {
                if let Err(error) = on.link.announce(*ip, router) {
                    for place in places {
                        self.answers[*place] = Err(NeighbourError::new(&on.interface, &error));
                    }
                }
            }
        }
    }
}

impl OnLink {
    fn take_claims(
        &self,
        answers: &mut [Result<Option<MacAddr>, NeighbourError>],
        own: &[MacAddr],
    ) -> io::Result<()> {
        while let Some((ip, neighbour)) = self.link.claim()? {
            if own.contains(&neighbour) {
                continue;
            }
            for place in self.places.get(&ip).into_iter().flatten() {
                answers[*place] = Ok(Some(neighbour));
            }
        }
        Ok(())
    }

    /// Its answers can't be had; false, since it is of no more use.
    fn fail(
        &self,
        answers: &mut [Result<Option<MacAddr>, NeighbourError>],
        error: &io::Error,
    ) -> bool {
        fail(answers, &self.places, &NeighbourError::new(&self.interface, error));
        false
    }
}

/// What is not known by now can't be.
fn fail(
    answers: &mut [Result<Option<MacAddr>, NeighbourError>],
    places: &Places,
    error: &NeighbourError,
) {
    for place in places.values().flatten() {
        if matches!(answers[*place], Ok(None)) {
            answers[*place] = Err(error.clone());
        }
    }
}

/// The link of an interface, listening for claims to addresses if there are some; none where it
/// has no neighbours.
fn open(
    interfaces: &[Interface],
    name: &str,
    v6: bool,
    listen_for: Option<&Places>,
) -> Result<Option<Link>, NeighbourError> {
    let missing = || AddressError::NoInterface { interface: name.to_owned() };
    let interface =
        interfaces.iter().find(|interface| interface.name == name).ok_or_else(missing)?;
    let Some(mac) = interface.mac.filter(|_| interface.neighbours) else { return Ok(None) };
    if !interface.up || !interface.carrier {
        return Err(NeighbourError::Down { interface: name.to_owned() });
    }
    let listening = |mut link: Link| {
        for ip in listen_for.into_iter().flat_map(Places::keys) {
            link.listen_for(*ip)?;
        }
        Ok(link)
    };
    let link = Link::open(interface, mac, v6).and_then(listening);
    link.map(Some).map_err(|error| NeighbourError::new(name, &error))
}
