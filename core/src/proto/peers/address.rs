//! Addresses as text: multiaddrs, which only the shell takes apart completely.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address. Unit: bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Whether `text` may be an address: `/`, then visible characters without blanks, not too long.
pub fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES_MAX
        && text.starts_with('/')
        && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Whether a node elsewhere can make sense of the address: a name, or an IP address that is not
/// for private, local or documentation use.
pub fn is_public(text: &str) -> bool {
    let mut parts = text.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4" | "ip6"), Some(ip)) => match ip.parse() {
            Ok(IpAddr::V4(ip)) => is_public_v4(ip),
            Ok(IpAddr::V6(ip)) => is_public_v6(ip),
            Err(_) => false,
        },
        (Some("dns" | "dns4" | "dns6" | "dnsaddr"), Some(name)) => {
            name.contains('.') && !name.ends_with(".local") && !name.ends_with(".localhost")
        }
        _ => false,
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let is_shared = a == 100 && (64..128).contains(&b); // RFC 6598: carrier-grade NAT.
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || is_shared
        || a == 0
        || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let [a, b, ..] = ip.segments();
    let is_documentation = a == 0x2001 && b == 0xdb8; // RFC 3849.
    // RFC 4291, 2.4: global unicast is 2000::/3.
    (0x2000..0x4000).contains(&a) && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_local_addresses_are_not_public() {
        for (text, expected) in [
            ("/ip4/9.9.9.9/tcp/4001", true),
            ("/ip6/2620:fe::9/tcp/4001", true),
            ("/dns/node.example.org/tcp/4001", true),
            ("/ip4/10.0.0.1/tcp/4001", false),
            ("/ip4/192.168.1.2/tcp/4001", false),
            ("/ip4/127.0.0.1/tcp/4001", false),
            ("/ip4/169.254.1.1/tcp/4001", false),
            ("/ip4/100.64.0.1/tcp/4001", false),
            ("/ip4/192.0.2.7/tcp/4001", false),
            ("/ip4/0.0.0.0/tcp/4001", false),
            ("/ip4/224.0.0.1/tcp/4001", false),
            ("/ip6/::1/tcp/4001", false),
            ("/ip6/fe80::1/tcp/4001", false),
            ("/ip6/fd00::1/tcp/4001", false),
            ("/ip6/::ffff:10.0.0.1/tcp/4001", false),
            ("/dns/localhost/tcp/4001", false),
            ("/dns/printer.local/tcp/4001", false),
            ("/unix/tmp", false),
            ("/ip4/nonsense", false),
            ("", false),
        ] {
            assert_eq!(is_public(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_is_short_visible_text() {
        assert!(is_address("/ip4/9.9.9.9/tcp/4001"));
        for text in ["", "ip4", "/a b", "/a\n", "/ä"] {
            assert!(!is_address(text), "{text}");
        }
        assert!(!is_address(&"/".repeat(ADDRESS_BYTES_MAX + 1)));
    }
}
