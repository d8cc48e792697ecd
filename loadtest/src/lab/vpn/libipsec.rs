//! strongSwan with kernel-libipsec: IKE and ESP in one process of user space.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{Kind, PACKET, Site, Sites, Workshop};
use crate::lab::{START, find_program, first_line, text, write};
use crate::system::child::{Program, Supervised};

/// The key that both ends share.
const SECRET: &str = "a shared key for measurements";
const REMEDY: &str = "strongSwan is not installed: `apt-get install charon-systemd \
                      strongswan-swanctl libcharon-extra-plugins libstrongswan-extra-plugins \
                      libstrongswan-standard-plugins`";

/// What it says its version is.
pub(super) fn version() -> anyhow::Result<String> {
    find_program("charon-systemd").context(REMEDY)?;
    // Asked for the version alone, it wants to know that of a running daemon, too.
    let line = first_line(&find_program("swanctl").context(REMEDY)?, "--help")?;
    Ok(line.trim_end_matches(" swanctl").to_owned())
}

impl Workshop<'_> {
    /// Both gateways; A begins.
    pub(super) fn libipsec(&self, sites: &Sites) -> anyhow::Result<Vec<(Site, Supervised)>> {
        Site::BOTH.into_iter().map(|site| Ok((site, self.one_charon(sites, site)?))).collect()
    }

    fn one_charon(&self, sites: &Sites, site: Site) -> anyhow::Result<Supervised> {
        let folder = self.own_folder(Kind::Libipsec.name(), site)?;
        configure(&folder, site)?;
        let program = Program {
            path: PathBuf::from("/usr/bin/env"),
            arguments: vec![
                format!("STRONGSWAN_CONF={}", text(&folder.join("strongswan.conf"))?),
                text(&find_program("charon-systemd").context(REMEDY)?)?,
            ],
        };
        let namespace = sites.gateway(site);
        let mut charon = {
            let _inside = namespace.enter()?;
            let log = folder.join("output.log");
            Supervised::start("charon-systemd", &program, site.core(self.cores), &log, &log)?
        };
        let socket = folder.join("vici");
        charon.wait_until("its socket", START, || socket.exists())?;
        // Or packets of the host would have to be cut up; it has one of its own choice.
        namespace.ip(&format!("link set ipsec0 mtu {PACKET}\n"))?;
        let loaded = Command::new(find_program("swanctl").context(REMEDY)?)
            .args(["--load-all", "--uri", &format!("unix://{}", text(&socket)?)])
            .env("STRONGSWAN_CONF", folder.join("strongswan.conf"))
            .env("SWANCTL_DIR", folder.join("swanctl"))
            .stdin(Stdio::null())
            .output()
            .context("swanctl")?;
        if !loaded.status.success() {
            bail!("swanctl --load-all: {}", String::from_utf8_lossy(&loaded.stderr).trim());
        }
        Ok(charon)
    }
}

/// Its own cipher suite is AES-128-GCM, too, and each side has 16 threads, as by default.
fn configure(folder: &Path, site: Site) -> anyhow::Result<()> {
    let place = text(folder)?;
    write(
        &folder.join("strongswan.conf"),
        format!(
            "charon-systemd {{
  load = random nonce openssl aes sha1 sha2 hmac kdf gcm chapoly curve25519 pem pkcs1 x509 pubkey kernel-libipsec kernel-netlink socket-default vici updown counters
  install_virtual_ip = no
  plugins {{
    vici {{
      socket = unix://{place}/vici
    }}
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    kernel-netlink {{
      fwmark = !0x42
    }}
    socket-default {{
      fwmark = 0x42
    }}
  }}
  filelog {{
    charon {{
      path = {place}/charon.log
      default = 1
      flush_line = yes
    }}
  }}
  journal {{
    default = -1
  }}
}}
swanctl {{
  load = pem pkcs1 x509 pubkey openssl random nonce sha1 sha2
}}
"
        ),
    )?;
    let swanctl = folder.join("swanctl");
    std::fs::create_dir(&swanctl).with_context(|| format!("{}", swanctl.display()))?;
    let (own, other) = (site, site.other());
    let start = if site == Site::A { "start" } else { "none" };
    write(
        &swanctl.join("swanctl.conf"),
        format!(
            "connections {{
  site {{
    version = 2
    local_addrs = {}
    remote_addrs = {}
    proposals = aes128-sha256-curve25519
    local {{
      auth = psk
      id = {}
    }}
    remote {{
      auth = psk
      id = {}
    }}
    children {{
      net {{
        local_ts = {}
        remote_ts = {}
        esp_proposals = aes128gcm16
        start_action = {start}
      }}
    }}
  }}
}}
secrets {{
  ike-site {{
    id-a = a.test
    id-b = b.test
    secret = \"{SECRET}\"
  }}
}}
",
            own.outside(),
            other.outside(),
            own.id(),
            other.id(),
            own.network(),
            other.network()
        ),
    )
}
